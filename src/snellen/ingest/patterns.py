"""A regular expression of the user's, searched in many names in a process apart (`pattern_worker`).

Python's `re` cannot be stopped, and some expressions take longer than anybody waits: such a process is ended and the
expression named. The package `regex` has a time limit, but reads some expressions differently from the manual of `re`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence

from snellen.core.errors import UsageError
from snellen.ingest import pattern_worker

_LIMIT_S = 20.0
_LIMIT_PER_NAME_S = 1e-4  # an ordinary expression takes a fiftieth of it
_SHOWN = 80


def find_patients(pattern: str, names: Sequence[str]) -> list[str]:
    """What the group `patient`, else the only group, holds in each name; empty where the expression does not fit.

    Raises UsageError for an expression that is none, leaves open which group is the patient, or takes too long.
    """
    group = _choose_group(pattern)
    question = json.dumps({"pattern": pattern, "group": group, "names": list(names)})
    limit_s = _LIMIT_S + _LIMIT_PER_NAME_S * len(names)
    try:
        # isolated and without packages: it starts at once, and nothing of the working directory is imported
        done = subprocess.run(
            [sys.executable, "-I", "-S", pattern_worker.__file__],
            input=question.encode("ascii"),
            capture_output=True,
            timeout=limit_s,
            check=True,
        )
        found: list[str] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"--patients {_show(pattern)} takes too long: after {limit_s:.0f} s it was still being searched in "
            f"{len(names)} names, such as {names[0]!r}.",
            "A repeat within a repeat, such as (a+)+, tries every way to divide a name: write the parts one by one.",
        ) from error
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"--patients {_show(pattern)} cannot be searched in the names: the search broke down.",
            "Write a simpler expression.",
        ) from error
    return found


def _choose_group(wish: str) -> str | int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pattern = re.compile(wish)
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(
            f"--patients {_show(wish)} is no regular expression: {reason}", "Example: '^(.+)_left'."
        ) from error
    if pattern.groups < 1:
        raise UsageError(
            f"--patients {_show(wish)} has no group, and no column is called so.",
            "Put the patient in parentheses: '^(\\d+)_'.",
        )
    if pattern.groups > 1 and "patient" not in pattern.groupindex:
        raise UsageError(
            f"--patients {_show(wish)} has {pattern.groups} groups: which is the patient?",
            "Name it: '(?P<patient>…)', or write the others as '(?:…)'.",
        )
    return "patient" if "patient" in pattern.groupindex else 1


def _show(pattern: str) -> str:
    # as it was typed: Python's own form would double each backslash
    return f"'{pattern if len(pattern) <= _SHOWN else pattern[:_SHOWN] + '…'}'"

"""Every bad or odd input that was thought of, given to the real command; what it says as a table.

    python bench/accidents.py [--write] [--only WORDS] [--in-process]

Exits with 1 where one shows a traceback, ends with another exit code than promised, alters its input, or loses
a picture untold. --write renews docs/reference/odd-inputs.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from odd_cases import Case
from odd_options import OPTIONS
from odd_pictures import FILES, FOLDERS
from odd_sources import ARCHIVES, DICOM, HDF5, LABELS_AND_DEPTHS
from odd_tables import ARRAYS, TABLES

SUITES: dict[str, list[Case]] = {
    "Files among sound pictures": FILES,
    "Folders": FOLDERS,
    "Tables": TABLES,
    "Labels, depths and kinds of file": LABELS_AND_DEPTHS,
    "Array files": ARRAYS,
    "Zip archives": ARCHIVES,
    "HDF5": HDF5,
    "DICOM": DICOM,
    "Options and paths": OPTIONS,
}
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "odd-inputs.md"
_HEAD = """<!-- Written by bench/accidents.py. Do not edit: run `python bench/accidents.py --write`. -->

# Bad and odd inputs

What Snellen says to each of {n} inputs. None ends in a traceback; exit code 0 means that the rest went on, 2 that
nothing was done and why. What is set aside is named with its reason in `audit.json` and `audit.html`.

The inputs are made by `bench/accidents.py`; the tests give them to the command too. The sound rest of each cohort is
small, so the audit of most also warns of few patients; that is left out here.
"""


@dataclass(frozen=True)
class Outcome:
    """What a case came to. `problems` is empty where the promise held."""

    message: str
    exit_code: int
    lost: str
    problems: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name}")
    parser.add_argument("--only", default="", help="cases whose description holds this")
    parser.add_argument("--in-process", action="store_true", help="faster: not a process a case")
    args = parser.parse_args()
    parts, n_bad, n = [], 0, 0
    for title, cases in SUITES.items():
        lines = [f"## {title}", "", "| given | message | exit code | lost |", "| --- | --- | --- | --- |"]
        for case in cases:
            if args.only not in case.given:
                continue
            with tempfile.TemporaryDirectory() as folder:
                outcome = try_case(case, Path(folder), in_process=args.in_process)
            n, n_bad = n + 1, n_bad + bool(outcome.problems)
            lines.append(f"| {case.given} | {_cell(outcome.message)} | {outcome.exit_code} | {outcome.lost} |")
            said = "; ".join(outcome.problems) or outcome.message
            print(f"{'BAD ' if outcome.problems else 'ok  '}{case.given}: {said}")
        parts.append("\n".join(lines) + "\n")
    print(f"{n} inputs, {n_bad} bad")
    if args.write and not args.only:
        PAGE.write_text("\n".join([_HEAD.format(n=n), *parts]), encoding="utf-8", newline="\n")
    return 1 if n_bad else 0


def try_case(case: Case, folder: Path, *, in_process: bool) -> Outcome:
    """Make the input in `folder`, give it to the command, and hold the outcome against the promise."""
    words = list(case.build(folder))
    if words[0] in ("audit", "plan") and "--cache" not in words:
        words += ["--cache", ".cache"]
    if words[0] == "audit" and "--out" not in words:
        words += ["--out", "result"]
    before = list_files(folder)
    code, output = (_call if in_process else _start)(words, folder)
    after = list_files(folder)
    problems = [f"exit code {code} instead of {case.exit_code}"] if code != case.exit_code else []
    if "Traceback" in output:
        problems.append("a traceback: " + output.strip().splitlines()[-1])
    if before != {name: after.get(name) for name in before}:
        problems.append("the input was altered")
    audit = _read_audit(folder / "result" / "audit.json")
    message = _choose_message(case, output, audit).replace(str(folder.resolve()), "…").replace(str(folder), "…")
    if case.says and case.says.casefold() not in _flat(output + message).casefold():
        problems.append(f"does not say {case.says!r}")
    if case.issue and case.issue not in {issue["code"] for issue in audit.get("issues", ())}:
        problems.append(f"has no issue {case.issue}")
    lost = "everything: nothing was done" if code == 2 and words[0] in ("audit", "plan") else "nothing"
    if audit:
        told = audit["n_read"] + audit["n_set_aside"]
        if case.n is not None and told != case.n:
            problems.append(f"{case.n} pictures or rows were given, {told} are accounted for")
        if len(audit["set_aside"]) != audit["n_set_aside"]:
            problems.append("what was set aside is not named")
        if audit["n_set_aside"]:
            lost = f"{audit['n_set_aside']} of {told}, told"
    return Outcome(message, code, lost, tuple(problems))


def list_files(folder: Path) -> dict[bytes, tuple[int, int]]:
    """Every file below `folder` with size and date, but for what a command may write."""
    found = {}
    for place, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118  # names of bytes
            found[path] = (os.stat(path).st_size, os.stat(path).st_mtime_ns)  # noqa: PTH116
    return found


def _start(words: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "snellen", *words], cwd=folder, capture_output=True, text=True, check=False,
        encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "500", "NO_COLOR": "1", "TERM": "dumb"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _call(words: list[str], folder: Path) -> tuple[int, str]:
    from typer.testing import CliRunner

    from snellen.cli import app

    with _working_in(folder):
        done = CliRunner(env={"COLUMNS": "500", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, words)
    crash = f"\nTraceback: {done.exception!r}" if done.exception and not isinstance(done.exception, SystemExit) else ""
    return done.exit_code, done.output + crash


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _read_audit(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _choose_message(case: Case, output: str, audit: dict) -> str:
    """The error, the issue that the case names, or that nothing had to be said."""
    if case.exit_code == 2:
        told = output[output.find("Error") :] if "Error" in output else output
        return _flat(told.removeprefix("Error: ").replace("\n  → ", " → "))
    issues = audit.get("issues", ())
    if case.issue:
        return next((_flat(f"{i['severity']}: {i['message']}") for i in issues if i["code"] == case.issue), "")
    # said of every small cohort
    quiet = {
        "few_patients", "patients_unknown", "patients_inferred", "splits_cannot_be_filled", "labels_left_out",
        "shortcuts_left_out",
    }  # fmt: skip
    told = [f"{i['severity']}: {i['message']}" for i in issues if i["code"] not in quiet]
    return _flat(" ".join(told)) or "none: it is read"


def _flat(text: str) -> str:
    return " ".join(re.sub(r"[╭─╮│╰╯]", " ", text).split())


def _cell(text: str) -> str:
    shown = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    cut = shown if len(shown) <= 400 else shown[:399] + "…"
    return "`` " + cut.replace("|", "\\|") + " ``"


if __name__ == "__main__":
    sys.exit(main())

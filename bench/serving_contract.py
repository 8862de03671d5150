"""Does a server answer as its OpenAPI document says? Requests that schemathesis makes of it: a table and JSON.

    python bench/serving_contract.py BUNDLE [--cases 20000] [--seed 0] [--minutes 60] [--json FILE]

Half of the requests fit the document, half break it in one place; with and without a good key. Some name the model, a
job or a picture that is really there, so that not all end at the door. Every answer must have a documented status, 2xx,
4xx or 503, a documented content type, a body of the documented schema, and, where it is an error, the one shape. Exits
with 1 where one has not, or the server failed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hostile_pictures import PLAIN_PNG
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from server_process import find_problem, run_process

_TIMEOUT_S = 90
_AT_ONCE = 100  # cases of one strategy: Hypothesis remembers all it drew
_MOST_JOBS = 20
_SHARES = {"POST /v1/models/{name}/reload": 0.1}  # it opens a bundle every time
_CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip


@dataclass
class Seen:
    """What became of one operation's requests."""

    operation: str
    n_cases: int = 0
    has_only_fitting: bool = False
    statuses: Counter[int] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)


class Asker:
    """Sends cases to the server at `base` that serves `model`. `keys`: headers, the first of an admin."""

    def __init__(self, base: str, model: str, keys: Sequence[Mapping[str, str]] = ({},)) -> None:
        load_all_checks()
        self._base, self._model, self._keys = base, model, keys
        self._session = requests.Session()
        self._session.trust_env = False
        self._jobs: list[str] = []
        self._picture = PLAIN_PNG

    def close(self) -> None:
        self._session.close()

    def ask(self, case: Any, draw: Callable[[st.SearchStrategy[Any]], Any], seen: Seen) -> None:
        """Send one case and judge its answer."""
        is_changed = self._name_what_exists(case, draw)
        key = self._keys[draw(st.sampled_from([0, 0, 0, *range(len(self._keys))]))]
        given = case.as_transport_kwargs(base_url=self._base, headers=dict(key))
        if case.media_type is not None and draw(st.sampled_from([False, False, True])):
            is_changed = True
            given.pop("data", None)
            given["headers"] = {name: value for name, value in given["headers"].items() if name != "Content-Type"}
            given["files"] = [("images", (f"{number}.png", self._picture)) for number in range(draw(st.integers(1, 3)))]
        seen.n_cases += 1
        try:
            answer = self._session.request(**given, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            seen.defects.append(f"no answer: {error!r}"[:300])
            return
        seen.statuses[answer.status_code] += 1
        seen.defects += [f"{answer.status_code}: {defect}" for defect in self._judge(case, answer, is_changed)]
        if seen.operation == "POST /v1/jobs" and answer.status_code == 202:
            self._jobs = [*self._jobs[1 - _MOST_JOBS :], answer.json()["job_id"]]

    def _name_what_exists(self, case: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> bool:
        found = False
        # of a range that is always the same: what Hypothesis draws must not depend on what the server said
        jobs = self._jobs or ["0" * 32]
        job = jobs[draw(st.integers(0, _MOST_JOBS - 1)) % len(jobs)]
        for name, value in (("name", self._model), ("job_id", job)):
            if name in (case.path_parameters or {}) and draw(st.sampled_from([True, True, False])):
                case.path_parameters[name] = value
                found = True
        if "model" in (case.query or {}) and draw(st.booleans()):
            case.query["model"] = self._model
            found = True
        return found

    def _judge(self, case: Any, answer: requests.Response, is_changed: bool) -> list[str]:
        names = _CHECKS if answer.status_code != 503 else _CHECKS[1:]
        # a form has no types: what is broken as an array of bytes may still be a file
        if not is_changed and answer.status_code < 400 and case.media_type is None:
            names = (*names, "negative_data_rejection")
        try:
            case.validate_response(answer, checks=schemathesis.checks.CHECKS.get_by_names(list(names)))
        except FailureGroup as failures:
            return [f"{type(failure).__name__}: {str(failure)[:300]}" for failure in failures.exceptions]
        problem = find_problem(answer)
        return [problem] if problem else []


def ask_all(
    asker: Asker, document: Mapping[str, Any], n_cases: int, first_seed: int, seconds: float = math.inf
) -> list[Seen]:
    """As many cases, spread over all operations of the document; fewer where the time is over before."""
    end = time.monotonic() + seconds
    schema = schemathesis.openapi.from_dict(dict(document))
    operations = [found.ok() for found in schema.get_all_operations()]
    rounds = [Seen(operation.label) for operation in operations]
    weights = [_SHARES.get(operation.label, 1.0) for operation in operations]
    for turn in range(1000):
        missing = n_cases - sum(seen.n_cases for seen in rounds)
        if missing <= 0 or time.monotonic() > end:
            break
        for operation, seen, weight in zip(operations, rounds, weights, strict=True):
            left = n_cases - sum(other.n_cases for other in rounds)
            wanted = min(left, _AT_ONCE, math.ceil(weight * missing / sum(weights)))
            for number, mode in enumerate((GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
                half = (wanted + 1 - number) // 2
                _ask_some(asker, operation, mode, seen, half, first_seed + 2 * turn + number)
    return rounds


def _ask_some(asker: Asker, operation: Any, mode: GenerationMode, seen: Seen, n_cases: int, number: int) -> None:
    if n_cases < 1 or (seen.has_only_fitting and mode is GenerationMode.NEGATIVE):
        return
    plain = settings(
        max_examples=n_cases, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    @seed(number)
    @plain
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data(), _=st.integers(0, 2**32))
    def ask(case: Any, data: Any, _: int) -> None:
        asker.ask(case, data.draw, seen)

    try:
        ask()
    except Unsatisfiable:  # nothing of that operation can be broken
        seen.has_only_fitting = True


def list_keys(folder: Path) -> Iterator[dict[str, str]]:
    """Headers with keys of each role, the admin's first, without one, and with a wrong one."""
    from snellen.serve.store import Store

    with Store.open(str(folder / "audit.db")) as store:
        for role in ("admin", "predict", "read"):
            yield {"Authorization": f"Bearer {store.add_key(role, role)[1]}"}
    yield from ({}, {"Authorization": "Bearer snellen_wrong"})


def show(found: Sequence[Seen]) -> None:
    print("| operation | requests | statuses | defects |\n| --- | --- | --- | --- |")
    for seen in found:
        statuses = ", ".join(f"{status}: {n:,}" for status, n in sorted(seen.statuses.items()))
        print(f"| {seen.operation} | {seen.n_cases:,} | {statuses} | {len(seen.defects) or 'none'} |")
    for seen in found:
        for defect, n in Counter(seen.defects).most_common(5):
            print(f"{seen.operation}: {n} × {defect}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the run that holds it")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="it ends after these, whatever was asked")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="snellen-contract-") as name:
        keys = list(list_keys(Path(name)))
        with run_process([f"bench={args.bundle}"], Path(name)) as server:
            document = requests.get(f"{server.base}/v1/openapi.json", timeout=60).json()
            asker = Asker(server.base, "bench", keys)
            found = ask_all(asker, document, args.cases, args.seed, 60 * args.minutes)
            asker.close()
            peak_mb, is_alive, failures = server.read_peak_mb(), server.is_alive, server.list_failures()
            exit_code = server.end() if is_alive else server.process.returncode
    show(found)
    report = {
        "n_cases": sum(seen.n_cases for seen in found),
        "n_asked_for": args.cases,
        "seed": args.seed,
        "n_defects": sum(len(seen.defects) for seen in found),
        "is_alive": is_alive,
        "exit_code": exit_code,
        "failures": failures,
        "peak_mb": round(peak_mb, 1),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    print(json.dumps(report, indent=2))
    if args.json:
        text = json.dumps({**report, "operations": [vars(seen) for seen in found]}, indent=2)
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0 if report["n_defects"] == 0 and is_alive and exit_code == 0 and not failures else 1


if __name__ == "__main__":
    raise SystemExit(main())

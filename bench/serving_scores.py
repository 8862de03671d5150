"""Are the scores of a server those of `snellen predict`? The same pictures both ways: a line and JSON.

    python bench/serving_scores.py BUNDLE PICTURES [--n 500] [--seed 0] [--clients 4] [--json FILE]

Pictures are drawn from a folder by seed. `snellen predict` writes CSV and JSON; the server is asked over HTTP by
several clients at once, with one to eight pictures a request, so that batches differ. Exits with 1 where a probability
differs by more than 1e-5, or a class, a decision, an abstention or an error differs at all.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from server_process import run_process

TOLERANCE = 1e-5
_PREFIX = "probability_"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Row:
    """What one way says of one picture."""

    probabilities: Mapping[str, float]
    prediction: str
    decision: str
    abstain: bool
    is_error: bool

    @property
    def words(self) -> tuple[object, ...]:
        return self.prediction, self.decision, self.abstain, self.is_error


def choose_pictures(folder: Path, n: int, seed: int) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    chosen = np.random.default_rng(seed).permutation(len(paths))[:n]
    return [paths[number].resolve() for number in sorted(chosen)]


def predict(bundle: Path, paths: Sequence[Path], folder: Path, form: str) -> list[Row]:
    """Rows of `snellen predict`, in the order of `paths`."""
    out = folder / f"predicted.{form}"
    words = [sys.executable, "-m", "snellen", "predict", str(bundle), *map(str, paths), "--out", str(out)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=3600)
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream)) if form == "csv" else json.load(stream)
    by_name = {Path(row["path"]).name: row for row in rows}
    if len(by_name) != len(paths):
        raise SystemExit("Pictures of one name lie in several folders: choose a folder without such.")
    return [_read_flat(by_name[path.name]) for path in paths]


def _read_flat(row: Mapping[str, Any]) -> Row:
    probabilities = {
        name.removeprefix(_PREFIX): float(value)
        for name, value in row.items()
        if name.startswith(_PREFIX) and value not in ("", None)
    }
    is_abstain = str(row["abstain"]).lower() == "true"
    return Row(probabilities, row["prediction"] or "", row["decision"] or "", is_abstain, bool(row["error"]))


def ask(base: str, paths: Sequence[Path], n_clients: int, seed: int) -> list[Row]:
    """Rows of the server."""
    random = np.random.default_rng(seed)
    groups: list[Sequence[Path]] = []
    while (begin := sum(map(len, groups))) < len(paths):
        groups.append(paths[begin : begin + int(random.integers(1, 9))])
    with (
        httpx.Client(base_url=base, timeout=_TIMEOUT_S, trust_env=False) as client,
        ThreadPoolExecutor(n_clients) as pool,
    ):
        return [row for rows in pool.map(lambda group: _ask(client, group), groups) for row in rows]


def _ask(client: httpx.Client, group: Sequence[Path]) -> list[Row]:
    files = [("images", (path.name, path.read_bytes())) for path in group]
    answer = client.post("/v1/models/bench/predict", files=files)
    if answer.status_code == 422 and len(group) == 1:
        return [Row({}, "", "", True, True)]
    answer.raise_for_status()
    return [
        Row(row["probabilities"], row["prediction"] or "", row["decision"] or "", row["abstain"], bool(row["error"]))
        for row in answer.json()["predictions"]
    ]


def compare(expected: Sequence[Row], found: Sequence[Row], paths: Sequence[Path]) -> dict[str, Any]:
    """The largest difference of a probability, and the pictures of which something else is said."""
    differences = [
        max((abs(one.probabilities[name] - other.probabilities[name]) for name in one.probabilities), default=0.0)
        if set(one.probabilities) == set(other.probabilities)
        else float("inf")
        for one, other in zip(expected, found, strict=True)
    ]
    other_words = [
        path.name for one, other, path in zip(expected, found, paths, strict=True) if one.words != other.words
    ]
    return {
        "n": len(differences),
        "n_unreadable": sum(row.is_error for row in found),
        "n_abstained": sum(row.abstain for row in found),
        "largest_difference": max(differences),
        "n_other_decision": len(other_words),
        "other_decision": other_words[:10],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the run that holds it")
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = choose_pictures(args.pictures, args.n, args.seed)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="snellen-scores-") as name:
        folder = Path(name)
        with run_process([f"bench={args.bundle}"], folder) as server:
            found = ask(server.base, paths, args.clients, args.seed)
        ways = {form: compare(predict(args.bundle, paths, folder, form), found, paths) for form in ("csv", "json")}
    print("| against | pictures | abstained | largest difference of a probability | other decisions |")
    print("| --- | --- | --- | --- | --- |")
    for form, way in ways.items():
        print(
            f"| `snellen predict`, {form.upper()} | {way['n']} | {way['n_abstained']} | "
            f"{way['largest_difference']:.1e} | {way['n_other_decision']} |"
        )
    report = {**ways, "tolerance": TOLERANCE, "seconds": round(time.perf_counter() - begin, 1)}
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if any(way["largest_difference"] > TOLERANCE or way["n_other_decision"] for way in ways.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())

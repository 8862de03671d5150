"""How many wrong labels the audit finds, and how many right ones it suspects: drawn cohorts with labels exchanged.

    python bench/label_check.py --out build/label-check --json build/label-check.json

Of each cohort a share of the labels is exchanged at random, picture by picture. A line for each: strong suspects that
are wrong (precision), wrong labels that are strong suspects (recall), and the same for what cleanlab alone suspects. A
share of 0 is the clean cohort: every strong suspect there is a false alarm.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from snellen import run_likeness
from snellen.core.runtime import count_threads
from snellen.core.storage import open_cache
from snellen.ingest.cohort import read_cohort
from snellen.ingest.feature_space import build_space
from snellen.ingest.label_checks import Labelled, find_suspects, probe_features
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.planning.splits import join_groups
from snellen.records.cohort import Sample
from snellen.records.run import DataRequest
from snellen.run_audit import foresee_splits

COHORTS = (("oct", 0), ("oct", 1), ("fundus", 0), ("fundus", 1), ("glomeruli", 0))
SHARES = (0.0, 0.05, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/label-check"))
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--difficulty", type=float, nargs="*", default=[0.5])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for kind, seed in COHORTS:
        for difficulty in arguments.difficulty:
            spec = PhantomSpec(kind=kind, n_patients=arguments.patients, seed=seed, difficulty=difficulty)
            rows += measure(spec, arguments.out / f"{kind}-{seed}-{difficulty}")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def measure(spec: PhantomSpec, folder: Path) -> list[dict[str, object]]:
    """A row for each share of exchanged labels; features are computed once."""
    if not folder.is_dir():
        write_cohort(spec, folder / "data")
    cache = open_cache(str(folder / "cache"))
    cohort = read_cohort(DataRequest(data=str(folder / "data")), threads=count_threads(), cache=cache)
    cohort, splits = foresee_splits(cohort)
    obstacle, features, by = run_likeness.compute_features(cohort, splits, cache)
    if obstacle:
        raise SystemExit(obstacle)
    groups = join_groups(cohort)
    space = build_space(features, [groups[sample.name] for sample in cohort.samples])
    rows = []
    for share in SHARES:
        samples, wrong = exchange(cohort.samples, cohort.classes, share)
        data = Labelled(samples, cohort.classes, [groups[sample.name] for sample in samples], cohort.is_ordered)
        probabilities, _ = probe_features(features, data)
        found = find_suspects(probabilities, space, data, by)
        strong = {each.sample for each in found.suspects if each.is_strong}
        ranked = {each.sample for each in found.suspects}
        row: dict[str, object] = {
            "kind": spec.kind, "seed": spec.seed, "difficulty": spec.difficulty, "n": len(samples), "share": share,
            "n_wrong": len(wrong), "auc": found.auc, "strong": tell(strong, wrong), "ranked": tell(ranked, wrong),
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def exchange(samples: tuple[Sample, ...], classes: tuple[str, ...], share: float) -> tuple[list[Sample], set[str]]:
    """Samples with a share of their labels replaced by another class, and whose."""
    random = np.random.default_rng(7)
    chosen = set(random.choice(len(samples), round(share * len(samples)), replace=False).tolist())
    changed = []
    for at, sample in enumerate(samples):
        others = [name for name in classes if name != sample.label]
        new = str(random.choice(others)) if at in chosen else sample.label
        changed.append(sample.model_copy(update={"label": new}))
    return changed, {samples[at].name for at in chosen}


def tell(named: set[str], wrong: set[str]) -> dict[str, float | int | None]:
    """How many are named, and how right that is."""
    hits = len(named & wrong)
    return {
        "named": len(named),
        "precision": round(hits / len(named), 3) if named else None,
        "recall": round(hits / len(wrong), 3) if wrong else None,
    }


if __name__ == "__main__":
    main()

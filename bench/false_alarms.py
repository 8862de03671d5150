"""What the audit says of clean cohorts, where it should say next to nothing: drawn ones, of several kinds and seeds.

    python bench/false_alarms.py --out build/false-alarms          five cohorts of 120 patients
    python bench/false_alarms.py --patients 60 --seeds 0 1 2

Prints a line a cohort and writes `false-alarms.json`. A severe issue, or more than one warning, is a false alarm.
`few_patients` is none: the cohorts are small, and it is right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from snellen import workflow
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.records.cohort import Cohort

COHORTS = (("oct", 0), ("oct", 1), ("fundus", 0), ("fundus", 1), ("glomeruli", 0))


def main() -> None:
    arguments = _parse()
    cohorts = COHORTS if not arguments.seeds else [(kind, s) for kind in ("oct", "fundus", "glomeruli")
                                                   for s in arguments.seeds]  # fmt: skip
    rows = [measure(kind, seed, arguments.patients, arguments.out, quick=arguments.quick) for kind, seed in cohorts]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "false-alarms.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    alarms = sum(bool(row["severe"]) or len(row["warnings"]) > 1 for row in rows)
    print(f"{alarms} of {len(rows)} cohorts with a severe issue or more than one warning")


def measure(kind: str, seed: int, n_patients: int, out: Path, *, quick: bool) -> dict[str, object]:
    """Draw one cohort, audit it, and tell its issues with the shortcuts' AUCs."""
    folder = out / f"{kind}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    write_cohort(PhantomSpec(kind=kind, n_patients=n_patients, seed=seed), folder / "data")
    begin = time.monotonic()
    cohort = workflow.audit(folder / "data", cache=folder / "cache", quick=quick)
    row = summarise(cohort, kind, seed) | {"seconds": round(time.monotonic() - begin, 1)}
    print(json.dumps(row), flush=True)
    return row


def summarise(cohort: Cohort, kind: str, seed: int) -> dict[str, object]:
    """Codes by severity, and the numbers behind the shortcuts."""
    codes = {level: [i.code for i in cohort.audit.issues if i.severity == level] for level in ("severe", "warning")}
    found, labels = cohort.audit.shortcuts, cohort.audit.labels
    aucs = {} if found is None else {"facts": found.facts_auc, "border": found.border_auc, "colours": found.colours_auc}
    return {
        "kind": kind,
        "seed": seed,
        "n": len(cohort.samples),
        "severe": codes["severe"],
        "warnings": codes["warning"],
        "info": [issue.code for issue in cohort.audit.issues if issue.severity == "info"],
        "auc": {name: [each.value, each.low] for name, each in aucs.items() if each is not None},
        "parts": {} if found is None else {each.name: [each.auc.value, each.auc.low] for each in found.giveaways},
        "suspects": None if labels is None else [len(labels.suspects), sum(s.is_strong for s in labels.suspects)],
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/false-alarms"))
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--quick", action="store_true", help="compute no features")
    return parser.parse_args()


if __name__ == "__main__":
    main()

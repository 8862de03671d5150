"""What leaks cost: the published protocol beside the honest one, on the same data with the same model, several seeds.

    python bench/leaks.py resampling [--data FILE.npz] [--seeds 5] [--json FILE]
    python bench/leaks.py copies --data FOLDER [--set KEY=VALUE] [--seeds 5] [--json FILE]
    python bench/leaks.py figure FILE.json … --out docs/images/leaks.png

`resampling`: CLAHE, SMOTE and augmentation of all pictures and then folds of pictures, against folds of patients with
the same steps inside their training parts. `copies`: pictures of a class folder split one by one, against the split of
`snellen train`. Inflation is the mean over seeds of published minus honest, with Student's interval of paired
differences: d ± t(0.975, n - 1) · s / √n. It holds the chance of splits and of initial weights, not that of other
patients. Neither part uses a test split of `snellen train` to choose anything.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

METRICS = ("accuracy", "balanced_accuracy", "auc")
Arms = Mapping[str, Sequence[Mapping[str, float]]]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    resampling = parts.add_parser("resampling", help="SMOTE, CLAHE and augmentation before the split, or inside it")
    resampling.add_argument("--data", type=Path, help=".npz in MedMNIST's layout; without it synthetic OCT is drawn")
    resampling.add_argument("--patients", type=int, default=90, help="synthetic patients, six pictures each")
    resampling.add_argument("--limit", type=int, default=0, help="so many pictures of --data at most, by chance")
    resampling.add_argument("--folds", type=int, default=5)
    resampling.add_argument("--epochs", type=int, default=10)
    copies = parts.add_parser("copies", help="pictures or patients dealt to the splits")
    copies.add_argument("--data", type=Path, required=True)
    copies.add_argument("--patients", default="auto")
    copies.add_argument("--set", dest="settings", action="append", default=[])
    for each in (resampling, copies):
        each.add_argument("--seeds", type=int, default=5)
        each.add_argument("--first-seed", type=int, default=0)
        each.add_argument("--json", type=Path)
    figure = parts.add_parser("figure", help="draw what was measured")
    figure.add_argument("records", type=Path, nargs="+")
    figure.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.part == "figure":
        from leaks_figure import draw

        draw([json.loads(path.read_text()) for path in args.records], args.out)
        return
    if args.seeds < 2:
        parser.error("one seed has no interval: --seeds 2 at least")
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    if args.part == "resampling":
        import leaks_resampling

        data = leaks_resampling.load(args.data, args.patients, args.limit)
        title, arms = data.title, leaks_resampling.measure(data, seeds, args.folds, args.epochs)
        facts = {"folds": args.folds, "epochs": args.epochs, "pictures": len(data.labels), "classes": data.counts}
    else:
        import leaks_copies

        title, arms, facts = leaks_copies.measure(args.data, args.patients, args.settings, seeds)
    record = {"part": args.part, "title": title, "seeds": args.seeds, **facts, **summarise(arms)}
    tell(record)
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n")


def summarise(arms: Arms) -> dict[str, object]:
    """Mean of each arm, and by how much each other arm is above the one called `honest`, metric by metric."""
    means = {
        name: {metric: asdict(estimate([row[metric] for row in rows])) for metric in METRICS}
        for name, rows in arms.items()
    }
    inflation = {
        name: {
            metric: asdict(estimate([row[metric] - own[metric] for row, own in zip(rows, arms["honest"], strict=True)]))
            for metric in METRICS
        }
        for name, rows in arms.items()
        if name != "honest"
    }
    return {"arms": {name: list(rows) for name, rows in arms.items()}, "means": means, "inflation": inflation}


def estimate(values: Sequence[float]) -> Interval:
    """Mean with Student's interval, of two values at least."""
    from scipy.stats import t

    mean, n = statistics.mean(values), len(values)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def tell(record: dict) -> None:
    print(f"\n{record['title']}; {record['seeds']} seeds")
    print(f"{'protocol':<34}" + "".join(f"{metric:>26}" for metric in METRICS))
    for title, rows in (("", record["means"]), ("above honest: ", record["inflation"])):
        for name, found in rows.items():
            sign = "+" if title else ""
            cells = []
            for metric in METRICS:
                value, low, high = (f"{found[metric][key]:{sign}.3f}" for key in ("value", "low", "high"))
                cells.append(f"{value} ({low} to {high})")
            print(f"{title + name:<34}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()

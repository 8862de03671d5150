"""What the gate refuses: own held-out pictures, photographs, other modalities, other cameras, spoilt pictures.

    python bench/gate.py runs/fundus --other other-hospital/ --other oct/labels.csv --json gate.json
    python bench/gate.py                    a small synthetic run, made in a temporary folder

The run's training pictures must lie where the run found them; with --refit the gate is fitted anew from them, for
bundles of earlier versions. AUC is that of the greater of both distances over its limit, against own test pictures;
refused also counts facts of quality. Photographs are those that scikit-image carries, without its two fundus pictures.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.bundle.gate import Seen, fit_gate
from snellen.core.errors import SnellenError
from snellen.imaging.preprocess import preprocess
from snellen.imaging.quality import FACTS, compute_facts, compute_look
from snellen.imaging.readers import read_location
from snellen.inference.gate import Gate, load_gate
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.ingest.cohort import read_cohort
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.records.run import DataRequest
from snellen.runs import Run

Pixels = NDArray[np.uint8]
T = TypeVar("T")
NOT_PHOTOGRAPHS = ("retina", "microaneurysms")  # fundus pictures
MOST = 120
SPOILT_FROM = 40


@dataclass(frozen=True)
class Row:
    """One source of pictures: how many, the AUC of the distances against own test pictures, and what is refused."""

    source: str
    n: int
    auc: float | None
    refused: float
    by_embedding: float
    by_look: float
    by_quality: float
    reasons: dict[str, int]


@dataclass(frozen=True)
class Measured:
    """What the gate measured of pictures, and why it refused which."""

    values: dict[str, NDArray[np.float64]]
    reasons: list[str]


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a finished run; without it a synthetic one is made")
    parser.add_argument("--other", action="append", default=[], help="foreign data, any layout; repeatable")
    parser.add_argument("--refit", action="store_true", help="fit the gate anew from the run's training pictures")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.run) if args.run else make_run(Path(folder))
        rows = measure_run(run, args.other, Path(folder), refit=args.refit)
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps([row.__dict__ for row in rows], indent=2), encoding="utf-8")


def make_run(folder: Path) -> Run:
    """A run on synthetic fundus photographs, the head alone."""
    from snellen import workflow

    write_cohort(PhantomSpec(kind="fundus", n_patients=150, size_px=160), folder / "fundus")
    found = workflow.train(
        folder / "fundus", out=folder / "run", settings=['training.stages=[{unfreeze="none"}]', "preprocess.size=160"]
    )
    return Run(found.folder)


def measure_run(run: Run, others: Sequence[str], folder: Path, *, refit: bool) -> list[Row]:
    """A row a source, own test pictures first."""
    predictor = load_bundle(run.bundle)
    gate = refit_gate(run, predictor) if refit else load_gate(run.bundle)
    raws = list(read_own(run, "test", MOST))
    own = judge(predictor, gate, prepare(predictor, raws))
    rows = [describe("own test pictures", own, own, gate)]
    for name, pictures in list_sources(predictor, raws, others, folder):
        rows.append(describe(name, judge(predictor, gate, pictures), own, gate))
    return rows


def list_sources(
    predictor: Predictor, raws: Sequence[Pixels], others: Sequence[str], folder: Path
) -> Iterator[tuple[str, list[Pixels]]]:
    """Names and preprocessed pictures."""
    photographs = list(read_photographs())
    if photographs:
        yield "photographs", prepare(predictor, photographs)
    for other in others:
        cohort = read_cohort(DataRequest(data=str(Path(other).resolve())), threads=2, cache=folder, is_training=False)
        picked = draw(list(cohort.samples), MOST)
        yield f"data: {cohort.name}", prepare(predictor, [read(Path(cohort.root), each.location) for each in picked])
    for kind in ("oct", "fundus", "glomeruli"):
        write_cohort(PhantomSpec(kind=kind, n_patients=20, size_px=256, seed=9), folder / f"phantom-{kind}")
        files = sorted(path for path in (folder / f"phantom-{kind}").rglob("*") if path.suffix in (".png", ".jpg"))
        yield f"phantoms: {kind}", prepare(predictor, [read(path.parent, path.name) for path in draw(files, 60)])
    for name, spoil in SPOILT.items():
        yield name, prepare(predictor, [spoil(raw) for raw in raws[:SPOILT_FROM]])


def refit_gate(run: Run, predictor: Predictor) -> Gate:
    """A gate as `train` would write it today, from up to 600 training and all validation pictures of the run."""
    parts = {}
    for split in ("train", "val"):
        pictures = prepare(predictor, read_own(run, split, 600))
        embedding = np.concatenate([predictor.score_pixels(picture[None]).embedding for picture in pictures])
        parts[split] = (embedding, pictures, list_patients(run, split, 600))
    train, val = parts["train"], parts["val"]
    both = [*train[1], *val[1]]
    seen = Seen(
        np.array([compute_look(picture) for picture in both]),
        np.array([compute_facts(picture) for picture in both]),
        (*train[2], *val[2]),
    )
    return fit_gate(lambda: [train[0]], val[0], seen, len(set(val[2])))


def judge(predictor: Predictor, gate: Gate, pictures: Sequence[Pixels]) -> Measured:
    """Scores through the bundle's graph, then the gate."""
    values: list[dict[str, NDArray[np.float64]]] = []
    reasons: list[str] = []
    for picture in pictures:
        embedding = predictor.score_pixels(picture[None]).embedding
        found = gate.judge(picture[None], embedding)
        values.append(found.measured)
        reasons += found.reasons
    return Measured({name: np.concatenate([each[name] for each in values]) for name in values[0]}, reasons)


def describe(source: str, found: Measured, own: Measured, gate: Gate) -> Row:
    """The row of a source."""
    is_far = {"embedding": ~(found.values["embedding"] <= gate.limit)}
    is_far["look"] = ~(found.values["look"] <= gate.look.limit) if gate.look else np.zeros(len(found.reasons), bool)
    is_odd = np.zeros(len(found.reasons), bool)
    if gate.look is not None:
        facts = np.stack([found.values[name] for name in FACTS], 1)
        is_odd = ((facts < gate.look.low) | (facts > gate.look.high)).any(1)
    counts = {reason: found.reasons.count(reason) for reason in sorted(set(found.reasons) - {""})}
    return Row(
        source=source,
        n=len(found.reasons),
        auc=None if found is own else compute_auc(exceed(own, gate), exceed(found, gate)),
        refused=float(np.mean([bool(reason) for reason in found.reasons])),
        by_embedding=float(is_far["embedding"].mean()),
        by_look=float(is_far["look"].mean()),
        by_quality=float(is_odd.mean()),
        reasons=counts,
    )


def exceed(found: Measured, gate: Gate) -> NDArray[np.float64]:
    """How far a picture lies beyond the limits: the greater of both distances over its limit."""
    parts = [found.values["embedding"] / gate.limit]
    if gate.look is not None:
        parts.append(found.values["look"] / gate.look.limit)
    return np.asarray(np.max(parts, axis=0))


def compute_auc(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How often a foreign picture lies farther than an own one; ties count half."""
    return float(((other[:, None] > own).mean() + (other[:, None] >= own).mean()) / 2)


def read_own(run: Run, split: str, most: int) -> Iterator[Pixels]:
    """Decoded pictures of a split of the run, drawn at random."""
    for row in pick(run, split, most):
        yield read(row[0], row[1])


def list_patients(run: Run, split: str, most: int) -> list[str]:
    """Their patients, in the same order."""
    return [row[2] for row in pick(run, split, most)]


def pick(run: Run, split: str, most: int) -> list[tuple[Path, str, str]]:
    """Root, location and patient of pictures of a split."""
    data = Path(run.record.request.source.data)
    root = data if data.is_dir() else data.parent
    with (run.folder / "cohort.csv").open(encoding="utf-8", newline="") as stream:
        locations = {row["name"]: row["location"] for row in csv.DictReader(stream)}
    rows = [row for row in run.splits if row.split == split]
    return [(root, locations[row.sample], row.patient) for row in draw(rows, most)]


def read(root: Path, location: str) -> Pixels:
    """One decoded picture, large enough for any input."""
    return np.asarray(read_location(root, location, min_side_px=640, background="white").pixels)


def prepare(predictor: Predictor, raws: Sequence[Pixels] | Iterator[Pixels]) -> list[Pixels]:
    """As the bundle sees them; what it refuses to read is left out."""
    plan = predictor.manifest.preprocess
    found = []
    for raw in raws:
        try:
            found.append(preprocess(raw, plan))
        except SnellenError:
            continue
    return found


def read_photographs() -> Iterator[Pixels]:
    """What scikit-image carries, whole and in quarters; nothing without it."""
    try:
        import skimage
    except ImportError:
        return
    random = np.random.default_rng(0)
    for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
        if path.suffix.lower() not in (".png", ".jpg", ".gif", ".tif") or path.stem in NOT_PHOTOGRAPHS:
            continue
        try:
            raw = read(path.parent, path.name)
        except SnellenError:
            continue
        yield raw
        side = min(raw.shape[:2]) // 2
        for _ in range(3 if side >= 64 else 0):
            top, left = (random.integers(0, length - side + 1) for length in raw.shape[:2])
            yield np.ascontiguousarray(raw[top : top + side, left : left + side])


def draw(items: Sequence[T], most: int) -> list[T]:
    """Up to `most` of them, at random, always the same."""
    if len(items) <= most:
        return list(items)
    return [items[at] for at in sorted(np.random.default_rng(0).choice(len(items), most, replace=False))]


def _clip(values: NDArray[np.float64]) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8)


def _crop(raw: Pixels, share: float) -> Pixels:
    height, width = (int(length * share) for length in raw.shape[:2])
    top, left = (raw.shape[0] - height) // 2, (raw.shape[1] - width) // 2
    return np.ascontiguousarray(raw[top : top + height, left : left + width])


def _blur(raw: Pixels, share: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(raw, (0, 0), share * max(raw.shape[:2])), np.uint8)


def _add_noise(raw: Pixels, deviation: float) -> Pixels:
    random = np.random.default_rng(int(raw.sum()) % 2**32)
    return _clip(raw + random.normal(0, deviation, raw.shape))


SPOILT: dict[str, Callable[[Pixels], Pixels]] = {
    "blurred, 1 % of the side": lambda raw: _blur(raw, 0.01),
    "blurred, 3 % of the side": lambda raw: _blur(raw, 0.03),
    "dark, half": lambda raw: _clip(raw * 0.5),
    "dark, a fifth": lambda raw: _clip(raw * 0.2),
    "too bright": lambda raw: _clip(raw * 1.5 + 60),
    "cropped, half": lambda raw: _crop(raw, 0.5),
    "cropped, a quarter": lambda raw: _crop(raw, 0.25),
    "noisy": lambda raw: _add_noise(raw, 40),
    "noise alone": lambda raw: _add_noise(np.full_like(raw, 128), 90),
    "black, with sensor noise": lambda raw: _add_noise(np.zeros_like(raw), 6),
    "negative": lambda raw: 255 - raw,
    "turned a quarter": lambda raw: np.ascontiguousarray(np.rot90(raw)),
    "upside down": lambda raw: np.ascontiguousarray(raw[::-1]),
}


def print_table(rows: Sequence[Row]) -> None:
    """The table as Markdown."""
    print("| source | n | AUC | refused | by embedding | by look | by quality |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        shares = (row.refused, row.by_embedding, row.by_look, row.by_quality)
        auc = "" if row.auc is None else f"{row.auc:.3f}"
        print(f"| {row.source} | {row.n} | {auc} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")


if __name__ == "__main__":
    main()

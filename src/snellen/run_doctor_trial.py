"""On what `snellen doctor` measures: a random sample of DATA, or drawn pictures. Loads no torch."""

from __future__ import annotations

import functools
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from snellen.core.errors import PictureError
from snellen.core.runtime import count_threads
from snellen.imaging.readers import read_location
from snellen.ingest.cohort import read_cohort
from snellen.ingest.patients import RawSample
from snellen.ingest.phantom import draw_picture
from snellen.planning.fingerprint import compute_fingerprint
from snellen.records.cohort import Cohort
from snellen.records.plan import Fingerprint
from snellen.records.recipe import DataWish
from snellen.records.run import DataRequest

DRAWN = 240
PROJECTED = 1000
_ORIGINALS = 4
_DRAWN_PX = 512
_MOST = 240
_FEWEST = 24
_PASS_S = 2.0
_PROBED = 8
_SCAN_SIDE_PX = 1024


@dataclass(frozen=True)
class Trial:
    """The sampled pictures as a cohort, how many there are in all, and a fingerprint scaled to these."""

    cohort: Cohort
    n_listed: int
    fingerprint: Fingerprint
    fractions: tuple[float, float, float]
    raws: tuple[RawSample, ...]

    @property
    def root(self) -> Path:
        return Path(self.cohort.root)

    @property
    def n_by_part(self) -> tuple[int, int, int]:
        """Pictures of train, val and test, as the recipe's fractions would have it."""
        n_val, n_test = (round(self.n_listed * share) for share in self.fractions[1:])
        return self.n_listed - n_val - n_test, n_val, n_test


def take_trial(request: DataRequest, wish: DataWish, cache: Path, n_listed: int | None = None) -> Trial:
    """Sample DATA so that reading the sample once takes about two seconds.

    `n_listed` is for how many pictures the sample stands; without it, for those that DATA lists.
    """
    picked = _Pick()
    cohort = read_cohort(request, threads=count_threads(), cache=cache, merge=wish.merge, pick=picked.choose)
    fractions = wish.fractions
    packed = cohort.packed
    if packed is not None:
        samples = random.Random(0).sample(cohort.samples, min(_MOST, len(cohort.samples)))
        n_listed = len(cohort.samples)
        cohort = cohort.model_copy(update={"samples": tuple(samples)})
        return Trial(cohort, n_listed, packed.fingerprint, fractions, ())
    fingerprint = compute_fingerprint(cohort.samples, Path(cohort.root))
    total = n_listed or picked.n_listed
    share = fractions[0] * total / len(cohort.samples)
    scaled = {name: max(1, round(count * share)) for name, count in fingerprint.class_counts.items()}
    fingerprint = fingerprint.model_copy(update={"n_samples": round(fractions[0] * total), "class_counts": scaled})
    return Trial(cohort, total, fingerprint, fractions, tuple(picked.chosen))


@dataclass
class _Pick:
    """Chooses pictures of a source, as many as can be read in the time."""

    n_listed: int = 0
    chosen: list[RawSample] = field(default_factory=list)

    def choose(self, root: Path, samples: list[RawSample]) -> list[RawSample]:
        self.n_listed = len(samples)
        order = random.Random(0).sample(samples, len(samples))
        begin = time.perf_counter()
        with ThreadPoolExecutor(count_threads()) as pool:
            list(pool.map(functools.partial(_try_reading, root), order[:_PROBED]))
        rate = min(_PROBED, len(order)) / max(time.perf_counter() - begin, 1e-6)
        wanted = int(min(_MOST, max(_FEWEST, rate * _PASS_S)))
        seen: Counter[str] = Counter()
        first = []
        for sample in order:  # two of each class, so that the plan knows all of them
            seen[sample.label] += 1
            if seen[sample.label] <= 2:
                first.append(sample)
        kept = {id(sample) for sample in first}
        rest = [sample for sample in order if id(sample) not in kept]
        self.chosen = [*first, *rest[: max(0, wanted - len(first))]]
        return self.chosen


def _try_reading(root: Path, sample: RawSample) -> None:
    try:
        read_location(root, sample.location, min_side_px=_SCAN_SIDE_PX)
    except PictureError:
        return  # the cohort says so


@contextmanager
def draw_trial_data(folder: Path) -> Iterator[Path]:
    """Class folders of fundus photographs as JPEG: a few are drawn, the others turn them and change their light."""
    random_state = np.random.default_rng(0)
    for label in ("grade_0", "grade_4"):
        (folder / label).mkdir(parents=True)
        drawn = [draw_picture("fundus", label, patient_seed=seed, size_px=_DRAWN_PX) for seed in range(_ORIGINALS // 2)]
        for number in range(DRAWN // 2):
            pixels = np.rot90(drawn[number % len(drawn)], int(random_state.integers(4)))
            lighter = np.clip(pixels + random_state.integers(-20, 20, 3), 0, 255).astype(np.uint8)
            _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(lighter[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 92])
            path = folder / label / f"synthetic_fundus_P{number // 4:04d}_left_{number % 4 + 1}.jpg"
            path.write_bytes(encoded.tobytes())
    yield folder

"""The steps of `snellen audit`, shared with `plan` and `train`: what training would find, and the page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen import __version__
from snellen.core.errors import PictureError
from snellen.core.progress import follow
from snellen.core.runtime import count_threads
from snellen.core.storage import write_atomic
from snellen.evaluation.audit_page import THUMBNAIL_PX, AuditPage, choose_pictures, render_audit
from snellen.evaluation.gallery import encode_thumbnail
from snellen.imaging.readers import Levels, read_location
from snellen.imaging.window import apply_window
from snellen.planning.class_order import find_sure_order
from snellen.planning.splits import check_lacking, draw_splits
from snellen.records.cohort import Cohort, Sample, Split
from snellen.records.recipe import DataWish
from snellen.records.run import DataRequest
from snellen.runs import save_cohort


def foresee_splits(cohort: Cohort) -> tuple[Cohort, tuple[Split, ...]]:
    """The splits that `train` would draw by default, and the cohort with an issue where they cannot be filled."""
    splits = draw_splits(cohort, DataWish().fractions, seed=0)
    audit = cohort.audit.with_issues(check_lacking(cohort, splits))
    return cohort.model_copy(update={"audit": audit}), splits


def foresee_order(cohort: Cohort) -> Cohort:
    """The cohort with its classes as `train` would order them by default."""
    found = find_sure_order(cohort)
    return cohort if isinstance(found, str) else cohort.with_order(found.classes, is_ordered=True)


def save_audit(folder: Path, cohort: Cohort, splits: Sequence[Split], request: DataRequest) -> None:
    """`cohort.csv`, `audit.json`, and `audit.html` for a reader."""
    save_cohort(folder, cohort)
    page = AuditPage(
        cohort=cohort,
        splits=splits,
        data=request.data,
        command=shlex.join(["snellen", "audit", *request.to_words()]),
        next_command=shlex.join(["snellen", "train", *request.to_words()]),
        thumbnails=_draw_thumbnails(cohort),
        snellen_version=__version__,
    )
    write_atomic(folder / "audit.html", render_audit(page))


def _draw_thumbnails(cohort: Cohort) -> dict[str, str]:
    """Sample → data URI of those that the page shows; a file that vanished meanwhile has none."""
    chosen = choose_pictures(cohort)
    root = Path(cohort.root)

    def draw(sample: Sample) -> str:
        try:
            pixels = read_location(root, sample.location, min_side_px=THUMBNAIL_PX).pixels
            return encode_thumbnail(_to_shades(pixels), THUMBNAIL_PX)
        except PictureError:
            return ""

    with ThreadPoolExecutor(count_threads()) as pool:
        drawn = list(follow(pool.map(draw, chosen), "Drawing the page", len(chosen)))
    return {sample.name: uri for sample, uri in zip(chosen, drawn, strict=True) if uri}


def _to_shades(values: Levels) -> NDArray[np.uint8]:
    """A picture of more than 8 bits between its own quantiles, to be looked at; the model sees the plan's window."""
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    low, high = np.quantile(values, [0.005, 0.995])
    return apply_window(values, (float(low), max(float(high), float(low) + 1)))

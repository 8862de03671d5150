"""The steps of `snellen audit`, shared with `plan` and `train`: what training would find, and the page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from snellen import __version__
from snellen.core.errors import PictureError
from snellen.core.natural_order import is_number
from snellen.core.progress import follow, say
from snellen.core.runtime import count_threads, has_package
from snellen.core.storage import write_atomic
from snellen.evaluation.audit_page import THUMBNAIL_PX, AuditPage, choose_pictures, render_audit
from snellen.evaluation.gallery import encode_thumbnail
from snellen.imaging.looks import to_shades
from snellen.imaging.readers import read_location
from snellen.ingest.picture_checks import check_pictures
from snellen.ingest.picture_looks import read_looks
from snellen.ingest.shortcuts import check_shortcuts, measure_shortcuts
from snellen.planning.class_order import find_sure_order
from snellen.planning.needs import compute_needs
from snellen.planning.splits import check_lacking, draw_splits
from snellen.records.cohort import Audit, Cohort, Issue, Sample, Split
from snellen.records.evaluation import Estimate
from snellen.records.recipe import DataWish
from snellen.records.run import DataRequest
from snellen.runs import save_cohort

FEWEST_ALIKE = 60
MOST_ALIKE = 20_000


def foresee_splits(cohort: Cohort) -> tuple[Cohort, tuple[Split, ...]]:
    """The splits that `train` would draw by default, and the cohort with an issue where they cannot be filled."""
    wish = DataWish()
    splits = draw_splits(cohort, wish.fractions, 0, wish.calibration_patients)
    audit = cohort.audit.with_issues(check_lacking(cohort, splits))
    return cohort.model_copy(update={"audit": audit}), splits


def examine(cohort: Cohort, splits: Sequence[Split], cache: Path, auc: float | None = None) -> Cohort:
    """The cohort with what asks for every picture once more: shortcuts, odd pictures, and what the intervals need.

    Kept in `cache`. The pictures of a packed file were examined before they were packed.
    """
    audit = cohort.audit.model_copy(update={"needs": compute_needs(cohort, splits, auc)})
    if cohort.packed is None:
        looks = read_looks(Path(cohort.root), cohort.samples, count_threads(), cache)
        shortcuts = measure_shortcuts(cohort, looks, cache)
        issues = [*check_shortcuts(shortcuts), *check_pictures(cohort.samples, looks)]
        audit = audit.model_copy(update={"shortcuts": shortcuts}).with_issues(issues)
    return cohort.model_copy(update={"audit": audit})


def foresee_order(cohort: Cohort) -> Cohort:
    """The cohort with its classes as `train` would order them by default."""
    found = find_sure_order(cohort)
    return cohort if isinstance(found, str) else cohort.with_order(found.classes, is_ordered=True)


def say_worst(audit: Audit) -> None:
    """The three gravest issues, one line each: the first sentence of each message."""
    for issue in audit.list_worst():
        first, _, more = issue.message.partition(". ")
        say(f"{issue.severity.capitalize()}: {first}{'.' if more else ''} ({issue.code})")


def find_likeness_obstacle(cohort: Cohort, *, quick: bool) -> str:
    """Why features need not or cannot be computed, as far as can be told without loading a network."""
    n = len(cohort.samples)
    if quick:
        return "--quick was given"
    if cohort.packed is not None:
        return "the pictures are packed"
    if not FEWEST_ALIKE <= n <= MOST_ALIKE:
        return f"they take {FEWEST_ALIKE} to {MOST_ALIKE:,} pictures, and there are {n:,}"
    missing = [module for module in ("torch", "timm", "sklearn") if not has_package(module)]
    return f"{missing[0]} is not installed: pip install 'snellen[train]'" if missing else ""


def tell_left_out(reason: str) -> Issue:
    """Why labels and likeness were not looked at."""
    return Issue(
        code="labels_left_out",
        severity="info",
        message="Likely wrong labels, pictures like no other and patients who may be one were not looked for: "
        f"{reason}.",
        advice="`snellen train` looks for them among the pictures that it learns from.",
    )


def tell_labels_left_out(reason: str, *, is_in_part: bool = False) -> Issue:
    """Why labels, of all pictures or of some classes, were not looked at; outliers and likeness were."""
    where = " in all classes" if is_in_part else ""
    return Issue(
        code="labels_left_out",
        severity="info",
        message=f"Likely wrong labels were not looked for{where}: {reason}.",
        advice="Look at the labels of these pictures yourself, or give more patients.",
    )


def save_audit(
    folder: Path,
    cohort: Cohort,
    splits: Sequence[Split],
    request: DataRequest,
    model: tuple[str, Estimate] | None = None,
    *,
    quick: bool = False,
) -> None:
    """`cohort.csv`, `audit.json`, and `audit.html` for a reader; `model` is a split with a model's AUC on it.

    `quick` is what the audit was asked: with it the page's command gives the same audit again.
    """
    save_cohort(folder, cohort)
    asked = ["--quick"] if quick else []
    if cohort.audit.copy_search != "all":
        asked += ["--copies", cohort.audit.copy_search]
    page = AuditPage(
        cohort=cohort,
        splits=splits,
        data=request.data,
        command=shlex.join(["snellen", "audit", *request.to_words(), *asked]),
        next_command=shlex.join(["snellen", "train", *request.to_words()]),
        thumbnails=_draw_thumbnails(cohort),
        model=model,
        order_hint=_hint_at_order(cohort),
        snellen_version=__version__,
    )
    write_atomic(folder / "audit.html", render_audit(page))


def _hint_at_order(cohort: Cohort) -> str:
    """Why numbers are not taken for grades, and how to say that they are."""
    if cohort.is_ordered or len(cohort.classes) < 3 or not all(map(is_number, cohort.classes)):
        return ""
    return f"not known: {found}" if isinstance(found := find_sure_order(cohort), str) else ""


def _draw_thumbnails(cohort: Cohort) -> dict[str, str]:
    """Sample → data URI of those that the page shows; a file that vanished meanwhile has none."""
    chosen = choose_pictures(cohort)
    root = Path(cohort.root)

    def draw(sample: Sample) -> str:
        try:
            pixels = read_location(root, sample.location, min_side_px=THUMBNAIL_PX).pixels
            return encode_thumbnail(to_shades(pixels), THUMBNAIL_PX)
        except PictureError:
            return ""

    with ThreadPoolExecutor(count_threads()) as pool:
        drawn = list(follow(pool.map(draw, chosen), "Drawing the page", len(chosen)))
    return {sample.name: uri for sample, uri in zip(chosen, drawn, strict=True) if uri}

"""Tables of the audit's page: rows of strings, without markup.

This room knows records and column heads. It must not know HTML or pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from snellen.core.letters import show_class_count
from snellen.evaluation.tables import Table
from snellen.evaluation.wording import format_count, format_percent
from snellen.records.cohort import Sample

_MAX_SIZES = 12
_FEW_SIZES = 3  # shown where no two pictures share one
_MAX_CLASSES = 6


def build_formats(samples: Sequence[Sample]) -> Table:
    """What kinds of file there are, how large, in colour or grey."""
    rows = []
    for name, _ in Counter(sample.format for sample in samples).most_common():
        own = [sample for sample in samples if sample.format == name]
        grey = sum(sample.channels == 1 for sample in own)
        rows.append(
            (
                name or "unknown",
                f"{len(own):,}",
                f"{len(own) - grey:,} ({format_percent(1 - grey / len(own))})",
                f"{grey:,} ({format_percent(grey / len(own))})",
                _range([sample.n_bytes / 1000 for sample in own], 1),
                _count_classes(own),
            )
        )
    head = ("Format", "Pictures", "Colour", "Grey", "Kilobytes: least, median, most", "By class")
    return Table("Formats of the files", head, tuple(rows), ("text", "num", "num", "num", "num", "text"))


def build_sizes(samples: Sequence[Sample]) -> Table:
    """The most frequent sizes; all others in one row."""
    counts = Counter((sample.width_px, sample.height_px) for sample in samples)
    several = sum(n > 1 for n in counts.values())
    shown = counts.most_common(min(_MAX_SIZES, max(several, _FEW_SIZES)))
    rows = [
        (f"{width} × {height}", f"{n:,}", format_percent(n / len(samples)), _count_classes(own))
        for (width, height), n in shown
        if (own := [sample for sample in samples if (sample.width_px, sample.height_px) == (width, height)])
    ]
    rest = len(samples) - sum(n for _, n in shown)
    if rest:
        others = format_count(len(counts) - len(shown), "other size")
        rows.append((others, f"{rest:,}", format_percent(rest / len(samples)), ""))
    head = ("Width × height, pixels", "Pictures", "Share", "By class")
    return Table("Sizes of the pictures", head, tuple(rows), ("text", "num", "num", "text"))


def _count_classes(samples: Sequence[Sample]) -> str:
    """`drusen 12, normal 3`: a format or size of one class alone gives that class away."""
    counts = Counter(sample.label for sample in samples).most_common()
    shown = ", ".join(show_class_count(name, n) for name, n in counts[:_MAX_CLASSES])
    return shown if len(counts) <= _MAX_CLASSES else f"{shown} and {len(counts) - _MAX_CLASSES} more"


def build_size_ranges(samples: Sequence[Sample]) -> Table:
    """Least, median and largest sides, and the shape."""
    widths, heights = [sample.width_px for sample in samples], [sample.height_px for sample in samples]
    shapes = [sample.width_px / max(1, sample.height_px) for sample in samples]
    rows = (
        ("Width, pixels", _range(widths)),
        ("Height, pixels", _range(heights)),
        ("Width ÷ height", _range(shapes, 2)),
    )
    return Table("Range of sizes", ("", "Least, median, most"), rows, ("text", "num"))


def build_patients(samples: Sequence[Sample]) -> Table:
    """How many pictures patients have."""
    sizes = Counter(Counter(sample.patient for sample in samples).values())
    ordered = sorted(sizes)
    shown = ordered if len(ordered) <= _MAX_SIZES else ordered[: _MAX_SIZES - 1]
    rows = [(format_count(size, "picture"), f"{sizes[size]:,}") for size in shown]
    rest = ordered[len(shown) :]
    if rest:
        rows.append((f"{rest[0]} to {rest[-1]} pictures", f"{sum(sizes[size] for size in rest):,}"))
    return Table("Pictures a patient", ("A patient with", "Patients"), tuple(rows), ("text", "num"))


def _range(values: Sequence[float], digits: int = 0) -> str:
    least, middle, most = min(values), median(values), max(values)
    return " · ".join(f"{value:,.{digits}f}" for value in (least, middle, most))

"""Pictures that differ from the cohort: blurred, over- or under-exposed, tiny, of another kind, cut off, with letters.

A limit is relative to the cohort as well as absolute: what all pictures have is no fault of one. This room knows
samples and looks; it opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snellen.core.letters import agree, show_class_count
from snellen.ingest.picture_looks import Looks
from snellen.records.cohort import Issue, Sample, Severity

_FEWEST = 20
_QUARTILES = 1.349  # between the quartiles of a normal distribution lie so many standard deviations
_FAR = 4.5  # of normal numbers one in 300,000 is so far
_BLURRED_ANYWHERE = -1.45  # of 470 real pictures of five kinds one is below; blurred by 1 to 2 % of the side most are
_BLUR = 0.6  # fine detail below exp(-0.6) = 55 % of the cohort's, beside what coarse detail tells
_OVER, _NEARLY_WHITE = 0.2, 235
_UNDER = 0.4
_DARK_ANYWHERE = 24  # the darkest of those pictures has 37
_SELDOM = 0.1
_TINY, _TINY_PX = 0.25, 64
_GREY_SATURATION, _COLOUR_SATURATION = 0.02, 0.08
_MOST_OF_ALL = 0.9
_BAND = 0.1
_FLAT_LEVELS = 8.0
_LETTERS = 4
_SHOWN_CLASSES = 4

Rows = NDArray[np.bool_]
# severity, verb, what is said, what to do
_TEXTS: dict[str, tuple[Severity, str, str, str]] = {
    "blurred_pictures": (
        "warning",
        "are",
        "far less sharp than the rest",
        "Look at them. Where the blur is the disease (cataract) keep them; else take them out, for the model can only "
        "guess there.",
    ),
    "overexposed_pictures": (
        "warning",
        "are",
        "burnt out, or have a white margin: large parts are white where the rest is not",
        "Look at them. Cut a white margin off, and take out what no one could grade.",
    ),
    "underexposed_pictures": (
        "warning",
        "are",
        "far darker than the rest",
        "Look at them, and take out what no one could grade.",
    ),
    "tiny_pictures": (
        "warning",
        "are",
        "far smaller than the rest: thumbnails, perhaps",
        "Look for the full pictures. Enlarged to the model's input they show less than others.",
    ),
    "odd_colour_pictures": (
        "warning",
        "are",
        "grey where nearly all are in colour, or in colour where nearly all are grey: of another device, perhaps",
        "Look whether they belong to the data.",
    ),
    "cut_off_pictures": (
        "warning",
        "end",
        "early: one side is of one shade where the rest show something",
        "Export them again; a transfer may have been cut off.",
    ),
    "text_in_pictures": (
        "warning",
        "seem",
        "to have letters burnt in at the rim. That may be a name or a date: a matter of privacy, and of shortcuts",
        "Look at them, and paint over or cut off what they say before the data are passed on. Small, faint and curved "
        "letters are missed, and so are those on bright tissue: where none are named there may be some.",
    ),
}


def check_pictures(samples: Sequence[Sample], looks: Looks) -> list[Issue]:
    """An issue a kind, with the names of all that have it."""
    if not samples:
        return []
    sound = (looks.column("contrast") >= _FLAT_LEVELS) & np.isfinite(looks.column("sharpness"))
    found = {
        "text_in_pictures": looks.column("letters") >= _LETTERS,
        "odd_colour_pictures": _find_odd_colours(samples, looks) & sound,
        "tiny_pictures": _find_tiny(samples),
    }
    if sound.sum() >= _FEWEST:
        found |= {
            "blurred_pictures": sound & _find_blurred(looks, sound),
            "overexposed_pictures": _find_overexposed(looks, sound),
            "underexposed_pictures": _find_underexposed(looks, sound),
            "cut_off_pictures": sound & _find_cut_off(looks, sound),
        }
    return [
        _tell(code, [each for each, is_so in zip(samples, found[code], strict=True) if is_so], len(samples))
        for code in _TEXTS
        if code in found and found[code].any()
    ]


def _tell(code: str, own: Sequence[Sample], n: int) -> Issue:
    severity, verb, text, advice = _TEXTS[code]
    names = tuple(sample.name for sample in own)
    by_class: dict[str, int] = {}
    for sample in own:
        by_class[sample.label] = by_class.get(sample.label, 0) + 1
    most = sorted(by_class.items(), key=lambda item: -item[1])[:_SHOWN_CLASSES]
    shown = ", ".join(show_class_count(label, of_class) for label, of_class in most)
    message = f"{len(own):,} of {n:,} pictures {agree(len(own), verb)} {text} ({shown}), such as {names[0]}."
    return Issue(code=code, severity=severity, message=message, advice=advice, samples=names)


def _measure_distance(values: NDArray[np.float32], sound: Rows) -> tuple[float, NDArray[np.float64]]:
    """The median of the sound pictures, and how far each lies from it in robust standard deviations.

    By quartiles: a fault of a tenth of the pictures does not widen what is usual.
    """
    low, middle, high = (float(value) for value in np.quantile(values[sound].astype(np.float64), [0.25, 0.5, 0.75]))
    spread = max((high - low) / _QUARTILES, 1e-6)
    return middle, (values.astype(np.float64) - middle) / spread


def _is_seldom_below(values: NDArray[np.float32], limit: float, sound: Rows) -> Rows:
    """Below what is poor in any cohort; nowhere, where more than a tenth is: then the cohort is like that."""
    below = values < limit
    return np.asarray(below if below[sound].mean() <= _SELDOM else np.zeros_like(below))


def _find_blurred(looks: Looks, sound: Rows) -> Rows:
    found = np.zeros(len(sound), bool)
    for name in ("sharpness", "coarse_sharpness"):
        values = looks.column(name)
        middle, far = _measure_distance(values, sound)
        found |= ((far < -_FAR) | _is_seldom_below(values, _BLURRED_ANYWHERE, sound)) & (values < middle - _BLUR)
    return found


def _find_overexposed(looks: Looks, sound: Rows) -> Rows:
    """Much that is burnt out, or all of it nearly so."""
    burnt, bright = looks.column("overexposed"), looks.column("brightness")
    usual, far = _measure_distance(burnt, sound)
    _, brighter = _measure_distance(bright, sound)
    return np.asarray(((far > _FAR) & (burnt > usual + _OVER)) | ((brighter > _FAR) & (bright >= _NEARLY_WHITE)))


def _find_underexposed(looks: Looks, sound: Rows) -> Rows:
    """On a logarithm: half as bright is as far as twice as bright."""
    brightness = looks.column("brightness")
    values = np.log(np.maximum(brightness, 1.0)).astype(np.float32)
    middle, far = _measure_distance(values, sound)
    is_far = (far < -_FAR) | _is_seldom_below(brightness, _DARK_ANYWHERE, sound)
    return np.asarray(is_far & (values < middle + np.log(_UNDER)))


def _find_cut_off(looks: Looks, sound: Rows) -> Rows:
    values = looks.column("band")
    usual = float(np.quantile(values[sound], 0.75))
    return np.asarray(values > max(2 * usual, usual + _BAND))


def _find_tiny(samples: Sequence[Sample]) -> Rows:
    sides = np.array([min(sample.width_px, sample.height_px) for sample in samples], float)
    usual = float(np.median(sides))
    return np.asarray((sides < _TINY * usual) | ((sides < _TINY_PX) & (usual >= 2 * _TINY_PX)))


def _find_odd_colours(samples: Sequence[Sample], looks: Looks) -> Rows:
    saturation = looks.column("saturation")
    grey = np.array([sample.channels == 1 for sample in samples]) | (saturation < _GREY_SATURATION)
    colour = saturation > _COLOUR_SATURATION
    if len(samples) < _FEWEST:
        return np.zeros(len(samples), bool)
    if grey.mean() >= _MOST_OF_ALL:
        return np.asarray(colour)
    return np.asarray(grey if colour.mean() >= _MOST_OF_ALL else np.zeros(len(samples), bool))

"""Issues that tell what pictures are like, where that changes what a model sees: depth, colours, pages, windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snellen.core.letters import agree, show_count
from snellen.records.cohort import Issue, Sample, Severity

# note of the reader → code of the issue
_CODES = {
    "blank": "blank_pictures",
    "animated": "animated_pictures",
    "multi_page": "multi_page_pictures",
    "transparent": "transparent_pictures",
    "icc": "colour_profiles",
    "icc_ignored": "colour_profiles_ignored",
    "dicom_window": "dicom_window",
    "dicom_window_ignored": "dicom_window_ignored",
}
_VERBS = ("are", "have", "carry", "hold", "were")
# code → severity, what is said after the number of pictures, advice
_TEXTS: dict[str, tuple[Severity, str, str]] = {
    "blank_pictures": (
        "warning",
        "{are} blank: all one colour, with nothing to be seen",
        "Take them out, or export them again: the model would learn that an empty picture means their class. `predict` "
        "does not answer on such.",
    ),
    "animated_pictures": (
        "info",
        "{are} animated (GIF, WebP or APNG); the first picture of each is used",
        "Export the pictures that matter one by one if it is not the first.",
    ),
    "multi_page_pictures": (
        "info",
        "{hold} several pages (TIFF); the first is used",
        "Export the pages that matter one by one if it is not the first.",
    ),
    "transparent_pictures": (
        "info",
        "{have} transparent parts, laid on the background of the plan",
        "Set preprocess.background to white or black, whichever the pictures were drawn for.",
    ),
    "colour_profiles": (
        "info",
        "{carry} a colour profile other than sRGB and {were} converted to sRGB",
        "Nothing to do: colours of different devices become comparable.",
    ),
    "colour_profiles_ignored": (
        "warning",
        "{carry} a colour profile that is damaged, of another colour space or beside 16-bit colours; colours are taken "
        "as they are stored",
        "Export them as sRGB if other pictures of the cohort are.",
    ),
    "dicom_window": (
        "info",
        "{are} DICOM with a window or look-up table, which was applied",
        "Check that it is the one by which the labels were given.",
    ),
    "dicom_window_ignored": (
        "warning",
        "{are} DICOM with a window or look-up table that cannot be used; values are kept as stored",
        "Export them again, with a valid window.",
    ),
}


def check_kinds(samples: Sequence[Sample], notes: Mapping[str, Sequence[str]]) -> list[Issue]:
    """An issue a kind, with all names; `notes` are the reader's, by sample name."""
    found: list[Issue] = []
    for note, code in _CODES.items():
        names = [sample.name for sample in samples if note in notes.get(sample.name, ())]
        if names:
            severity, text, advice = _TEXTS[code]
            said = text.format_map({verb: agree(len(names), verb) for verb in _VERBS})
            message = f"{len(names):,} of {len(samples):,} pictures {said}, such as {names[0]}."
            found.append(Issue(code=code, severity=severity, message=message, advice=advice, samples=tuple(names)))
    return [*found, *_check_depth(samples)]


def _check_depth(samples: Sequence[Sample]) -> list[Issue]:
    deep = [sample for sample in samples if sample.bits > 8]
    if not deep:
        return []
    names = tuple(sample.name for sample in deep)
    found = [
        Issue(
            code="high_bit_depth",
            severity="info",
            message=f"{len(deep):,} of {len(samples):,} pictures {agree(len(deep), 'have')} more than 8 bits a "
            f"channel, such as {names[0]} ({deep[0].bits}). One window, measured on training pictures, maps them to "
            "256 levels.",
            advice="See preprocess.window in the plan; set it in the recipe if the values have a meaning of their own.",
            samples=names,
        )
    ]
    plain = tuple(sample.name for sample in samples if sample.bits <= 8)
    if plain:
        found.append(
            Issue(
                code="mixed_bit_depth",
                severity="warning",
                message=f"Bits a channel differ: {show_count(len(deep), 'picture')} with more than 8 "
                f"(such as {names[0]}), {len(plain)} with 8 (such as {plain[0]}). Only the former go through the "
                "window: the two may differ in brightness.",
                advice="Export all in one way. If depth goes with the label, a model learns the depth.",
                samples=plain if len(plain) < len(deep) else names,
            )
        )
    return found

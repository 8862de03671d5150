"""How pictures become the pixels that a model sees: size, fit, border, channels, window."""

from __future__ import annotations

from typing import Any

from snellen.core.errors import UsageError
from snellen.planning.ledger import Ledger, to_plain
from snellen.planning.recipe_files import LoadedRecipe
from snellen.records.cohort import Cohort, Packed
from snellen.records.plan import Fingerprint, How, PreprocessPlan
from snellen.records.recipe import ModelWish, Recipe

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
Window = tuple[float, float]

_BORDER_LIMIT = 0.03
_SMALL_SOURCE_PX = 64
_LARGE_COHORT = 20_000
_LARGE_SIDES = ((400, 1500), (320, 2500))  # for colour pictures, where there are no more than so many of them
_LARGE_PICTURE_PX = 400
_UNMEASURED = "no training picture has more than 8 bits a channel, but"


def plan_pixels(loaded: LoadedRecipe, cohort: Cohort, fingerprint: Fingerprint, ledger: Ledger) -> PreprocessPlan:
    """The preprocessing; that of a packed file is as it was packed. Raises UsageError where a wish contradicts."""
    if cohort.packed is not None:
        return _take_packed(loaded, cohort.packed, ledger)
    return _plan_preprocess(loaded, fingerprint, ledger, _choose_window(cohort, fingerprint))


def _plan_preprocess(
    loaded: LoadedRecipe, fingerprint: Fingerprint, ledger: Ledger, measured: tuple[Window | None, How, str]
) -> PreprocessPlan:
    wish = loaded.recipe.preprocess
    window = ledger.settle("preprocess.window", wish.window, measured)
    if window is None and measured[2].startswith(_UNMEASURED):
        raise UsageError(
            f"preprocess.window cannot be measured: {measured[2]}.",
            "Set it, such as --set preprocess.window=[0,65535], or export these pictures with 8 bits.",
        )
    if window is not None and window[0] >= window[1]:
        raise UsageError(
            f"preprocess.window = {list(window)}: the first value must be below the second.",
            "Example: --set preprocess.window=[0,65535]",
        )
    border = fingerprint.border_fraction
    crop: tuple[bool, How, str] = (
        (True, "rule", f"{border:.0%} of a picture is black border")
        if border > _BORDER_LIMIT
        else (False, "rule", f"only {border:.1%} of a picture is black border")
    )
    grey = fingerprint.grey_fraction == 1
    channels: tuple[int, How, str] = (
        (1, "rule", "all training pictures are grey; the graph repeats the channel for RGB weights")
        if grey
        else (3, "rule", f"{1 - fingerprint.grey_fraction:.0%} of the training pictures have colour")
    )
    return PreprocessPlan(
        size=ledger.settle("preprocess.size", wish.size, _find_own_size(loaded.recipe) or choose_size(fingerprint)),
        fit=ledger.settle("preprocess.fit", wish.fit, _choose_fit(fingerprint)),
        crop_border=ledger.settle("preprocess.crop_border", wish.crop_border, crop),
        clahe=ledger.settle(
            "preprocess.clahe",
            wish.clahe,
            (0.0, "fixed", "it helps some cohorts and hurts others: try it on validation"),
        ),
        channels=ledger.settle("preprocess.channels", wish.channels, channels),  # type: ignore[arg-type]  # 1 or 3
        normalize=ledger.settle(
            "preprocess.normalize",
            wish.normalize,
            ("weights", "fixed", "pretrained weights want the values they were trained with"),
        ),
        window=window,
        background=ledger.settle(
            "preprocess.background",
            wish.background,
            (
                "white",
                "rule",
                "viewers and paper show transparent parts white; it matters only where pictures have any",
            ),
        ),
    )


def name_backbone(wish: ModelWish) -> str:
    """What "auto" means: the network that the recipe lists, if it lists one."""
    if wish.backbone != "auto":
        return wish.backbone
    return "layers" if wish.layers else DEFAULT_BACKBONE


def _find_own_size(recipe: Recipe) -> tuple[int, How, str] | None:
    """What preprocess.sizes says of the backbone."""
    name = name_backbone(recipe.model).split(".", 1)[0]
    size = recipe.preprocess.sizes.get(name)
    return None if size is None else (size, "rule", f"preprocess.sizes says it of {name}")


def _choose_window(cohort: Cohort, fingerprint: Fingerprint) -> tuple[Window | None, How, str]:
    """Which values become black and white where pictures have more than 8 bits: never seen from val or test."""
    if fingerprint.deep_levels is not None:
        return (
            fingerprint.deep_levels,
            "measured",
            f"0.5 % and 99.5 % quantiles of {fingerprint.n_deep_measured} training pictures with more than 8 bits",
        )
    deep = [sample.name for sample in cohort.samples if sample.bits > 8]
    if deep:
        return None, "measured", f"{_UNMEASURED} {len(deep)} pictures of val or test have, such as {deep[0]}"
    return None, "measured", "no picture has more than 8 bits a channel"


def _take_packed(loaded: LoadedRecipe, packed: Packed, ledger: Ledger) -> PreprocessPlan:
    """What was done to a packed file's pictures cannot be done otherwise; normalisation comes behind them."""
    made, wish = packed.preprocess, loaded.recipe.preprocess
    wrong = [
        f"preprocess.{key} = {to_plain(getattr(wish, key))}, but the pictures were packed with {to_plain(value)}"
        for key, value in made
        if key != "normalize" and getattr(wish, key) not in ("auto", value)
    ]
    if wrong:
        raise UsageError(
            f"{packed.file} is packed and cannot be preprocessed otherwise:\n"
            + "\n".join(f"  • {line}" for line in wrong),
            "Repeat `snellen pack` on the original data with these settings, or leave them out.",
        )
    reason = f"the pictures in {packed.file} are packed so"
    found = {
        key: ledger.settle(f"preprocess.{key}", getattr(wish, key), (value, "measured", reason)) for key, value in made
    }
    return PreprocessPlan(**found)


def choose_size(fingerprint: Fingerprint) -> tuple[int, How, str]:
    """Side of the input in px: as large as the pictures deserve and the cohort's forward pass allows."""
    side = min(fingerprint.width_px[1], fingerprint.height_px[1])
    if side <= _SMALL_SOURCE_PX and fingerprint.n_samples > _LARGE_COHORT:
        return (
            112,
            "rule",
            f"pictures of {side:.0f} px gain little from more, and {fingerprint.n_samples} of them are many",
        )
    is_colour = fingerprint.grey_fraction < 1
    most = max((px for px, n in _LARGE_SIDES if fingerprint.n_samples <= n), default=224)
    if side >= _LARGE_PICTURE_PX and most > 224 and is_colour:
        return (
            most,
            "rule",
            f"colour pictures of {side:.0f} px show small lesions; in our experiments (docs/experiments.md) 320 px "
            f"beat 224 px, and 400 px beat 320 px; {fingerprint.n_samples} pictures leave time for {most} px",
        )
    return 224, "rule", f"the backbone's own size; pictures are {side:.0f} px, {fingerprint.n_samples} in training"


def _choose_fit(fingerprint: Fingerprint) -> tuple[Any, How, str]:
    return (
        "pad",
        "rule",
        (
            f"keeps proportions (median aspect {fingerprint.aspect_median:.2f}); in our experiments "
            "(docs/experiments.md) it beat stretching"
        ),
    )

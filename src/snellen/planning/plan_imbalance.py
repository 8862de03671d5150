"""What is planned against classes of different size."""

from __future__ import annotations

from typing import Any

from snellen.core.errors import UsageError
from snellen.planning.ledger import Ledger
from snellen.planning.recipe_files import LoadedRecipe
from snellen.records.plan import Fingerprint, How, ImbalancePlan, PreprocessPlan

LARGEST_PX = 64
LARGEST_MEGABYTES = 400

_RESAMPLERS = ("smote", "smote_tomek", "random_over", "random_under")
_MAKERS = ("smote", "smote_tomek")
_USED_BY = {
    "on": _RESAMPLERS,
    "focal_gamma": ("focal",),
    "logit_tau": ("logit_adjustment",),
    "neighbors": _MAKERS,
}
_RULES: dict[str, tuple[Any, str]] = {
    "on": ("features", "works at any size, where a mean of two pictures is a double exposure"),
    "focal_gamma": (2.0, "the value of Lin et al. 2017, who found it best and their results little sensitive to it"),
    "logit_tau": (1.0, "1 makes the classes equal in training (Menon et al. 2021)"),
    "neighbors": (5, "the value of Chawla et al. 2002; classes of fewer pictures take fewer"),
}


def plan_imbalance(
    loaded: LoadedRecipe, fingerprint: Fingerprint, preprocess: PreprocessPlan, ledger: Ledger
) -> ImbalancePlan:
    """The method, and every parameter; a parameter that the method does not use says so in its reason.

    Raises UsageError where new pictures are wished for that are too large, or too many.
    """
    wish = loaded.recipe.imbalance
    method = ledger.settle("imbalance.method", wish.method, _choose_method(fingerprint))
    found: dict[str, Any] = {}
    for key, (value, reason) in _RULES.items():
        users = _USED_BY[key]
        told = reason if method in users else f"not used: it belongs to {', '.join(users)}"
        found[key] = ledger.settle(f"imbalance.{key}", getattr(wish, key), (value, "fixed", told))
    plan = ImbalancePlan(method=method, **found)
    if plan.on == "pixels" and plan.method in _MAKERS:
        _require_small(fingerprint, preprocess, plan.method)
    return plan


def _choose_method(fingerprint: Fingerprint) -> tuple[Any, How, str]:
    counts = fingerprint.class_counts.values()
    ratio = max(counts) / max(1, min(counts))
    return (
        "none",
        "rule",
        (
            f"the largest class is {ratio:.1f} times the smallest; probabilities stay honest without weights, "
            "and decisions are made at operating points"
        ),
    )


def _require_small(fingerprint: Fingerprint, preprocess: PreprocessPlan, method: str) -> None:
    told = f'imbalance.method = "{method}" on = "pixels"'
    if preprocess.size > LARGEST_PX:
        raise UsageError(
            f"{told} makes pictures of at most {LARGEST_PX} px, and preprocess.size is {preprocess.size}: between two "
            "large pictures lies a double exposure.",
            f'Choose imbalance.on = "features", or --set preprocess.size={LARGEST_PX}',
        )
    counts = [count for count in fingerprint.class_counts.values() if count]
    megabytes = len(counts) * max(counts) * preprocess.size**2 * preprocess.channels * 4 / 1e6
    if megabytes > LARGEST_MEGABYTES:
        raise UsageError(
            f"{told} would hold {megabytes:,.0f} MB of pixels in memory; {LARGEST_MEGABYTES} MB are allowed.",
            'Choose imbalance.on = "features", "class_weights" or "balanced_sampling", or a smaller preprocess.size.',
        )

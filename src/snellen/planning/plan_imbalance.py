"""What is planned against classes of different size."""

from __future__ import annotations

from typing import Any

from snellen.planning.ledger import Ledger
from snellen.planning.recipe_files import LoadedRecipe
from snellen.records.plan import Fingerprint, How, ImbalancePlan

_USED_BY = {"focal_gamma": "focal", "logit_tau": "logit_adjustment", "neighbors": "oversample_features"}
_RULES: dict[str, tuple[Any, str]] = {
    "focal_gamma": (2.0, "the value of Lin et al. 2017, who found it best and their results little sensitive to it"),
    "logit_tau": (1.0, "1 makes the classes equal in training (Menon et al. 2021)"),
    "neighbors": (5, "the value of Chawla et al. 2002; classes of fewer pictures take fewer"),
}


def plan_imbalance(loaded: LoadedRecipe, fingerprint: Fingerprint, ledger: Ledger) -> ImbalancePlan:
    """The method, and every parameter; a parameter that the method does not use says so in its reason."""
    wish = loaded.recipe.imbalance
    method = ledger.settle("imbalance.method", wish.method, _choose_method(fingerprint))
    found: dict[str, Any] = {}
    for key, (value, reason) in _RULES.items():
        told = reason if method == _USED_BY[key] else f"not used: it belongs to {_USED_BY[key]}"
        found[key] = ledger.settle(f"imbalance.{key}", getattr(wish, key), (value, "fixed", told))
    return ImbalancePlan(method=method, **found)


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

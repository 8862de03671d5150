"""What is planned for the step from probabilities to one class a picture."""

from __future__ import annotations

from snellen.core.errors import UsageError
from snellen.planning.ledger import Ledger
from snellen.records.plan import DataPlan, How
from snellen.records.recipe import Auto, DecisionRule

_FEWEST_GRADES = 3


def plan_decision(wish: DecisionRule | Auto, data: DataPlan, ledger: Ledger) -> DecisionRule:
    """The decision rule. Raises UsageError where the expected grade was asked for and the classes are no grades."""
    has_grades = data.ordered and len(data.classes) >= _FEWEST_GRADES
    if wish == "expected_grade" and not has_grades:
        raise UsageError(
            f"evaluation.decision = expected_grade needs at least {_FEWEST_GRADES} ordered classes; "
            f"these are {len(data.classes)}{'' if data.ordered else ' without order'}: {', '.join(data.classes)}.",
            "If they are grades: --set data.ordered=true. Else leave evaluation.decision at auto.",
        )
    return ledger.settle("evaluation.decision", wish, _choose(data, has_grades))


def _choose(data: DataPlan, has_grades: bool) -> tuple[DecisionRule, How, str]:
    if has_grades:
        return (
            "expected_grade",
            "rule",
            "of all grades the one nearest to the expected grade has the smallest expected squared distance, "
            "which quadratic kappa counts",
        )
    if data.positive is not None:
        return "most_probable", "rule", "of two classes; an operating point decides where another threshold is wanted"
    return (
        "balanced",
        "rule",
        "every class counts the same, however rare: probabilities are compared in relation to the shares in training, "
        "as the balanced operating point of two classes does; most_probable calls more pictures right",
    )

"""What is asked of the data: task, order of the classes, the positive one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from snellen.core.errors import UsageError
from snellen.core.letters import show_name
from snellen.planning.class_order import plan_order
from snellen.planning.ledger import Ledger
from snellen.planning.recipe_files import LoadedRecipe
from snellen.records.cohort import Cohort
from snellen.records.plan import UNDECIDED, DataPlan, Decision, How
from snellen.records.recipe import Task

_NEGATIVE = re.compile(
    r"^(?:normal|healthy|control|benign|negative|neg|none|absent|clear|0|false|no|non)$"
    r"|^(?:no|non|not|normal|healthy)[ ,_-]",
    re.IGNORECASE,
)


def plan_data(loaded: LoadedRecipe, cohort: Cohort, ledger: Ledger) -> DataPlan:
    wish = loaded.recipe.data
    n_classes = len(cohort.classes)
    classes, ordered = plan_order(wish, cohort, ledger)
    task = ledger.settle("data.task", wish.task, _choose_task(n_classes, ordered))
    if (task == "binary") != (n_classes == 2):
        raise UsageError(
            f"data.task = {task}, but the data have {n_classes} classes: {', '.join(cohort.classes)}.",
            "Leave data.task at auto, or merge the classes.",
        )
    _require_class(wish.positive, cohort.classes)
    positive: str | None = None
    if task == "binary":
        positive = ledger.settle("data.positive", wish.positive, choose_positive(classes))
    value = {name: list(labels) for name, labels in wish.merge.items()}
    merged: tuple[How, str] = ("asked", "set in the recipe or with --set: these labels of the data mean one class")
    how, reason = merged if value else ("fixed", "every label of the data is a class of its own")
    ledger.decisions.append(Decision(key="data.merge", value=value, how=how, reason=reason))
    fractions = ledger.settle(
        "data.fractions",
        wish.fractions,
        (wish.fractions, "fixed", "used only for the parts that the data do not bring themselves"),
    )
    patients = ledger.settle(
        "data.calibration_patients",
        wish.calibration_patients,
        (wish.calibration_patients, "fixed", "from so many on, calibration and thresholds have a part of their own"),
    )
    return DataPlan(
        task=task,
        classes=classes,
        ordered=ordered,
        positive=positive,
        merge=wish.merge,
        fractions=fractions,
        calibration_patients=patients,
    )


def _require_class(positive: str, classes: Sequence[str]) -> None:
    """Raise UsageError where a positive class was asked for that is none, or where no class is looked for."""
    if positive == "auto":
        return
    if positive not in classes:
        raise UsageError(
            f"data.positive = {positive!r} is none of the classes {', '.join(classes)}.",
            "Name one of them." if len(classes) == 2 else "Leave it out: it is for two classes only.",
        )
    if len(classes) != 2:
        raise UsageError(
            f"data.positive = {positive!r} is for two classes only, not for {len(classes)}: {', '.join(classes)}.",
            "Leave it out, or make two classes of them with data.merge.",
        )


def _choose_task(n_classes: int, ordered: bool) -> tuple[Task, How, str]:
    if n_classes == 2:
        return "binary", "rule", "there are two classes"
    if ordered:
        return "ordinal", "rule", f"there are {n_classes} ordered classes"
    return "multiclass", "rule", f"there are {n_classes} classes without order"


def choose_positive(classes: Sequence[str]) -> tuple[str, How, str]:
    """The class that is looked for: the one of two that is not named like a healthy or absent finding."""
    negative = [name for name in classes if _NEGATIVE.match(name)]
    if len(negative) == 1:
        positive = next(name for name in classes if name not in negative)
        return positive, "rule", f"{show_name(negative[0])} is named like the absence of disease"
    return (
        classes[-1],
        "rule",
        (
            f"{UNDECIDED}: neither name says which class is looked for, so {show_name(classes[-1])} was taken; set "
            "data.positive"
        ),
    )

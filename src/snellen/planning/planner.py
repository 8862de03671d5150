"""Recipe + fingerprint → plan: every "auto" becomes a value, and each value keeps how it came about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from snellen.core.errors import UsageError
from snellen.modeling.architectures import BackboneFacts, read_backbone_facts
from snellen.modeling.weights import PACKAGES
from snellen.planning.recipe_files import LoadedRecipe
from snellen.records.cohort import Cohort, Packed
from snellen.records.plan import (
    AugmentPlan,
    DataPlan,
    Decision,
    EvaluationPlan,
    Fingerprint,
    How,
    ImbalancePlan,
    ModelPlan,
    Plan,
    PreprocessPlan,
    StagePlan,
    TrainingPlan,
)
from snellen.records.recipe import BatchNorm, GlobalAvgPool, HeadLayer, Normalize, Optimizer, StageWish, Task

T = TypeVar("T")
Window = tuple[float, float]

_NEGATIVE = re.compile(
    r"^(?:normal|healthy|control|benign|negative|neg|none|absent|clear|0|false|no|non)$"
    r"|^(?:no|non|not|normal|healthy)[ ,_-]",
    re.IGNORECASE,
)
_GRADED = re.compile(r"^(?:grade|stage|level|severity|class|score)[ _-]?\d+$", re.IGNORECASE)
_GRADED_COLUMN = re.compile(r"grade|stage|level|severity", re.IGNORECASE)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BORDER_LIMIT = 0.03
_FORWARD_BUDGET = 14_000
_L2_STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
_DECAY_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_SMALL_SOURCE_PX = 64
_LARGE_COHORT = 20_000
_SMALL_COHORT = 2500
_LARGE_PICTURE_PX = 400
_UNMEASURED = "no training picture has more than 8 bits a channel, but"


@dataclass
class _Ledger:
    """Collects decisions. A wish that is not "auto" wins and is recorded as asked."""

    asked: frozenset[str]
    decisions: list[Decision] = field(default_factory=list)

    def settle(self, key: str, wish: T | Literal["auto"], found: tuple[T, How, str]) -> T:
        value, how, reason = found
        if key in self.asked and wish != "auto":
            self.decisions.append(
                Decision(key=key, value=_plain(wish), how="asked", reason="set in the recipe or with --set")
            )
            return wish
        self.decisions.append(Decision(key=key, value=_plain(value), how=how, reason=reason))
        return value


@dataclass(frozen=True)
class Machine:
    """What the plan may use. `seed` belongs to the run."""

    threads: int
    seed: int
    has_offline_weights: bool


def choose_plan(loaded: LoadedRecipe, cohort: Cohort, fingerprint: Fingerprint, machine: Machine) -> Plan:
    """The concrete plan. Raises UsageError where a wish does not fit the data."""
    ledger = _Ledger(loaded.asked)
    data = _plan_data(loaded, cohort, ledger)
    backbone = ledger.settle("model.backbone", loaded.recipe.model.backbone, _choose_backbone(machine))
    facts = read_backbone_facts(backbone)
    preprocess = (
        _plan_preprocess(loaded, fingerprint, ledger, _choose_window(cohort, fingerprint))
        if cohort.packed is None
        else _take_packed(loaded, cohort.packed, ledger)
    )
    model = _plan_model(loaded, ledger, backbone, facts, machine, preprocess, len(data.classes))
    augment = _plan_augment(loaded, fingerprint, ledger, preprocess)
    wish = loaded.recipe.imbalance.method
    imbalance = ImbalancePlan(method=ledger.settle("imbalance.method", wish, _choose_imbalance(fingerprint)))
    training = _plan_training(loaded, fingerprint, ledger, machine, model.head)
    evaluation = loaded.recipe.evaluation
    for key in ("resamples", "level", "sensitivity"):
        value = getattr(evaluation, key)
        ledger.settle(f"evaluation.{key}", value, (value, "fixed", _EVALUATION_REASONS[key]))
    return Plan(
        recipe=loaded.recipe.name,
        data=data,
        preprocess=preprocess,
        augment=augment,
        imbalance=imbalance,
        model=model,
        training=training,
        evaluation=EvaluationPlan(**evaluation.model_dump()),
        decisions=tuple(ledger.decisions),
    )


_EVALUATION_REASONS = {
    "resamples": "1,000 resamples settle the ends of a 95 % interval to about a tenth of its width",
    "level": "95 % is what reporting guidelines ask for",
    "sensitivity": "the screening operating point keeps at least this sensitivity on validation patients",
}


def _plan_data(loaded: LoadedRecipe, cohort: Cohort, ledger: _Ledger) -> DataPlan:
    wish = loaded.recipe.data
    n_classes = len(cohort.classes)
    ordered = ledger.settle("data.ordered", wish.ordered, _choose_ordered(cohort, wish.task))
    task = ledger.settle("data.task", wish.task, _choose_task(n_classes, ordered))
    if (task == "binary") != (n_classes == 2):
        raise UsageError(
            f"data.task = {task}, but the data have {n_classes} classes: {', '.join(cohort.classes)}.",
            "Leave data.task at auto, or merge the classes.",
        )
    positive: str | None = None
    if task == "binary":
        positive = ledger.settle("data.positive", wish.positive, choose_positive(cohort.classes))
        if positive not in cohort.classes:
            raise UsageError(
                f"data.positive = {positive!r} is none of the classes {', '.join(cohort.classes)}.", "Name one of them."
            )
    value = {name: list(labels) for name, labels in wish.merge.items()}
    merged: tuple[How, str] = ("asked", "set in the recipe or with --set: these labels of the data mean one class")
    how, reason = merged if value else ("fixed", "every label of the data is a class of its own")
    ledger.decisions.append(Decision(key="data.merge", value=value, how=how, reason=reason))
    fractions = ledger.settle(
        "data.fractions",
        wish.fractions,
        (wish.fractions, "fixed", "used only for the parts that the data do not bring themselves"),
    )
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions) <= 0:
        raise UsageError(
            f"data.fractions = {list(fractions)} must be positive and add up to 1.", "Example: [0.7, 0.15, 0.15]"
        )
    return DataPlan(
        task=task, classes=cohort.classes, ordered=ordered, positive=positive, merge=wish.merge, fractions=fractions
    )


def _choose_ordered(cohort: Cohort, task: Task | str) -> tuple[bool, How, str]:
    if len(cohort.classes) == 2:
        return False, "rule", "two classes need no order"
    if task == "ordinal":
        return True, "rule", "the task was asked to be ordinal"
    if cohort.is_ordered:
        return True, "rule", f"the source's classes are grades ({cohort.class_origin})"
    if all(_GRADED.match(name) for name in cohort.classes):
        return True, "rule", "the class names are numbered grades"
    if all(name.isdigit() for name in cohort.classes) and _GRADED_COLUMN.search(cohort.class_origin):
        return True, "rule", f"the labels are numbers of a grade ({cohort.class_origin})"
    return False, "rule", "nothing says that the classes are grades; if they are, set data.ordered=true"


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
        return positive, "rule", f"{negative[0]} is named like the absence of disease"
    return (
        classes[-1],
        "rule",
        (f"UNDECIDED: neither name says which class is looked for, so {classes[-1]} was taken; set data.positive"),
    )


def _choose_backbone(machine: Machine) -> tuple[str, How, str]:
    where = "its installed weight package" if machine.has_offline_weights else "timm's download"
    return (
        "tf_efficientnet_lite0",
        "rule",
        (f"the strongest small network whose ImageNet weights come from {where}; no layer of it is slow on a CPU"),
    )


def _plan_preprocess(
    loaded: LoadedRecipe, fingerprint: Fingerprint, ledger: _Ledger, measured: tuple[Window | None, How, str]
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
        size=ledger.settle("preprocess.size", wish.size, choose_size(fingerprint)),
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


def _take_packed(loaded: LoadedRecipe, packed: Packed, ledger: _Ledger) -> PreprocessPlan:
    """What was done to a packed file's pictures cannot be done otherwise; normalisation comes behind them."""
    made, wish = packed.preprocess, loaded.recipe.preprocess
    wrong = [
        f"preprocess.{key} = {_plain(getattr(wish, key))}, but the pictures were packed with {_plain(value)}"
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
    if side >= _LARGE_PICTURE_PX and fingerprint.n_samples <= _SMALL_COHORT and is_colour:
        return (
            320,
            "rule",
            f"colour pictures of {side:.0f} px show small lesions; on validation folds 320 px beat 224 px",
        )
    return 224, "rule", f"the backbone's own size; pictures are {side:.0f} px, {fingerprint.n_samples} in training"


def _choose_fit(fingerprint: Fingerprint) -> tuple[Any, How, str]:
    return (
        "pad",
        "rule",
        (f"keeps proportions (median aspect {fingerprint.aspect_median:.2f}); on validation folds it beat stretching"),
    )


def _plan_model(
    loaded: LoadedRecipe,
    ledger: _Ledger,
    backbone: str,
    facts: BackboneFacts,
    machine: Machine,
    preprocess: PreprocessPlan,
    n_classes: int,
) -> ModelPlan:
    wish = loaded.recipe.model
    weights = ledger.settle("model.weights", wish.weights, _choose_weights(backbone, machine))
    default_head = (GlobalAvgPool(), BatchNorm())
    head = ledger.settle(
        "model.head",
        wish.head,
        (default_head, "fixed", "a regularised linear classifier: few patients rarely pay for more"),
    )
    arguments: dict[str, bool | int | float | str] = {}
    arguments = ledger.settle(
        "model.backbone_args", wish.backbone_args, (arguments, "fixed", "the network as timm builds it")
    )
    mean, std = _choose_normalisation(preprocess.normalize, facts)
    return ModelPlan(
        backbone=backbone,
        backbone_args=arguments,
        weights=weights,
        mean=mean,
        std=std,
        head=head,
        n_classes=n_classes,
    )


def _choose_weights(backbone: str, machine: Machine) -> tuple[str, How, str]:
    if machine.has_offline_weights and backbone in PACKAGES:
        return "package", "measured", f"a package with weights of {backbone} is installed"
    return "timm", "rule", "no installed package carries its weights, so timm downloads them"


def _choose_normalisation(normalize: Normalize, facts: BackboneFacts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if normalize == "imagenet":
        return _IMAGENET
    if normalize == "unit":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return facts.mean, facts.std


def _plan_augment(
    loaded: LoadedRecipe, fingerprint: Fingerprint, ledger: _Ledger, preprocess: PreprocessPlan
) -> AugmentPlan:
    wish = loaded.recipe.augment
    cost = fingerprint.n_samples * (preprocess.size / 224) ** 2
    views = int(min(4, max(1, _FORWARD_BUDGET / cost - 1)))
    rules: dict[str, tuple[Any, How, str]] = {
        "views": (
            views,
            "rule",
            f"features of so many views of {fingerprint.n_samples} pictures take minutes on two cores",
        ),
        "flip_horizontal": (
            True,
            "fixed",
            "left and right eyes and sections mirror each other; switch it off where sides differ",
        ),
        "flip_vertical": (False, "fixed", "up and down differ in most medical pictures"),
        "rotation_deg": (10.0, "fixed", "patients tilt their heads by about so much"),
        "scale": (0.1, "fixed", "distances and sizes vary by about so much"),
        "translation": (0.05, "fixed", "pictures are rarely centred better"),
        "brightness": (0.08, "fixed", "exposure varies by about so much between devices"),
        "contrast": (0.15, "fixed", "contrast varies by about so much between devices"),
    }
    return AugmentPlan(
        **{key: ledger.settle(f"augment.{key}", getattr(wish, key), found) for key, found in rules.items()}
    )


def _choose_imbalance(fingerprint: Fingerprint) -> tuple[Any, How, str]:
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


def _plan_training(
    loaded: LoadedRecipe, fingerprint: Fingerprint, ledger: _Ledger, machine: Machine, head: Sequence[HeadLayer]
) -> TrainingPlan:
    wish = loaded.recipe.training
    threads = ledger.settle(
        "training.threads", wish.threads, (machine.threads, "measured", "processors this process may use")
    )
    stages = tuple(_plan_stage(stage, number, fingerprint, head, ledger) for number, stage in enumerate(wish.stages))
    return TrainingPlan(seed=machine.seed, threads=threads, stages=stages)


def _plan_stage(
    wish: StageWish, number: int, fingerprint: Fingerprint, head: Sequence[HeadLayer], ledger: _Ledger
) -> StagePlan:
    place = f"training.stages.{number}"
    is_linear = all(isinstance(layer, GlobalAvgPool | BatchNorm) for layer in head)
    linear: tuple[Optimizer, How, str] = ("lbfgs", "rule", "a linear head is convex: full steps reach its optimum")
    general: tuple[Optimizer, How, str] = ("adamw", "rule", "the head has layers that learn better in small steps")
    optimizer = ledger.settle(f"{place}.optimizer", wish.optimizer, linear if is_linear else general)
    strengths = _L2_STRENGTHS if optimizer == "lbfgs" else _DECAY_STRENGTHS
    batch = 64 if fingerprint.n_samples < 1000 else 256
    rules: dict[str, tuple[Any, How, str]] = {
        "epochs": (60, "fixed", "on cached features an epoch costs milliseconds; early stopping ends it"),
        "batch_size": (batch, "rule", f"{fingerprint.n_samples} training pictures"),
        "lr": (
            1.0 if optimizer == "lbfgs" else 1e-3,
            "rule",
            f"usual for {optimizer} on standardised features",
        ),
        "weight_decay": (strengths, "fixed", "validation loss chooses the strength among these"),
        "schedule": ("constant" if optimizer == "lbfgs" else "cosine", "rule", f"what suits {optimizer}"),
        "patience": (15, "fixed", "epochs without a better validation loss"),
    }
    found = {key: ledger.settle(f"{place}.{key}", getattr(wish, key), rule) for key, rule in rules.items()}
    decay = found["weight_decay"]
    found["weight_decay"] = decay if isinstance(decay, tuple) else (float(decay),)
    return StagePlan(unfreeze=wish.unfreeze, optimizer=optimizer, **found)


def _plain(value: Any) -> Any:
    """A value as JSON would hold it."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value

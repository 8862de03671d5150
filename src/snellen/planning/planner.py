"""Recipe + fingerprint → plan: every "auto" becomes a value, and each value keeps how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from snellen.core.errors import UsageError
from snellen.modeling.architectures import LISTED, read_backbone_facts, require_backbone
from snellen.modeling.cut import count_multiplications
from snellen.planning.ledger import Ledger
from snellen.planning.plan_data import plan_data
from snellen.planning.plan_decision import plan_decision
from snellen.planning.plan_finetune import Begin, Means, plan_finetune
from snellen.planning.plan_imbalance import plan_imbalance
from snellen.planning.plan_model import choose_backbone, plan_model
from snellen.planning.plan_pixels import plan_pixels
from snellen.planning.recipe_files import LoadedRecipe
from snellen.records.cohort import Cohort
from snellen.records.layers import BatchNorm, GlobalAvgPool, HeadLayer, takes_map
from snellen.records.plan import (
    AugmentPlan,
    EvaluationPlan,
    FinetunePlan,
    Fingerprint,
    How,
    ModelPlan,
    Plan,
    PreprocessPlan,
    StagePlan,
    TrainingPlan,
)
from snellen.records.recipe import FinetuneWish, Optimizer, StageWish

_FORWARD_BUDGET = 9_000
_L2_STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
_DECAY_STRENGTHS = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Machine:
    """What the plan may use. `seed` belongs to the run."""

    threads: int
    seed: int
    has_offline_weights: bool
    device: str = "cpu"


def choose_plan(loaded: LoadedRecipe, cohort: Cohort, fingerprint: Fingerprint, machine: Machine) -> Plan:
    """The concrete plan. Raises UsageError where a wish does not fit the data."""
    ledger = Ledger(loaded.asked)
    data = plan_data(loaded, cohort, ledger)
    wish, has_offline = loaded.recipe.model, machine.has_offline_weights
    backbone = choose_backbone(wish, ledger, has_offline_weights=has_offline)
    facts = read_backbone_facts(backbone)
    for name in loaded.recipe.preprocess.sizes:
        if name != LISTED:
            require_backbone(name, "preprocess.sizes")
    preprocess = plan_pixels(loaded, cohort, fingerprint, ledger)
    built = (backbone, facts)
    model = plan_model(wish, ledger, built, preprocess, len(data.classes), has_offline_weights=has_offline)
    augment = _plan_augment(loaded, fingerprint, ledger, preprocess)
    imbalance = plan_imbalance(loaded, fingerprint, preprocess, ledger)
    training = _plan_training(loaded, fingerprint, ledger, machine, (model, preprocess, augment.views))
    evaluation = loaded.recipe.evaluation
    for key, reason in _EVALUATION_REASONS.items():
        value = getattr(evaluation, key)
        ledger.settle(f"evaluation.{key}", value, (value, "fixed", reason))
    decision = plan_decision(evaluation.decision, data, ledger)
    return Plan(
        recipe=loaded.recipe.name,
        data=data,
        preprocess=preprocess,
        augment=augment,
        imbalance=imbalance,
        model=model,
        training=training,
        evaluation=EvaluationPlan(**evaluation.model_dump(exclude={"decision"}), decision=decision),
        decisions=tuple(ledger.decisions),
    )


_EVALUATION_REASONS = {
    "folds": "one validation split, unless --folds asks for cross-validation",
    "distill": "the ensemble alone, unless --distill asks for one network in its place as well",
    "resamples": "1,000 resamples settle the ends of a 95 % interval to about a tenth of its width",
    "level": "95 % is what reporting guidelines ask for",
    "sensitivity": "the screening operating point keeps at least this sensitivity on validation patients",
    "specificity": "the confirming operating point keeps at least this specificity on validation patients",
    "miss_cost": "0: no operating point by costs, unless it is told what a missed positive costs in false alarms",
    "operating_point": "of two classes the largest sum of sensitivity and specificity on validation decides",
    "prevalence": "0: predictive values at this data's prevalence and at a few others, unless one's own is told",
    "unit": "each picture is measured; eye and patient take the mean of their pictures' probabilities",
    "subgroups": "no column is asked for",
    "coverage": "a picture's set of classes holds the true one at least this often, for each class alone",
    "abstain": "gate: no answer on pictures unlike those trained on; set: nor where the set is not one class",
}


def _plan_augment(
    loaded: LoadedRecipe, fingerprint: Fingerprint, ledger: Ledger, preprocess: PreprocessPlan
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
        "noise": (0.0, "fixed", "off: pictures bring the noise of their device"),
    }
    return AugmentPlan(
        **{key: ledger.settle(f"augment.{key}", getattr(wish, key), found) for key, found in rules.items()}
    )


def _plan_training(
    loaded: LoadedRecipe,
    fingerprint: Fingerprint,
    ledger: Ledger,
    machine: Machine,
    built: tuple[ModelPlan, PreprocessPlan, int],
) -> TrainingPlan:
    """`built` ends with the number of augmented views."""
    model, preprocess, views = built
    wish = loaded.recipe.training
    threads = ledger.settle(
        "training.threads", wish.threads, (machine.threads, "measured", "processors this process may use")
    )
    stages: list[StagePlan | FinetunePlan] = []
    cost = 0.0
    for number, stage in enumerate(wish.stages):
        if isinstance(stage, StageWish) and not takes_map(model.head):
            stages.append(_plan_stage(stage, number, fingerprint, model.head, ledger))
            continue
        begin = Begin(is_first=number == 0, takes_map=takes_map(model.head), views=views)
        if not begin.is_first or stage.unfreeze == "top":
            cost = cost or count_multiplications(model, preprocess)
        means = Means(threads, machine.device, cost, max(1, loaded.recipe.evaluation.folds))
        wished = _learn_in_batches(stage) if isinstance(stage, StageWish) else stage
        found = plan_finetune(wished, f"training.stages.{number}", fingerprint, ledger, means, begin)
        stages += [found] if found else []
    return TrainingPlan(seed=machine.seed, threads=threads, stages=tuple(stages))


def _learn_in_batches(wish: StageWish) -> FinetuneWish:
    """The head alone, where it takes the feature map."""
    if wish.optimizer == "lbfgs":
        raise UsageError(
            'training.stages.0.optimizer = "lbfgs", but model.head takes the feature map and learns in batches.',
            'Leave it out, or begin model.head with {type = "global_avg_pool"}.',
        )
    decay = wish.weight_decay
    if isinstance(decay, tuple):
        if len(decay) > 1:
            raise UsageError(
                f"training.stages.0.weight_decay lists {len(decay)} values, but a head on the feature map takes one.",
                "Example: --set training.stages.0.weight_decay=0.01",
            )
        decay = decay[0]
    kept = wish.model_dump(exclude={"optimizer", "weight_decay"})
    return FinetuneWish.model_validate({**kept, "weight_decay": decay})


def _plan_stage(
    wish: StageWish, number: int, fingerprint: Fingerprint, head: Sequence[HeadLayer], ledger: Ledger
) -> StagePlan:
    place = f"training.stages.{number}"
    is_linear = all(isinstance(layer, GlobalAvgPool | BatchNorm) for layer in head)
    linear: tuple[Optimizer, How, str] = ("lbfgs", "rule", "a linear head is convex: full steps reach its optimum")
    general: tuple[Optimizer, How, str] = ("adamw", "rule", "the head has layers that learn better in small steps")
    optimizer = ledger.settle(f"{place}.optimizer", wish.optimizer, linear if is_linear else general)
    if wish.schedule in ("one_cycle", "plateau"):
        raise UsageError(
            f'{place}.schedule = "{wish.schedule}", but on pooled features only constant and cosine are known.',
            f"Leave it out, or say {place}.cache = true: then the head learns as in fine-tuning.",
        )
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

"""Whether a stage of fine-tuning paid: the model before it, the one after it, or the mean of both, as held-out pictures
say. With folds all members' pictures say it together, and all members take the same.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.progress import say
from snellen.metrics.calibration import fit_temperature
from snellen.records.plan import FinetunePlan
from snellen.records.run import StageOutcome
from snellen.run_networks import Branch, Network
from snellen.training.finetune import Finetuned
from snellen.training.judging import choose_model, compare_logits, judge_logits


@dataclass(frozen=True)
class Judged:
    """A model, and logits `(M, C)` of pictures that it has not seen: by it, and by its first branch alone."""

    network: Network
    logits: NDArray[np.float64]
    first_logits: NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """A model `before` a stage and `after` it, `labels` `(M,)` and `patients` of the pictures that judge them, and how
    the stage went. Where nothing was learned before, there is no mean of both.
    """

    before: Judged
    after: Judged
    labels: NDArray[np.int64]
    patients: tuple[str, ...]
    found: Finetuned
    has_mean: bool


def judge(
    tried: Sequence[Tried], stage: FinetunePlan, place: tuple[int, Sequence[int | None]]
) -> list[tuple[Judged, StageOutcome]]:
    """What stays of each member, or of the one model: the mean, unless all pictures together say otherwise. `place` is
    the stage and the folds that the members leave out. An outcome's numbers are those of the member's own pictures.
    """
    number, folds = place
    labels = np.concatenate([each.labels for each in tried])
    patients = [patient for each in tried for patient in each.patients]
    first = np.concatenate([each.before.first_logits for each in tried])
    last = np.concatenate([each.after.logits for each in tried])
    temperatures = fit_temperature(first, labels).temperature, fit_temperature(last, labels).temperature
    options = [_list_options(each, temperatures) for each in tried]
    pooled = {name: np.concatenate([each[name].logits for each in options]) for name in options[0]}
    taken = "after" if stage.keep == "always" else choose_model(pooled, "mean", labels, patients)
    if len(tried) > 1:
        outcome = _measure(tried[0], pooled, taken, stage, (number, None), (labels, patients))
        say(describe_outcome(outcome, "out-of-fold"))
    return [
        (
            own[taken],
            _measure(
                each, {name: model.logits for name, model in own.items()}, taken, stage, (number, fold),
                (each.labels, each.patients),
            ),
        )
        for each, own, fold in zip(tried, options, folds, strict=True)
    ]  # fmt: skip


def _list_options(own: Tried, temperatures: tuple[float, float]) -> dict[str, Judged]:
    """Models that may stay. The mean is of the first branch before and the one after, each as sure as it should be, so
    that both have an equal say.
    """
    options = {"before": own.before, "after": own.after}
    if own.has_mean:
        branches = own.before.network.branches[0], own.after.network.branches[-1]
        divided = tuple(_divide(each, by) for each, by in zip(branches, temperatures, strict=True))
        first, last = own.before.first_logits / temperatures[0], own.after.logits / temperatures[1]
        options["mean"] = Judged(Network(divided), np.mean([first, last], axis=0), first)
    return options


def _measure(
    own: Tried,
    logits: Mapping[str, NDArray[np.float64]],
    taken: str,
    stage: FinetunePlan,
    place: tuple[int, int | None],
    asked: tuple[NDArray[np.int64], Sequence[str]],
) -> StageOutcome:
    labels, patients = asked
    scores = {name: judge_logits(each, labels) for name, each in logits.items()}
    mean = scores.get("mean", (None, None))
    compared = "mean" if taken == "before" else taken
    return StageOutcome(
        stage=place[0], fold=place[1], share=stage.share, epoch=own.found.epoch, n_epochs=len(own.found.epochs),
        blend=own.found.blend,
        standard_error=compare_logits(logits["before"], logits[compared], labels, patients)[1],
        before_loss=scores["before"][0], before_auc=scores["before"][1],
        val_loss=scores["after"][0], val_auc=scores["after"][1],
        mean_loss=mean[0], mean_auc=mean[1],
        kept=taken != "before", averaged=taken == "mean",
    )  # fmt: skip


def _divide(branch: Branch, temperature: float) -> Branch:
    """The same branch with its logits divided by a number."""
    head = copy.deepcopy(branch.head)
    last = head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError("a head ends in a linear layer")
    with torch.no_grad():
        last.weight.div_(temperature)
        last.bias.div_(temperature)
    return replace(branch, head=head)


def describe_outcome(outcome: StageOutcome, judges: str = "") -> str:
    """One line: what was taken, and what it gained on the pictures that are said to be its `judges`."""
    judges = judges or ("validation" if outcome.fold is None else "left-out")
    where = "" if outcome.fold is None else f", fold {outcome.fold}"
    verdict = "kept" if outcome.kept else "not kept, the model before it stays"
    loss, auc = (outcome.mean_loss, outcome.mean_auc) if outcome.averaged else (outcome.val_loss, outcome.val_auc)
    if outcome.averaged:
        verdict = f"kept, averaged with the model before it (alone {outcome.val_loss:.3f})"
    if outcome.kept and loss is not None and loss > outcome.before_loss:
        before = "the shares of the classes alone" if outcome.stage == 0 else "the model before it"
        verdict += f", though {before} did better"
    gained = f", AUC {outcome.before_auc:.3f} → {auc:.3f}" if outcome.before_auc is not None and auc is not None else ""
    return (
        f"Stage {outcome.stage}{where}: {verdict}; {judges} loss {outcome.before_loss:.3f} → {loss:.3f} "
        f"(± {outcome.standard_error:.3f})"
        f"{gained} (epoch {outcome.epoch} of {outcome.n_epochs}, {outcome.blend:.0%} of what was learned)"
    )

"""One network in place of a fold ensemble: it learns from the ensemble's bundle, and its loss of accuracy is told.

The test split has no say in it: both are scored there at the one opening that the run counts.
"""

from __future__ import annotations

import copy
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.bundle.write import TrainedModel, finish_bundle, write_graph
from snellen.core.progress import say
from snellen.evaluation.evaluate import Question, Scored, evaluate, save_scores, score_samples
from snellen.evaluation.findings import add_notices
from snellen.evaluation.units import join_patients
from snellen.inference.load import MODEL_FILE, load_bundle
from snellen.inference.predictor import Predictor
from snellen.inference.prevalence import read_rule
from snellen.inference.session import GraphSession
from snellen.metrics.decision import decide
from snellen.metrics.differences import compute_differences
from snellen.modeling.architectures import Classifier, NetworkEnsemble
from snellen.modeling.blocks import HeadEnsemble
from snellen.modeling.cut import cut_backbone
from snellen.modeling.joined_heads import join_heads
from snellen.records.bundle import ENSEMBLE, FIXED, Calibration, Threshold
from snellen.records.evaluation import Estimate
from snellen.records.plan import FinetunePlan, Plan
from snellen.records.run import DistilledRecord, DistilledStage
from snellen.run_finetuning import CHECKPOINTS, EMBEDDINGS, Note, Part, Tuned, run_stage
from snellen.run_learning import Learned
from snellen.run_networks import Bench, Branch
from snellen.runs import Run
from snellen.training.soft_targets import Teacher

_ANSWERS = "answers"
_TIMED_RUNS = 7
LONGER = 3
_SHOWN = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic")
_UNCALIBRATED = (
    "it has learned the ensemble's calibrated probabilities from all pictures, so none is left to calibrate it on"
)
_UNMEASURED = (
    "how much accuracy it loses is not known, because no test split was opened: measure it on other pictures with "
    "snellen evaluate RUN/distilled DATA"
)
_NOT_THE_ENSEMBLE = "These are the numbers of the distilled network in distilled/, not of the ensemble in bundle/."


@dataclass(frozen=True)
class Student:
    """The one network, and the stages in which it learned: none where it `is_exact`, the ensemble in another form."""

    classifier: Classifier
    is_exact: bool
    stages: tuple[DistilledStage, ...] = ()
    share: float = 0.0


@dataclass(frozen=True)
class Distilled:
    """The finished bundle of it, and what is known before anything is scored."""

    predictor: Predictor
    record: DistilledRecord


def distill(
    bench: Bench,
    found: tuple[Learned, Tuned],
    ensemble: tuple[TrainedModel, Predictor],
    follow: Callable[[int], AbstractContextManager[Note]],
    embed: Callable[[TrainedModel, Path], TrainedModel],
) -> Distilled:
    """Make the network and write its bundle beside the ensemble's.

    `follow(stage)` gives what is told every epoch; `embed` gives a model what its own graph at a folder says for the
    gate.
    """
    learned, tuned = found
    model, predictor = ensemble
    run = Run(bench.folder)
    student = join(bench, learned) if not tuned.networks else learn_from(bench, learned, predictor, follow)
    own = _describe_model(student, model, predictor)
    session = write_graph(own, run.distilled)
    own = own if student.is_exact else embed(own, run.distilled)
    finish_bundle(own, session, _take_thresholds(predictor), run.distilled)
    for kept in (_ANSWERS, EMBEDDINGS):
        shutil.rmtree(bench.folder / CHECKPOINTS / kept, ignore_errors=True)
    views = 0 if student.is_exact else max(stage.views for stage in bench.plan.training.finetune_stages)
    record = _describe_cost(bench, model).model_copy(
        update={
            "is_exact": student.is_exact,
            "stages": student.stages,
            "n_pictures": 0 if student.is_exact else len(learned.samples),
            "n_views": views,
        }
    )
    say(_describe_making(record))
    return Distilled(load_bundle(run.distilled, threads=bench.plan.training.threads), record)


def join(bench: Bench, learned: Learned) -> Student:
    """Members on one frozen backbone: the mean of their heads is one head, and nothing has to be learned."""
    if not isinstance(learned.head, HeadEnsemble):
        raise TypeError("folds give an ensemble")
    heads: list[nn.Sequential] = list(learned.head.members)  # type: ignore[arg-type]  # Sequentials
    return Student(Classifier(bench.frozen, join_heads(heads)), is_exact=True)


def learn_from(
    bench: Bench, learned: Learned, ensemble: Predictor, follow: Callable[[int], AbstractContextManager[Note]]
) -> Student:
    """The same network as a member, by the same stages but for longer, from all pictures of the folds and what the
    ensemble says of them and of their views. No picture is left to choose an epoch: the last one is taken.
    """
    if not isinstance(learned.head, HeadEnsemble):
        raise TypeError("folds give an ensemble")
    torch.set_num_threads(bench.plan.training.threads)
    head: nn.Sequential = copy.deepcopy(learned.head.members[0])  # type: ignore[assignment]  # a Sequential
    rows = bench.pixels.select(learned.samples)
    teacher = Teacher(ensemble.folder / MODEL_FILE, bench.folder / CHECKPOINTS / _ANSWERS)
    part = Part(
        fold=None, rows=rows, labels=learned.labels, train=np.arange(len(rows)), val=np.zeros(0, np.intp),
        head=head, patients=bench.prepared.name_units(learned.samples), teacher=teacher,
    )  # fmt: skip
    state = {name: value.detach().clone() for name, value in bench.frozen.backbone.state_dict().items()}
    branch, stages = Branch(state, head, is_frozen=True), list[DistilledStage]()
    stages_alone = plan_alone(bench.plan).training.finetune_stages
    for number, stage in enumerate(stages_alone, start=len(bench.plan.training.stages) - len(stages_alone)):
        with follow(number) as note:
            branch, found = run_stage(bench, part, (number, stage), branch, _mark(note))
        if found.epoch < stage.epochs:
            say(f"Warning: the distilled network diverged after epoch {found.epoch} of stage {number} and stops there")
        loss = found.epochs[found.epoch - 1].train_loss
        stages.append(DistilledStage(stage=number, share=stage.share, epochs=found.epoch, train_loss=loss))
    own = copy.deepcopy(bench.frozen)
    own.backbone.load_state_dict(branch.backbone)
    return Student(Classifier(own, branch.head), False, tuple(stages), max(stage.share for stage in stages))


def plan_alone(plan: Plan) -> Plan:
    """The plan of the one network: a member's stages, for longer.

    A teacher's probabilities can be learned for long before they are learned by heart (Beyer et al. 2022;
    measured in docs/experiments.md).
    Its doubt is a label's smoothing already.
    """
    stages = [
        stage.model_copy(update={"epochs": LONGER * stage.epochs, "label_smoothing": 0.0})
        if isinstance(stage, FinetunePlan)
        else stage
        for stage in plan.training.stages
    ]
    return plan.model_copy(
        update={
            "training": plan.training.model_copy(update={"stages": tuple(stages)}),
            "evaluation": plan.evaluation.model_copy(update={"folds": 0}),
        }
    )


def _mark(note: Note) -> Note:
    return lambda epoch: note(epoch.model_copy(update={"model": "distilled"}))


def _describe_model(student: Student, model: TrainedModel, ensemble: Predictor) -> TrainedModel:
    """What is written: all that the ensemble's bundle has, but for the network and its calibration.

    A network in another form keeps the ensemble's calibration. One that has learned says probabilities of its own.
    """
    calibration = ensemble.manifest.calibration
    if student.is_exact:
        bias = calibration.bias or (0.0,) * len(ensemble.classes)
        student.classifier.calibrate(calibration.temperature, bias)
    else:
        calibration = Calibration(method="none", temperature=1.0, fitted_on="none", n=0, reason=_UNCALIBRATED)
    return replace(
        model,
        name=f"{model.name}-distilled",
        classifier=student.classifier,
        calibration=calibration,
        tuned_share=student.share,
        distilled_from=ensemble.sha256,
        # other scores than those of which the ensemble's quantiles are
        conformal=model.conformal if student.is_exact else None,
    )


def _take_thresholds(ensemble: Predictor) -> tuple[Threshold, ...]:
    """The ensemble's, chosen on its scores out of fold: on its own scores of what it has learned none can be chosen."""
    return tuple(
        point if point.chosen_on == FIXED else point.model_copy(update={"chosen_on": ENSEMBLE})
        for point in ensemble.manifest.thresholds
    )


def _describe_cost(bench: Bench, model: TrainedModel) -> DistilledRecord:
    """Multiplications and latency of both graphs; `model` is the ensemble."""
    run, ensemble = Run(bench.folder), model.classifier
    shares = [stage.share for stage in bench.plan.training.finetune_stages]
    halves = cut_backbone(bench.frozen, bench.shape, max(shares, default=1.0))
    n_uppers = len(ensemble.uppers) if isinstance(ensemble, NetworkEnsemble) else 1
    one = halves.multiplications or None
    both = measure_latencies([run.distilled / MODEL_FILE, run.bundle / MODEL_FILE], model.pixels[:1])
    return DistilledRecord(
        n_members=ensemble.n_members,
        is_exact=False,
        multiplications=one,
        ensemble_multiplications=None if one is None else one * (1 + (n_uppers - 1) * halves.share),
        latency_ms=both[0],
        ensemble_latency_ms=both[1],
    )


def measure_latencies(graphs: Sequence[Path], pixels: NDArray[np.uint8]) -> list[float]:
    """Milliseconds that each graph takes for `pixels` `(1, H, W, C)` on one thread: medians of runs that take turns."""
    sessions = [GraphSession(graph, threads=1) for graph in graphs]
    times: list[list[float]] = [[] for _ in sessions]
    for number in range(_TIMED_RUNS + 1):
        for session, own in zip(sessions, times, strict=True):
            begin = time.perf_counter()
            session.run(pixels, ("probabilities",))
            if number:  # the first run prepares the session
                own.append(1000 * (time.perf_counter() - begin))
    return [round(statistics.median(own), 3) for own in times]


def _describe_making(record: DistilledRecord) -> str:
    if record.is_exact:
        how = f"the mean of {record.n_members} heads on one backbone is one head: nothing had to be learned"
    else:
        epochs = sum(stage.epochs for stage in record.stages)
        how = (
            f"learned from the ensemble of {record.n_members} for {epochs} epoch{'s' * (epochs > 1)}, from "
            f"{record.n_pictures} pictures and {record.n_views} view{'s' * (record.n_views != 1)} of each"
        )
    return f"Distilled: {how}; {record.latency_ms:.1f} ms a picture, the ensemble {record.ensemble_latency_ms:.1f} ms"


def tell_unmeasured(distilled: Distilled) -> DistilledRecord:
    """The record where no test split was opened: what was learned from cannot show what was lost."""
    say(f"Distilled: {_UNMEASURED}")
    return distilled.record.model_copy(update={"reason": _UNMEASURED})


def measure_distilled(
    distilled: Distilled,
    bench: Bench,
    ensemble: Scored,
    question: Question,
    baselines: Mapping[str, NDArray[np.float64]] | None,
) -> DistilledRecord:
    """Score the network on the test pictures of `ensemble`, at the same opening: its evaluation and the differences."""
    prepared, run, predictor = bench.prepared, Run(bench.folder), distilled.predictor
    scored = score_samples(predictor, ensemble.samples, bench.pixels)
    noted = replace(question, notes=(*question.notes, _NOT_THE_ENSEMBLE))
    evaluation = add_notices(evaluate(predictor, scored, noted, baselines), prepared.cohort.audit, prepared.plan)
    run.save("evaluation-distilled.json", evaluation)
    save_scores(run.folder / "scores-distilled.csv", scored.to_scores(), predictor.classes)
    manifest = predictor.manifest
    called = [decide(each.probabilities, read_rule(manifest)) for each in (ensemble, scored)]
    record = distilled.record.model_copy(
        update={
            "same_prediction": float((called[0] == called[1]).mean()),
            "differences": compute_differences(
                scored.labels,
                (ensemble.probabilities, scored.probabilities),
                [sample.patient for sample in join_patients(scored.samples, question.groups)],
                settings=question.intervals,
                is_ordered=manifest.ordered,
                positive=None if manifest.positive is None else manifest.classes.index(manifest.positive),
                rule=read_rule(manifest),
            ),
        }
    )
    say(describe_differences(record, len(scored.labels)))
    return record


def describe_differences(record: DistilledRecord, n: int) -> str:
    """One line: what the network gains or loses on the `n` test pictures."""
    told = [_describe(name, record.differences[name]) for name in _SHOWN if name in record.differences]
    same = "" if record.same_prediction is None else f"; {record.same_prediction:.1%} of {n} pictures called the same"
    return f"Distilled minus ensemble on test: {', '.join(filter(None, told))}{same}"


def _describe(name: str, found: Estimate) -> str:
    if found.value is None:
        return ""
    interval = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{name} {found.value:+.3f}{interval}"

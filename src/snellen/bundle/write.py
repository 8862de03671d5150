"""The bundle: graph, weights, manifest, parity, vectors, gate, model card, notice. Built once, read by everyone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from snellen.bundle.gate import Seen, fit_gate, save_gate
from snellen.bundle.texts import render_model_card, render_notice
from snellen.bundle.vectors import write_vectors
from snellen.core.errors import ParityError
from snellen.core.storage import compute_digest, compute_sha256, write_atomic
from snellen.inference.known import compute_salted_hashes
from snellen.inference.load import MANIFEST_FILE, MODEL_FILE
from snellen.inference.session import GraphSession
from snellen.metrics.decision import Rule, decide, make_rule
from snellen.modeling.architectures import Calibrated
from snellen.modeling.graph import export_graph
from snellen.records.bundle import Calibration, Conformal, InputSpec, Manifest, Parity, Threshold, TrainedOn
from snellen.records.cohort import PatientRule, Sample
from snellen.records.plan import Plan
from snellen.records.run import WeightsRecord

TOLERANCE_PROBABILITY = 1e-4
TOLERANCE_LOGIT = 1e-3
PARITY_SAMPLES = 64
INTENDED_USE = "Research use only. Not a medical device."


@dataclass(frozen=True)
class TrainedModel:
    """What training hands over: `pixels` are preprocessed real samples `(N, S, S, C)`.

    `val_embedding` is `(M, D)`; the training part's embeddings are read block by block, `(n, D)` each. `prevalence`
    holds the shares of the classes in the training part. `seen` are looks and facts of pictures for
    the gate, `val_patients` says of how many patients `val_embedding` is.
    """

    name: str
    created: str
    snellen_version: str
    plan: Plan
    classifier: Calibrated
    weights: WeightsRecord
    calibration: Calibration
    pixels: NDArray[np.uint8]
    read_train_embedding: Callable[[], Iterable[NDArray[np.float32]]]
    val_embedding: NDArray[np.float32]
    baselines: dict[str, NDArray[np.float32]]
    trained_on: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    patients: PatientRule
    prevalence: dict[str, float] = field(default_factory=dict)
    tuned_share: float = 0.0
    multiplications: float = 0.0
    distilled_from: str | None = None
    seen: Seen | None = None
    val_patients: int | None = None
    conformal: Conformal | None = None


def write_graph(model: TrainedModel, folder: Path) -> GraphSession:
    """Export the graph and its weights; prove that it says what torch says. Raises ParityError otherwise."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    model.classifier.add_class_map()
    shape = (model.plan.preprocess.size, model.plan.preprocess.size, model.plan.preprocess.channels)
    export_graph(model.classifier, folder / MODEL_FILE, shape=shape, outputs=model.classifier.outputs)
    state = {name: tensor.detach().contiguous().clone() for name, tensor in model.classifier.state_dict().items()}
    write_atomic(folder / "weights.safetensors", save(state))
    session = GraphSession(folder / MODEL_FILE, threads=model.plan.training.threads)
    parity = compute_parity(model.classifier, session, model.pixels, _make_rule(model))
    write_atomic(folder / "parity.json", parity.to_json())
    require_parity(parity)
    return session


def compute_parity(
    classifier: Calibrated, session: GraphSession, pixels: NDArray[np.uint8], rule: Rule = "most_probable"
) -> Parity:
    """Torch against ONNX Runtime on up to 64 real samples, called a class by `rule`."""
    used = pixels[:PARITY_SAMPLES]
    with torch.no_grad():
        parts = [
            classifier.eval()(torch.from_numpy(np.ascontiguousarray(used[i : i + 8]))) for i in range(0, len(used), 8)
        ]
    reference = [torch.cat([part[position] for part in parts]).numpy() for position in range(2)]
    found = session.run(used, ("probabilities", "logits"))
    probability = float(np.abs(reference[0] - found["probabilities"]).max())
    logit = float(np.abs(reference[1] - found["logits"]).max() / max(1.0, float(np.abs(reference[1]).max())))
    is_finite = bool(np.isfinite([probability, logit]).all())
    return Parity(
        reference="torch",
        candidate="onnxruntime",
        n_samples=len(used),
        max_abs_probability=probability if is_finite else 1.0,
        max_abs_logit=logit if is_finite else 1.0,
        tolerance_probability=TOLERANCE_PROBABILITY,
        tolerance_logit=TOLERANCE_LOGIT,
        n_decisions_changed=int((decide(reference[0], rule) != decide(found["probabilities"], rule)).sum()),
        is_within=is_finite and probability <= TOLERANCE_PROBABILITY and logit <= TOLERANCE_LOGIT,
    )


def _make_rule(model: TrainedModel) -> Rule:
    shares = model.calibration.prevalence or model.prevalence
    return make_rule(model.plan.evaluation.decision, [shares.get(name, 0.0) for name in model.plan.data.classes])


def require_parity(parity: Parity) -> None:
    """Raise ParityError where the graph would not say what was trained."""
    if not parity.is_within:
        raise ParityError(
            f"The exported graph differs from the trained network: probabilities by {parity.max_abs_probability:.2g} "
            f"(allowed {parity.tolerance_probability:g}), logits by {parity.max_abs_logit:.2g} "
            f"(allowed {parity.tolerance_logit:g}), decisions in {parity.n_decisions_changed} of {parity.n_samples}.",
            "Nothing was delivered. Try another backbone, and please report this with bundle/parity.json.",
        )


def finish_bundle(
    model: TrainedModel, session: GraphSession, thresholds: Sequence[Threshold], folder: Path
) -> Manifest:
    """Everything beside the graph, and last the manifest with the hash of every file."""
    np.savez(folder / "baselines.npz", allow_pickle=False, **model.baselines)
    gate = fit_gate(model.read_train_embedding, model.val_embedding, model.seen, model.val_patients)
    save_gate(gate, folder)
    write_vectors(session, model.plan.preprocess, folder / "vectors")
    size, channels = model.plan.preprocess.size, model.plan.preprocess.channels
    draft = Manifest(
        name=model.name,
        created=model.created,
        snellen_version=model.snellen_version,
        task=model.plan.data.task,
        classes=model.plan.data.classes,
        positive=model.plan.data.positive,
        ordered=model.plan.data.ordered,
        decision=model.plan.evaluation.decision,
        merge=model.plan.data.merge,
        input=InputSpec(height_px=size, width_px=size, channels=channels),
        outputs=model.classifier.outputs,
        n_members=model.classifier.n_members,
        preprocess=model.plan.preprocess,
        calibration=model.calibration,
        thresholds=tuple(thresholds),
        conformal=model.conformal,
        abstain_by=model.plan.evaluation.abstain,
        backbone=model.plan.model.backbone,
        weights=model.weights,
        trained_on=_describe_training(model),
        prevalence=model.prevalence,
        tuned_share=model.tuned_share,
        multiplications=model.multiplications,
        distilled_from=model.distilled_from,
        plan_sha256=compute_digest([model.plan.model_dump_json()]),
        intended_use=INTENDED_USE,
        files={},
    )
    write_atomic(folder / "MODEL_CARD.md", render_model_card(draft))
    write_atomic(folder / "NOTICE", render_notice(draft))
    files = {
        path.relative_to(folder).as_posix(): compute_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }
    manifest = draft.model_copy(update={"files": files})
    write_atomic(folder / MANIFEST_FILE, manifest.to_json())
    return manifest


def _describe_training(model: TrainedModel) -> TrainedOn:
    salt = secrets.token_hex(16)
    labels = [sample.label for sample in model.trained_on]
    return TrainedOn(
        n_samples=len(model.trained_on),
        n_patients=len({sample.patient for sample in model.trained_on}),
        patient_rule=model.patients.rule,
        class_counts={name: labels.count(name) for name in model.plan.data.classes},
        salt=salt,
        pixel_hashes=compute_salted_hashes(salt, model.trained_on),
        test_hashes=compute_salted_hashes(salt, model.held_out),
    )

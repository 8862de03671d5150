"""The steps of `snellen train`, one short function each, in the order in which a run goes through them."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from snellen import __version__
from snellen.bundle.write import PARITY_SAMPLES, TrainedModel, finish_bundle, write_graph
from snellen.core.progress import say, timed
from snellen.core.runtime import count_threads, read_peak_memory_mb, read_platform, read_versions
from snellen.core.storage import (
    compute_digest,
    compute_sha256,
    describe_need,
    write_atomic,
)
from snellen.evaluation.evaluate import Question, Scored, choose_thresholds, evaluate, save_scores, score_samples
from snellen.imaging.cache import PixelCache
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.inference.session import GraphSession
from snellen.metrics.calibration import fit_temperature
from snellen.modeling.architectures import FrozenBackbone, build_classifier, compute_map_shape
from snellen.modeling.weights import load_weights
from snellen.outputs import RUN, make_output
from snellen.planning.recipe_files import load_recipe
from snellen.planning.splits import compute_split_sha256
from snellen.records.bundle import Calibration
from snellen.records.run import RunRecord, TrainRequest, WeightsRecord
from snellen.run_evaluation import build_intervals, describe_evaluation, note_split, render_run_report
from snellen.run_features import collect_features, export_backbone, measure_need
from snellen.run_preparation import Prepared, prepare, save_prepared
from snellen.run_watch import Watch, watch_run
from snellen.runs import Run, log_to
from snellen.training.features import FeatureStore
from snellen.training.head import FittedHead, HeadData, fit_head
from snellen.training.probe import fit_baselines

_STEP = 256


@dataclass
class Progress:
    """What a run notes of itself while it goes on."""

    durations_s: dict[str, float] = field(default_factory=dict)
    weights: WeightsRecord | None = None
    head: FittedHead | None = None


def run_training(request: TrainRequest, run: Run, command: str) -> Run:
    """The whole of `snellen train`. The folder is touched only once the data were read and the plan stands."""
    with log_to(run.folder / "run.log") as begin_log:
        loaded = load_recipe(request.recipe, request.settings)
        progress = Progress()
        with timed(progress.durations_s, "read and plan"):
            prepared = prepare(request, loaded)
        opened_before = run.record.test_opened if is_resumed(run, request) else 0
        make_output(run.folder, RUN)
        begin_log()
        say(f"Run: {run.folder}")
        write_atomic(run.folder / "recipe.toml", loaded.text)
        record = _begin_record(request, run, command, opened_before)
        run.save("run.json", record)
        save_prepared(run, prepared, request.source)
        split_sha256 = compute_split_sha256(prepared.splits, "test")
        with watch_run(run, request.track, prepared.plan, split_sha256) as watch:
            predictor, pixels = _train_bundle(run, prepared, progress, watch)
            with timed(progress.durations_s, "evaluate"):
                opened, scored = _evaluate_splits(run, prepared, (predictor, pixels), record)
            record = _finish_record(record, run, prepared, progress).model_copy(update={"test_opened": opened})
            write_atomic(run.report, render_run_report(run, record, scored, pixels, predictor.manifest))
            # last of all: a run that is finished has its report
            hashes = {**record.sha256, run.report.name: compute_sha256(run.report)}
            run.save("run.json", record.model_copy(update={"sha256": hashes}))
            watch.finish()
    return run


def is_resumed(run: Run, request: TrainRequest) -> bool:
    """Whether the folder holds the same request, interrupted."""
    if not (run.folder / RUN.mark).exists():
        return False
    record = run.record
    return record.state == "running" and record.request == request


def _begin_record(request: TrainRequest, run: Run, command: str, opened: int) -> RunRecord:
    return RunRecord(
        name=run.folder.name,
        state="running",
        request=request,
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=read_versions(),
        platform=read_platform(),
        device=f"cpu ({platform.processor() or platform.machine()})",
        threads=count_threads(),
        test_opened=opened,
    )


def _train_bundle(run: Run, prepared: Prepared, progress: Progress, watch: Watch) -> tuple[Predictor, PixelCache]:
    plan = prepared.plan
    used = [sample for part in ("train", "val", "test") for sample in prepared.members(part)]
    with timed(progress.durations_s, "load backbone"):
        frozen = FrozenBackbone(plan.model)
        width = compute_map_shape(frozen, plan.preprocess)[0]
        progress.weights = load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
        say(
            f"Weights: {plan.model.backbone} from {progress.weights.origin} ({progress.weights.licence})"
            if progress.weights.source != "none"
            else f"Warning: {plan.model.backbone} starts from random weights, as asked; its frozen features are random"
        )
        graph = export_backbone(frozen, plan, prepared.cache)
    say(describe_need(prepared.cache, measure_need(used, plan, width)))
    with timed(progress.durations_s, "preprocess"):
        pixels = prepared.build_pixels(used)
    with timed(progress.durations_s, "features"):
        store = FeatureStore(graph, pixels, plan.augment, prepared.cache, plan.training.seed, plan.training.threads)
        data = collect_features(prepared, pixels, store)
    with timed(progress.durations_s, "train head"):
        with watch.follow_epochs(plan) as note:
            progress.head = fit_head(data, plan, note)
        chosen = progress.head.chosen
        auc = "" if chosen.val_auc is None else f", AUC {chosen.val_auc:.3f}"
        say(
            f"Head: weight decay {chosen.weight_decay:g} ({chosen.n_candidates} tried), epoch {chosen.epoch}: "
            f"validation loss {chosen.val_loss:.3f}{auc}"
        )
    with timed(progress.durations_s, "write bundle"):
        predictor = _write_bundle(run, prepared, progress, data, (frozen, pixels))
    return predictor, pixels


def _write_bundle(
    run: Run, prepared: Prepared, progress: Progress, data: HeadData, built: tuple[FrozenBackbone, PixelCache]
) -> Predictor:
    """Calibrate on validation, export, prove parity, choose operating points on the graph's own validation scores."""
    import torch

    frozen, pixels = built
    plan = prepared.plan
    if progress.head is None or progress.weights is None:
        raise ValueError("the head is trained before the bundle is written")
    classifier = build_classifier(plan.model, frozen, plan.preprocess)
    classifier.head = progress.head.head
    with torch.no_grad():
        logits = classifier.head(torch.from_numpy(data.val)).double().numpy()
    fitted = fit_temperature(logits, data.val_labels)
    classifier.temperature.fill_(fitted.temperature)
    if not fitted.is_fitted:
        say(f"Warning: probabilities are not calibrated: {fitted.reason}")
    train, val = prepared.members("train"), prepared.members("val")
    rows = pixels.select([*val, *train])[:PARITY_SAMPLES]
    baselines = fit_baselines(data.train, data.train_labels, plan.model.n_classes)
    model = TrainedModel(
        name=run.folder.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        snellen_version=__version__,
        plan=plan,
        classifier=classifier,
        weights=progress.weights,
        calibration=Calibration(
            method="temperature" if fitted.is_fitted else "none",
            temperature=fitted.temperature,
            fitted_on="val",
            n=fitted.n,
            reason=fitted.reason,
        ),
        pixels=np.asarray(pixels.pixels[rows]),
        read_train_embedding=lambda: (block for _, block in data.train.iterate_blocks(views=1)),
        val_embedding=data.val,
        baselines=dict(baselines.__dict__),
        trained_on=tuple([*train, *val]),
        held_out=tuple(prepared.members("test")),
        patients=prepared.cohort.patients,
    )
    session = write_graph(model, run.bundle)
    # thresholds come from the exported graph's scores, so that no rounding moves a picture across one
    probabilities = _score(session, pixels, pixels.select(val))
    finish_bundle(model, session, choose_thresholds(data.val_labels, probabilities, plan), run.bundle)
    return load_bundle(run.bundle, threads=plan.training.threads)


def _score(session: GraphSession, pixels: PixelCache, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Probabilities `(N, C)` of rows of the cache, with few pictures in memory at a time."""
    steps = [rows[start : start + _STEP] for start in range(0, len(rows), _STEP)]
    return np.concatenate([session.run(pixels.take(step), ("probabilities",))["probabilities"] for step in steps])


def _evaluate_splits(
    run: Run, prepared: Prepared, tools: tuple[Predictor, PixelCache], record: RunRecord
) -> tuple[int, Scored]:
    """Validation always, test once unless it stays shut. Returns how often test was opened, and the last scores."""
    predictor, pixels = tools
    opened = record.test_opened
    if record.request.opens_test:
        # counted before it is looked at, so that a killed run cannot look for nothing
        opened += 1
        digest = compute_split_sha256(prepared.splits, "test")
        run.save("run.json", record.model_copy(update={"test_opened": opened, "split_sha256": digest}))
    for part in ["val", "test"] if record.request.opens_test else ["val"]:
        scored = score_samples(predictor, prepared.members(part), pixels)
        evaluation = evaluate(predictor, scored, _build_question(prepared, record.request, part, opened))
        run.save("evaluation.json" if part == "test" else "evaluation-val.json", evaluation)
        save_scores(run.folder / f"scores-{part}.csv", scored.to_scores(), predictor.classes)
        say(describe_evaluation(evaluation))
    return opened, scored


def _build_question(prepared: Prepared, request: TrainRequest, part: str, opened: int) -> Question:
    return Question(
        split=part,
        data=request.source.data,
        patients=prepared.cohort.patients,
        intervals=build_intervals(prepared.plan, prepared.members(part)),
        test_opened=opened,
        n_failed=prepared.cohort.audit.n_set_aside,
        snellen_version=__version__,
        notes=note_split(part, opened),
    )


def _finish_record(record: RunRecord, run: Run, prepared: Prepared, progress: Progress) -> RunRecord:
    names = (
        "recipe.toml",
        "plan.json",
        "fingerprint.json",
        "cohort.csv",
        "splits.csv",
        "audit.json",
        "audit.html",
        "metrics.jsonl",
        "scores-val.csv",
        "scores-test.csv",
        "evaluation-val.json",
        "evaluation.json",
        "bundle/manifest.json",
    )
    hashes = {name: compute_sha256(run.folder / name) for name in names if (run.folder / name).exists()}
    pictures = compute_digest(sorted(f"{sample.name}\0{sample.pixels_sha256}" for sample in prepared.cohort.samples))
    return record.model_copy(
        update={
            "state": "finished",
            "durations_s": progress.durations_s,
            "peak_memory_mb": read_peak_memory_mb(),
            "weights": progress.weights,
            "chosen": progress.head.chosen if progress.head else None,
            "split_sha256": compute_split_sha256(prepared.splits, "test"),
            "sha256": {"pictures": pictures, **hashes},
        }
    )

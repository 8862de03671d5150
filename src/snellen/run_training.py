"""The steps of `snellen train`, one short function each, in the order in which a run goes through them."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen import __version__
from snellen.bundle.gate import measure_seen
from snellen.bundle.write import PARITY_SAMPLES, TrainedModel, finish_bundle, write_graph
from snellen.core.errors import UsageError
from snellen.core.progress import say, timed
from snellen.core.runtime import read_peak_memory_mb, read_platform, read_versions, release_memory
from snellen.core.storage import (
    compute_digest,
    compute_sha256,
    describe_need,
    require_room,
    write_atomic,
)
from snellen.evaluation.evaluate import (
    Question,
    Scored,
    choose_thresholds,
    doubt_thresholds,
    evaluate,
    save_scores,
    score_samples,
)
from snellen.evaluation.findings import add_drop, add_notices
from snellen.imaging.cache import PixelCache
from snellen.inference.load import MODEL_FILE, load_bundle
from snellen.inference.predictor import Predictor
from snellen.inference.session import GraphSession
from snellen.metrics.calibrators import CalibrationFit, fit_calibration
from snellen.modeling.architectures import LISTED, Classifier, FrozenBackbone, compute_map_shape
from snellen.modeling.cut import count_multiplications
from snellen.modeling.devices import choose_device
from snellen.modeling.weights import find_weights, load_weights
from snellen.outputs import RUN, make_output
from snellen.planning.recipe_files import load_recipe
from snellen.planning.splits import compute_split_sha256, list_joined
from snellen.records.bundle import Calibration
from snellen.records.cohort import PARTS, Cohort, Sample
from snellen.records.plan import Plan
from snellen.records.run import (
    ChosenHead,
    DistilledRecord,
    Resampling,
    RunRecord,
    StageOutcome,
    TrainRequest,
    WeightsRecord,
)
from snellen.run_calibration import hold_for_calibration, list_learned_from
from snellen.run_distillation import Distilled, distill, measure_distilled, plan_alone, tell_unmeasured
from snellen.run_evaluation import (
    build_intervals,
    count_unknown,
    count_workspace,
    describe_evaluation,
    note_split,
    render_run_report,
)
from snellen.run_evidence import add_evidence
from snellen.run_features import build_frozen, collect_features, collect_fold_features, export_backbone, measure_need
from snellen.run_finetuning import CHECKPOINTS, EMBEDDINGS, Tuned, finetune_run
from snellen.run_learning import Learned, begin_anew, learn
from snellen.run_likeness import complete_audit, settle_audit
from snellen.run_networks import Bench, build_tuned_classifier
from snellen.run_preparation import (
    RECIPE,
    Prepared,
    prepare,
    require_same_data,
    require_same_recipe,
    save_prepared,
    say_other_plan,
)
from snellen.run_sets import fit_sets
from snellen.run_watch import Watch, watch_run
from snellen.runs import Run, log_to
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.probe import fit_baselines

_STEP = 256
_MOST_EMBEDDED = 1000
LOG = "run.log"
_RECORD_BYTES = 5_000_000


@dataclass
class Progress:
    """What a run notes of itself while it goes on."""

    durations_s: dict[str, float] = field(default_factory=dict)
    weights: WeightsRecord | None = None
    chosen: ChosenHead | None = None
    members: tuple[ChosenHead, ...] = ()
    resampled: tuple[Resampling, ...] = ()
    finetuned: tuple[StageOutcome, ...] = ()
    distilled: DistilledRecord | None = None
    baselines: dict[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    audited: Cohort | None = None


def run_training(request: TrainRequest, run: Run, command: str) -> Run:
    """The whole of `snellen train`. The folder is touched only once the data were read and the plan stands."""
    with log_to(run.folder / LOG) as begin_log:
        loaded = load_recipe(request.recipe, request.settings)
        progress = Progress()
        with timed(progress.durations_s, "read and plan"):
            prepared = prepare(request, loaded)
            _require_test(request, prepared)
        if prepared.plan.model.weights != "none":  # before the folder is made: what lacks weights leaves none
            find_weights(prepared.plan.model.backbone, prepared.plan.model.weights)
        goes_on = is_resumed(run, request)
        if goes_on:
            require_same_recipe(run, loaded, request.recipe)
            require_same_data(run, prepared)
            say_other_plan(run, prepared)
        opened_before = run.record.test_opened if goes_on else 0
        record = _begin_record(request, run, command, opened_before, prepared.plan.training.threads)
        # before all else: whatever kills it from here on, the folder says what it is and how often test was opened
        run.save(RUN.mark, record)
        make_output(run.folder, RUN, keep=(RUN.mark, LOG) if goes_on else (RUN.mark,))
        if not goes_on:
            shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
        begin_log()
        say(f"Run: {run.folder}")
        write_atomic(run.folder / RECIPE, loaded.text)
        save_prepared(run, prepared, request.source)
        split_sha256 = compute_split_sha256(prepared.splits, "test")
        with watch_run(run, request.track, prepared.plan, split_sha256) as watch:
            predictor, bench, distilled = _train_bundle(run, prepared, progress, watch)
            pixels = bench.pixels
            release_memory()
            with timed(progress.durations_s, "evaluate"):
                tools = (predictor, pixels, progress.baselines)
                opened, scored = _evaluate_splits(run, prepared, tools, record)
                if distilled is not None:
                    progress.distilled = _measure(distilled, bench, scored, (request, opened), progress)
            settle_audit(run, progress.audited or prepared.cohort, prepared.splits)
            record = _finish_record(record, run, prepared, progress).model_copy(update={"test_opened": opened})
            write_atomic(run.report, render_run_report(run, record, prepared.cohort, scored, (pixels, predictor)))
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


def _require_test(request: TrainRequest, prepared: Prepared) -> None:
    if request.opens_test and not prepared.has_test and not prepared.plan.evaluation.folds:
        raise UsageError(
            "data.fractions leaves no picture for the test, which the run would end with.",
            "Add --no-test or --folds 5, or give test a share: --set data.fractions=[0.7,0.15,0.15]",
        )


def _begin_record(request: TrainRequest, run: Run, command: str, opened: int, threads: int) -> RunRecord:
    return RunRecord(
        name=run.folder.name,
        state="running",
        request=request,
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=read_versions(),
        platform=read_platform(),
        device=f"cpu ({platform.processor() or platform.machine()})",
        threads=threads,
        test_opened=opened,
    )


def _train_bundle(
    run: Run, prepared: Prepared, progress: Progress, watch: Watch
) -> tuple[Predictor, Bench, Distilled | None]:
    plan = prepared.plan
    with timed(progress.durations_s, "load backbone"):
        frozen = build_frozen(plan)
        map_shape = compute_map_shape(frozen, plan.preprocess)
        progress.weights = load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
        say(_describe_weights(plan, progress.weights))
        require_room(run.folder, _estimate_run_bytes(frozen, plan), "the run with its bundle")
        graph = export_backbone(frozen, plan, prepared.cache)
    used = [sample for part in PARTS for sample in prepared.members(part)]
    say(describe_need(prepared.cache, measure_need(used, plan, map_shape[0])))
    with timed(progress.durations_s, "preprocess"):
        pixels = prepared.build_pixels(used)
    with timed(progress.durations_s, "features"):
        store = FeatureStore(graph, pixels, plan.augment, prepared.cache, plan.training.seed, plan.training.threads)
        collect = collect_fold_features if plan.evaluation.folds else collect_features
        data = collect(prepared, pixels, store)
    with timed(progress.durations_s, "train head"):
        if plan.training.begins_on_features:
            with watch.follow_epochs(plan) as note:
                learned = learn(data, prepared, note)
        else:
            learned = begin_anew(data, prepared, map_shape)
        progress.chosen, progress.members = learned.chosen, learned.members
        progress.resampled = learned.resampled
        if learned.held_baselines is not None:
            progress.baselines["oof"] = learned.held_baselines
        say(learned.summary)
    with timed(progress.durations_s, "audit"):
        progress.audited = complete_audit(prepared, learned, (pixels, store))
    release_memory()
    bench = Bench(prepared, pixels, frozen, run.folder, choose_device())
    tuned = Tuned((), learned.logits, ())
    if plan.training.finetune_stages:
        with timed(progress.durations_s, "fine-tune"):
            tuned = finetune_run(bench, data, learned, lambda stage: watch.follow_epochs(plan, stage))
            progress.finetuned = tuned.outcomes
            progress.resampled = learned.resampled or tuned.resampled
            if tuned.changes_backbone:
                progress.baselines |= _score_frozen_baselines(prepared, store, learned)
    release_memory()
    with timed(progress.durations_s, "write bundle"):
        held = hold_for_calibration(bench, store, learned, tuned)
        predictor, model = _write_bundle(run, progress, held, (bench, tuned))
    if not plan.evaluation.distill:
        return predictor, bench, None
    with timed(progress.durations_s, "distill"):
        alone = plan_alone(plan)
        distilled = distill(
            bench,
            (learned, tuned),
            (model, predictor),
            lambda stage: watch.follow_epochs(alone, stage),
            lambda own, bundle: _with_own_embedding(own, bundle, learned, pixels),
        )
    return predictor, bench, distilled


def _measure(
    distilled: Distilled, bench: Bench, ensemble: Scored, asked: tuple[TrainRequest, int], progress: Progress
) -> DistilledRecord:
    """What the distilled network loses on the test split, where that was opened."""
    request, opened = asked
    if not request.opens_test or not bench.prepared.has_test:
        return tell_unmeasured(distilled)
    question = _build_question(bench.prepared, request, ("test", ensemble.samples), opened, bench.folder)
    return measure_distilled(distilled, bench, ensemble, question, progress.baselines.get("test"))


def _describe_weights(plan: Plan, record: WeightsRecord) -> str:
    name = plan.model.backbone
    if record.source != "none":
        return f"Weights: {name} from {record.origin} ({record.licence})"
    if name == LISTED:
        return f"Weights: the network of model.layers begins by chance, under seed {plan.training.seed}"
    return f"Warning: {name} starts from random weights, as asked; its frozen features are random"


def _estimate_run_bytes(frozen: FrozenBackbone, plan: Plan) -> int:
    """The bundle holds the weights twice; a checkpoint of fine-tuning up to four times, and the optimizer's moments."""
    weights = 4 * sum(parameter.numel() for parameter in frozen.parameters())
    copies = 2 + 6 * max(1, plan.evaluation.folds) * len(plan.training.finetune_stages)
    return weights * copies + _RECORD_BYTES


def _score_frozen_baselines(
    prepared: Prepared, store: FeatureStore, learned: Learned
) -> dict[str, Mapping[str, NDArray[np.float64]]]:
    """The frozen network's probe on the run's own splits: a fine-tuned graph no longer gives its features."""
    if learned.folds is not None and not prepared.has_test:
        return {}
    fitted = fit_baselines(learned.table, learned.table_labels, prepared.plan.model.n_classes)
    parts = ["test"] if learned.folds is not None else ["val", "test"]
    found: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    for part in parts:
        samples = prepared.members(part)
        if samples:
            found[part] = fitted.score(store.compute(store.pixels.select(samples), 0).load()[0])
    return found


def _write_bundle(
    run: Run, progress: Progress, learned: Learned, built: tuple[Bench, Tuned]
) -> tuple[Predictor, TrainedModel]:
    """Calibrate on held-out pictures, export, prove parity, choose operating points on the graph's scores of them."""
    bench, tuned = built
    prepared, pixels, plan = bench.prepared, bench.pixels, bench.plan
    if progress.weights is None:
        raise ValueError("the weights are loaded before the bundle is written")
    classifier = (
        build_tuned_classifier(bench, tuned.networks) if tuned.networks else Classifier(bench.frozen, learned.head)
    )
    units = prepared.name_units(learned.samples)
    fitted = fit_calibration(learned.logits, learned.labels, units)
    classifier.calibrate(fitted.calibrator.temperature, fitted.calibrator.bias.tolist())
    if not fitted.is_sound:
        say(f"Warning: probabilities are not calibrated: {fitted.reason}")
    learned_from = list_learned_from(bench)
    rows = pixels.select(learned_from)[:PARITY_SAMPLES]
    baselines = fit_baselines(learned.table, learned.table_labels, plan.model.n_classes)
    model = TrainedModel(
        name=run.folder.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        snellen_version=__version__,
        plan=plan,
        classifier=classifier,
        weights=progress.weights,
        calibration=_describe_calibration(fitted, learned, plan),
        pixels=np.asarray(pixels.pixels[rows]),
        read_train_embedding=lambda: (block for _, block in learned.gate_table.iterate_blocks(views=1)),
        val_embedding=learned.gate_val,
        # the probe reads the frozen network's features, which a fine-tuned graph does not give
        baselines={"prior": baselines.prior} if tuned.changes_backbone else dict(baselines.__dict__),
        trained_on=tuple(learned_from),
        held_out=tuple(prepared.members("test")),
        patients=prepared.cohort.patients,
        prevalence=_count_shares(learned.table_labels, plan),
        tuned_share=max((outcome.share for outcome in tuned.outcomes if outcome.kept), default=0.0),
        multiplications=count_multiplications(plan.model, plan.preprocess),
        seen=measure_seen(pixels, learned_from, prepared.name_units(learned_from), plan.training.seed),
        val_patients=_count_gate_patients(learned, units),
    )
    say(f"Bundle: exporting the network, and comparing the export with it on {len(model.pixels)} pictures")
    session = write_graph(model, run.bundle)
    # thresholds come from the exported graph's scores, so that no rounding moves a picture across one
    probabilities, embedding = _score(session, pixels, pixels.select(learned.samples), learned.folds)
    if tuned.changes_backbone:
        model = _with_own_embedding(model, run.bundle, learned, pixels, embedding)
    model = replace(model, conformal=fit_sets(learned, probabilities, units, plan))
    if doubt := doubt_thresholds(learned.labels, probabilities, plan, learned.held_name):
        say(f"Warning: {doubt}")
    thresholds = choose_thresholds(learned.labels, probabilities, plan, learned.held_name)
    finish_bundle(model, session, thresholds, run.bundle)
    shutil.rmtree(run.folder / CHECKPOINTS / EMBEDDINGS, ignore_errors=True)
    return load_bundle(run.bundle, threads=plan.training.threads), model


def _count_gate_patients(learned: Learned, units: Sequence[str]) -> int:
    """Whom the embeddings that limit the gate are of: all that are held out, or with folds the first of them."""
    is_own = np.ones(len(learned.samples), bool) if learned.folds is None else learned.folds == 0
    return len({unit for unit, own in zip(units, is_own, strict=True) if own})


def _with_own_embedding(
    model: TrainedModel,
    bundle: Path,
    learned: Learned,
    pixels: PixelCache,
    held_embedding: NDArray[np.float32] | None = None,
) -> TrainedModel:
    """What the gate is fitted on, by the fine-tuned graph: embeddings of what was held out, `(M, D)` where they are
    known, and of up to 1000 others that it is made of, drawn under the seed. With folds those are held out as well;
    else they are computed, and kept in the run's folder until the bundle is written.
    """
    plan = model.plan
    folder = bundle.parent / CHECKPOINTS / EMBEDDINGS
    store = FeatureStore(bundle / MODEL_FILE, pixels, plan.augment, folder, plan.training.seed, plan.training.threads)
    held = pixels.select(learned.samples)
    is_own = np.ones(len(held), bool) if learned.folds is None else learned.folds == 0
    others = pixels.select(model.trained_on) if learned.folds is None else held
    drawn = np.flatnonzero(~np.isin(others, held[is_own]))
    if len(drawn) > _MOST_EMBEDDED:
        drawn = np.random.default_rng(plan.training.seed).choice(drawn, _MOST_EMBEDDED, replace=False)
    if learned.folds is not None and held_embedding is not None:
        table = FeatureTable.hold(held_embedding[None]).select(drawn)
    else:
        table = store.compute(others[drawn], 0)
    return replace(
        model,
        read_train_embedding=lambda: (block for _, block in table.iterate_blocks(views=1)),
        val_embedding=store.compute(held[is_own], 0).load()[0] if held_embedding is None else held_embedding[is_own],
    )


def _describe_calibration(fitted: CalibrationFit, learned: Learned, plan: Plan) -> Calibration:
    """A fitted bias makes the probabilities assume the prevalence of what it was fitted on."""
    has_bias = fitted.method == "bias_and_temperature"
    return Calibration(
        method=fitted.method,
        temperature=fitted.calibrator.temperature,
        bias=tuple(fitted.calibrator.bias.tolist()),
        prevalence=_count_shares(learned.labels, plan) if has_bias else {},
        fitted_on=learned.held_name,
        n=fitted.n,
        reason=fitted.reason,
        is_compared=fitted.is_compared,
    )


def _count_shares(labels: NDArray[np.int64], plan: Plan) -> dict[str, float]:
    counts = np.bincount(labels, minlength=len(plan.data.classes))
    return dict(zip(plan.data.classes, (counts / counts.sum()).tolist(), strict=True))


def _score(
    session: GraphSession, pixels: PixelCache, rows: NDArray[np.intp], folds: NDArray[np.intp] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities `(N, C)`, with folds by one member, and embeddings `(N, D)` of rows of the cache, with few pictures
    in memory at a time.
    """
    name = "probabilities" if folds is None else "member_probabilities"
    probabilities, embeddings = [], []
    for start in range(0, len(rows), _STEP):
        step = slice(start, start + _STEP)
        found = session.run(pixels.take(rows[step]), (name, "embedding"))
        each = found[name] if folds is None else found[name][np.arange(len(found[name])), folds[step]]
        probabilities.append(each)
        embeddings.append(found["embedding"])
    return np.concatenate(probabilities), np.concatenate(embeddings)


def _evaluate_splits(
    run: Run,
    prepared: Prepared,
    tools: tuple[Predictor, PixelCache, Mapping[str, Mapping[str, NDArray[np.float64]]]],
    record: RunRecord,
) -> tuple[int, Scored]:
    """What was held out always, test once unless it stays shut: how often test was opened, and the last scores."""
    predictor, pixels, baselines = tools
    opened = record.test_opened
    opens_test = record.request.opens_test and prepared.has_test
    if opens_test:
        # counted before it is looked at, so that a killed run cannot look for nothing
        opened += 1
        digest = compute_split_sha256(prepared.splits, "test")
        run.save("run.json", record.model_copy(update={"test_opened": opened, "split_sha256": digest}))
    held = "oof" if prepared.plan.evaluation.folds else "val"
    for part in [held, "test"] if opens_test else [held]:
        samples, members = prepared.held_out() if part == "oof" else (prepared.members(part), None)
        scored = score_samples(predictor, samples, pixels, members)
        question = _build_question(prepared, record.request, (part, samples), opened, run.folder)
        evaluation = evaluate(predictor, scored, question, baselines.get(part))
        evaluation = add_drop(evaluation, run.validation) if part == "test" else evaluation
        evaluation = add_notices(evaluation, prepared.cohort.audit, prepared.plan)
        if part == "test" or not opens_test:  # the split of the report
            evaluation = add_evidence(evaluation, predictor, scored, pixels)
        run.save("evaluation.json" if part == "test" else f"evaluation-{part}.json", evaluation)
        save_scores(run.folder / f"scores-{part}.csv", scored.to_scores(), predictor.classes)
        say(describe_evaluation(evaluation))
    return opened, scored


def _build_question(
    prepared: Prepared, request: TrainRequest, part: tuple[str, Sequence[Sample]], opened: int, run_folder: Path
) -> Question:
    split, samples = part
    return Question(
        split=split,
        data=request.source.data,
        patients=prepared.cohort.patients,
        intervals=build_intervals(prepared.plan, samples),
        test_opened=opened,
        workspace=count_workspace(run_folder) if split == "test" else (0, 0),
        n_failed=prepared.cohort.audit.n_set_aside,
        snellen_version=__version__,
        notes=note_split(split, opened),
        unit=prepared.plan.evaluation.unit,
        unknown_patients=count_unknown(samples),
        subgroups=prepared.plan.evaluation.subgroups,
        prevalence=prepared.plan.evaluation.prevalence,
        groups=list_joined((row.patient, row.group) for row in prepared.splits),
    )


def _finish_record(record: RunRecord, run: Run, prepared: Prepared, progress: Progress) -> RunRecord:
    names = (
        RECIPE,
        "plan.json",
        "fingerprint.json",
        "cohort.csv",
        "splits.csv",
        "audit.json",
        "audit.html",
        "metrics.jsonl",
        "scores-val.csv",
        "scores-oof.csv",
        "scores-test.csv",
        "evaluation-val.json",
        "evaluation-oof.json",
        "evaluation.json",
        "scores-distilled.csv",
        "evaluation-distilled.json",
        "bundle/manifest.json",
        "distilled/manifest.json",
    )
    hashes = {name: compute_sha256(run.folder / name) for name in names if (run.folder / name).exists()}
    pictures = compute_digest(sorted(f"{sample.name}\0{sample.pixels_sha256}" for sample in prepared.cohort.samples))
    return record.model_copy(
        update={
            "state": "finished",
            "durations_s": progress.durations_s,
            "peak_memory_mb": read_peak_memory_mb(),
            "weights": progress.weights,
            "chosen": progress.chosen,
            "members": progress.members,
            "resampled": progress.resampled,
            "finetuned": progress.finetuned,
            "distilled": progress.distilled,
            "split_sha256": compute_split_sha256(prepared.splits, "test"),
            "sha256": {"pictures": pictures, **hashes},
        }
    )

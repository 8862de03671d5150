"""The steps of `snellen evaluate`, shared with the end of `train`: which split is opened, and what is said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snellen import __version__
from snellen.core.errors import DataError, UsageError
from snellen.core.letters import agree, show_count
from snellen.core.progress import say
from snellen.core.runtime import count_threads
from snellen.core.storage import compute_sha256, open_cache, write_atomic
from snellen.evaluation.evaluate import (
    Question,
    Scored,
    evaluate,
    join_units,
    require_known_classes,
    save_scores,
    score_samples,
)
from snellen.evaluation.findings import add_drop, add_notices
from snellen.evaluation.measures import compute_shift
from snellen.evaluation.report import ReportInputs, render_report
from snellen.evaluation.subgroups import read_column
from snellen.evaluation.units import group_labelled, join_patients
from snellen.imaging.cache import PixelCache, build_pixel_cache
from snellen.inference.known import find_own_test, find_trained_on
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.ingest.cohort import read_cohort
from snellen.ingest.patients import get_own_patient
from snellen.metrics.decision import CALLED
from snellen.outputs import EVALUATION, hold_output, make_output
from snellen.planning.splits import join_groups, list_joined
from snellen.records.bundle import Manifest
from snellen.records.cohort import Cohort, Sample
from snellen.records.evaluation import Evaluation, Intervals, Score
from snellen.records.plan import Plan
from snellen.records.recipe import EvaluationUnit
from snellen.records.run import DataRequest, RunRecord
from snellen.run_evidence import add_evidence, build_maps
from snellen.run_openings import count_openings
from snellen.runs import Run

_DEFAULT_RESAMPLES = 1000
_LOCK_WAIT_S = 60.0
_MAX_UNKNOWN = 0.5


def evaluate_own(
    run: Run, split: str, out: Path | None, by: tuple[str, ...] = (), unit: EvaluationUnit | None = None
) -> Evaluation:
    """A split of the run's own data, read again from where they lay, by `unit`, and its parts `by` columns; else by
    those of the plan. Opening the test split is counted.
    """
    record = run.record
    if record.state != "finished":
        raise UsageError(f"The run {run.folder} is not finished.", f"snellen train --resume {run.folder}")
    _require_unchanged(run)
    predictor = run.load()  # before the opening is counted: an altered bundle is refused
    validation = run.validation if split == "test" else None
    plan = run.plan
    by, unit = by or plan.evaluation.subgroups, unit or plan.evaluation.unit
    _require_place(record.request.source.data, run)
    cohort, pixels_of = _read(record.request.source, plan.data.merge, by)
    wanted = _select(run, split)
    members = [sample for sample in cohort.samples if sample.name in wanted]
    expected = len(wanted)
    if len(members) != expected:
        raise DataError(
            f"{expected - len(members)} of the {expected} pictures of the split are no longer at {cohort.root}.",
            "Put the data back where the run found them, or give other data as DATA.",
        )
    before = run.pixel_hashes
    changed = [sample.name for sample in members if before.get(sample.name) != sample.pixels_sha256]
    if changed:
        raise DataError(
            f"{len(changed)} pictures are not those that the run found, such as {changed[0]}.",
            "Put the data back as they were, or give them as DATA to evaluate the bundle on other data.",
        )
    _require_measurable(predictor.manifest, members, by, unit)
    pixels = pixels_of(predictor, cohort.samples)
    if out is not None:
        make_output(out, EVALUATION)
    # counted last of all that may fail, and before anything is seen
    has_test = split in ("test", "all") and any(row.split == "test" for row in run.splits)
    opened = count_opening(run.folder) if has_test else record.test_opened
    question = Question(
        split=split,
        data=record.request.source.data,
        patients=cohort.patients,
        intervals=build_intervals(run.plan, members),
        test_opened=opened,
        workspace=count_workspace(run.folder) if split in ("test", "all") else (0, 0),
        n_failed=cohort.audit.n_set_aside,
        snellen_version=__version__,
        notes=note_split(split, opened),
        unit=unit,
        unknown_patients=count_unknown(members),
        subgroups=by,
        prevalence=plan.evaluation.prevalence,
        groups=list_joined((row.patient, row.group) for row in run.splits),
    )
    folds = np.array([wanted[sample.name] for sample in members], np.intp) if split == "oof" else None
    scored = score_samples(predictor, members, pixels, folds)
    # the bundle's baselines have learned from every fold
    evaluation = evaluate(predictor, scored, question, None if folds is None else {})
    evaluation = evaluation if validation is None else add_drop(evaluation, validation)
    evaluation = add_notices(evaluation, run.audit, run.plan)  # the run's says more, such as shortcuts
    if out is not None:
        evaluation = add_evidence(evaluation, predictor, scored, pixels)
        title = f"{cohort.name}: {split}"
        _write(
            out,
            evaluation,
            scored,
            ReportInputs(
                title=title,
                evaluation=evaluation,
                scores=scored.to_scores(),
                unit_scores=_score_units(predictor.manifest, scored, evaluation),
                validation=validation,
                plan=run.plan,
                audit=run.audit,
                splits=run.splits,
                manifest=predictor.manifest,
                load_thumbnail=build_thumbnails(scored, pixels),
                load_map=build_maps(predictor, scored, pixels),
                embedding=scored.embedding,
            ),
        )
    return evaluation


def _require_place(data: str, run: Run) -> None:
    """Raise DataError where the run's data have gone: reading them would speak of DATA that nobody gave."""
    if not Path(data).exists():
        raise DataError(
            f"The data of the run {run.folder} are no longer at {data}.",
            f"Put them back, or name other data: snellen evaluate {run.folder}/bundle DATA.",
        )


def _require_measurable(manifest: Manifest, members: Sequence[Sample], by: Sequence[str], unit: EvaluationUnit) -> None:
    """Classes, columns and unit fit the samples: told before anything is opened."""
    require_known_classes(manifest.classes, members)
    for name in by:
        read_column(members, name)
    if unit != "picture":
        group_labelled(manifest, members, unit)


def _select(run: Run, split: str) -> dict[str, int | None]:
    """Samples of a split of the run with their folds. Raises UsageError where the run has no such split."""
    rows = [row for row in run.splits if row.split != "left_out"]
    found = {
        row.sample: row.fold for row in rows if split in ("all", row.split) or (split == "oof" and row.fold is not None)
    }
    if not found:
        has = sorted({row.split for row in rows} | {"oof" for row in rows if row.fold is not None})
        raise UsageError(
            f"The run {run.folder} has no split {split}.", f"It has {', '.join(has)}: name one with --split."
        )
    return found


def _require_unchanged(run: Run) -> None:
    """Raise DataError where a file that says which picture is in which split is not the one that the run wrote."""
    known = run.record.sha256
    changed = [
        name
        for name in ("splits.csv", "cohort.csv", "plan.json")
        if name in known and compute_sha256(run.folder / name) != known[name]
    ]
    if changed:
        raise DataError(
            f"{run.folder / changed[0]} was changed since the run wrote it: its test split cannot be believed.",
            "Take the run from a backup, or train again.",
        )


def evaluate_foreign(
    bundle: Path, source: DataRequest, out: Path | None, by: tuple[str, ...] = (), unit: EvaluationUnit = "picture"
) -> Evaluation:
    """All of some other data, by `unit`. Pictures that the bundle was trained on are left out and counted.

    Where the data hold the test split of the run beside the bundle, that is one more opening of it.
    """
    predictor = load_bundle(bundle)
    cohort, pixels_of = _read(source, predictor.manifest.merge, by)
    known = find_trained_on(predictor.manifest, cohort.samples)
    members = [sample for sample in cohort.samples if sample.name not in known]
    if not members:
        raise DataError(
            f"The bundle was trained on every one of the {len(known)} pictures of {source.data}.",
            "Evaluate on other data, or give the run instead of its bundle to see its own test split.",
        )
    _require_measurable(predictor.manifest, members, by, unit)
    pixels = pixels_of(predictor, members)  # before the opening is counted: it may say that the data do not fit
    if out is not None:
        make_output(out, EVALUATION)
    n_own_test, groups = len(find_own_test(predictor.manifest, members)), join_groups(cohort)
    opened = count_opening(predictor.folder.parent) if n_own_test else 0
    notes = _note_overlap(len(known), n_own_test, opened)
    question = Question(
        split="all",
        data=source.data,
        patients=cohort.patients,
        intervals=Intervals(n_resamples=_DEFAULT_RESAMPLES, unit=_choose_unit(members), seed=0),
        test_opened=opened,
        workspace=count_workspace(predictor.folder.parent) if n_own_test else (0, 0),
        n_failed=cohort.audit.n_set_aside,
        snellen_version=__version__,
        notes=notes,
        unit=unit,
        unknown_patients=count_unknown(members),
        subgroups=by,
        groups=list_joined((sample.patient, groups[sample.name]) for sample in members),
    )
    scored = score_samples(predictor, members, pixels)
    evaluation = evaluate(predictor, scored, question)
    measured = join_units(predictor.manifest, scored, unit)
    patients = [sample.patient for sample in join_patients(measured.samples, question.groups)]
    shift = compute_shift(predictor.manifest, measured.labels, measured.probabilities, question.intervals, patients)
    evaluation = evaluation.model_copy(update={"prevalence_shift": shift})
    evaluation = add_notices(evaluation, cohort.audit)
    if out is not None:
        evaluation = add_evidence(evaluation, predictor, scored, pixels)
        inputs = ReportInputs(
            title=f"{predictor.manifest.name} on {cohort.name}",
            evaluation=evaluation,
            scores=scored.to_scores(),
            unit_scores=_score_units(predictor.manifest, scored, evaluation),
            audit=cohort.audit,
            manifest=predictor.manifest,
            load_thumbnail=build_thumbnails(scored, pixels),
            load_map=build_maps(predictor, scored, pixels),
            embedding=scored.embedding,
        )
        _write(out, evaluation, scored, inputs)
    return evaluation


def _note_overlap(n_known: int, n_own_test: int, opened: int) -> tuple[str, ...]:
    notes = []
    if n_own_test:
        counted = "counted in the run" if opened else "not counted, because the bundle has left its run"
        notes.append(
            f"{show_count(n_own_test, 'picture')} {agree(n_own_test, 'are')} of the bundle's own test split, or "
            f"copies of it: this is no external test, "
            f"but one more opening of that split ({counted})."
        )
    if n_known:
        notes.append(
            f"{show_count(n_known, 'picture')} {agree(n_known, 'were')} left out: the bundle was trained or "
            "chosen on them, or on copies of them."
        )
    return tuple(notes)


def count_opening(folder: Path) -> int:
    """Count one more opening of the test split of the run at `folder`; 0 where the bundle left its run."""
    if not (folder / "run.json").is_file():
        return 0
    run = Run(folder)
    with hold_output(folder, wait_s=_LOCK_WAIT_S):  # two evaluations at once are two openings
        opened = run.record.test_opened + 1
        run.save("run.json", run.record.model_copy(update={"test_opened": opened}))
    say(f"The test split of this run is now opened {opened} time{'s' * (opened > 1)}.")
    return opened


def count_workspace(folder: Path) -> tuple[int, int]:
    """Openings of the run's test split by all runs beside it, told where others opened it, and the number of runs."""
    if not (folder / "run.json").is_file():
        return 0, 0
    record = Run(folder).record
    found = count_openings(folder, record.split_sha256)
    if found.n_runs > 1:
        say(f"{found.n_runs} runs in {found.folder} have opened this test split, {found.n_opened} times in all.")
    return found.n_opened, found.n_runs


def render_run_report(
    run: Run, record: RunRecord, cohort: Cohort, scored: Scored, tools: tuple[PixelCache, Predictor]
) -> str:
    """The report of a run; `scored` is its headline split, `record` what run.json is about to hold."""
    pixels, predictor = tools
    evaluation = run.evaluation
    return render_report(
        ReportInputs(
            title=cohort.name,
            evaluation=evaluation,
            scores=scored.to_scores(),
            unit_scores=_score_units(predictor.manifest, scored, evaluation),
            validation=run.validation if evaluation.split not in ("val", "calibration", "oof") else None,
            distilled=run.distilled_evaluation,
            plan=run.plan,
            fingerprint=run.fingerprint,
            audit=run.audit,
            run=record,
            manifest=predictor.manifest,
            splits=run.splits,
            epochs=run.epochs,
            load_thumbnail=build_thumbnails(scored, pixels),
            load_map=build_maps(predictor, scored, pixels),
            embedding=scored.embedding,
        )
    )


def _score_units(manifest: Manifest, scored: Scored, evaluation: Evaluation) -> list[Score]:
    """Rows of eyes or patients, where these were measured: what the figures show."""
    return [] if evaluation.unit == "picture" else join_units(manifest, scored, evaluation.unit).to_scores()


def build_thumbnails(scored: Scored, pixels: PixelCache) -> Callable[[str], NDArray[np.uint8] | None]:
    """Sample name → the picture as the model sees it, `(H, W)` or `(H, W, 3)`."""
    rows = dict(zip((sample.name for sample in scored.samples), pixels.select(scored.samples), strict=True))

    def load(name: str) -> NDArray[np.uint8] | None:
        if name not in rows:
            return None
        picture = np.asarray(pixels.pixels[rows[name]])
        return picture[..., 0] if picture.shape[2] == 1 else picture

    return load


def note_split(split: str, opened: int) -> tuple[str, ...]:
    """What a reader must know of the split itself."""
    notes = []
    if split in ("val", "all"):
        notes.append(
            "Epoch, regularisation and, where no patients are kept for that, calibration and operating points were "
            "chosen on the validation patients: their numbers are too good. The test split tells."
        )
    if split in ("calibration", "all"):
        notes.append(
            "Calibration and operating points were chosen on the patients that are kept for it, where there are such: "
            "their numbers are a little too good."
        )
    if split == "oof":
        notes.append(
            "Each picture was scored by the member that left out its fold; calibration and operating points were "
            "chosen on these same scores."
        )
    if split in ("train", "all"):
        notes.append(
            "The model was trained on these pictures: the numbers say how well it remembers, not how well it works."
        )
    if split in ("test", "all") and opened > 1:
        notes.append(f"The test split of this run has been opened {opened} times: it is no longer untouched.")
    return tuple(notes)


def build_intervals(plan: Plan, members: Sequence[Sample]) -> Intervals:
    """The plan's intervals, for these samples."""
    return Intervals(
        level=plan.evaluation.level,
        n_resamples=plan.evaluation.resamples,
        unit=_choose_unit(members),
        seed=plan.training.seed,
    )


def _choose_unit(members: Sequence[Sample]) -> Literal["patient", "picture"]:
    """Pictures where the patients of most are not known: a few that are told do not make it patient-level."""
    n_alone = sum(count_unknown(members).values())
    return "picture" if n_alone > _MAX_UNKNOWN * len(members) else "patient"


def count_unknown(members: Sequence[Sample]) -> dict[str, int]:
    """Pictures of each class whose patient nobody told: each stands for one."""
    return dict(Counter(each.label for each in members if each.patient == get_own_patient(each.name)))


def describe_evaluation(evaluation: Evaluation) -> str:
    """The headline of an evaluation in one line."""
    shown = []
    for name in ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic"):
        found = evaluation.metrics.get(name)
        if found is not None and found.value is not None:
            shown.append(f"{name} {found}")
    called = "" if evaluation.decision == "most_probable" else f" (called: {CALLED[evaluation.decision]})"
    return f"{evaluation.split}: {evaluation.subjects}: " + ", ".join(shown) + called


def _read(
    source: DataRequest, merge: Mapping[str, Sequence[str]], by: Sequence[str]
) -> tuple[Cohort, Callable[[Predictor, tuple[Sample, ...] | list[Sample]], PixelCache]]:
    cache = open_cache(source.cache)
    cohort = read_cohort(source, threads=count_threads(), cache=cache, merge=merge, is_training=False, by=by)

    def build(predictor: Predictor, samples: tuple[Sample, ...] | list[Sample]) -> PixelCache:
        plan = predictor.manifest.preprocess
        root = Path(cohort.root)
        return build_pixel_cache(samples, root, plan, cache, threads=count_threads(), packed=cohort.packed)

    return cohort, build


def _write(out: Path, evaluation: Evaluation, scored: Scored, inputs: ReportInputs) -> None:
    save_scores(out / "scores.csv", scored.to_scores(), scored.classes)
    known = evaluation.model_copy(update={"scores_sha256": compute_sha256(out / "scores.csv")})
    write_atomic(out / "evaluation.json", known.to_json())
    write_atomic(out / "report.html", render_report(inputs))

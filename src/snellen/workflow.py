"""The Python API: one short function a step. Each leaves readable files and returns what it made."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, get_args, overload

from pydantic import ValidationError

from snellen.core.arguments import require_known, require_whole, to_choice, to_path, to_path_or_none, to_text, to_texts
from snellen.core.errors import DataError, SnellenError, StorageError, UsageError
from snellen.core.interrupts import prefer_interrupt
from snellen.core.progress import say
from snellen.core.runtime import count_threads
from snellen.core.storage import compute_digest, explain_os_error, hold_lock, open_cache
from snellen.inference.load import find_bundle, load_bundle
from snellen.inference.predictor import PictureSource, Predictor
from snellen.inference.prevalence import PrevalenceWish
from snellen.outputs import (
    AUDIT,
    COMPARISON,
    EVALUATION,
    PLAN,
    RUN,
    SEEDS,
    TUNING,
    hold_output,
    make_output,
    require_file,
    require_output,
)
from snellen.records.base import Record
from snellen.records.bundle import Prediction
from snellen.records.cohort import PARTS, Cohort, Split
from snellen.records.comparison import Comparison
from snellen.records.doctor import Diagnosis
from snellen.records.evaluation import Evaluation
from snellen.records.recipe import UNITS, CopyScope
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_seeds import MOST, SeedRuns, begin_seeds, drop_empty_seeds, go_through_seeds, is_seed_runs
from snellen.runs import Run, choose_run_folder, open_run
from snellen.tracking.trackers import require_trackers

if TYPE_CHECKING:
    from snellen.ingest.medmnist import Fetched
    from snellen.records.tuning import TuneRecord, TuneRequest

R = TypeVar("R", bound=Record)
MAX_FOLDS = 20


class DataOptions(TypedDict, total=False):
    """Goes with every step that takes DATA.

    `columns` maps image, label, patient, split to column names of a table; `patients` is `auto`,
    `none` or a regular expression; `cache` is the folder for preprocessed pixels and features.
    """

    columns: dict[str, str]
    patients: str
    cache: str | Path | None


class TrainOptions(DataOptions, total=False):
    """`settings` are `KEY=VALUE` as for --set; `test=False` keeps the test split shut; `folds` ≥ 3 cross-validates;
    `distill` adds one network that stands for the ensemble of the folds; `track` names trackers; `split_seed` draws the
    split where `seed` should not.
    """

    recipe: str | Path
    settings: Iterable[str]
    seed: int
    split_seed: int | None
    folds: int
    distill: bool
    test: bool
    track: Iterable[str]
    out: str | Path | None
    overwrite: bool


class TuneOptions(DataOptions, total=False):
    """As `TrainOptions`. `timeout_s` ends the search after so many seconds; `storage` is a database's address."""

    recipe: str
    settings: Iterable[str]
    seed: int
    out: str | Path | None
    overwrite: bool
    timeout_s: float | None
    storage: str | None


def load(path: str | Path) -> Predictor:
    """Open a bundle (or the bundle of a run) for prediction; needs no torch. Raises BundleError."""
    return load_bundle(path)


def predict(
    bundle: str | Path, pictures: Iterable[PictureSource], *, prevalence: PrevalenceWish | None = None
) -> list[Prediction]:
    """Predictions of one bundle for paths, encoded bytes or uint8 arrays, at another `prevalence` if one is given."""
    return load_bundle(bundle).predict(pictures, prevalence=prevalence)


def audit(
    data: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    quick: bool = False,
    copies: str = "all",
    **options: Unpack[DataOptions],
) -> Cohort:
    """Read DATA whole and say what is wrong with it; with `out`, write audit.json, audit.html and cohort.csv there.

    Where the extra `train` and weights are installed, a network's features are asked for wrong labels and odd pictures,
    unless `quick`.
    `copies` that are looked for: `all`, transformed ones too, `exact`, or `off`.
    """
    from snellen.ingest.cohort import read_cohort
    from snellen.ingest.packed_damage import set_damaged_aside
    from snellen.run_audit import examine, foresee_order, foresee_splits, save_audit

    require_known(options, DataOptions, "out", "overwrite", "quick", "copies")
    search: CopyScope = to_choice(copies, "copies", get_args(CopyScope))
    folder = to_path_or_none(out, "out")
    request = build_data_request(data, options)
    if folder is not None:
        require_output(folder, AUDIT, overwrite=overwrite, data=Path(request.data))
    cache = open_cache(request.cache)
    cohort = read_cohort(request, threads=count_threads(), cache=cache, copies=search)
    cohort, splits = foresee_splits(foresee_order(set_damaged_aside(cohort, count_threads())))
    cohort = _examine_likeness(examine(cohort, splits, cache), splits, cache, quick=quick)
    if folder is not None:
        make_output(folder, AUDIT)
        save_audit(folder, cohort, splits, request, quick=quick)
    return cohort


def _examine_likeness(cohort: Cohort, splits: tuple[Split, ...], cache: Path, *, quick: bool) -> Cohort:
    from snellen.run_audit import find_likeness_obstacle, tell_left_out

    if obstacle := find_likeness_obstacle(cohort, quick=quick):  # asked before torch is loaded
        return cohort.model_copy(update={"audit": cohort.audit.with_issues([tell_left_out(obstacle)])})
    from snellen.run_likeness import examine_likeness

    return examine_likeness(cohort, splits, cache)


def plan(data: str | Path, **options: Unpack[TrainOptions]):  # type: ignore[no-untyped-def]  # returns run_preparation.Prepared, not imported here: it would load torch
    """What `train` would do: cohort, splits, fingerprint and the plan with its reasons."""
    from snellen.planning.recipe_files import load_recipe
    from snellen.run_preparation import prepare, save_prepared

    require_known(options, TrainOptions)
    request = build_train_request(data, options)
    folder = to_path_or_none(options.get("out"), "out")
    if folder is not None:
        require_output(folder, PLAN, overwrite=options.get("overwrite", False), data=Path(request.source.data))
    prepared = prepare(request, load_recipe(request.recipe, request.settings))
    if folder is not None:
        make_output(folder, PLAN)
        save_prepared(Run(folder), prepared, request.source)
    return prepared


def pack(data: str | Path, *, views: int = 0, by: Iterable[str] = (), **options: Unpack[TrainOptions]) -> Path:
    """Preprocessed pictures, labels, patients and splits as one HDF5 file at `out`; `train` reads it as it reads DATA.

    `views` augmented views of each training picture are added for other programs. `by` names columns of the data that
    go with the pictures, to measure parts by.
    """
    from snellen.ingest.packing import Packing, estimate_bytes, write_packed
    from snellen.planning.recipe_files import load_recipe
    from snellen.run_preparation import prepare

    require_known(options, TrainOptions, "views", "by")
    require_whole(views, "views", 0, 64)
    if columns := to_texts(by, "by"):
        wish = f"evaluation.subgroups={json.dumps(columns)}"
        options["settings"] = [*to_texts(options.get("settings") or (), "settings"), wish]
    request = build_train_request(data, options)
    path = to_path(options.get("out") or Path(), "out")
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise UsageError(f"--out {path} is no HDF5 file's name.", "Give a name that ends in .h5, such as cohort.h5.")
    overwrite = options.get("overwrite", False)
    require_file(path, Path(request.source.data), overwrite=overwrite, is_ours=_is_packed)
    prepared = prepare(request, load_recipe(request.recipe, request.settings))
    pixels = prepared.build_pixels(prepared.cohort.samples)
    rows = dict(zip((s.name for s in prepared.cohort.samples), pixels.select(prepared.cohort.samples), strict=True))
    packing = Packing(
        prepared.cohort,
        prepared.splits,
        prepared.fingerprint,
        prepared.plan,
        lambda sample: pixels.pixels[rows[sample.name]],
    )
    say(f"Packing into {path}: at most {estimate_bytes(packing, views) / 1e6:,.0f} MB")
    with hold_lock(prepared.cache / "locks" / f"{compute_digest([str(path.resolve())])[:24]}.lock"):
        size = write_packed(packing, path, n_views=views)
    say(f"Packed {len(prepared.cohort.samples)} pictures into {path} ({size / 1e6:,.1f} MB)")
    return path


def doctor(data: str | Path | None = None, **options: Unpack[TrainOptions]) -> Diagnosis:
    """Measure what bounds a run on this machine: on a sample of DATA, or on drawn pictures. Takes up to a minute."""
    from snellen.run_doctor import diagnose

    require_known(options, TrainOptions, "data")
    request = None if data is None else build_data_request(data, options)
    settings = to_texts(options.get("settings") or (), "settings")
    cache = to_path_or_none(options.get("cache"), "cache")
    recipe = to_text(options.get("recipe", "auto"), "recipe")
    return diagnose(request, recipe, settings, None if cache is None else str(cache))


def fetch(name: str, *, size: int | None = None, out: str | Path | None = None, mirror: str | None = None) -> Fetched:
    """Download a MedMNIST set; afterwards `train(name)` knows it.

    `size` is 28 px unless the name says another (`octmnist_64`); `mirror` is the address of a folder with the
    published files. Raises FetchError.
    """
    from snellen.ingest.medmnist import fetch_set

    mirror = None if mirror is None else to_text(mirror, "mirror")
    return fetch_set(to_text(name, "name"), size=size, out=to_path_or_none(out, "out"), mirror=mirror)


def _is_packed(path: Path) -> bool:
    from snellen.ingest.packed import is_packed

    try:
        return is_packed(path)
    except DataError:
        return False


@overload
def train(data: str | Path, *, seeds: None = None, **options: Unpack[TrainOptions]) -> Run: ...


@overload
def train(data: str | Path, *, seeds: int, **options: Unpack[TrainOptions]) -> SeedRuns: ...


@overload
def train(data: str | Path, *, seeds: int | None, **options: Unpack[TrainOptions]) -> Run | SeedRuns: ...


def train(data: str | Path, *, seeds: int | None = None, **options: Unpack[TrainOptions]) -> Run | SeedRuns:
    """From labelled pictures to a run with its report and bundle. Raises SnellenError with what to do.

    With `seeds=3` three runs, with the seeds `seed`, `seed + 1`, `seed + 2`, and their mean and spread.
    """
    from snellen.planning.recipe_files import load_recipe

    require_known(options, TrainOptions, "seeds")
    if seeds is not None:
        require_whole(seeds, "seeds", 2, MOST)
    # the recipe comes first: its mistakes are told at once, before the data are looked for
    settings = to_texts(options.get("settings") or (), "settings")
    name = load_recipe(to_text(options.get("recipe", "auto"), "recipe"), settings).recipe.name
    request = build_train_request(data, {**options, "settings": settings})
    require_trackers(request.track)
    folder = choose_run_folder(to_path_or_none(options.get("out"), "out"), Path(request.source.data).stem, name)
    if seeds is not None:
        return _train_seeds(request, folder, seeds, overwrite=options.get("overwrite", False))
    with hold_output(folder):
        if not options.get("overwrite", False):
            _require_not_interrupted(folder)
        require_output(folder, RUN, overwrite=options.get("overwrite", False), data=Path(request.source.data))
        return _run(request, Run(folder), describe_command(request, folder))


def _train_seeds(request: TrainRequest, folder: Path, n: int, *, overwrite: bool) -> SeedRuns:
    with hold_output(folder):
        if is_seed_runs(folder) and not overwrite and SeedRuns(folder).record.state == "running":
            raise _tell_interrupted(folder)
        require_output(folder, SEEDS, overwrite=overwrite, data=Path(request.source.data))
        whole = begin_seeds(folder, request, n, f"{describe_command(request, folder)} --seeds {n}")
        try:
            return _go_through_seeds(whole)
        except SnellenError:
            drop_empty_seeds(whole)
            raise


def _go_through_seeds(whole: SeedRuns) -> SeedRuns:
    def train_one(request: TrainRequest, run: Run) -> Run:
        return _start(request, run, describe_command(request, run.folder))

    try:
        return go_through_seeds(whole, train_one)
    except KeyboardInterrupt as error:
        error.add_note(f"Go on with: snellen train --resume {shlex.quote(str(whole.folder))}")
        raise


def _start(request: TrainRequest, run: Run, command: str) -> Run:
    with prefer_interrupt():
        from snellen.run_training import run_training  # loads torch: only once all that can be refused was

        return run_training(request, run, command)


def _run(request: TrainRequest, run: Run, command: str) -> Run:
    try:
        return _start(request, run, command)
    except KeyboardInterrupt as error:
        error.add_note(_go_on(run) if _is_begun(run) else f"Give the same command again: {command}")
        raise
    except (StorageError, OSError) as error:  # such as a full disk: what was computed is kept
        found = error if isinstance(error, StorageError) else _explain(error, run)
        hint = f"{found.hint} {_go_on(run)}" if _is_begun(run) else found.hint
        raise StorageError(found.message, hint) from error


def _explain(error: OSError, run: Run) -> StorageError:
    return explain_os_error(error, Path(error.filename or run.folder))


def _is_begun(run: Run) -> bool:
    return (run.folder / RUN.mark).is_file() and run.record.state == "running"


def _go_on(run: Run) -> str:
    return f"Go on with: snellen train --resume {shlex.quote(str(run.folder))}"


def _require_not_interrupted(folder: Path) -> None:
    if (folder / RUN.mark).is_file() and Run(folder).record.state == "running":
        raise _tell_interrupted(folder)


def _tell_interrupted(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} holds a run that was interrupted, or that still goes on.",
        f"Go on with it: snellen train --resume {shlex.quote(str(folder))}. Or begin anew with --overwrite.",
    )


def resume(run: str | Path) -> Run | SeedRuns:
    """Go on with a run that was interrupted, or with runs of several seeds: what is cached is not computed again, and
    the result is the same.
    """
    folder = to_path(run, "RUN")
    if is_seed_runs(folder):
        return _resume_seeds(SeedRuns(folder))
    opened = open_run(folder)
    with hold_output(opened.folder):
        record = opened.record
        if record.state == "finished":
            raise UsageError(f"The run {opened.folder} is finished.", f"Its report: {opened.report}")
        require_trackers(record.request.track)
        return _run(record.request, opened, record.command)


def _resume_seeds(whole: SeedRuns) -> SeedRuns:
    with hold_output(whole.folder):
        record = whole.record
        if record.state == "finished":
            raise UsageError(f"The runs in {whole.folder} are finished.", f"Mean and spread: {whole.page}")
        require_trackers(record.request.track)
        return _go_through_seeds(whole)


def tune(data: str | Path, *, trials: int = 100, **options: Unpack[TuneOptions]) -> TuneRecord:
    """Search the recipe's [tune] space on patient-grouped folds of training and validation, never on test.

    Goes on where the same call was stopped; `trials` counts all. Writes best.toml, a recipe for `train`, into `out`.
    """
    from snellen.planning.recipe_files import load_recipe
    from snellen.planning.tune_space import read_space
    from snellen.records.tuning import TuneRequest
    from snellen.training.tuning import keep_in_file, read_place

    require_known(options, TuneOptions, "trials")
    recipe = to_text(options.get("recipe", "auto"), "recipe")
    settings = to_texts(options.get("settings") or (), "settings")
    loaded = load_recipe(recipe, settings)
    space = read_space(loaded)
    storage = options.get("storage")
    place = None if storage is None else read_place(storage)
    request = _ask(
        TuneRequest,
        source=build_data_request(data, options),
        recipe=recipe,
        settings=settings,
        seed=options.get("seed", 0),
        trials=trials,
        timeout_s=options.get("timeout_s"),
        storage=None if place is None else place.shown,
    )
    out, source = options.get("out"), Path(request.source.data)
    # no date in the name: the same command goes on with the same study
    folder = to_path_or_none(out, "out") or Path("runs") / f"tune-{source.stem}-{loaded.recipe.name}"
    overwrite = options.get("overwrite", False)
    with hold_output(folder):
        is_begun = (folder / TUNING.mark).is_file() and not overwrite
        if not is_begun:
            require_output(folder, TUNING, overwrite=overwrite, data=source)
        command = describe_tuning(request, folder)
        try:
            with prefer_interrupt():
                from snellen import run_tuning  # loads torch: only once all that can be refused was

                asked = run_tuning.Asked(
                    request, loaded, space, folder, place or keep_in_file(folder / "study.db"), command
                )
                if is_begun:
                    run_tuning.require_same_study(asked)
                return run_tuning.run_tuning(asked, begin_anew=not is_begun)
        except KeyboardInterrupt as error:
            error.add_note(f"Finished trials are kept. Go on with: {command}")
            raise


def describe_tuning(request: TuneRequest, folder: Path) -> str:
    """The command that goes on with a study; the address of its database is without password."""
    words = ["snellen", "tune", *request.source.to_words()]
    if request.recipe != "auto":
        words += ["--recipe", request.recipe]
    for setting in request.settings:
        words += ["--set", setting]
    words += ["--seed", str(request.seed), "--trials", str(request.trials)]
    if request.timeout_s is not None:
        words += ["--timeout", f"{request.timeout_s:g}"]
    if request.storage is not None:
        words += ["--storage", request.storage]
    return shlex.join([*words, "--out", str(folder)])


def evaluate(
    run_or_bundle: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    by: Iterable[str] = (),
    unit: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Unpack[DataOptions],
) -> Evaluation:
    """A run on a split of its own data (test, if none is named), or a bundle on all of other data.

    Opening the test split is counted. `by` names columns of the data: numbers for the part of each of their values.
    `unit` says what is measured: each picture, eye or patient; if none is named as the run's plan says, of other data
    each picture.
    """
    from snellen.run_evaluation import evaluate_foreign, evaluate_own

    require_known(options, DataOptions, "data", "split", "by", "unit", "out", "overwrite")
    columns = to_texts(by, "by")
    if split not in (None, *PARTS, "all", "oof"):
        raise UsageError(
            f"--split {split}: there is no such split.",
            "Splits are train, val, test and all; of large cohorts also calibration, of runs in folds oof.",
        )
    wanted = next((each for each in UNITS if each == unit), None)
    if unit is not None and wanted is None:
        raise UsageError(f"--unit {unit}: there is no such unit.", "Units are picture, eye and patient.")
    if split is not None and data is not None:
        raise UsageError(
            f"--split {split} is for a run's own data; DATA is scored whole.", "Leave out --split, or leave out DATA."
        )
    folder = to_path_or_none(out, "out")
    model = to_path(run_or_bundle, "RUN_OR_BUNDLE")
    request = None if data is None else build_data_request(data, options)
    if folder is not None:
        source = request or open_run(model).record.request.source
        require_output(folder, EVALUATION, overwrite=overwrite, inputs=[model], data=Path(source.data))
        _require_outside(folder, find_bundle(model))
    if request is not None:
        return evaluate_foreign(model, request, folder, columns, wanted or "picture")
    return evaluate_own(open_run(model), split or "test", folder, columns, wanted)


def compare(
    run_a: str | Path,
    run_b: str | Path,
    *,
    common: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Two runs on the same test pictures: every metric's paired difference with its interval.

    Folders that `evaluate` wrote go as well. Test sets that differ are refused; with `common` what both have
    counts.
    """
    from snellen.run_comparison import compare_runs

    first, second, folder = to_path(run_a, "RUN_A"), to_path(run_b, "RUN_B"), to_path_or_none(out, "out")
    if folder is not None:
        require_output(folder, COMPARISON, overwrite=overwrite, inputs=[first, second])
    return compare_runs(first, second, folder, is_common=common)


def _require_outside(folder: Path, bundle: Path) -> None:
    """A bundle travels whole: what names patients must not lie in it."""
    if folder.resolve().is_relative_to(bundle.resolve()):
        raise UsageError(f"--out {folder} lies inside the bundle {bundle}.", "Choose an --out elsewhere.")


def build_data_request(data: str | Path, options: DataOptions) -> DataRequest:
    """The path is kept absolute, so that a run can be resumed and evaluated from anywhere.

    Where nothing lies at `data`, it may be the name of a fetched set, such as octmnist.
    """
    if re.match(r"\w+://", str(data)):
        raise UsageError(
            f"{data} is a web address.",
            "Download it first and give the file; `snellen fetch` downloads the sets of MedMNIST.",
        )
    path = to_path(data, "DATA")
    if not path.exists():
        from snellen.ingest.medmnist import find_fetched
        from snellen.ingest.sources import require_path

        path = find_fetched(str(data)) or require_path(str(data))
    return _ask(
        DataRequest,
        data=str(path.resolve()),
        columns=options.get("columns") or {},
        patients=options.get("patients", "auto"),
        cache=None if options.get("cache") is None else to_text(options["cache"], "cache"),
    )


def build_train_request(data: str | Path, options: TrainOptions) -> TrainRequest:
    """Everything that was asked, as a record."""
    folds = options.get("folds", 0)
    if folds in (1, 2) or (isinstance(folds, int) and not 0 <= folds <= MAX_FOLDS):
        raise UsageError(
            f"--folds {folds}: give 0 (one validation split) or 3 to {MAX_FOLDS}.",
            "Of three folds one measures, another chooses, and the rest learns. Example: --folds 5",
        )
    settings = to_texts(options.get("settings") or (), "settings")
    settings = (*settings, f"evaluation.folds={folds}") if folds else settings
    distill = options.get("distill", False)
    settings = (*settings, f"evaluation.distill={str(distill).lower()}") if distill else settings
    return _ask(
        TrainRequest,
        source=build_data_request(data, options),
        recipe=to_text(options.get("recipe", "auto"), "recipe"),
        settings=settings,
        seed=options.get("seed", 0),
        split_seed=options.get("split_seed"),
        opens_test=options.get("test", True),
        track=tuple(dict.fromkeys(options.get("track") or ())),
    )


def _ask(kind: type[R], **values: object) -> R:
    """The record of what was asked. Raises UsageError for an option of another kind."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("opens_test", "test")
        raise UsageError(
            f"{name}: {first['msg'].removeprefix('Value error, ')} (given: {str(first['input'])[:60]!r})",
            "help(snellen.workflow.TrainOptions) lists the options and their kinds.",
        ) from error


def describe_command(request: TrainRequest, folder: Path) -> str:
    """The command that repeats a run."""
    words = ["snellen", "train", *request.source.to_words()]
    if request.recipe != "auto":
        words += ["--recipe", request.recipe]
    for setting in request.settings:
        words += ["--set", setting]
    for name in request.track:
        words += ["--track", name]
    words += ["--seed", str(request.seed)]
    if request.split_seed is not None:
        words += ["--split-seed", str(request.split_seed)]
    words += ["--out", str(folder)]
    return shlex.join(words if request.opens_test else [*words, "--no-test"])

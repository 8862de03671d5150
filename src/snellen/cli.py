"""The command line: arguments, printing, exit codes. It computes nothing.

Heavy modules are imported inside the commands, so that `snellen --help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snellen import __version__
from snellen.cli_audit import audit_log_app, keys_app
from snellen.console import close_streams, mend_streams, told
from snellen.core.errors import SnellenError, UsageError
from snellen.core.letters import show_count
from snellen.help_texts import LiteralHelp

if TYPE_CHECKING:
    from snellen.records.evaluation import Evaluation
    from snellen.run_seeds import SeedRuns
    from snellen.runs import Run

app = LiteralHelp(
    name="snellen",
    help="From a folder of labelled medical images to a classifier whose numbers can be believed.\n\n"
    "Start with: snellen demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = LiteralHelp(help="The folder of preprocessed pixels and features.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
app.add_typer(keys_app, name="keys")
app.add_typer(audit_log_app, name="audit-log")

_DATA_HELP = "Class folders, train/val/test folders, a CSV or one a split, a zip of these, .npz, HDF5, or DICOM files."
Data = Annotated[str, typer.Argument(help=_DATA_HELP)]
Columns = Annotated[
    str,
    typer.Option(
        help="Columns of a table or keys of arrays: image=…,label=…,patient=…,split=…; label=A+B for a column a class."
    ),
]
Patients = Annotated[
    str,
    typer.Option(help="auto, none (a patient a picture), a column, or a regular expression with one group."),
]
Cache = Annotated[
    str | None, typer.Option(help="Folder for preprocessed pixels and features. [default: the user's cache]")
]
Recipe = Annotated[str, typer.Option(help="A shipped recipe (see `snellen recipes`) or a TOML file.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top of the recipe; repeatable.")]
Out = Annotated[Path | None, typer.Option(help="Folder for what is written.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote to --out.")]
Folds = Annotated[int, typer.Option(help="Cross-validate by patient in so many folds, at least 3, into one ensemble.")]
Distill = Annotated[
    bool, typer.Option("--distill", help="With --folds: also one network that says nearly what all members say.")
]
Seed = Annotated[int, typer.Option(help="Fixes splits, augmented views and training.", min=0, max=2**32 - 1)]
SplitSeed = Annotated[
    int | None, typer.Option(help="Draws the split instead of --seed.", min=0, max=2**32 - 1, show_default=False)
]
Pdf = Annotated[bool, typer.Option("--pdf", help="Also print the report as PDF, by a Chromium of this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for cohort and run.")] = Path("snellen-demo"),
    kind: Annotated[str, typer.Option(help="oct, fundus or glomeruli.")] = "oct",
    defects: Annotated[
        bool, typer.Option("--defects", help="Plant one defect of each kind, to see what the audit finds.")
    ] = False,
    patients: Annotated[int | None, typer.Option(min=6, max=100_000, help="So many patients; 160 by rule.")] = None,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train on it, or draw it only.")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Draw a synthetic cohort, train on it, write the report and the bundle: a few minutes on two cores.

    Example: snellen demo --out try

    Example: snellen demo --no-train --kind fundus --patients 40
    """
    with told():
        from snellen import demo as steps

        cohort = steps.draw(
            out, kind, overwrite=overwrite, with_defects=defects, n_patients=patients, needs_training=train
        )
        if not train:
            typer.echo(f"{cohort}\n  snellen audit {cohort}\n  snellen train {cohort}")
            return
        run = steps.train(out, cohort)
        _say_next(run, example=next(path for path in sorted(cohort.rglob("*")) if path.is_file()))


@app.command()
def audit(
    data: Data,
    out: Out = None,
    overwrite: Overwrite = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 on severe issues.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Compute no features: labels are not looked at.")] = False,
    copies: Annotated[
        str, typer.Option(help="Copies to look for: all (turned, cropped, compressed …), exact or off.")
    ] = "all",
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Read DATA whole and say what is wrong with it.

    Example: snellen audit data/ --out audit/
    """
    with told():
        from snellen import workflow

        cohort = workflow.audit(
            data,
            out=out,
            overwrite=overwrite,
            quick=quick,
            copies=copies,
            columns=_parse_columns(columns),
            patients=patients,
            cache=cache,
        )
        if as_json:
            typer.echo(cohort.audit.to_json(), nl=False)
        else:
            from snellen import terminal

            terminal.show_audit(cohort)
            if out is not None:
                typer.echo(f"\nPage:  {out / 'audit.html'}")
            elif any(issue.samples for issue in cohort.audit.issues):
                typer.echo("\nEvery name and the pictures themselves: add --out DIR for a page, or --json.")
        severe = [issue for issue in cohort.audit.issues if issue.severity == "severe"]
        if strict and severe:
            raise SnellenError(
                f"{show_count(len(severe), 'severe issue')}, the first: {severe[0].message}", severe[0].advice
            )


@app.command()
def plan(
    data: Data,
    recipe: Recipe = "auto",
    settings: Settings = None,
    out: Out = None,
    overwrite: Overwrite = False,
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    folds: Folds = 0,
    seed: Seed = 0,
    split_seed: SplitSeed = None,
    as_json: AsJson = False,
) -> None:
    """Show what `train` would do, with the reason for every value, and the table of layers.

    Example: snellen plan data/ --set preprocess.size=320
    """
    with told(quiet=as_json):
        from snellen import workflow

        prepared = workflow.plan(
            data,
            recipe=recipe,
            settings=settings or [],
            out=out,
            overwrite=overwrite,
            folds=folds,
            seed=seed,
            split_seed=split_seed,
            columns=_parse_columns(columns),
            patients=patients,
            cache=cache,
        )
        if as_json:
            typer.echo(prepared.plan.to_json(), nl=False)
        else:
            from snellen import terminal

            terminal.show_plan(prepared.plan)


def _require_alone(context: typer.Context) -> None:
    """Raise UsageError where --resume stands beside what a run is begun with."""
    given = [
        max(each.opts, key=len)
        for each in context.command.params
        if each.name not in ("resume", "pdf", "as_json")
        and getattr(context.get_parameter_source(each.name or ""), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise UsageError(
            f"--resume goes on as the run was begun, and takes no {', '.join(given)}.",
            "Leave that out, or begin another run: snellen train DATA with what you want.",
        )


@app.command()
def train(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help=_DATA_HELP)] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted run.")] = None,
    recipe: Recipe = "auto",
    settings: Settings = None,
    out: Out = None,
    overwrite: Overwrite = False,
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    folds: Folds = 0,
    distill: Distill = False,
    seed: Seed = 0,
    seeds: Annotated[
        int | None,
        typer.Option(help="So many runs, with --seed and the seeds after it: mean and spread.", min=2, max=100),
    ] = None,
    split_seed: SplitSeed = None,
    no_test: Annotated[bool, typer.Option("--no-test", help="Keep the test split shut.")] = False,
    track: Annotated[
        list[str] | None, typer.Option(help="Also follow the run in tensorboard or mlflow; repeatable.")
    ] = None,
    pdf: Pdf = False,
    as_json: AsJson = False,
) -> None:
    """Train on DATA, export the model, score the exported model and write a report.

    Example: snellen train data/

    Example: snellen train labels.csv --columns image=file,label=finding --set 'data.order=["none","mild","severe"]'

    Example: snellen train few-patients/ --folds 5 --set data.fractions=[0.8,0.2,0]

    Example: snellen train few-patients/ --folds 5 --distill

    Example: snellen train data/ --seeds 3 --out runs/three

    Example: snellen train data/ --track tensorboard --track mlflow
    """
    with told():
        from snellen import workflow
        from snellen.runs import Run

        if (data is None) == (resume is None):
            raise UsageError("Give either DATA or --resume RUN.", "Example: snellen train data/")
        browser = _find_browser(pdf)
        run: Run | SeedRuns
        if data is None and resume is not None:
            _require_alone(context)
            run = workflow.resume(resume)
        else:
            run = workflow.train(
                str(data),
                seeds=seeds,
                split_seed=split_seed,
                recipe=recipe,
                settings=settings or [],
                out=out,
                overwrite=overwrite,
                folds=folds,
                distill=distill,
                seed=seed,
                test=not no_test,
                track=track or [],
                columns=_parse_columns(columns),
                patients=patients,
                cache=cache,
            )
        if not isinstance(run, Run):
            _print_pdf(run.page, browser)
            _print_seeds(run, as_json)
            return
        _print_pdf(run.report, browser)
        _print_evaluation(run.evaluation, as_json)
        if not as_json:
            _say_next(run)


@app.command()
def tune(
    data: Data,
    recipe: Recipe = "auto",
    settings: Settings = None,
    trials: Annotated[int, typer.Option(help="Trials in all, with those of earlier calls.", min=1)] = 100,
    timeout: Annotated[
        float | None, typer.Option(help="Begin no further trial after so many seconds.", min=0.001)
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="postgresql://user@host/name, shared by several machines. [default: study.db in --out]"),
    ] = None,
    out: Out = None,
    overwrite: Overwrite = False,
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Search for a better recipe on validation folds of DATA; the test split stays shut.

    The space is [tune] of the recipe. The same command again goes on where it was stopped. best.toml is for `train`.

    Example: snellen tune data/ --trials 100 --out tuned

    Example: snellen tune data/ --set tune.pixels=true --set tune.metric=balanced_accuracy --timeout 3600
    """
    with told():
        from snellen import workflow

        record = workflow.tune(
            data,
            recipe=recipe,
            settings=settings or [],
            trials=trials,
            timeout_s=timeout,
            storage=storage,
            out=out,
            overwrite=overwrite,
            columns=_parse_columns(columns),
            patients=patients,
            cache=cache,
            seed=seed,
        )
        if as_json:
            typer.echo(record.to_json(), nl=False)
        else:
            from snellen import terminal

            terminal.show_tuning(record)


@app.command()
def evaluate(
    run_or_bundle: Annotated[Path, typer.Argument(help="A run, or a bundle together with DATA.")],
    data: Annotated[str | None, typer.Argument(help="Other data. Without it: the run's own.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, calibration, test or all of the run's own data; oof of a run in folds. [default: test]"
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also measure the parts by this column, or by eye, format, size; repeatable."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Measure each picture, eye or patient: of these the mean over their pictures. "
            "[default: the run's, else picture]"
        ),
    ] = None,
    out: Out = None,
    overwrite: Overwrite = False,
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    pdf: Pdf = False,
    as_json: AsJson = False,
) -> None:
    """Score a bundle on a split of its own data (the test split is counted as opened) or on other data.

    Example: snellen evaluate runs/my-run/bundle other-hospital/ --out external/

    Example: snellen evaluate runs/my-run/bundle labels.csv --unit patient --by camera --out external/
    """
    with told():
        from snellen import workflow

        if pdf and out is None:
            raise UsageError("--pdf prints the report, and without --out there is none.", "Add --out DIR.")
        browser = _find_browser(pdf)
        found = workflow.evaluate(
            run_or_bundle,
            data,
            split=split,
            by=by or [],
            unit=unit,
            out=out,
            overwrite=overwrite,
            columns=_parse_columns(columns),
            patients=patients,
            cache=cache,
        )
        if out is not None:
            _print_pdf(out / "report.html", browser)
        _print_evaluation(found, as_json)
        if out is not None and not as_json:
            typer.echo(f"\nReport:  {out / 'report.html'}")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="A run, or a folder that `evaluate --out` wrote.")],
    run_b: Annotated[Path, typer.Argument(help="Another, on the same test pictures.")],
    common: Annotated[
        bool, typer.Option("--common", help="Where the test sets differ, compare on what both have.")
    ] = False,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Set two models side by side on the same test pictures: paired differences with intervals.

    Example: snellen compare runs/mine runs/other --out compared/
    """
    with told():
        from snellen import workflow

        found = workflow.compare(run_a, run_b, common=common, out=out, overwrite=overwrite)
        if as_json:
            typer.echo(found.to_json(), nl=False)
            return
        from snellen import terminal

        terminal.show_comparison(found)
        if out is not None:
            typer.echo(f"\nPage:  {out / 'compare.html'}")


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a run.")],
    paths: Annotated[list[str], typer.Argument(help="Pictures, folders or patterns such as 'new/*.jpg'.")],
    out: Annotated[Path | None, typer.Option(help="Write FILE.csv or FILE.json instead of the screen.")] = None,
    prevalence: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Re-weight probabilities to another population: the positive class's share, class=share,…, or auto.",
        ),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw where the evidence lies: a PNG a picture.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict pictures. A file that cannot be read gets a row with its error, and the rest goes on.

    Example: snellen predict runs/my-run/bundle new/ --out predictions.csv

    Example: snellen predict runs/my-run/bundle new/ --out predictions.csv --maps maps/
    """
    with told():
        from snellen import prediction

        target = prediction.Target(out, overwrite, as_json, maps)
        failed, total = prediction.predict_paths(bundle, paths, target, prevalence)
        if failed:
            typer.echo(f"{failed} picture(s) could not be read: see the column `error`.", err=True)
        if failed == total:
            raise typer.Exit(2)


@app.command()
def serve(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Bundles or runs, or NAME=BUNDLE.")],
    host: Annotated[str, typer.Option(help="Address to answer at. Another than this machine's own needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 8080,
    db: Annotated[
        str | None,
        typer.Option(
            help="Audit database: a SQLite file or postgresql+psycopg://user@host/name. "
            "[default: $SNELLEN_DB, else a file in the user's data folder]"
        ),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Ask for no keys, whoever reaches the address.")] = False,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Keep every picture and its name beside the database.")
    ] = False,
) -> None:
    """Answer over HTTP: an API below /v1, a page at /, and an audit database that records every answer.

    Example: snellen serve runs/my-run/bundle

    Example: snellen serve fundus=runs/a/bundle oct=runs/b/bundle --port 9000 --db /srv/snellen/audit.db

    Example: snellen serve runs/my-run/bundle --host 0.0.0.0 --db postgresql+psycopg://snellen@db/audit
    """
    with told():
        from snellen.serve.run import ServeOptions
        from snellen.serve.run import serve as run_server

        run_server(ServeOptions(tuple(bundles), host, port, db, insecure, keep_images))


@app.command()
def recipes(name: Annotated[str | None, typer.Argument(help="Print this one, to start one's own.")] = None) -> None:
    """List the recipes, or print one.

    Example: snellen recipes auto > my-recipe.toml
    """
    from snellen.planning.recipe_files import list_recipes, read_recipe_text

    with told():
        if name is not None:
            typer.echo(read_recipe_text(name), nl=False)
            return
        for found, description in list_recipes().items():
            typer.echo(f"{found:<28}{description}")


@app.command()
def pack(
    data: Data,
    out: Annotated[Path, typer.Option(help="The HDF5 file to write, such as cohort.h5.")],
    views: Annotated[int, typer.Option(help="Augmented views of each training picture to add.", min=0, max=64)] = 0,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also keep this column, to measure parts by it later; repeatable."),
    ] = None,
    recipe: Recipe = "auto",
    settings: Settings = None,
    overwrite: Overwrite = False,
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Write DATA as one HDF5 file: preprocessed pictures, labels, patients, splits. `train` reads it like a folder.

    Example: snellen pack data/ --out cohort.h5

    Example: snellen pack labels.csv --by camera --by sex --out cohort.h5
    """
    from snellen import workflow

    with told():
        path = workflow.pack(
            data,
            views=views,
            by=by or [],
            recipe=recipe,
            settings=settings or [],
            out=out,
            overwrite=overwrite,
            seed=seed,
            columns=_parse_columns(columns),
            patients=patients,
            cache=cache,
        )
        typer.echo(f"Next:\n  snellen train {path}")


@app.command()
def doctor(
    data: Annotated[str | None, typer.Argument(help=_DATA_HELP + " Without it: drawn pictures.")] = None,
    recipe: Recipe = "auto",
    settings: Settings = None,
    columns: Columns = "",
    patients: Patients = "auto",
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Measure what bounds a run on this machine, and say what would help. Takes up to a minute.

    Example: snellen doctor

    Example: snellen doctor data/ --set preprocess.size=320
    """
    with told(quiet=as_json):
        from snellen import terminal, workflow

        found = workflow.doctor(
            data,
            recipe=recipe,
            settings=settings or [],
            columns=_parse_columns(columns),
            patients=patients,
            cache=cache,
        )
        if as_json:
            typer.echo(found.to_json(), nl=False)
        else:
            terminal.show_diagnosis(found)


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A MedMNIST set. Without it: list them.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the pictures in px: 28, 64, 128 or 224. [default: 28]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder. [default: $SNELLEN_DATA, else the user's data folder]")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A mirror: address of a folder with the published files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download a MedMNIST data set, check it, and let the other commands know it by its name.

    Example: snellen fetch octmnist --size 64
    """
    from snellen import terminal, workflow

    with told(quiet=as_json):
        if name is None:
            from snellen.ingest.medmnist import list_sets

            terminal.show_sets(list_sets().values(), as_json=as_json)
            return
        found = workflow.fetch(name, size=size, out=out, mirror=url)
        terminal.show_fetched(found, as_json=as_json)


@cache_app.command("info")
def cache_info(cache: Cache = None, as_json: AsJson = False) -> None:
    """Where the cache lies, how large it is, what could be cleared, and how much space is left on its disk.

    Example: snellen cache info
    """
    from snellen.core.storage import format_bytes, measure_folder, measure_free_space

    with told():
        folder = _require_cache(cache)
        sizes, free = measure_folder(folder), measure_free_space(folder)
        if as_json:
            typer.echo(json.dumps({"folder": str(folder), "bytes": sizes, "free_bytes": free}))
            return
        typer.echo(f"{folder}: {format_bytes(sum(sizes.values()))}, {format_bytes(free)} free on its disk")
        for part, size in sizes.items():
            typer.echo(f"  {part:<12}{format_bytes(size):>12}")
        if any(sizes.values()):
            typer.echo("All of it can be computed again: `snellen cache clear` deletes it.")


@cache_app.command("clear")
def cache_clear(cache: Cache = None, as_json: AsJson = False) -> None:
    """Delete the cache, without asking; the next run computes it again. Says what was deleted.

    Example: snellen cache clear
    """
    from snellen.core.storage import clear_cache, format_bytes, measure_folder

    with told():
        folder = _require_cache(cache)
        sizes = measure_folder(folder)
        freed = clear_cache(folder)
        if as_json:
            typer.echo(json.dumps({"folder": str(folder), "freed_bytes": freed}))
            return
        parts = ", ".join(f"{part} {format_bytes(size)}" for part, size in sizes.items() if size)
        typer.echo(f"{format_bytes(freed)} freed in {folder}" + (f": {parts}" if parts else ": nothing was there"))


def _require_cache(cache: str | None) -> Path:
    """The cache folder; one that was named must exist, the user's own may not have been needed yet."""
    from snellen.core.storage import choose_cache_folder, require_own_cache

    folder = choose_cache_folder(cache)
    if cache and not folder.is_dir():
        raise UsageError(f"--cache {cache}: there is no such folder.", "Leave out --cache to see the user's own cache.")
    require_own_cache(folder)
    return folder


def main() -> None:
    """Entry point of the command. A terminal that lacks a letter shows its code instead of failing."""
    mend_streams()
    try:
        app()
    except OSError as error:  # the streams themselves are full or gone
        with contextlib.suppress(OSError):
            typer.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
        raise SystemExit(2) from None
    finally:
        close_streams()


def _parse_columns(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        role, equals, column = part.partition("=")
        if not equals or not column:
            raise UsageError(f"--columns {text!r}: {part!r} is not role=column.", "Example: image=file,label=grade")
        if role.strip() in found:
            raise UsageError(
                f"--columns {text!r} names {role.strip()} twice.",
                "Each role is told once; example: image=file,label=grade",
            )
        found[role.strip()] = column.strip()
    return found


def _find_browser(pdf: bool) -> str | None:
    """Asked for before any work begins."""
    from snellen.run_pdf import find_browser

    return find_browser() if pdf else None


def _print_pdf(page: Path, browser: str | None) -> None:
    from snellen.run_pdf import print_pdf

    if browser is not None:
        print_pdf(page, browser)


def _print_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    if as_json:
        typer.echo(evaluation.to_json(), nl=False)
        return
    from snellen import terminal

    terminal.show_evaluation(evaluation)


def _print_seeds(found: SeedRuns, as_json: bool) -> None:
    record = found.record
    if as_json:
        typer.echo(record.to_json(), nl=False)
        return
    from snellen import terminal

    terminal.show_seeds(record)
    typer.echo(f"\nPage:    {found.page}")
    if record.recommended is not None:
        typer.echo(f"Bundle:  {found.recommended.bundle} (of the run that is best on validation)\n\nNext:")
        typer.echo(f"  snellen predict {found.recommended.bundle} PICTURE")


def _say_next(run: Run, example: Any = "PICTURE") -> None:
    one = f"\nOne network in place of the ensemble: {run.distilled}" if run.distilled.is_dir() else ""
    typer.echo(f"\nReport:  {run.report}\nBundle:  {run.bundle}{one}\n")
    typer.echo("Next:")
    typer.echo(f"  open the report in a browser: {run.report.resolve().as_uri()}")
    typer.echo(f"  snellen predict {run.bundle} {example}")

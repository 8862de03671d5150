"""`snellen demo`: a synthetic cohort and a run on it."""

from __future__ import annotations

from pathlib import Path

from snellen.core.errors import UsageError
from snellen.core.progress import say, show_bar
from snellen.core.runtime import has_package
from snellen.core.storage import write_json
from snellen.ingest.phantom import KINDS, PhantomSpec, write_cohort
from snellen.ingest.phantom_defects import list_kinds, plant_defects
from snellen.outputs import RUN, Output, make_output, require_output
from snellen.runs import Run
from snellen.workflow import train as train_run

_PATIENTS = 160
_SETTINGS = ("training.stages.1.epochs=6",)  # so that it ends within four minutes
_MARK = "SYNTHETIC.txt"
_DEFECTS = "DEFECTS.json"


def draw(
    out: Path,
    kind: str,
    *,
    overwrite: bool,
    with_defects: bool = False,
    n_patients: int | None = None,
    needs_training: bool = True,
) -> Path:
    """Draw the cohort below `out`; it says of itself that it is synthetic.

    `with_defects` plants one of each kind, listed in DEFECTS.json, so that one sees what the audit makes of them.
    Raises UsageError for an unknown kind and, where the cohort `needs_training`, if a library for that is missing.
    """
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: there is no such phantom.", f"Kinds are {', '.join(KINDS)}.")
    if needs_training:
        _require_training()
    output = Output(_MARK, (_MARK, _DEFECTS, *(f"synthetic-{name}" for name in KINDS)))
    require_output(out, output, overwrite=overwrite)
    require_output(out / "run", RUN, overwrite=overwrite)
    make_output(out, output)
    (out / _MARK).write_text("All pictures below this folder are synthetic. They show no patient.\n", encoding="utf-8")
    say(f"Drawing a synthetic cohort ({kind}) into {out}")
    cohort = out / f"synthetic-{kind}"
    with show_bar("Drawing", "patients") as advance:
        write_cohort(PhantomSpec(kind=kind, n_patients=n_patients or _PATIENTS), cohort, progress=advance)
    if with_defects:
        _spoil(out, cohort)
    return cohort


def _require_training() -> None:
    """Raise UsageError before anything is drawn, where what the run needs is not installed."""
    from snellen.run_doctor import EXTRAS

    missing = [module for extra in ("train", "eval") for module in EXTRAS[extra] if not has_package(module)]
    if missing:
        raise UsageError(
            f"The demo trains, and {missing[0]} is not installed: nothing was drawn.", "pip install 'snellen[train]'"
        )


def _spoil(out: Path, cohort: Path) -> None:
    # a locked folder could not be deleted with the rest of the demo
    unfit = {"unreadable_folder", *([] if has_package("pydicom") else ["monochrome1"])}
    planted = plant_defects(cohort, [kind for kind in list_kinds(cohort) if kind not in unfit])
    write_json(out / _DEFECTS, [item.__dict__ for item in planted])
    say(f"Planted {len(planted)} defects, listed in {out / _DEFECTS}:")
    for item in planted:
        say(f"    {item.kind}: {', '.join(item.files)}: {item.what}")


def train(out: Path, cohort: Path) -> Run:
    """The run that any user's data would get, but for fine-tuning of half as many epochs."""
    return train_run(cohort, out=out / "run", settings=_SETTINGS, cache=str(out / "cache"), overwrite=True)

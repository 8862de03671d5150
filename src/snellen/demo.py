"""`snellen demo`: a synthetic cohort and a run on it."""

from __future__ import annotations

from pathlib import Path

from snellen.core.progress import say, show_bar
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.runs import Run, prepare_folder
from snellen.workflow import train as train_run

_PATIENTS = {"oct": 200, "fundus": 200, "glomeruli": 160}
_MARK = "SYNTHETIC.txt"


def draw(out: Path, kind: str, *, overwrite: bool) -> Path:
    """Draw the cohort below `out`; it says of itself that it is synthetic."""
    prepare_folder(out, overwrite=overwrite, mark=_MARK)
    (out / _MARK).write_text("All pictures below this folder are synthetic. They show no patient.\n", encoding="utf-8")
    say(f"Drawing a synthetic cohort ({kind}) into {out}")
    cohort = out / f"synthetic-{kind}"
    with show_bar("Drawing", "patients") as advance:
        write_cohort(PhantomSpec(kind=kind, n_patients=_PATIENTS.get(kind, 120)), cohort, progress=advance)
    return cohort


def train(out: Path, cohort: Path) -> Run:
    """The run that any user's data would get."""
    return train_run(cohort, out=out / "run", cache=str(out / "cache"))

"""`seeds.html`: mean and spread of runs that differ in their seed, as one self-contained page.

This room knows records and which tables the page has. It must not know files; it returns text and writes nothing.
"""

from __future__ import annotations

from snellen.evaluation import wording
from snellen.evaluation.pages import open_environment
from snellen.evaluation.tables import Cell, Table
from snellen.records.seeds import SeedOutcome, SeedsRecord, Spread

_SHOWN = ("auc", "balanced_accuracy", "kappa_quadratic", "log_loss")


def render_seeds(record: SeedsRecord, name: str, snellen_version: str) -> str:
    """The page as HTML. Equal inputs give equal text; nothing in it refers to another file or host but the reports."""
    context = {
        "record": record,
        "name": name,
        "snellen_version": snellen_version,
        "facts": {
            "Data": record.request.source.data,
            "Classes": wording.list_some(record.classes, 12, " · "),
            "Seeds": ", ".join(map(str, record.seeds)),
            "Recipe": record.request.recipe,
        },
        "spreads": [build_spreads(split, found) for split, found in record.spreads.items()],
        "table_runs": build_runs(record),
    }
    return open_environment().get_template("seeds.html.j2").render(context)


def build_spreads(split: str, spreads: dict[str, Spread]) -> Table:
    """A row a metric: mean, standard deviation, smallest, largest."""
    known = [name for name in wording.METRICS if name in spreads]
    rows: list[tuple[Cell, ...]] = []
    for name in [*known, *(name for name in spreads if name not in known)]:
        each = spreads[name]
        numbers = (each.mean, each.sd, each.smallest, each.largest)
        rows.append((wording.name_metric(name), *map(wording.format_number, numbers), str(each.n)))
    head = ("Metric", "Mean", "± SD", "Smallest", "Largest", "Runs")
    return Table(
        f"{wording.name_split(split).capitalize()}, over seeds", head, tuple(rows), ("text", *["num"] * (len(head) - 1))
    )


def build_runs(record: SeedsRecord) -> Table:
    """A row a run: its main metrics on what chose, then on test."""
    splits = list(record.spreads)
    shown = [name for name in _SHOWN if any(name in record.spreads[split] for split in splits)]
    head = ("Run", *(f"{wording.name_metric(name)}, {wording.name_split(split)}" for split in splits for name in shown))
    rows = tuple((_name(record, run), *_list_values(run, splits, shown)) for run in record.runs)
    return Table("Each run", head, rows, ("text", *["num"] * (len(head) - 1)))


def _name(record: SeedsRecord, run: SeedOutcome) -> str:
    return f"{run.folder} (recommended)" if run.seed == record.recommended else run.folder


def _list_values(run: SeedOutcome, splits: list[str], shown: list[str]) -> list[str]:
    return [wording.format_number(run.values.get(split, {}).get(name)) for split in splits for name in shown]

"""`tune.html`: what a study tried and what it found, as one self-contained page.

This room knows records and which parts the page has. It must not know files, Optuna or how a trial is run; it
returns text and writes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from snellen.evaluation import tune_figures, wording
from snellen.evaluation.pages import open_environment
from snellen.evaluation.svg import Drawing
from snellen.evaluation.tables import Cell, Table
from snellen.records.recipe import Choices, Range
from snellen.records.tuning import TrialRecord, TuneRecord

N_BEST = 10
N_SLICES = 6
_ROOM = 120


@dataclass(frozen=True)
class TunePage:
    """What the page is made of."""

    record: TuneRecord
    trials: Sequence[TrialRecord]
    name: str
    classes: Sequence[str]
    snellen_version: str = ""
    is_ordered: bool = False


@dataclass(frozen=True)
class Illustration:
    """A drawing, what to see in it, and its numbers as a table."""

    drawing: Drawing
    caption: str
    table: Table


def render_tuning(page: TunePage) -> str:
    """The page as HTML. Equal inputs give equal text; nothing in it refers to another file or host."""
    record = page.record
    names = shorten_keys(list(record.space))
    failed = [trial for trial in page.trials if trial.state == "failed" and not trial.is_stopped]
    chosen = record.best.parameters if record.best else {}
    context = {
        "page": page,
        "record": record,
        "facts": _list_facts(page),
        "sections": _list_sections(page, failed),
        "metric": wording.name_metric(record.metric),
        "verdict": judge(record),
        "n_failed": len(failed),
        "n_complete": record.n_trials.get("complete", 0),
        "n_pruned": record.n_trials.get("pruned", 0),
        "duration": wording.format_duration(sum(trial.seconds or 0.0 for trial in page.trials)),
        "best_values": {key: describe_value(value) for key, value in chosen.items()},
        "illustrations": list(_illustrate(page, names)),
        "table_best": build_best(page, names),
        "table_space": build_space(record),
        "table_failed": build_failed(failed),
    }
    return open_environment().get_template("tune.html.j2").render(context)


def judge(record: TuneRecord) -> str:
    """What came of it in two sentences, against the unchanged recipe and with how far folds differ."""
    best, as_it_is, metric = record.best, record.recipe_as_it_is, wording.name_metric(record.metric)
    if best is None or best.value is None:
        return "No trial is complete yet: there is nothing to choose from."
    told = f"The best trial, no. {best.number}, reaches {metric} {wording.format_number(best.value, 4)} on the folds."
    if as_it_is is None or as_it_is.value is None:
        return told
    gain = record.gain or 0.0
    before = wording.format_number(as_it_is.value, 4)
    if record.keeps_recipe:
        return (
            f"{told} The recipe as it is reaches {before}, which no trial beat: keep it. best.toml is the recipe as it "
            "is."
        )
    noise = best.spread or 0.0
    doubt = (
        " The gain is smaller than what folds differ by: it may be chance."
        if gain < noise / math.sqrt(record.n_folds)
        else ""
    )
    return f"{told} That is {wording.format_number(gain, 4)} better than the recipe as it is ({before}).{doubt}"


def shorten_keys(keys: Sequence[str]) -> dict[str, str]:
    """`training.stages.0.lr` → lr: what lies in the first stage is called by its own name."""
    return {key: key.removeprefix("training.stages.0.").removeprefix("training.") for key in keys}


def describe_value(value: Any) -> str:
    """A value as a person would say it: layers of a head by name and size."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "type" in item for item in value):
        named = [[item["type"].replace("_", " "), *(v for k, v in item.items() if k != "type")] for item in value]
        layers = [" ".join(map(str, parts)) for parts in named if parts[0] != "global avg pool"]
        return " · ".join(layers) or "linear"
    if isinstance(value, float):
        return f"{value:.3g}"
    return wording.format_value(value)


def build_best(page: TunePage, names: dict[str, str]) -> Table:
    """The best complete trials, a column a key."""
    sign = 1 if page.record.direction == "minimize" else -1
    complete = tune_figures.list_complete(page.trials)
    ranked = sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    rows: list[tuple[Cell, ...]] = []
    for trial in ranked[:N_BEST]:
        own = trial.parameters
        chosen = [describe_value(own[key]) if key in own else wording.MISSING for key in names]
        rows.append(
            (
                str(trial.number),
                wording.format_number(trial.value, 4),
                wording.format_number(trial.spread, 4),
                *chosen,
            )
        )
    head = ("Trial", wording.name_metric(page.record.metric), "± folds", *names.values())
    return Table("Best complete trials", head, tuple(rows), ("text", "num", "num", *("text" for _ in names)))


def build_space(record: TuneRecord) -> Table:
    """Every key with what was tried, and when it counts."""
    rows = []
    for key, dimension in record.space.items():
        when = "; ".join(f"{other} is {describe_value(value)}" for other, value in dimension.when.items())
        rows.append((key, _describe_dimension(dimension), when or "always"))
    return Table("What was tried", ("Key", "Values", "Counts when"), tuple(rows), ("code", "text", "text"))


def build_failed(failed: Sequence[TrialRecord]) -> Table:
    """Trials that came to no value, with the reason."""
    rows = tuple((str(trial.number), trial.reason) for trial in failed[:50])
    return Table("Trials that failed", ("Trial", "Reason"), rows, ("text", "text"))


def _describe_dimension(dimension: Range | Choices) -> str:
    if isinstance(dimension, Choices):
        return "; ".join(describe_value(value) for value in dimension.choices)
    scale = ", on a logarithmic scale" if dimension.log else ""
    return f"{dimension.low:g} to {dimension.high:g}{scale}"


def _list_sections(page: TunePage, failed: Sequence[TrialRecord]) -> dict[str, str]:
    has_values = page.record.best is not None
    parts = (
        ("summary", "Result", True),
        ("next", "How to go on", True),
        ("figures", "Figures", has_values),
        ("trials", "Best trials", has_values),
        ("failed", "Failed trials", bool(failed)),
        ("space", "What was tried", True),
        ("method", "How it was measured", True),
        ("reproduce", "How to reproduce", True),
    )
    return {anchor: heading for anchor, heading, is_shown in parts if is_shown}


def _list_facts(page: TunePage) -> dict[str, str]:
    record = page.record
    better = "lower" if record.direction == "minimize" else "higher"
    return {
        "Data": record.request.source.data,
        "Classes": wording.name_classes(page.classes, is_ordered=page.is_ordered),
        "Tuned for": f"{wording.name_metric(record.metric)}, {better} is better",
        "Measured on": (
            f"{record.n_folds} folds by patient: {wording.format_count(record.n_samples, 'picture')} of "
            f"{wording.format_count(record.n_patients, 'patient')}, training and validation"
        ),
        "Test split": f"{wording.format_count(record.n_test_untouched, 'picture')}, not touched",
        "Recipe": record.recipe_name,
        "Study in": record.request.storage or "study.db",
    }


def _illustrate(page: TunePage, names: dict[str, str]) -> Iterator[Illustration]:
    record, metric = page.record, wording.name_metric(page.record.metric)
    history = tune_figures.draw_history(record, page.trials)
    if history is not None:
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (str(trial.number), str(trial.state), wording.format_number(trial.value, 4)) for trial in page.trials
        )
        caption = (
            f"{metric} of every trial. Crosses were pruned, their value is of the folds done; the line is the best so "
            "far. Trials far worse than the rest lie outside."
        )
        yield Illustration(history, caption, Table("Trials", ("Trial", "State", metric), rows, ("text", "text", "num")))
    importance = tune_figures.draw_importances(record, names)
    if importance is not None:
        ranked = sorted(record.importances.items(), key=lambda item: -item[1])
        caption = (
            "What sets the best tenth of the complete trials apart from the rest (PED-ANOVA). It tells which keys are "
            "worth a closer look; it does not tell cause."
        )
        table = Table(
            "Importance", ("Key", "Share"), tuple((k, wording.format_percent(v)) for k, v in ranked), ("code", "num")
        )
        yield Illustration(importance, caption, table)
    order = sorted(record.space, key=lambda key: -record.importances.get(key, 0.0))
    for key in order[:N_SLICES]:
        dimension = record.space[key]
        labels = (
            {json.dumps(value, ensure_ascii=False): describe_value(value) for value in dimension.choices}
            if isinstance(dimension, Choices)
            else {}
        )
        drawing = tune_figures.draw_slice(record, page.trials, key, names[key], labels)
        if drawing is None:
            continue
        own = [trial for trial in tune_figures.list_complete(page.trials) if key in trial.parameters][:_ROOM]
        rows = tuple((describe_value(trial.parameters[key]), wording.format_number(trial.value, 4)) for trial in own)
        caption = f"{metric} of the complete trials against {key}" + (
            "; the bar is the median." if labels else "; the larger dot is the best trial."
        )
        yield Illustration(drawing, caption, Table(key, (names[key], metric), rows, ("text", "num")))

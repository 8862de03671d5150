"""Tables on the screen. Knows records and rich, computes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from snellen.core.letters import reveal, show_count, show_name
from snellen.core.storage import choose_data_folder, format_bytes
from snellen.metrics.decision import CALLED
from snellen.records.bundle import FIXED
from snellen.records.cohort import Cohort
from snellen.records.comparison import Comparison
from snellen.records.doctor import Diagnosis
from snellen.records.evaluation import Estimate, Evaluation
from snellen.records.plan import Plan
from snellen.records.seeds import SeedsRecord
from snellen.records.tuning import TuneRecord

if TYPE_CHECKING:
    from snellen.ingest.medmnist import Fetched, PublishedSet

_MOST_PARTS = 20
_COLOURS = {"severe": "bold red", "warning": "yellow", "info": "dim"}


def show_audit(cohort: Cohort) -> None:
    """Counts, patients and issues. A terminal obeys some letters: in names they are shown as codes."""
    console = _console()
    audit = cohort.audit
    console.print(reveal(f"{cohort.layout}: {show_count(audit.n_samples, 'picture')}, {audit.n_set_aside} set aside"))
    table = Table("class", "pictures", box=None, pad_edge=False)
    for name, count in audit.classes.items():
        table.add_row(show_name(name), str(count))
    console.print(table)
    if cohort.is_ordered:
        console.print(f"\nOrder, the lowest grade first: {' < '.join(map(show_name, cohort.classes))}")
    console.print(f"\nPatients: {audit.patients.n} ({show_name(audit.patients.rule)})")
    for example in audit.patients.examples:
        console.print(f"  e.g. {show_name(example)}")
    console.print()
    for issue in audit.issues:
        console.print(f"{issue.severity} {issue.code}", style=_COLOURS[issue.severity])
        console.print(f"  {show_name(issue.message)}\n  → {show_name(issue.advice)}")
    if not audit.issues:
        console.print("No issue found.")


def show_plan(plan: Plan) -> None:
    """Every decision with its reason, then the layers."""
    from snellen.modeling.layer_table import describe_layers

    console = _console()
    table = Table(
        "key", "value", "how", "reason", title=f"Plan of recipe {plan.recipe}", title_justify="left", box=None
    )
    for decision in plan.decisions:
        value = decision.value if isinstance(decision.value, str) else json.dumps(decision.value)
        table.add_row(decision.key, reveal(value), decision.how, reveal(decision.reason))
    console.print(table)
    share = max((stage.share for stage in plan.training.finetune_stages), default=0.0)
    layers = describe_layers(plan.model, plan.preprocess, share)
    table = Table("layer", "output", "parameters", "trained", title="\nLayers", title_justify="left", box=None)
    for row in layers:
        shape = "×".join(str(size) for size in row.output_shape)
        learns = f"{row.n_trained:,}" if row.n_upper is not None else "yes" * row.is_trainable
        table.add_row(row.name, shape, f"{row.n_parameters:,}" if row.n_parameters else "", learns)
    console.print(table)
    total = sum(row.n_parameters for row in layers)
    trained = sum(row.n_trained for row in layers)
    console.print(f"{total:,} parameters: {trained:,} trained, {total - trained:,} frozen")


def show_tuning(record: TuneRecord) -> None:
    """The verdict, the best trial's values, and what to do with them."""
    from snellen.evaluation.tune_page import describe_value, judge

    console = _console()
    counts = ", ".join(f"{count} {state}" for state, count in record.n_trials.items())
    console.print(f"\n{judge(record)}\nTrials: {counts or 'none'}")
    if record.best is None:
        return
    values = "value, not taken" if record.keeps_recipe else "value"
    table = Table("key", values, box=None, pad_edge=False)
    for key, value in record.best.parameters.items():
        table.add_row(key, reveal(describe_value(value)))
    console.print(table)
    console.print(f"\nPage:  {record.page}\nNext:\n  {record.train_command}", soft_wrap=True)


def show_seeds(record: SeedsRecord) -> None:
    """Mean and spread of every metric, the runs, and what to know of the numbers."""
    from snellen.evaluation.seeds_page import build_runs, build_spreads

    console = _console()
    tables = [build_spreads(split, found) for split, found in record.spreads.items()]
    for made in [*tables, build_runs(record)]:
        console.print(f"\n{made.caption}")
        table = Table(*made.head, box=None, pad_edge=False)
        for row in made.rows:
            table.add_row(*(str(cell) for cell in row))
        console.print(table)
    for note in record.notes:
        console.print(reveal(f"Note: {note}"))


def show_evaluation(evaluation: Evaluation) -> None:
    """Metrics with intervals beside the baselines, the confusion matrix, operating points, notes."""
    console = _console()
    level = f"{evaluation.intervals.level:.0%} interval"
    console.print(
        f"\n{evaluation.split}: {evaluation.subjects}"
        + (f", positive class {show_name(evaluation.positive)}" if evaluation.positive else "")
    )
    if evaluation.is_ordered:
        console.print(f"Order of the classes: {' < '.join(map(show_name, evaluation.classes))}")
    table = Table("metric", "value", level, *evaluation.baselines, box=None, pad_edge=False)
    for name, estimate in evaluation.metrics.items():
        others = [_value(found.get(name)) for found in evaluation.baselines.values()]
        table.add_row(name, _value(estimate), _interval(estimate), *others)
    console.print(table)
    # the title stands alone: above a narrow table it would be broken into lines
    console.print(f"\nConfusion (rows: label, columns: {CALLED[evaluation.decision]})")
    classes = [show_name(name) for name in evaluation.classes]
    table = Table("", *classes, box=None, pad_edge=False)
    for name, row in zip(classes, evaluation.confusion, strict=True):
        table.add_row(name, *(str(value) for value in row))
    console.print(table)
    for point in evaluation.operating_points:
        console.print(
            f"{point.name}{' (default)' if point.is_default else ''}: threshold {point.threshold:.3f} "
            f"({point.rule}, {'fixed' if point.chosen_on == FIXED else f'on {point.chosen_on}'}): "
            f"sensitivity {_value(point.sensitivity)} {_interval(point.sensitivity)}, "
            f"specificity {_value(point.specificity)} {_interval(point.specificity)}",
            markup=False,
            highlight=False,
        )
    _show_parts(console, evaluation)
    console.print(f"Bundle: sha256 {evaluation.bundle_sha256}")
    for note in evaluation.notes:
        console.print(reveal(f"Note: {note}"), markup=False, highlight=False)


def _show_parts(console: Console, evaluation: Evaluation) -> None:
    """A row a part of the cohort, and what of its differences to all others remains."""
    for column in dict.fromkeys(part.column for part in evaluation.subgroups):
        own = [part for part in evaluation.subgroups if part.column == column]
        names = list(dict.fromkeys(name for part in own for name in part.metrics))
        console.print(f"\nParts by {show_name(column)} (* too few patients to say)")
        table = Table(show_name(column), "pictures", "patients", *names, "differs in", box=None, pad_edge=False)
        for part in own[:_MOST_PARTS]:
            cells = [f"{_value(part.metrics.get(name))} {_interval(part.metrics.get(name))}".strip() for name in names]
            name = f"{show_name(part.value) if part.value else '(none)'}{'*' * part.is_small}"
            table.add_row(name, f"{part.n:,}", f"{part.n_patients:,}", *cells, ", ".join(part.differs) or "–")
        console.print(table)
        if len(own) > _MOST_PARTS:
            console.print(f"{len(own) - _MOST_PARTS} more in evaluation.json (--out).")


def show_comparison(found: Comparison) -> None:
    """Both models' metrics, the paired differences with intervals, and what to know of them."""
    console = _console()
    units = ", patients unknown" if found.intervals.unit == "picture" else f" of {found.n_patients} patients"
    for side, model in (("A", found.a), ("B", found.b)):
        console.print(f"{side}: {show_name(model.folder)}", soft_wrap=True)
    console.print(f"Compared on {found.n} pictures{units}\n")
    level = f"{found.intervals.level:.0%} interval"
    needed = "pictures needed" if found.intervals.unit == "picture" else "patients needed"
    table = Table("metric", "A", "B", "B − A", level, "by", "better", needed, box=None, pad_edge=False)
    for name, each in found.metrics.items():
        values = ("–" if value is None else f"{value:.3f}" for value in (each.a, each.b))
        better = {"a": "A", "b": "B", "undecided": "cannot be told", "undefined": "–"}.get(each.better, each.better)
        n_needed = "–" if each.n_patients_needed is None else f"{each.n_patients_needed:,}"
        interval = _interval(each.difference)
        table.add_row(name, *values, _value(each.difference), interval, each.difference.method, better, n_needed)
    console.print(table)
    own = found.agreement
    console.print(
        f"\nRight: both {own.both_right}, only A {own.only_a_right}, only B {own.only_b_right}, none {own.both_wrong}"
    )
    console.print(found.verdict)
    for note in found.notes:
        console.print(reveal(f"Note: {note}"))


def _console() -> Console:
    # markup stays off: class names and messages are the user's, and may hold brackets
    return Console(width=None if Console().is_terminal else 160, soft_wrap=False, markup=False, highlight=False)


def _value(estimate: Estimate | None) -> str:
    return "–" if estimate is None or estimate.value is None else f"{estimate.value:.3f}"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def show_diagnosis(found: Diagnosis) -> None:
    """The machine, the figures measured on it, the projected time step by step, what bounds it, what is dangerous."""
    console, machine = _console(), found.machine
    table = Table("machine", "", box=None, pad_edge=False)
    limit = "" if machine.processor_limit is None else f", limited to {machine.processor_limit:g}"
    table.add_row("system", machine.platform)
    table.add_row("processors", f"{machine.processors}{limit}")
    table.add_row("memory free", format_bytes(machine.free_memory_bytes))
    kind = f" ({machine.cache_file_system})" if machine.cache_file_system else ""
    table.add_row("cache", reveal(f"{machine.cache}{kind}, {format_bytes(machine.cache_free_bytes)} free"))
    table.add_row("GPU", f"{machine.gpu}; this version trains on the processor" if machine.gpu else "none visible")
    table.add_row("weights offline", reveal(found.offline_weights or "none found"))
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items()))
    for extra in found.extras:
        state = "installed" if extra.is_installed else f"lacks {', '.join(extra.missing)}: {extra.command}"
        table.add_row(f"extra {extra.name}", state)
    console.print(table)
    of = f"{found.n_listed} pictures of {found.data}" if found.data else "drawn pictures"
    console.print(reveal(f"\nMeasured on {found.n_sampled} of {of}:" if found.data else f"\nMeasured on {of}:"))
    table = Table("step", "a second", "threads", box=None, pad_edge=False)
    for speed in found.speeds:
        table.add_row(speed.name, f"{speed.per_second:,.1f} {speed.unit}", str(speed.threads))
    console.print(table)
    if found.work is not None and found.total_s is not None:
        work = found.work
        console.print(
            f"\nProjected: snellen train on {work.n_pictures} such pictures, {work.backbone} at {work.size} px, "
            f"{work.views} views, nothing cached:"
        )
        table = Table("step", "seconds", "share", "spent on", box=None, pad_edge=False)
        for step in found.steps:
            share = f"{step.seconds / max(found.total_s, 1e-9):.0%}"
            table.add_row(step.step, f"{step.seconds:,.1f}", share, step.resource)
        console.print(table)
        console.print(f"\n{found.bound}")
    for text in [*found.advice, *(f"Not measured: {text}" for text in found.not_measured)]:
        console.print(reveal(f"  {text}"))
    for hazard in found.hazards:
        console.print(reveal(f"Warning {hazard.code}: {hazard.message}\n  → {hazard.advice}"))


def show_sets(sets: Iterable[PublishedSet], *, as_json: bool) -> None:
    """What can be fetched, and what cannot with the reason."""
    if as_json:
        rows = [{**item.__dict__, "files": {size: url for size, (url, _) in item.files.items()}} for item in sets]
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table("set", "task", "classes", "pictures", "sizes in px", "licence", "", box=None, pad_edge=False)
    for item in sets:
        sizes = ", ".join(map(str, item.files))
        out_of_scope = f"out of scope: {item.out_of_scope}" if item.out_of_scope else ""
        table.add_row(
            item.name, item.task, str(len(item.classes)), f"{item.n_samples:,}", sizes, item.licence, out_of_scope
        )
    _console().print(table)


def show_fetched(found: Fetched, *, as_json: bool) -> None:
    """Where the file lies, and the next command."""
    if as_json:
        record = {**found.__dict__, "path": str(found.path)}
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return
    state = "fetched" if found.is_new else "was there already"
    console = _console()
    console.print(f"{found.path}: {state}, {found.n_bytes / 1e6:,.1f} MB, checksum as published", soft_wrap=True)
    known = choose_data_folder() / found.path.name == found.path
    console.print(f"Next:\n  snellen train {found.path.stem if known else found.path}", soft_wrap=True)

"""`report.html`: one self-contained page from records, readable on a phone, on paper and without a network.

This room knows which parts the page has and when one is shown. It must not know files, training or how a
number is computed; it returns text and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snellen.evaluation import (
    abstention_figures,
    clinic,
    curves,
    evidence_figures,
    failures,
    figures,
    findings,
    flow,
    gallery,
    number_figures,
    number_tables,
    run_figures,
    tables,
    wording,
)
from snellen.evaluation.checklists import fill_checklists
from snellen.evaluation.pages import open_environment
from snellen.evaluation.svg import Drawing
from snellen.evaluation.tables import Table
from snellen.metrics.decision import CALLED
from snellen.records.bundle import Manifest
from snellen.records.cohort import Audit, Split
from snellen.records.evaluation import Estimate, Evaluation, Score
from snellen.records.plan import Fingerprint, Plan
from snellen.records.run import EpochRecord, RunRecord, WeightsRecord

TASKS = {"binary": "Two classes", "multiclass": "Several classes", "ordinal": "Ordered classes"}
Drawn = tuple[Drawing | None, str, Table]
_PROBE = " Linear probe: logistic regression on features of the network before it learned from these data."
_PAIRED = " Whether they differ is said by the paired differences under Metrics, not by whether two intervals overlap."
_FIRST = " of the first stage, a head on the frozen network, not the model that was delivered"
_FLOW = "Flow of pictures and patients, from what was found to what the model said."
HEADLINE = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic")


def _no_thumbnail(_name: str) -> NDArray[np.uint8] | None:
    return None


def _no_map(_name: str, _class_name: str) -> NDArray[np.uint8] | None:
    return None


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made of; only `title`, `evaluation` and `scores` are needed.

    `unit_scores` are those of eyes or patients where these were measured. `evaluation` is the headline split,
    `distilled` the same of the network in place of the ensemble. `load_thumbnail`
    maps a sample's name to its pixels, (H, W) grey or (H, W, 3) RGB, or to None where they are not at hand. `load_map`
    gives the evidence in a sample for a class, as RGB. `embedding` `(N, D)`, a row a score, groups what looks alike.
    """

    title: str
    evaluation: Evaluation
    scores: Sequence[Score]
    unit_scores: Sequence[Score] = ()
    validation: Evaluation | None = None
    distilled: Evaluation | None = None
    plan: Plan | None = None
    fingerprint: Fingerprint | None = None
    audit: Audit | None = None
    run: RunRecord | None = None
    manifest: Manifest | None = None
    splits: Sequence[Split] = ()
    epochs: Sequence[EpochRecord] = ()
    load_thumbnail: Callable[[str], NDArray[np.uint8] | None] = _no_thumbnail
    load_map: Callable[[str, str], NDArray[np.uint8] | None] = _no_map
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Illustration:
    """A drawing, what to see in it, and its numbers as a table."""

    drawing: Drawing
    caption: str
    table: Table


@dataclass(frozen=True)
class ErrorGroup:
    """Errors that look alike to the network: what was called what, a few of them, and how many more there are."""

    told: str
    exhibits: list[gallery.Exhibit]
    n_more: int

    @property
    def has_maps(self) -> bool:
        """Whether evidence maps stand beside the pictures."""
        return any(each.map_source for each in self.exhibits)


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    name: str
    estimate: Estimate
    note: str


def render_report(inputs: ReportInputs) -> str:
    """The page as HTML. Equal inputs give equal text; nothing in it refers to another file or host."""
    evaluation = inputs.evaluation
    sections, groups = (
        _list_sections(inputs),
        failures.group_errors(inputs.scores, evaluation.classes, inputs.embedding),
    )
    context = {
        "inputs": inputs,
        "evaluation": evaluation,
        "sections": sections,
        "layers": _mark_layers(sections),
        "clinic": clinic,
        "abstaining": abstention_figures,
        "selective": _illustrate_selective(evaluation),
        "flow": Illustration(flow.draw_flow(inputs), _FLOW, flow.build_flow(inputs)),
        "checklists": fill_checklists(inputs),
        "groups": [_exhibit_group(inputs, group) for group in groups],
        "n_grouped": sum(len(group.scores) for group in groups),
        "facts": _list_facts(inputs),
        "level": wording.format_level(evaluation),
        "tiles": _build_tiles(evaluation),
        "sentences": findings.describe_result(evaluation),
        "notices": findings.collect_notices(evaluation, inputs.audit, inputs.plan),
        "baselines": _illustrate_baselines(evaluation),
        "parts_figure": _illustrate_parts(evaluation),
        "illustrations": _illustrate(inputs),
        "evidence": _illustrate_evidence(evaluation),
        "n_errors": sum(score.prediction != score.label for score in inputs.scores),
        "samples": {
            name: _exhibit(inputs, chosen)
            for name, chosen in gallery.choose_samples(inputs.scores, evaluation.classes).items()
        },
        "weights": _weights(inputs),
        "terms": wording.define_terms(evaluation),
    }
    return open_environment().get_template("report.html.j2").render(context)


def _list_sections(inputs: ReportInputs) -> dict[str, str]:
    """Anchor → heading of the parts that this report has."""
    has_data = inputs.fingerprint is not None or inputs.audit is not None or bool(inputs.splits)
    parts = (
        ("clinic", "In short", True),
        ("summary", "Result", True),
        ("metrics", "Metrics", True),
        ("distilled", "Distilled network", inputs.run is not None and inputs.run.distilled is not None),
        ("figures", "Figures", True),
        ("pictures", "Pictures", bool(inputs.scores)),
        ("parts", "Parts of the cohort", bool(inputs.evaluation.subgroups or inputs.evaluation.prevalence_shift)),
        ("evidence", "Evidence maps", inputs.evaluation.evidence is not None),
        ("abstention", "Abstention", _abstains(inputs.evaluation)),
        ("data", "Data", has_data),
        ("decisions", "Decisions", inputs.plan is not None),
        ("thresholds", "Thresholds and calibration", True),
        ("reproduce", "How to reproduce", True),
        ("reading", "How to read the numbers", True),
        ("checklists", "Reporting checklists", True),
    )
    return {anchor: heading for anchor, heading, is_shown in parts if is_shown}


def _abstains(evaluation: Evaluation) -> bool:
    return any(each is not None for each in (evaluation.abstentions, evaluation.conformal, evaluation.selective))


def _mark_layers(sections: Mapping[str, str]) -> dict[str, str]:
    """Anchor → the layer that begins with it, or nothing."""
    begun = {"clinic": "For the clinician", "summary": "The full evaluation", "data": "Provenance"}
    if "data" not in sections:
        begun["decisions" if "decisions" in sections else "thresholds"] = begun["data"]
    return {anchor: begun.get(anchor, "") for anchor in sections}


def _exhibit_group(inputs: ReportInputs, group: failures.Group) -> ErrorGroup:
    shown = _exhibit(inputs, group.shown, with_map=True)
    return ErrorGroup(group.told, shown, len(group.scores) - len(shown))


def _illustrate_selective(evaluation: Evaluation) -> Illustration | None:
    found = evaluation.selective
    if found is None:
        return None
    unit = evaluation.unit
    caption = f"Errors where only the surest {unit}s are answered. {abstention_figures.describe_selective(found, unit)}"
    table = abstention_figures.build_selective(found, unit)
    return Illustration(abstention_figures.draw_selective(found), caption, table)


def _list_facts(inputs: ReportInputs) -> dict[str, str]:
    """What was asked and of whom it is measured."""
    evaluation, plan, manifest = inputs.evaluation, inputs.plan, inputs.manifest
    classes = wording.name_classes(evaluation.classes, is_ordered=evaluation.is_ordered)
    facts = {
        "Task": f"{TASKS[evaluation.task]}: {classes}",
        "Positive class": evaluation.positive or "",
        "A picture is called": "" if evaluation.decision == "most_probable" else CALLED[evaluation.decision],
        "Data": evaluation.data,
        "Measured on": f"{wording.name_split(evaluation.split)} set, {evaluation.subjects}",
        "Patients told by": evaluation.patient_rule,
        "Test split opened": _say_openings(evaluation),
    }
    if plan is not None:
        facts["Model"] = f"{plan.model.backbone}, {plan.preprocess.size} px, recipe “{plan.recipe}”"
    elif manifest is not None:
        facts["Model"] = f"{manifest.backbone}, {manifest.preprocess.size} px"
    if manifest is not None:
        facts["Intended use"] = manifest.intended_use
    return {name: value for name, value in facts.items() if value}


def _say_openings(evaluation: Evaluation) -> str:
    """How often the test split was looked at; pictures of somewhere else are none."""
    if evaluation.split == "all":
        return ""
    own = {0: "never", 1: "once"}.get(evaluation.test_opened, f"{evaluation.test_opened} times")
    if evaluation.workspace_runs > 1:
        own += f"; {evaluation.workspace_opened} times by {evaluation.workspace_runs} runs in the same folder"
    return own


def _build_tiles(evaluation: Evaluation) -> list[Tile]:
    notes = {"auc": "mean, each class against the rest"}
    level = "picture-level" if evaluation.intervals.unit == "picture" else ""
    if evaluation.task == "binary" and evaluation.positive:
        notes = {"auc": f"positive: “{evaluation.positive}”"}
    if evaluation.operating_points:
        notes |= dict.fromkeys(("balanced_accuracy", "accuracy"), "of the more probable class")
    if evaluation.decision == "expected_grade":
        notes |= dict.fromkeys(("balanced_accuracy", "accuracy", "kappa_quadratic"), f"of {CALLED['expected_grade']}")
    tiles = [
        Tile(wording.name_metric(key), evaluation.metrics[key], "; ".join(filter(None, (notes.get(key), level))))
        for key in HEADLINE
        if key in evaluation.metrics
    ]
    point = wording.default_point(evaluation)
    if point is not None and point.sensitivity is not None and point.specificity is not None:
        at = f"positive: “{evaluation.positive}”, threshold {wording.format_number(point.threshold)}"
        note = "; ".join(filter(None, (at, level)))
        tiles += [Tile("Sensitivity", point.sensitivity, note), Tile("Specificity", point.specificity, note)]
    return [replace(tile, note="; ".join(filter(None, (tile.note, _say_why_alone(tile.estimate))))) for tile in tiles]


def _say_why_alone(estimate: Estimate) -> str:
    """Why a number stands without an interval."""
    is_alone = estimate.value is not None and estimate.low is None
    return "no interval: resampled patients give the same number" if is_alone else ""


def _illustrate_baselines(evaluation: Evaluation) -> Illustration | None:
    drawing = figures.draw_baselines(evaluation)
    if drawing is None:
        return None
    probe = _PROBE if "linear_probe" in evaluation.baselines else ""
    paired = _PAIRED if evaluation.baseline_differences else ""
    caption = f"The model beside its baselines, each with its interval, on the same {evaluation.unit}s.{probe}{paired}"
    return Illustration(drawing, caption, tables.build_baselines(evaluation))


def _illustrate_parts(evaluation: Evaluation) -> Illustration | None:
    """The first metric of the parts, beside that of all; its table is that of the first column."""
    keys = number_tables.list_part_metrics(evaluation)
    drawing = number_figures.draw_parts(evaluation, keys[0]) if keys else None
    if drawing is None:
        return None
    name = number_tables.name_part_metric(keys[0])
    caption = (
        f"{name} of each part with its interval; the broken line is that of all pictures. Filled where the difference "
        "to all others remains after correction for the number of comparisons."
    )
    return Illustration(drawing, caption, number_tables.build_part_values(evaluation, keys[0]))


def _illustrate_evidence(evaluation: Evaluation) -> Illustration | None:
    check = evaluation.evidence
    if check is None:
        return None
    caption = (
        f"Checks of the evidence maps ({check.method}), on {check.n} pictures drawn by chance. "
        f"{evidence_figures.describe_evidence(check)}"
    )
    return Illustration(evidence_figures.draw_evidence(check), caption, evidence_figures.build_evidence(check))


def _illustrate(inputs: ReportInputs) -> list[Illustration]:
    """The figures for which the inputs suffice, in the order of reading."""
    drawn = [*_draw_evaluation(inputs.evaluation, inputs.unit_scores or inputs.scores), *_draw_run(inputs)]
    return [Illustration(drawing, caption, table) for drawing, caption, table in drawn if drawing is not None]


def _draw_evaluation(evaluation: Evaluation, scores: Sequence[Score]) -> Iterator[Drawn]:
    """`scores` are those of what was measured: pictures, eyes or patients."""
    lines = curves.compute_curves(evaluation, scores)
    highlights = curves.explain_highlights(lines)
    top = "" if evaluation.decision == "most_probable" else " Confidence is that of the most probable class."
    before = (
        "Hollow: the same pictures before calibration; the bars count them after it. "
        if evaluation.calibration.bins_before
        else ""
    )
    crosses = "; crosses are operating points with their intervals" if evaluation.operating_points else ""
    yield (
        figures.draw_confusion(evaluation),
        f"Confusion matrix. A picture is called {CALLED[evaluation.decision]}; the shade is the share of the row.",
        tables.build_confusion(evaluation),
    )
    yield (
        curves.draw_roc(evaluation, lines),
        f"ROC curve. {highlights}The broken diagonal is guessing{crosses}.",
        tables.build_roc(lines),
    )
    yield (
        curves.draw_precision_recall(lines),
        f"Precision–recall curve. {highlights}Dotted is the prevalence, which guessing would reach.",
        tables.build_precision_recall(lines),
    )
    yield (
        figures.draw_reliability(evaluation),
        "Reliability. On the diagonal, stated confidence is what comes true; below it the model is too "
        f"sure of itself. {before}Wilson intervals, {evaluation.unit}s taken as independent; bars count them.{top}",
        tables.build_reliability(evaluation),
    )
    yield (
        number_figures.draw_decision_curve(evaluation),
        "Decision curve. Net benefit of acting on the model's probability, against acting on all and on nobody. "
        "Who would act from 0.1 on weighs one case found like nine needless actions. Where the model's line is not "
        "above the others, it does not help. It holds at this set's prevalence.",
        number_tables.build_decision_curve(evaluation),
    )


def _draw_run(inputs: ReportInputs) -> Iterator[Drawn]:
    chosen = inputs.run.chosen if inputs.run is not None else None
    tuned = {outcome.stage for outcome in inputs.run.finetuned} if inputs.run is not None else set()
    heads = [each for each in inputs.epochs if each.stage == 0 and each.stage not in tuned]
    own = run_figures.select_candidate(heads, chosen)
    others = "; thin lines are the other candidates" if len(own) < len(heads) else ""
    if inputs.run is not None and inputs.run.members:
        yield (
            run_figures.draw_members(heads),
            f"Learning curves of the members{_FIRST if tuned else ''}, each on the fold that it left out, which "
            "decided nothing. The last point of a line is the epoch that the other folds chose.",
            tables.build_members(inputs.run.members, inputs.splits, is_first=bool(tuned)),
        )
    elif 0 not in tuned:  # else nothing was learned on pooled features
        yield (
            run_figures.draw_learning(heads, chosen),
            f"Learning curves of the chosen candidate{_FIRST if tuned else ''}. The vertical line is the epoch that "
            f"was kept{others}.",
            tables.build_learning(own),
        )
    if inputs.run is not None and inputs.run.finetuned:
        yield (
            run_figures.draw_finetuning(
                [each for each in inputs.epochs if each.stage in tuned and each.model is None], inputs.run.finetuned
            ),
            f"Fine-tuning, {_tell_judges(inputs.run)}. Losses are those after the best temperature; the level dotted "
            "lines are the model before. Delivered is the model before, the one after, or the mean of both where these "
            "pictures cannot tell. Blend is the share of what was learned in the mean with the weights before.",
            tables.build_outcomes(inputs.run.finetuned),
        )
    yield (
        run_figures.draw_class_counts(inputs.splits, inputs.evaluation.classes),
        "Pictures of each class in each split.",
        tables.build_splits(
            inputs.splits, inputs.evaluation.classes, has_patients=inputs.evaluation.intervals.unit == "patient"
        ),
    )


def _tell_judges(run: RunRecord) -> str:
    """Whose pictures chose. Members that begin by chance are each judged on the next fold."""
    if run.members:
        return "on the fold that each member left out; all of them chose together"
    return "on the pictures that choose"


def _exhibit(inputs: ReportInputs, scores: Sequence[Score], *, with_map: bool = False) -> list[gallery.Exhibit]:
    classes, load_map = inputs.evaluation.classes, inputs.load_map if with_map else _no_map
    return [gallery.build_exhibit(score, classes, inputs.load_thumbnail, load_map) for score in scores]


def _weights(inputs: ReportInputs) -> WeightsRecord | None:
    """Where the pretrained weights came from, by the run or else by the bundle."""
    if inputs.run is not None and inputs.run.weights is not None:
        return inputs.run.weights
    return inputs.manifest.weights if inputs.manifest is not None else None

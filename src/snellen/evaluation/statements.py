"""Sentences for reporting checklists, from the records of a run: what software can state, in the past tense of a paper.

This room knows records and English. It must not know which checklist asks, HTML or figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from snellen.evaluation.wording import (
    default_point,
    format_count,
    format_interval,
    format_level,
    format_number,
    format_percent,
    list_some,
    name_metric,
    name_rule,
    name_split,
    name_units,
    order_metrics,
)
from snellen.metrics.decision import CALLED
from snellen.records.cohort import PARTS
from snellen.records.evaluation import Estimate
from snellen.records.run import StageOutcome

if TYPE_CHECKING:  # which imports what draws
    from snellen.evaluation.report import ReportInputs

__all__ = ["STATEMENTS", "state"]
_SHOWN = 12
_COPIES = {
    "all": "identical or transformed",
    "exact": "identical (transformed ones were not looked for)",
    "off": "not looked for",
}


def state(key: str, inputs: ReportInputs) -> str:
    """The statement of that name; empty where the records do not say."""
    return STATEMENTS[key](inputs)


def _data(inputs: ReportInputs) -> str:
    evaluation = inputs.evaluation
    told = f"Evaluated on {evaluation.subjects} of {evaluation.data}."
    if inputs.manifest is not None:
        trained = inputs.manifest.trained_on
        is_known = not trained.patient_rule.startswith("one patient a picture")
        patients = f" of {format_count(trained.n_patients, 'patient')}" if is_known else ", patients unknown"
        how = "An ensemble was trained in folds" if inputs.manifest.n_members > 1 else "Trained and validated"
        told += f" {how} on {format_count(trained.n_samples, 'picture')}{patients}."
    return told


def _quality(inputs: ReportInputs) -> str:
    if inputs.audit is None:
        return ""
    audit = inputs.audit
    issues = Counter(issue.severity for issue in audit.issues)
    listed = ", ".join(f"{issues[name]} {name}" for name in ("severe", "warning", "info") if issues[name]) or "none"
    return (
        f"Every file was decoded: {audit.n_read:,} of {audit.n_samples:,} were read, {audit.n_set_aside:,} set aside. "
        f"Pictures that show the same, {_COPIES[audit.copy_search]}: "
        f"{format_count(len(audit.duplicate_groups), 'group')}. Issues: {listed}; audit.json lists them."
    )


def _preprocessing(inputs: ReportInputs) -> str:
    if inputs.manifest is None:
        return ""
    plan = inputs.manifest.preprocess
    steps = [
        "the black border was cut off" if plan.crop_border else "",
        f"pictures were brought to {plan.size}×{plan.size} px ({plan.fit})",
        f"{plan.channels} channel{'s' * (plan.channels > 1)}",
        f"CLAHE with clip limit {plan.clahe:g}" if plan.clahe else "",
        f"values normalised ({plan.normalize})",
    ]
    return f"Preprocessing: {'; '.join(filter(None, steps))}. The same code prepares new pictures."


def _partition(inputs: ReportInputs) -> str:
    counts = Counter[str](each.split for each in inputs.splits)
    patients = {part: len({each.patient for each in inputs.splits if each.split == part}) for part in counts}
    is_known = inputs.evaluation.intervals.unit == "patient"
    shown = [
        f"{name_split(split)} {format_count(counts[split], 'picture')}"
        + (f" of {format_count(patients[split], 'patient')}" if is_known else "")
        for split in PARTS
        if counts[split]
    ]
    left = f"; {counts['left_out']} left out" if counts["left_out"] else ""
    return f"Partitions: {', '.join(shown)}{left}.{_tell_folds(inputs)}" if shown else ""


def _tell_folds(inputs: ReportInputs) -> str:
    """How training pictures were dealt to folds, where they were."""
    folds = Counter(each.fold for each in inputs.splits if each.fold is not None)
    if not folds:
        return ""
    sizes = ", ".join(f"{folds[fold]:,}" for fold in sorted(folds))
    return (
        f" The pictures to learn from were dealt to {len(folds)} folds of {sizes} pictures by the same groups, class "
        "by class; each member learned without one fold and was measured on it."
    )


def _disjoint(inputs: ReportInputs) -> str:
    if not inputs.splits:
        return ""
    rule = f"Patients were told by: {inputs.evaluation.patient_rule}."
    if inputs.evaluation.intervals.unit == "picture":
        return f"Partitions are disjoint by picture and its copies, not by patient: patients are not known. {rule}"
    own = inputs.evaluation.unknown_patients
    unknown = f" Of {sum(own.values())} evaluated pictures no patient is known: each stands for one." if own else ""
    return f"Partitions are disjoint by patient, together with all copies that were found. {rule}{unknown}"


def _imbalance(inputs: ReportInputs) -> str:
    if inputs.plan is None:
        return ""
    method = inputs.plan.imbalance.method.replace("_", " ")
    if method == "none":
        return "Class imbalance: nothing was done about it; the model learned from the classes as they are mixed."
    return (
        f"Class imbalance: {method}, on training pictures only; what it does to class shares was taken back before "
        "calibration."
    )


def _model(inputs: ReportInputs) -> str:
    if inputs.manifest is None:
        return ""
    manifest = inputs.manifest
    learned = f"{manifest.tuned_share:.0%} of its multiplications fine-tuned" if manifest.tuned_share else "frozen"
    members = f"; an ensemble of {manifest.n_members}" if manifest.n_members > 1 else ""
    return (
        f"{manifest.backbone}, {learned}, with a trained head{members}. Input: uint8 pixels {manifest.input.height_px}×"
        f"{manifest.input.width_px}×{manifest.input.channels}. Outputs: {', '.join(manifest.outputs)}. The whole graph "
        "is bundle/model.onnx."
    )


def _output(inputs: ReportInputs) -> str:
    point = default_point(inputs.evaluation)
    n, called = len(inputs.evaluation.classes), CALLED[inputs.evaluation.decision]
    told = f"Probabilities of {n} classes; a picture is called {called}."
    if point is None:
        return told
    return (
        f"{told} Positive from {format_number(point.threshold)} on (“{inputs.evaluation.positive}”), "
        f"{name_rule(point.rule)}, chosen on {name_split(point.chosen_on)} before the test split was opened."
    )


def _initialisation(inputs: ReportInputs) -> str:
    if inputs.manifest is None:
        return ""
    weights = inputs.manifest.weights
    return (
        f"Pretrained weights: {weights.origin or 'none'} ({weights.licence})."
        if weights.source != "none"
        else "Random weights."
    )


def _training(inputs: ReportInputs) -> str:
    if inputs.plan is None:
        return ""
    stages = len(inputs.plan.training.stages)
    views = format_count(inputs.plan.augment.views, "augmented view")
    return (
        f"{format_count(stages, 'stage')} of training, seed {inputs.plan.training.seed}; the first on features of the "
        f"frozen network, {views} a picture. plan.json holds every value of every stage with its reason; metrics.jsonl "
        "every epoch."
    )


def _selection(inputs: ReportInputs) -> str:
    if inputs.run is None:
        return ""
    who = "patients" if inputs.evaluation.intervals.unit == "patient" else "pictures"
    chosen, finetuned = inputs.run.chosen, inputs.run.finetuned
    if chosen is None:
        return _selection_of_members(len(inputs.run.members), finetuned, who) if inputs.run.members else ""
    told = (
        f"{'First stage: chosen' if finetuned else 'Chosen'} among "
        f"{format_count(chosen.n_candidates, 'candidate')} by the loss on validation {who}: weight decay "
        f"{chosen.weight_decay:g}, epoch {chosen.epoch}."
    )
    for each in finetuned:
        epochs = format_count(each.n_epochs, "epoch")
        told += f" Fine-tuning, {epochs}: {_name_taken(each)} was taken, by the same {who}."
    return f"{told} Test {who} chose nothing."


def _selection_of_members(n_members: int, finetuned: Sequence[StageOutcome], who: str) -> str:
    told = f"{n_members} members, each chosen on folds of patients that it does not measure."
    for each in finetuned:
        if each.fold == finetuned[0].fold:  # all members took the same
            told += (
                f" Fine-tuning, {format_count(each.n_epochs, 'epoch')} on all folds but the member's own: "
                f"{_name_taken(each)} was taken for all members, one choice of three by all {who} out of fold, whose "
                "own numbers know of it."
            )
    return told


def _name_taken(outcome: StageOutcome) -> str:
    if not outcome.kept:
        return "the model before it"
    return "the mean of the models before and after it" if outcome.averaged else "the fine-tuned model"


def _ensemble(inputs: ReportInputs) -> str:
    if inputs.manifest is None:
        return ""
    n = inputs.manifest.n_members
    return f"The mean of the probabilities of {n} members." if n > 1 else "A single network, no ensemble."


def _updating(inputs: ReportInputs) -> str:
    if inputs.manifest is None:
        return ""
    return "Nothing was updated: model, calibration and thresholds were evaluated as they stand in the bundle."


def _calibration(inputs: ReportInputs) -> str:
    found = inputs.evaluation.calibration
    if found.method == "none":
        return f"Probabilities were left as they are{f': {found.reason}' if found.reason else ''}."
    return (
        f"Probabilities were calibrated ({found.method.replace('_', ' ')}) on {found.n_fitted} pictures of the "
        f"{name_split(found.fitted_on)} set; ECE {format_number(found.ece_before)} before, "
        f"{format_number(found.ece_after)} after."
    )


def _metrics(inputs: ReportInputs) -> str:
    evaluation = inputs.evaluation
    names = [name_metric(key) for key in order_metrics(evaluation)]
    if evaluation.operating_points:
        names.append("sensitivity, specificity, predictive values and likelihood ratios at each operating point")
    if evaluation.decision_curve is not None:
        names.append("decision curve")
    if evaluation.calibration.check is not None:
        names.append("calibration slope and intercepts")
    return f"Reported: {'; '.join(names)}; ROC, precision–recall and reliability curves; confusion matrix."


def _uncertainty(inputs: ReportInputs) -> str:
    settings = inputs.evaluation.intervals
    unit = "patients" if settings.unit == "patient" else "pictures"
    return (
        f"{format_level(inputs.evaluation)} intervals: from {settings.n_resamples} bootstrap resamples of {unit}, "
        "stratified by class, but for what has a formula: Wilson's for shares of one class and any share of 0 or 1, "
        "DeLong's or, with several pictures a patient, Obuchowski's for the AUC of two classes, MOVER for likelihood "
        "ratios, the sandwich variance for the calibration slope. Calibration errors have none. The intervals do not "
        "contain the variance of training again."
    )


def _performance(inputs: ReportInputs) -> str:
    metrics = inputs.evaluation.metrics
    shown = [
        f"{name_metric(key)} {_tell(metrics[key])}"
        for key in ("auc", "balanced_accuracy", "accuracy")
        if key in metrics
    ]
    point = default_point(inputs.evaluation)
    if point is not None and point.sensitivity is not None and point.specificity is not None:
        shown += [f"sensitivity {_tell(point.sensitivity)}", f"specificity {_tell(point.specificity)}"]
    return f"On the {name_split(inputs.evaluation.split)} set: {'; '.join(shown)}."


def _tell(estimate: Estimate) -> str:
    interval = format_interval(estimate)
    return format_number(estimate.value) + (f" ({interval})" if interval else "")


def _confusion(inputs: ReportInputs) -> str:
    counted = format_count(inputs.evaluation.n, inputs.evaluation.unit)
    return f"The confusion matrix of {counted} is in this report and in evaluation.json."


def _failures(inputs: ReportInputs) -> str:
    wrong = sum(score.prediction != score.label for score in inputs.scores)
    return f"{wrong} of {len(inputs.scores)} pictures were called another class; the surest are shown, like by like."


def _events(inputs: ReportInputs) -> str:
    counts = ", ".join(f"{name} {each.n}" for name, each in inputs.evaluation.per_class.items())
    return f"{name_units(inputs.evaluation)} by class on the {name_split(inputs.evaluation.split)} set: {counts}."


def _severity(inputs: ReportInputs) -> str:
    """Only grades tell of severity."""
    return _events(inputs) if inputs.evaluation.is_ordered else ""


def _subgroups(inputs: ReportInputs) -> str:
    parts = inputs.evaluation.subgroups
    if not parts:
        return "No subgroups were measured."
    columns = ", ".join(dict.fromkeys(part.column for part in parts))
    return f"Subgroups by {columns} are in this report, with their differences to all others."


def _abstention(inputs: ReportInputs) -> str:
    found = inputs.evaluation.abstentions
    if found is None:
        return ""
    n = inputs.evaluation.n_pictures or inputs.evaluation.n
    told = (
        f"The gate gave no answer on {found.n:,} of {n:,} pictures as unlike those trained on or not fit to be judged; "
        "the numbers count them all the same."
    )
    sets = inputs.evaluation.conformal
    if sets is None:
        return told
    return (
        f"{told} Conformal sets at {format_percent(sets.wanted)} held several classes for "
        f"{format_count(sets.n_several, inputs.evaluation.unit)}, none for {sets.n_empty}."
    )


def _missing(inputs: ReportInputs) -> str:
    return (
        f"{inputs.evaluation.n_failed} pictures could not be read or used and are in none of the numbers; nothing was "
        "imputed."
    )


def _explanation(inputs: ReportInputs) -> str:
    check = inputs.evaluation.evidence
    if check is None:
        return ""
    return f"Evidence maps by {check.method}, checked by deletion and by random heads on {check.n} pictures."


def _specification(inputs: ReportInputs) -> str:
    return (
        "The bundle (ONNX graph, preprocessing, thresholds, hashes of every file) predicts new pictures with "
        f"`snellen predict`; sha256 of its manifest: {inputs.evaluation.bundle_sha256}."
    )


def _software(inputs: ReportInputs) -> str:
    if inputs.run is None:
        return f"Snellen {inputs.evaluation.snellen_version}."
    shown = [f"{name} {version}" for name, version in inputs.run.versions.items()]
    return f"{list_some(shown, _SHOWN)}; {inputs.run.platform}; {inputs.run.device}."


def _shift(inputs: ReportInputs) -> str:
    found = inputs.evaluation.shift
    if found is None:
        return ""
    return (
        found.message
        or "As a whole these pictures measure as those of training do (brightness, sharpness, colour, look)."
    )


def _external(inputs: ReportInputs) -> str:
    """Of the run's own splits nothing is external, however the pictures measure."""
    return _shift(inputs) if inputs.evaluation.split == "all" else ""


def _internal(inputs: ReportInputs) -> str:
    return "" if inputs.evaluation.split == "all" else _performance(inputs)


def _openings(inputs: ReportInputs) -> str:
    n = inputs.evaluation.test_opened
    blind = "The model was given the pixels of a picture and nothing else: no label, no report, no clinical fact."
    opened = f" The test split was opened {format_count(n, 'time')} by this run."
    return blind + (opened if inputs.evaluation.split == "test" else "")


def _code(inputs: ReportInputs) -> str:
    command = f" Command: {inputs.run.command}." if inputs.run is not None else ""
    return f"Snellen {inputs.evaluation.snellen_version} (Apache-2.0).{command}"


def _audit_trail(inputs: ReportInputs) -> str:
    digest = inputs.evaluation.bundle_sha256
    return f"The scores of every picture are kept in a table beside this report, as the bundle {digest[:12]} gave them."


STATEMENTS: dict[str, Callable[[ReportInputs], str]] = {
    "abstention": _abstention,
    "audit_trail": _audit_trail,
    "calibration": _calibration,
    "code": _code,
    "confusion": _confusion,
    "data": _data,
    "disjoint": _disjoint,
    "ensemble": _ensemble,
    "events": _events,
    "explanation": _explanation,
    "external": _external,
    "failures": _failures,
    "imbalance": _imbalance,
    "initialisation": _initialisation,
    "internal": _internal,
    "metrics": _metrics,
    "missing": _missing,
    "model": _model,
    "openings": _openings,
    "output": _output,
    "partition": _partition,
    "performance": _performance,
    "preprocessing": _preprocessing,
    "quality": _quality,
    "selection": _selection,
    "severity": _severity,
    "shift": _shift,
    "software": _software,
    "specification": _specification,
    "subgroups": _subgroups,
    "training": _training,
    "uncertainty": _uncertainty,
    "updating": _updating,
}

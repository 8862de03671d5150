"""What a frozen network adds to the audit: likely wrong labels, pictures like no other, patients who may be one.

`snellen audit` computes features where a network and its weights are at hand, in the caches that `train` reads;
`train` has them anyway, and asks of training and validation pictures only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import SnellenError
from snellen.core.progress import say
from snellen.core.runtime import count_threads, has_package
from snellen.imaging.cache import PixelCache
from snellen.ingest.feature_space import build_space
from snellen.ingest.grouped_probe import list_small_classes, tell_small_classes
from snellen.ingest.label_checks import Labelled, check_labels, find_label_obstacle, find_suspects, probe_features
from snellen.ingest.likeness_checks import check_likeness, check_outliers
from snellen.metrics.calibration import apply_temperature
from snellen.modeling.weights import PACKAGES, find_offline_weights, load_weights
from snellen.planning.fingerprint import compute_fingerprint
from snellen.planning.needs import compute_needs
from snellen.planning.planner import Machine, choose_plan
from snellen.planning.recipe_files import load_recipe
from snellen.planning.splits import join_groups
from snellen.records.audit import LabelCheck
from snellen.records.cohort import PARTS, Cohort, Issue, Sample, Split
from snellen.records.plan import Fingerprint, Plan
from snellen.run_audit import FEWEST_ALIKE, MOST_ALIKE, save_audit, tell_labels_left_out, tell_left_out
from snellen.run_features import build_frozen, export_backbone
from snellen.run_learning import Learned
from snellen.run_preparation import Prepared
from snellen.runs import Run
from snellen.training.features import FeatureStore

_ASKED = ("likely_wrong_labels", "outlying_pictures", "patients_look_alike")


def examine_likeness(cohort: Cohort, splits: Sequence[Split], cache: Path) -> Cohort:
    """The cohort with what features say, or with an issue that tells why they could not be asked."""
    try:
        obstacle, features, by = compute_features(cohort, splits, cache)
    except SnellenError as error:
        obstacle, features, by = error.message, np.zeros((0, 0), np.float32), ""
    if obstacle:
        return add_issues(cohort, [tell_left_out(obstacle)])
    return add_likeness(cohort, cohort.samples, features, by, None)


def complete_audit(prepared: Prepared, learned: Learned, built: tuple[PixelCache, FeatureStore]) -> Cohort:
    """The run's cohort with what its own features say of training and validation pictures; test is not looked at.

    With folds the probabilities are the run's own, of the member that did not see the picture.
    """
    pixels, store = built
    samples = learned.samples if learned.folds is not None else [*prepared.members("train"), *prepared.members("val")]
    if not FEWEST_ALIKE <= len(samples) <= MOST_ALIKE:
        return prepared.cohort
    features = store.compute(pixels.select(samples), 0).load()[0]
    by, own = prepared.plan.model.backbone, None
    if learned.folds is not None:
        by, own = f"{by}, by the run's own folds", apply_temperature(learned.logits, 1.0)
    cohort = add_likeness(prepared.cohort, samples, features, by, own)
    for issue in cohort.audit.issues:
        if issue.code in _ASKED:
            say(f"{issue.severity.capitalize()}: {issue.message}")
    return cohort


def settle_audit(run: Run, cohort: Cohort, splits: Sequence[Split]) -> None:
    """The run's audit once more, with the model's AUC beside the shortcuts and in what the intervals need."""
    evaluation = run.evaluation
    auc = evaluation.metrics.get("auc")
    model = None if auc is None or auc.value is None else (evaluation.split, auc)
    if model is not None:
        needs = compute_needs(cohort, splits, model[1].value)
        cohort = cohort.model_copy(update={"audit": cohort.audit.model_copy(update={"needs": needs})})
    save_audit(run.folder, cohort, splits, run.record.request.source, model)


def add_issues(cohort: Cohort, issues: Sequence[Issue]) -> Cohort:
    """The cohort with more issues."""
    return cohort.model_copy(update={"audit": cohort.audit.with_issues(issues)})


def compute_features(cohort: Cohort, splits: Sequence[Split], cache: Path) -> tuple[str, NDArray[np.float32], str]:
    """Why there are none, or features `(N, D)` of all samples with the network's name."""
    none = np.zeros((0, 0), np.float32)
    train = {row.sample for row in splits if row.split == "train"}
    fingerprint = compute_fingerprint([each for each in cohort.samples if each.name in train], Path(cohort.root))
    plan = _plan(cohort, fingerprint)
    name = plan.model.backbone
    if find_offline_weights(name, plan.model.weights) is None:
        return f"the weights of {name} are not on this machine", none, ""
    frozen = build_frozen(plan)
    load_weights(frozen.backbone, name, plan.model.weights)
    graph = export_backbone(frozen, plan, cache)
    prepared = Prepared(cohort, tuple(splits), fingerprint, plan, cache)
    used = [sample for part in PARTS for sample in prepared.members(part)]
    rest = [sample for sample in cohort.samples if sample.name not in {each.name for each in used}]
    pixels = prepared.build_pixels([*used, *rest])
    store = FeatureStore(graph, pixels, plan.augment, cache, plan.training.seed, plan.training.threads)
    return "", store.compute(pixels.select(cohort.samples), 0).load()[0], name


def _plan(cohort: Cohort, fingerprint: Fingerprint) -> Plan:
    """What `train` would plan by default, so that its caches are filled with what it will ask for."""
    has_offline = any(has_package(package.module) for package in PACKAGES.values())
    return choose_plan(load_recipe("auto"), cohort, fingerprint, Machine(count_threads(), 0, has_offline))


def add_likeness(
    cohort: Cohort,
    samples: Sequence[Sample],
    features: NDArray[np.float32],
    by: str,
    probabilities: NDArray[np.float64] | None,
) -> Cohort:
    """The cohort with what `features` `(N, D)` of `samples` say of them: outliers, likeness, labels.

    `probabilities` `(N, C)` are of whatever did not see the picture's group; without them a probe is asked. Classes of
    too few patients for a probe keep their labels unasked, and an issue says so.
    """
    groups = join_groups(cohort)
    data = Labelled(samples, cohort.classes, [groups[sample.name] for sample in samples], cohort.is_ordered)
    space = build_space(features, data.groups)
    issues = [*check_outliers(samples, space), *check_likeness(samples, space)]
    small = set(list_small_classes([sample.label for sample in samples], data.groups))
    is_asked = np.array([sample.label not in small for sample in samples])
    if small:
        data, features = data.select(is_asked), features[is_asked]
    if obstacle := find_label_obstacle(data):
        return add_issues(cohort, [*issues, tell_labels_left_out(obstacle)])
    if small:
        issues.append(tell_labels_left_out(tell_small_classes(sorted(small)), is_in_part=True))
        space = build_space(features, data.groups)
    given = probe_features(features, data)[0] if probabilities is None else probabilities[is_asked]
    found: LabelCheck = find_suspects(given, space, data, by)
    cohort = add_issues(cohort, [*issues, *check_labels(found)])
    return cohort.model_copy(update={"audit": cohort.audit.model_copy(update={"labels": found})})

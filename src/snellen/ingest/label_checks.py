"""Which labels may be wrong: a probe on frozen features that saw nothing of the patient, cleanlab, and neighbours.

This room knows features, labels and groups. It must not know networks or files. Needs scikit-learn and cleanlab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snellen.core.letters import agree
from snellen.core.quiet import hush_warnings
from snellen.core.runtime import has_package
from snellen.ingest.feature_space import Space
from snellen.ingest.grouped_probe import Question, ask, compute_auc, find_obstacle
from snellen.metrics.calibration import apply_temperature, fit_temperature
from snellen.records.audit import LabelCheck, Neighbour, Suspect
from snellen.records.cohort import Issue, Sample

MOST_SUSPECTS = 60
_FEWEST = 60
_WEAK_PROBE = 0.8
_SURE, _UNLIKELY = 0.9, 0.03  # of calibrated probabilities; bench/label_check.py measures what that gives
_AGREE = 4
_SHARE = 0.01
_FEW = 5

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """Samples with the classes' order, and the group of each: patients with all copies of their pictures."""

    samples: Sequence[Sample]
    classes: Sequence[str]
    groups: Sequence[str]
    is_ordered: bool = False

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([self.classes.index(sample.label) for sample in self.samples], np.int64)

    def select(self, is_kept: NDArray[np.bool_]) -> Labelled:
        """The samples where `is_kept` `(N,)`; the classes stay."""
        rows = np.flatnonzero(is_kept).tolist()
        return replace(self, samples=[self.samples[row] for row in rows], groups=[self.groups[row] for row in rows])


def find_label_obstacle(data: Labelled) -> str:
    """Why labels cannot be checked, in words; nothing where they can."""
    if not has_package("cleanlab"):
        return "cleanlab is not installed: pip install 'snellen[eval]'"
    if len(data.samples) < _FEWEST:
        return f"fewer than {_FEWEST} pictures"
    return find_obstacle([sample.label for sample in data.samples], data.groups)


def probe_features(features: NDArray[np.float32], data: Labelled) -> tuple[Wide, Question]:
    """Out-of-fold probabilities `(N, C)` of a logistic regression, columns in the order of `data.classes`."""
    from sklearn.linear_model import LogisticRegression

    named = ask([f"{number:06d}" for number in data.labels], data.groups)
    mean, std = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-2)
    # distances of pictures are kept by principal components, which need no label
    scaled = _rotate((features - mean) / std)
    found = np.zeros((len(features), len(data.classes)))
    present = np.unique(data.labels)
    for fold in range(named.n_folds):
        held = named.folds == fold
        model = LogisticRegression(C=0.02, max_iter=300).fit(scaled[~held], named.labels[~held])
        columns = present[model.classes_]
        found[np.ix_(held, columns)] = model.predict_proba(scaled[held])
    question = Question(data.labels, named.groups, named.folds)
    return found, question


def _rotate(values: NDArray[np.float32]) -> NDArray[np.float32]:
    n_components = min(256, values.shape[1], len(values) - 1)
    _, vectors = np.linalg.eigh(values.T @ values)
    return np.asarray(values @ vectors[:, ::-1][:, :n_components], np.float32)


def find_suspects(probabilities: Wide, space: Space, data: Labelled, by: str) -> LabelCheck:
    """Suspects, the surest first. `probabilities` `(N, C)` are of whatever did not see the picture's group."""
    labels = data.labels
    logits = np.log(probabilities + 1e-9)
    probabilities = apply_temperature(logits, fit_temperature(logits, labels).temperature)  # a probe is too sure
    auc = compute_auc(probabilities, labels)
    flagged = _flag(labels, probabilities)
    own = probabilities[np.arange(len(labels)), labels]
    suggested = probabilities.argmax(axis=1)
    best = probabilities.max(axis=1)
    order = [row for row in np.argsort(own - best, kind="stable") if flagged[row] and suggested[row] != labels[row]]
    agree = (labels[space.near] == suggested[:, None]).sum(axis=1)
    step = np.abs(suggested - labels)
    is_strong = flagged & (best >= _SURE) & (own <= _UNLIKELY) & (agree >= _AGREE)
    is_strong &= auc >= _WEAK_PROBE
    if data.is_ordered:
        is_strong &= step >= 2  # graders differ by one grade every day
    order.sort(key=lambda row: not is_strong[row])
    suspects = tuple(
        Suspect(
            sample=data.samples[row].name,
            label=data.classes[labels[row]],
            suggested=data.classes[suggested[row]],
            probability=round(float(own[row]), 4),
            probability_suggested=round(float(best[row]), 4),
            neighbours=tuple(
                Neighbour(sample=data.samples[near].name, label=data.samples[near].label)
                for near in space.near[row][:4]
            ),
            is_strong=bool(is_strong[row]),
        )
        for row in order[:MOST_SUSPECTS]
    )
    return LabelCheck(by=by, n=len(labels), auc=None if np.isnan(auc) else round(auc, 4), suspects=suspects)


def _flag(labels: NDArray[np.int64], probabilities: Wide) -> NDArray[np.bool_]:
    """What cleanlab's confident learning (Northcutt et al. 2021) counts off the diagonal of its joint."""
    present = np.unique(labels)
    if len(present) < 2:
        return np.zeros(len(labels), bool)
    own = probabilities[:, present] + 1e-12
    with hush_warnings():  # of packages that only its progress bars need
        from cleanlab.filter import find_label_issues

        found = find_label_issues(
            np.searchsorted(present, labels),
            own / own.sum(axis=1, keepdims=True),
            filter_by="confident_learning",
            n_jobs=1,
        )
    return np.asarray(found, bool)


def check_labels(found: LabelCheck) -> list[Issue]:
    """A warning where many labels are surely doubtful, a word where some are."""
    strong = [each for each in found.suspects if each.is_strong]
    if not strong:
        return []
    first = strong[0]
    several = len(strong) >= max(_FEW, _SHARE * found.n)
    return [
        Issue(
            code="likely_wrong_labels",
            severity="warning" if several else "info",
            message=f"{len(strong):,} of {found.n:,} labels {agree(len(strong), 'are')} likely wrong: a probe that "
            "never saw the patient and the "
            f"most similar pictures of other patients agree on another class, such as {first.sample} "
            f"({first.label}, looks like {first.suggested}).",
            advice="Have an expert look at them without their labels. Snellen changes none, and a rare kind of a "
            "disease looks like an error too.",
            samples=tuple(each.sample for each in strong),
        )
    ]

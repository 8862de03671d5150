"""How well classes can be told from a table of numbers: cross-validated, so that no group is in two folds.

This room knows numbers, labels and groups. It must not know what the numbers mean. Needs scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from snellen.core.letters import show_class
from snellen.core.quiet import hush_warnings
from snellen.core.runtime import has_package
from snellen.metrics.intervals import PatientBootstrap, choose_estimate
from snellen.metrics.ranking import compute_weighted_auc
from snellen.records.evaluation import Estimate, Intervals

FOLDS = 5
_RESAMPLES = 500
_LEVEL = 0.95
TREES = 60
FEWEST_GROUPS = 3

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """Who is what: class indices `labels` `(N,)`, `groups` `(N,)` that are never divided, and a fold each `(N,)`."""

    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    folds: NDArray[np.intp]

    @property
    def n_folds(self) -> int:
        return int(self.folds.max(initial=-1)) + 1

    @cached_property
    def bootstrap(self) -> PatientBootstrap:
        """Resamples of the groups, drawn once for all that is asked."""
        settings = Intervals(level=_LEVEL, n_resamples=_RESAMPLES, unit="patient", seed=0)
        return PatientBootstrap(self.labels, self.groups, settings)

    @property
    def n_effective(self) -> float:
        """The harmonic mean of the groups of a class and of the rest, for the class where that is least."""
        counts = [len(np.unique(self.groups[self.labels == label])) for label in np.unique(self.labels)]
        return min(2 * n * (sum(counts) - n) / sum(counts) for n in counts)


def list_small_classes(labels: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Classes of too few groups to be told apart in every fold, in sorted order."""
    counts = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    return sorted(label for label, n in counts.items() if n < FEWEST_GROUPS)


def find_obstacle(labels: Sequence[str], groups: Sequence[str]) -> str:
    """Why no probe can be cross-validated, in words; nothing where one can."""
    if not has_package("sklearn"):
        return "scikit-learn is not installed: pip install 'snellen[eval]'"
    if len(set(labels)) < 2:
        return "there is one class only"
    few = list_small_classes(labels, groups)
    return tell_small_classes(few) if few else ""


def tell_small_classes(classes: Sequence[str]) -> str:
    """Which classes have too few groups, in words."""
    more = f" and {len(classes) - 3} more" if len(classes) > 3 else ""
    return f"fewer than {FEWEST_GROUPS} patients of {', '.join(map(show_class, classes[:3]))}{more}"


def ask(labels: Sequence[str], groups: Sequence[str]) -> Question:
    """Classes as indices in sorted order, and up to five folds that each see every class where that is possible."""
    from sklearn.model_selection import StratifiedGroupKFold

    names = sorted(set(labels))
    numbers = np.array([names.index(label) for label in labels], np.int64)
    own = np.asarray(groups, np.str_)
    fewest = min(len(np.unique(own[numbers == number])) for number in range(len(names)))
    folds = np.zeros(len(numbers), np.intp)
    with hush_warnings():  # of classes smaller than the number of folds
        splitter = StratifiedGroupKFold(n_splits=min(FOLDS, fewest), shuffle=True, random_state=0)
        for fold, (_, held) in enumerate(splitter.split(numbers, numbers, own)):
            folds[held] = fold
    return Question(numbers, own, folds)


def probe_table(table: NDArray[np.float32], question: Question, trees: int = TREES) -> Wide:
    """Probabilities `(N, C)` of each row of `table` `(N, D)` by a forest that saw no row of its group."""
    from sklearn.ensemble import ExtraTreesClassifier

    n_classes = int(question.labels.max()) + 1
    values = np.nan_to_num(table.astype(np.float32), nan=-1.0, posinf=1e9, neginf=-1e9)
    found = np.zeros((len(values), n_classes))
    for fold in range(question.n_folds):
        held = question.folds == fold
        forest = ExtraTreesClassifier(
            n_estimators=trees,
            min_samples_leaf=max(2, len(values) // 1000),
            class_weight="balanced",
            random_state=0,
            n_jobs=1,
        )
        forest.fit(values[~held], question.labels[~held])
        found[np.ix_(held, forest.classes_)] = forest.predict_proba(values[held])
    return found


def compute_auc(probabilities: Wide, labels: NDArray[np.int64]) -> float:
    """Macro one-vs-rest AUC of the classes that have pictures on both sides; NaN where none has."""
    weights = np.ones((1, len(labels)))
    columns = [column for column in range(probabilities.shape[1]) if 0 < (labels == column).sum() < len(labels)]
    each = [compute_weighted_auc(labels == column, probabilities[:, column], weights)[0] for column in columns]
    return float(np.mean(each)) if each else float("nan")


def estimate_auc(probabilities: Wide, question: Question) -> Estimate:
    """Macro one-vs-rest AUC with the 95 % interval of a bootstrap over groups.

    Where all is told apart no resample differs: then the interval is Wilson's.
    """

    def score(weights: Wide) -> dict[str, Wide]:
        columns = range(probabilities.shape[1])
        each = [compute_weighted_auc(question.labels == c, probabilities[:, c], weights) for c in columns]
        return {"auc": np.mean(each, axis=0)}

    value = compute_auc(probabilities, question.labels)
    return choose_estimate(value, question.bootstrap.run(score)["auc"], _LEVEL, question.n_effective)

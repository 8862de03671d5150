"""What features say of samples: classes too small for a probe are left out of it, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from pictures import make_cohort, make_sample
from snellen.run_likeness import add_likeness

CLASSES = ("a", "b", "rare")


def ask_about(n_rare: int, *, is_from_folds: bool = False):
    """180 patients of two classes that lie apart, four labels exchanged, and a few patients of a third class."""
    random = np.random.default_rng(0)
    numbers = np.concatenate([np.arange(180) % 2, np.full(n_rare, 2)])
    features = 6 * np.eye(3, 40)[numbers] + random.normal(0, 0.5, (len(numbers), 40))
    told = [1 - number if at < 4 else number for at, number in enumerate(numbers)]
    samples = [make_sample(f"{at}.png", CLASSES[number]) for at, number in enumerate(told)]
    own = np.full((len(numbers), 3), 0.01)
    own[np.arange(len(numbers)), numbers] = 0.98
    given = own if is_from_folds else None
    return add_likeness(make_cohort(samples, CLASSES), samples, features.astype(np.float32), "a network", given).audit


def tell(audit, code: str) -> list[str]:
    return [issue.message for issue in audit.issues if issue.code == code]


@pytest.mark.parametrize("is_from_folds", [False, True])
def test_a_class_of_two_patients_does_not_keep_the_others_from_being_asked(is_from_folds):
    audit = ask_about(2, is_from_folds=is_from_folds)
    assert audit.labels.n == 180
    found = {each.sample: each.suggested for each in audit.labels.suspects}
    assert len(found) >= 3
    assert found.items() <= {"0.png": "a", "1.png": "b", "2.png": "a", "3.png": "b"}.items()
    (message,) = tell(audit, "labels_left_out")
    assert "not looked for in all classes: fewer than 3 patients of rare" in message


def test_every_class_is_asked_where_all_have_patients_enough():
    audit = ask_about(6)
    assert audit.labels.n == 186
    assert tell(audit, "labels_left_out") == []


def test_one_class_left_to_ask_is_told_and_outliers_are_still_looked_for():
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (82, 40)).astype(np.float32)
    features[0] += 60
    samples = [make_sample(f"{at}.png", "a" if at < 80 else "b") for at in range(82)]
    audit = add_likeness(make_cohort(samples, ("a", "b")), samples, features, "a network", None).audit
    assert audit.labels is None
    assert tell(audit, "labels_left_out") == ["Likely wrong labels were not looked for: there is one class only."]
    assert any("0.png" in issue.samples for issue in audit.issues if issue.code == "outlying_pictures")

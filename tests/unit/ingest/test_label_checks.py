"""Wrong labels, outliers and patients who are one, found in features whose truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pictures import make_sample
from snellen.ingest.feature_space import build_space
from snellen.ingest.label_checks import Labelled, check_labels, find_label_obstacle, find_suspects, probe_features
from snellen.ingest.likeness_checks import check_likeness, check_outliers
from snellen.records.audit import LabelCheck
from snellen.records.cohort import Sample

CLASSES = ("a", "b", "c")


def make_features(n_patients: int, n_each: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three classes apart, patients apart within them, pictures of a patient close together: `(N, 40)` and class."""
    random = np.random.default_rng(seed)
    labels = np.arange(n_patients) % 3
    centre = 6 * np.eye(3, 40)[labels] + random.normal(0, 1, (n_patients, 40))
    features = np.repeat(centre, n_each, axis=0) + random.normal(0, 0.15, (n_patients * n_each, 40))
    return features.astype(np.float32), np.repeat(labels, n_each)


def name_samples(labels: NDArray[np.int64], n_each: int) -> list[Sample]:
    return [make_sample(f"{at}.png", CLASSES[label], str(at // n_each)) for at, label in enumerate(labels)]


def look_for(features: NDArray[np.float32], samples: list[Sample], *, is_ordered: bool = False) -> LabelCheck:
    data = Labelled(samples, CLASSES, [sample.patient for sample in samples], is_ordered)
    assert find_label_obstacle(data) == ""
    probabilities, question = probe_features(features, data)
    assert question.n_folds == 5
    return find_suspects(probabilities, build_space(features, data.groups), data, "a network")


def test_exchanged_labels_are_strong_suspects_and_no_others() -> None:
    features, labels = make_features(180, 1)
    wrong = {3, 62, 140}
    given = np.array([(label + 1) % 3 if at in wrong else label for at, label in enumerate(labels)])
    found = look_for(features, name_samples(given, 1))
    strong = {each.sample: each.suggested for each in found.suspects if each.is_strong}
    assert set(strong) <= {f"{at}.png" for at in wrong}
    assert len(strong) >= 1
    assert found.suspects[0].is_strong
    assert all(each.probability <= 0.03 for each in found.suspects if each.is_strong)
    assert all(strong[name] == CLASSES[labels[int(name.removesuffix(".png"))]] for name in strong)
    issue = check_labels(found)[0]
    assert (issue.code, issue.severity) == ("likely_wrong_labels", "info")
    assert set(issue.samples) == set(strong)


def test_right_labels_give_no_issue() -> None:
    features, labels = make_features(90, 2)
    assert check_labels(look_for(features, name_samples(labels, 2))) == []


def test_labels_drawn_by_chance_give_no_strong_suspect() -> None:
    features, _ = make_features(90, 1)
    drawn = np.random.default_rng(5).integers(0, 3, 90)
    assert check_labels(look_for(features, name_samples(drawn, 1))) == []


def test_grades_one_apart_are_no_strong_suspects() -> None:
    features, labels = make_features(90, 1)
    given = labels.copy()
    given[3], given[5] = 1, 0  # 0 called 1: graders differ so; 2 called 0: they do not
    strong = {
        each.sample for each in look_for(features, name_samples(given, 1), is_ordered=True).suspects if each.is_strong
    }
    assert strong <= {"5.png"}


def test_neighbours_are_of_other_patients() -> None:
    features, labels = make_features(40, 3)
    space = build_space(features, [str(at // 3) for at in range(120)])
    assert all(at // 3 not in {near // 3 for near in row} for at, row in enumerate(space.near.tolist()))
    assert (space.own_cosine > space.near_cosine[:, 0]).mean() > 0.95
    assert labels.shape == (120,)


def test_patients_who_are_one_are_hinted_at_and_told_patients_are_not() -> None:
    features, labels = make_features(60, 2)
    samples = name_samples(labels, 2)
    told = build_space(features, [sample.patient for sample in samples])
    assert check_likeness(samples, told) == []
    issues = check_likeness(samples, build_space(features, [sample.name for sample in samples]))
    assert [issue.code for issue in issues] == ["patients_look_alike"]
    first, second = issues[0].samples[:2]
    assert int(first.removesuffix(".png")) // 2 == int(second.removesuffix(".png")) // 2


def test_picture_like_no_other_is_an_outlier() -> None:
    features, labels = make_features(60, 2)
    samples = name_samples(labels, 2)
    assert check_outliers(samples, build_space(features, [sample.patient for sample in samples])) == []
    features[7] = np.random.default_rng(9).normal(0, 8, 40)
    issues = check_outliers(samples, build_space(features, [sample.patient for sample in samples]))
    assert [issue.samples for issue in issues] == [("7.png",)]


def test_too_few_pictures_are_an_obstacle_in_words() -> None:
    samples = [make_sample(f"{at}.png", CLASSES[at % 3]) for at in range(12)]
    assert "fewer than 60" in find_label_obstacle(Labelled(samples, CLASSES, [sample.name for sample in samples]))

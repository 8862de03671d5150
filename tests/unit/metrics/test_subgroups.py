"""A part's scores are those of scoring it alone; what differs is told, what is luck is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from snellen.metrics.intervals import choose_estimate, compute_estimates, draw_patient_weights
from snellen.metrics.subgroups import Scored, compute_subgroups
from snellen.records.evaluation import Intervals

SETTINGS = Intervals(n_resamples=200, unit="patient", seed=0)


def draw(n: int = 400, *, spoiled: str = "") -> tuple[Scored, list[str]]:
    """Two pictures a patient, three sites; at the `spoiled` one the scores are noise."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.integers(0, 2, n // 2), 2)
    sites = np.repeat(random.choice(["A", "B", "C"], n // 2), 2)
    signal = np.where(sites == spoiled, 0.0, 2.0) * (labels - 0.5) + random.normal(0, 1, n)
    probability = 1 / (1 + np.exp(-signal))
    scored = Scored(
        labels=labels,
        probabilities=np.column_stack([1 - probability, probability]),
        patients=[f"P{row // 2}" for row in range(n)],
        classes=("no", "yes"),
        settings=SETTINGS,
        positive=1,
        threshold=0.4,
    )
    return scored, sites.tolist()


def test_scores_of_a_part_are_those_of_scoring_it_alone() -> None:
    scored, sites = draw()
    part = compute_subgroups(scored, {"site": sites})[1]
    inside = np.asarray(sites) == "B"
    assert (part.value, part.n) == ("B", int(inside.sum()))
    labels, probability = scored.labels[inside], scored.probabilities[inside, 1]
    patients = [name for name, is_in in zip(scored.patients, inside, strict=True) if is_in]
    alone = compute_estimates(labels, scored.probabilities[inside], patients, settings=SETTINGS, positive=1)
    assert part.metrics["auc"] == alone["auc"]
    assert part.metrics["auc"].value == pytest.approx(roc_auc_score(labels, probability))
    assert part.metrics["sensitivity"].value == pytest.approx(recall_score(labels, probability >= 0.4))
    assert part.metrics["specificity"].value == pytest.approx(recall_score(1 - labels, probability < 0.4))


def test_difference_is_that_to_all_others_on_the_same_resamples() -> None:
    scored, sites = draw()
    part = compute_subgroups(scored, {"site": sites})[0]
    inside = np.asarray(sites) == "A"
    called = scored.probabilities.argmax(1)
    found = part.differences["accuracy"]
    weights = draw_patient_weights(scored.labels, scored.patients, n_resamples=200, seed=0)
    hits = [
        accuracy_score(scored.labels[inside], called[inside], sample_weight=row[inside])
        - accuracy_score(scored.labels[~inside], called[~inside], sample_weight=row[~inside])
        for row in np.vstack([np.ones(len(inside)), weights])
    ]
    assert found.value == pytest.approx(hits[0])
    behind = min(len(set(np.arange(len(inside))[inside & (scored.labels == side)] // 2)) for side in (0, 1))
    expected = choose_estimate(float(hits[0]), np.array(hits[1:]), 0.95, n_behind=behind)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_spoiled_site_is_told_and_others_are_not() -> None:
    scored, sites = draw(spoiled="C")
    parts = {part.value: part for part in compute_subgroups(scored, {"site": sites})}
    assert "auc" in parts["C"].differs
    assert all(part.differs == () for part in compute_subgroups(*_pair(draw())))


def _pair(drawn: tuple[Scored, list[str]]) -> tuple[Scored, dict[str, list[str]]]:
    return drawn[0], {"site": drawn[1]}


def test_correction_counts_all_that_is_looked_at() -> None:
    scored, sites = draw()
    eyes = ["L" if row % 2 else "R" for row in range(len(sites))]
    # auc, balanced accuracy, accuracy, Brier score, sensitivity, specificity of three sites and one pair of eyes
    assert {part.n_compared for part in compute_subgroups(scored, {"site": sites, "eye": eyes})} == {4 * 6}


def test_small_parts_are_marked() -> None:
    scored, sites = draw()
    rare = ["D"] * 10 + sites[10:]
    parts = {part.value: part.is_small for part in compute_subgroups(scored, {"site": rare})}
    assert parts == {"A": False, "B": False, "C": False, "D": True}


def test_of_a_small_part_nothing_is_told() -> None:
    scored, sites = draw(spoiled="C")
    # two patients, of each class one, and all four pictures wrong
    few = [row for row in range(len(sites)) if scored.patients[row] in ("P0", "P1")]
    sites = ["D" if row in few else site for row, site in enumerate(sites)]
    labels, probabilities = scored.labels.copy(), scored.probabilities.copy()
    labels[few] = [0, 0, 1, 1]
    probabilities[few] = np.eye(2)[1 - labels[few]] * 0.98 + 0.01
    parts = compute_subgroups(replace(scored, labels=labels, probabilities=probabilities), {"site": sites})
    told = {part.value: bool(part.differs) for part in parts}
    assert told["C"]
    assert not told["D"]


def test_a_part_without_a_class_has_no_mean_over_classes() -> None:
    scored, _ = draw()
    by_label = ["sick" if label else "well" for label in scored.labels]
    part = compute_subgroups(scored, {"state": by_label})[0]
    assert part.metrics["auc"].value is None
    assert part.metrics["balanced_accuracy"].value is None
    assert part.metrics["accuracy"].value is not None
    assert part.differences["auc"].value is None


def test_grades_have_kappa_and_no_threshold() -> None:
    scored, sites = draw()
    three = replace(
        scored,
        labels=np.arange(400) // 2 % 3,
        probabilities=np.random.default_rng(1).dirichlet([1, 1, 1], 400),
        classes=("0", "1", "2"),
        is_ordered=True,
        positive=None,
        threshold=None,
    )
    found = compute_subgroups(three, {"site": sites})[0].metrics
    assert "kappa_quadratic" in found
    assert "sensitivity" not in found


def test_bands_stand_in_their_order_and_the_unknown_last() -> None:
    scored, _ = draw()
    bands = ["51 to below 70", "below 51", "", "70 and above"] * 100
    assert [part.value for part in compute_subgroups(scored, {"age": bands})] == [
        "below 51", "51 to below 70", "70 and above", "",
    ]  # fmt: skip

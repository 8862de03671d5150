"""Re-weighting follows Bayes' rule, EM finds the mixture, and decisions at an operating point stay."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from models import CLASSES, deliver_plain_bundle, edit_manifest
from snellen.core.errors import BundleError, UsageError
from snellen.inference import prevalence
from snellen.inference.load import load_bundle, read_manifest
from snellen.inference.predictor import Predictor
from snellen.inference.prevalence import (
    choose_reweighting,
    compute_assumed,
    estimate_shares,
    move_threshold,
    read_prevalence,
    reweight,
)
from snellen.records.bundle import Manifest, Prediction

THREE = ("a", "b", "c")


def make_manifest(folder: Path, classes: tuple[str, ...] = CLASSES, **changes: Any) -> Manifest:
    deliver_plain_bundle(folder, classes, positive=classes[1] if len(classes) == 2 else None)
    edit_manifest(folder, **changes)
    return read_manifest(folder)


def draw_two_normals(share: float, n: int, trained_at: float = 0.5, seed: int = 0) -> np.ndarray:
    """Exact probabilities `(n, 2)`, as a model trained at one share says them, of values drawn at another."""
    random = np.random.default_rng(seed)
    values = random.normal(np.where(random.random(n) < share, 1.5, 0.0), 1.0)
    sick, healthy = trained_at * norm.pdf(values, 1.5), (1 - trained_at) * norm.pdf(values, 0)
    return np.column_stack([healthy, sick]) / (sick + healthy)[:, None]


def paint(red: int) -> np.ndarray:
    return np.full((8, 8, 3), (red, 0, 0), np.uint8)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """P(sick) = sigmoid(red / 255), trained with a quarter sick, positive from 0.6 on."""
    folder = tmp_path_factory.mktemp("prevalence") / "bundle"
    point = {"name": "moved", "rule": "youden", "threshold": 0.6, "chosen_on": "val", "is_default": True}
    make_manifest(folder, prevalence={"healthy": 0.75, "sick": 0.25}, thresholds=[point])
    return load_bundle(folder, threads=1)


def test_reweighted_probabilities_are_those_of_bayes() -> None:
    # likelihoods 0.9 : 0.3 at shares 0.5 : 0.5 give 0.75; at 0.1 : 0.9 they give 0.09 : 0.27
    found = reweight(np.array([[0.75, 0.25]]), np.array([0.5, 0.5]), np.array([0.1, 0.9]))
    np.testing.assert_allclose(found, [[0.25, 0.75]], rtol=1e-12)


def test_reweighting_gives_what_a_model_of_that_population_says() -> None:
    here, there = (draw_two_normals(0.3, 200, trained_at=share) for share in (0.5, 0.03))
    found = reweight(here, np.array([0.5, 0.5]), np.array([0.97, 0.03]))
    np.testing.assert_allclose(found, there, rtol=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_em_recovers_a_simulated_prevalence(share: float) -> None:
    probabilities = draw_two_normals(share, 5000)
    found = estimate_shares(probabilities, np.array([0.5, 0.5]))
    assert found.is_settled
    # classes 1.5 standard deviations apart: the standard error is below 0.012 with 5,000 pictures
    assert found.shares[1] == pytest.approx(share, abs=0.03)


def test_em_ends_at_the_maximum_of_the_likelihood() -> None:
    probabilities = draw_two_normals(0.2, 300, trained_at=0.4)
    ratios = probabilities / np.array([0.6, 0.4])
    best = minimize_scalar(
        lambda share: -np.log(ratios @ np.array([1 - share, share])).sum(), bounds=(0, 1), method="bounded",
        options={"xatol": 1e-9},
    ).x  # fmt: skip
    # steps end where a share moves by less than 1e-6, and they shrink by a factor near 0.7
    assert estimate_shares(probabilities, np.array([0.6, 0.4])).shares[1] == pytest.approx(best, abs=2e-5)


def test_em_of_three_classes_recovers_the_mixture() -> None:
    random = np.random.default_rng(1)
    mixture = np.array([0.7, 0.2, 0.1])
    centres = 2.5 * np.eye(3)
    values = centres[random.choice(3, 5000, p=mixture)] + random.normal(size=(5000, 3))
    likelihoods = np.exp(-((values[:, None] - centres) ** 2).sum(2) / 2)
    found = estimate_shares(likelihoods / likelihoods.sum(1, keepdims=True), np.full(3, 1 / 3))
    np.testing.assert_allclose(found.shares, mixture, atol=0.03)


def test_standard_error_is_the_spread_of_repeated_estimates() -> None:
    found = [estimate_shares(draw_two_normals(0.3, 400, seed=seed), np.array([0.5, 0.5])) for seed in range(100)]
    spread = np.std([one.shares[1] for one in found])
    # a standard deviation from 100 values has an error of 7 %
    assert np.mean([one.errors[1] for one in found]) == pytest.approx(spread, rel=0.25)
    assert found[0].errors[0] == pytest.approx(found[0].errors[1])


def test_standard_error_is_large_where_pictures_tell_nothing() -> None:
    assert estimate_shares(np.full((80, 2), 0.5), np.array([0.5, 0.5])).errors.min() > 0.5


def test_estimate_that_does_not_settle_says_so(plain: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prevalence, "MAX_ITERATIONS", 3)
    shares = draw_two_normals(0.02, 200, trained_at=0.25)[:, 1]
    found = choose_reweighting(None, [answer(float(share)) for share in shares], plain.manifest)
    assert found.estimate is not None
    assert (found.estimate.n_iterations, found.estimate.is_settled) == (3, False)
    assert "still moved after 3 steps" in found.describe()


@pytest.mark.parametrize("wanted", [0.001, 0.2, 0.25, 0.6, 0.99])
def test_moved_threshold_keeps_the_same_pictures(wanted: float) -> None:
    scores = np.random.default_rng(3).random(2000)
    assumed, new = np.array([0.75, 0.25]), np.array([1 - wanted, wanted])
    after = reweight(np.column_stack([1 - scores, scores]), assumed, new)[:, 1]
    moved = move_threshold(0.6, 1, assumed, new)
    assert ((after >= moved) == (scores >= 0.6)).all()


def test_threshold_that_nothing_reaches_stays() -> None:
    assert move_threshold(1.0000001, 1, np.array([0.5, 0.5]), np.array([0.9, 0.1])) == 1.0000001


@pytest.mark.parametrize("wanted", [0.01, 0.25, 0.9])
def test_decisions_at_the_operating_point_stay(plain: Predictor, wanted: float) -> None:
    pictures = [paint(red) for red in range(0, 256, 5)]
    before, after = plain.predict(pictures), plain.predict(pictures, prevalence=wanted)
    assert [row.decision for row in after] == [row.decision for row in before]
    assert len({row.decision for row in before}) == 2


def test_prediction_follows_the_new_probabilities(plain: Predictor) -> None:
    (before,), (after,) = plain.predict([paint(200)]), plain.predict([paint(200)], prevalence=0.01)
    assert (before.prediction, after.prediction) == ("sick", "healthy")


def test_predicted_probabilities_are_worked_out_by_hand(plain: Predictor) -> None:
    (found,) = plain.predict([paint(255)], prevalence=0.1)
    odds = np.e * (0.1 / 0.9) / (0.25 / 0.75)
    assert found.probabilities["sick"] == pytest.approx(odds / (1 + odds), abs=1e-6)  # float32 in the graph
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_training_prevalence_changes_nothing(plain: Predictor) -> None:
    (before,), (after,) = plain.predict([paint(90)]), plain.predict([paint(90)], prevalence=0.25)
    assert after.probabilities == pytest.approx(before.probabilities)


def test_picture_that_cannot_be_read_keeps_its_error(plain: Predictor, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    (found,) = plain.predict([tmp_path / "x.png"], prevalence=0.1)
    assert found.error
    assert found.probabilities == {}


def test_what_was_done_is_told(plain: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="snellen"):
        plain.predict([paint(255)], prevalence=0.1)
    # 0.6 has odds 1.5, times (1/9) / (1/3): odds 0.5
    assert "sick 0.1; in training healthy 0.75, sick 0.25" in caplog.text
    assert "moved from 0.6000 to 0.3333" in caplog.text


def answer(share: float, *, abstain: bool = False) -> Prediction:
    return Prediction(path="x", prediction="sick", probabilities={"healthy": 1 - share, "sick": share}, abstain=abstain)


def test_auto_estimates_from_the_pictures(plain: Predictor) -> None:
    shares = draw_two_normals(0.1, 400, trained_at=0.25)[:, 1]
    found = choose_reweighting(None, [answer(float(share)) for share in shares], plain.manifest)
    expected = estimate_shares(np.column_stack([1 - shares, shares]), np.array([0.75, 0.25])).shares
    np.testing.assert_allclose(found.wanted, expected)
    assert "estimated from 400 pictures" in found.describe()


def test_auto_looks_at_no_picture_it_abstains_on(plain: Predictor) -> None:
    rows = [answer(0.2), answer(0.6)] * 30
    found = choose_reweighting(None, [*rows, *[answer(0.99, abstain=True)] * 40], plain.manifest)
    np.testing.assert_allclose(found.wanted, choose_reweighting(None, rows, plain.manifest).wanted)


def test_auto_refuses_few_pictures(plain: Predictor) -> None:
    rows = [*[answer(0.4)] * 49, answer(0.4, abstain=True), Prediction(path="y", error="damaged")]
    with pytest.raises(UsageError, match="49 of 51 pictures"):
        choose_reweighting(None, rows, plain.manifest)


def test_shares_of_three_classes_are_read(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "bundle", THREE)
    for wish in ("c=0.2, a=0.7,b=0.1", {"a": 0.7, "b": 0.1, "c": 0.2}):
        np.testing.assert_allclose(read_prevalence(wish, manifest), [0.7, 0.1, 0.2])


def test_names_with_commas_and_equals_signs_are_read(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "bundle", ("a,b", "c=d", "e"))
    np.testing.assert_allclose(read_prevalence("a,b=0.5,c=d=0.3,e=2e-1", manifest), [0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ("0", "between 0 and 1"), ("1", "between 0 and 1"), (1.5, "between 0 and 1"), ("nan", "between 0 and 1"),
        ("much", "no prevalence"), ("sick=0.1,sick=0.9", "no prevalence"), ("sick=0.1", "healthy has no share"),
        ("sick=0.1,well=0.9", "well is no class"), ("sick=0.2,healthy=0.9", "add up to 1.1"),
        ("sick=0,healthy=1", "share is above 0"), ("", "no prevalence"),
    ],
)  # fmt: skip
def test_what_is_no_prevalence_is_refused(plain: Predictor, wish: str | float, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_prevalence(wish, plain.manifest)


def test_one_number_for_three_classes_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "bundle", THREE)
    with pytest.raises(UsageError, match="3 classes") as caught:
        read_prevalence("0.3", manifest)
    assert "a=0.8,b=0.1,c=0.1" in caught.value.hint


def test_shares_a_millionth_off_are_taken(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "bundle", THREE)
    found = read_prevalence("a=0.333333,b=0.333333,c=0.333333", manifest)
    assert found is not None
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_older_bundle_stands_on_its_counts(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "bundle")
    assert manifest.prevalence == {}
    np.testing.assert_allclose(compute_assumed(manifest), [0.5, 0.5])  # 45 pictures of each class


def test_fitted_bias_assumes_the_shares_it_was_fitted_on(tmp_path: Path) -> None:
    calibration = {
        "method": "bias_and_temperature", "temperature": 1.0, "bias": [0.1, -0.1], "fitted_on": "val", "n": 40,
        "prevalence": {"healthy": 0.9, "sick": 0.1},
    }  # fmt: skip
    manifest = make_manifest(tmp_path / "bundle", calibration=calibration, prevalence={"healthy": 0.5, "sick": 0.5})
    np.testing.assert_allclose(compute_assumed(manifest), [0.9, 0.1])


def test_bundle_without_a_share_of_a_class_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "bundle", prevalence={"healthy": 1.0, "sick": 0.0})
    with pytest.raises(BundleError, match="sick"):
        read_prevalence(0.1, manifest)

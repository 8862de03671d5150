"""One picture laid on another: from a guess near the truth to the truth, and what a glance tells beforehand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from snellen.imaging.comparable import Comparable, make_comparable
from snellen.imaging.registration import glance, measure, refine, settle
from snellen.ingest.phantom import draw_picture

SIDE = 256
CORNERS = np.array([[40.0, 40.0, 1.0], [215.0, 60.0, 1.0], [128.0, 200.0, 1.0]])


def draw(seed: int) -> NDArray[np.uint8]:
    return cv2.resize(draw_picture("fundus", "grade_1", patient_seed=seed), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def turn(degrees: float, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """Takes points of the picture to points of the turned one."""
    made = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, scale)
    made[:, 2] += shift
    return np.asarray(made, np.float64)


def lay(picture: NDArray[np.uint8], transform: NDArray[np.float64]) -> Comparable:
    return make_comparable(cv2.warpAffine(picture, transform, (SIDE, SIDE)), SIDE)


def measure_miss(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """The largest error in pixels at three points of the picture."""
    return float(np.linalg.norm(CORNERS @ (found - truth).T, axis=1).max())


TRUTHS = [turn(20), turn(-35, 0.8, (6, -4)), turn(3, 1.2)]
OFF = [np.array([[0, 0, 3.0], [0, 0, -3.0]]), np.array([[0.02, -0.02, 0], [0.02, 0.02, 0]])]


@pytest.mark.parametrize("truth", TRUTHS, ids=["turned", "shrunk", "grown"])
@pytest.mark.parametrize("off", OFF, ids=["shifted", "turned and grown"])
def test_guess_near_the_truth_becomes_the_truth(truth: NDArray[np.float64], off: NDArray[np.float64]) -> None:
    picture = draw(5)
    one, two = make_comparable(picture, SIDE), lay(picture, truth)
    assert measure_miss(truth + off, truth) > 2
    refined = refine(one, two, truth + off)
    assert refined is not None
    assert measure_miss(refined, truth) < 0.5
    assert measure_miss(settle(one, two, refined), truth) < 0.25


def test_rough_guess_of_a_turn_becomes_the_truth() -> None:
    picture, truth = draw(5), turn(64)
    one, two = make_comparable(picture, SIDE), lay(picture, truth)
    refined = refine(one, two, turn(60), is_rough=True)
    assert refined is not None
    assert measure_miss(refined, truth) < 0.5


def test_glance_tells_the_same_picture_from_another_and_from_a_wrong_place() -> None:
    picture, truth = draw(5), turn(20)
    one = make_comparable(picture, SIDE)
    assert glance(one, lay(picture, truth), truth) > 0.9
    assert glance(one, lay(picture, truth), turn(50)) < 0.5
    assert glance(one, lay(draw(6), truth), truth) < 0.7
    assert glance(one, lay(picture, truth), turn(20, 1.0, (300, 0))) == -1


def test_measure_sees_the_same_at_the_truth_and_less_beside_it() -> None:
    picture, truth = draw(5), turn(20)
    one, two = make_comparable(picture, SIDE), lay(picture, truth)
    right, beside = measure(one, two, truth), measure(one, two, truth + OFF[0])
    assert right is not None
    assert beside is not None
    assert right.correlations[1:].min() > 0.9
    assert beside.correlations[1] < 0.7

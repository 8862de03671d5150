"""The checks of evidence maps tell maps that follow the graph from maps that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth
from snellen.evaluation.evidence_check import SHARES, check_evidence
from snellen.evaluation.evidence_figures import build_evidence, describe_evidence, draw_evidence
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.records.evaluation import EvidenceCheck


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Red is sick."""
    folder = tmp_path_factory.mktemp("plain")
    deliver_plain_bundle(folder, positive="sick", weight=np.array([[-30, 30], [0, 0], [0, 0]], np.float32))
    return load_bundle(folder, threads=1)


def draw_pictures() -> list[np.ndarray]:
    return [draw_smooth(seed, 8, 8) for seed in range(5)]


def test_no_picture_is_no_check(predictor: Predictor) -> None:
    assert check_evidence(predictor, [], 0) is None


def test_check_is_the_same_for_the_same_seed(predictor: Predictor) -> None:
    found = check_evidence(predictor, draw_pictures(), 3)
    assert found == check_evidence(predictor, draw_pictures(), 3)
    assert found is not None
    assert (found.n, found.shares, found.method) == (4, SHARES, "occlusion")
    assert len(found.by_map) == len(found.by_random) == len(SHARES)
    assert len(found.random_head) == 4


def test_curves_begin_with_the_picture_and_end_with_the_whole_of_it_blurred(predictor: Predictor) -> None:
    found = check_evidence(predictor, draw_pictures(), 3)
    assert found is not None
    assert (found.by_map[0], found.by_map[-1]) == (found.by_random[0], found.by_random[-1])


def test_random_head_is_told_from_the_own(predictor: Predictor) -> None:
    class Stuck:
        """Maps that do not look at the head: each head has the same."""

        def __init__(self, inner: Predictor) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def open_explainer(self) -> Any:
            class Same:
                method = "occlusion"

                def explain_beside_random(self, pixels: np.ndarray, _at: int, seeds: list[int]) -> list[np.ndarray]:
                    return [pixels[..., 0].astype(np.float32) / 255] * (1 + len(seeds))

            return Same()

    stuck = check_evidence(Stuck(predictor), draw_pictures(), 3)  # type: ignore[arg-type]
    own = check_evidence(predictor, draw_pictures(), 3)
    assert stuck is not None
    assert own is not None
    assert min(stuck.random_head) > 0.99
    assert "do not rely" in describe_evidence(stuck)
    assert np.median(own.random_head) < 0.95


def make_check(**changes: Any) -> EvidenceCheck:
    plain: dict[str, Any] = {
        "method": "class activation", "n": 3, "shares": (0.0, 0.5, 1.0), "by_map": (0.9, 0.3, 0.2),
        "by_random": (0.9, 0.6, 0.2), "n_faster": 3, "random_head": (0.1, 0.2, 0.3),
    }  # fmt: skip
    return EvidenceCheck(**{**plain, **changes})


def test_what_the_checks_found_is_said_in_words() -> None:
    told = describe_evidence(make_check())
    assert "faster than the same map moved at random in 3 of 3 pictures" in told
    assert "0.20" in told
    assert "do not rely" not in told


@pytest.mark.parametrize("changes", [{"by_map": (0.9, 0.7, 0.2)}, {"random_head": (0.9, 0.8, 0.9)}])
def test_maps_that_fail_a_check_are_not_to_be_relied_on(changes: dict[str, Any]) -> None:
    assert "do not rely" in describe_evidence(make_check(**changes))


def test_figure_and_table_hold_the_curves() -> None:
    drawing = draw_evidence(make_check())
    assert "by the map" in drawing.svg
    assert build_evidence(make_check()).rows[1] == ("50\u00a0%", "0.300", "0.600")


def test_check_of_a_single_picture_is_drawn(tmp_path: Path) -> None:
    assert draw_evidence(make_check(n=1, n_faster=1, random_head=(0.4,))).svg

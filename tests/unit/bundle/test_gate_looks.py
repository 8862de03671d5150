"""The gate sees what pictures look like: other layouts, spoilt pictures, and a batch that differs as a whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from snellen.bundle.gate import Seen, choose_limit, fit_gate, save_gate
from snellen.imaging.quality import FACTS, compute_facts, compute_look
from snellen.inference.gate import Gate, Verdicts, describe, load_gate
from snellen.inference.shift import FEWEST, measure_shift

SIDE = 64


def draw(n: int, seed: int, *, turned: bool = False, gain: float = 1.0) -> np.ndarray:
    """Discs of different place and shade on black, with texture, `(N, 64, 64, 3)`."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    pictures = []
    for _ in range(n):
        centre = random.normal((24, 40), 2)
        disc = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * random.normal(14, 0.7) ** 2))
        texture = 8 * cv2.GaussianBlur(random.normal(size=(SIDE, SIDE)), (0, 0), 1) * disc
        grey = (random.normal(140, 8) * disc + 20 * texture) * gain
        rgb = np.stack([grey, 0.5 * grey, 0.2 * grey], -1)
        pictures.append(np.clip(rgb[::-1] if turned else rgb, 0, 255).astype(np.uint8))
    return np.stack(pictures)


def embed(pictures: np.ndarray) -> np.ndarray:
    """A network that is blind to place: only mean and deviation of each channel."""
    flat = pictures.reshape(len(pictures), -1, 3).astype(np.float32)
    return np.concatenate([flat.mean(1), flat.std(1)], 1)


def see(pictures: np.ndarray) -> Seen:
    looks = np.array([compute_look(picture) for picture in pictures])
    facts = np.array([compute_facts(picture) for picture in pictures])
    return Seen(looks, facts, tuple(f"P{row // 2}" for row in range(len(pictures))))


@pytest.fixture(scope="module")
def gate() -> Gate:
    train, val = draw(160, 0), draw(60, 1)
    return fit_gate(lambda: [embed(train)], embed(val), see(np.concatenate([train, val])), 30)


def judge(gate: Gate, pictures: np.ndarray) -> Verdicts:
    return gate.judge(pictures, embed(pictures))


def test_new_pictures_of_the_kind_pass(gate: Gate) -> None:
    found = judge(gate, draw(200, 7))
    assert sum(map(bool, found.reasons)) <= 6  # 3 of 100, where 1 is aimed at


def test_pictures_that_the_network_cannot_tell_are_told_by_their_look(gate: Gate) -> None:
    upside_down = draw(40, 8, turned=True)
    assert (gate.compute_distances(embed(upside_down)) <= gate.limit).mean() > 0.9
    found = judge(gate, upside_down)
    assert all("unlike those the model was trained on" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 2), "blurred"),
        (lambda picture: (picture * 0.3).astype(np.uint8), "too dark"),
        (lambda picture: np.clip(picture * 1.2 + 90.0, 0, 255).astype(np.uint8), "too bright"),
        (lambda picture: picture + (80 * (np.indices((SIDE, SIDE)).sum(0) % 2))[..., None].astype(np.uint8), "noisy"),
    ],
    ids=["blurred", "dark", "bright", "noisy"],
)
def test_spoilt_pictures_are_refused_with_the_word_for_it(gate: Gate, spoil: object, word: str) -> None:
    pictures = np.stack([spoil(picture) for picture in draw(20, 9)])  # type: ignore[operator]
    assert all(word in reason for reason in judge(gate, pictures).reasons)


def test_gate_with_looks_comes_back_from_its_file(gate: Gate, tmp_path: Path) -> None:
    save_gate(gate, tmp_path)
    again = load_gate(tmp_path)
    pictures = np.concatenate([draw(10, 7), draw(10, 8, turned=True)])
    assert judge(again, pictures).reasons == judge(gate, pictures).reasons
    assert again.reference is not None
    assert set(again.reference.quantiles) == {"embedding", "look", *FACTS}


def test_gate_of_an_earlier_version_judges_by_the_embedding_alone(gate: Gate, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "gate.npz",
        mean=gate.mean,
        components=gate.components,
        scale=gate.scale,
        limit=np.float64(gate.limit),
    )
    old = load_gate(tmp_path)
    assert (old.look, old.reference) == (None, None)
    assert judge(old, draw(20, 8, turned=True)).reasons == [""] * 20
    assert measure_shift(judge(old, draw(30, 7)).measured, old.reference) is None


def test_batch_of_the_same_kind_is_no_shift(gate: Gate) -> None:
    found = measure_shift(judge(gate, draw(60, 11)).measured, gate.reference)
    assert found is not None
    assert (found.differs, found.message) == ((), "")


def test_batch_of_another_camera_is_told_though_its_pictures_pass(gate: Gate) -> None:
    pictures = draw(60, 12, gain=0.9)
    found = judge(gate, pictures)
    assert np.mean([bool(reason) for reason in found.reasons]) < 0.2
    shift = measure_shift(found.measured, gate.reference)
    assert shift is not None
    assert "highlights" in shift.differs
    assert "darker highlights" in shift.message
    assert shift.signals["highlights"] < 0.25


def test_few_pictures_are_no_batch(gate: Gate) -> None:
    found = judge(gate, draw(FEWEST - 1, 12, gain=0.8))
    assert measure_shift(found.measured, gate.reference) is None


def test_reasons_are_sentences() -> None:
    assert describe(False, []) == ""
    assert describe(True, []) == "the picture is unlike those the model was trained on"
    assert describe(True, ["too dark", "blurred"]) == (
        "the picture is too dark, blurred and unlike those the model was trained on"
    )


def test_limit_of_few_patients_is_wider() -> None:
    distances = np.exp(np.random.default_rng(0).normal(0, 0.1, 60))
    few, many = choose_limit(distances, 8), choose_limit(distances, 1000)
    assert few > many


def test_limit_of_many_patients_refuses_about_one_in_hundred() -> None:
    distances = np.exp(np.random.default_rng(0).normal(0, 0.1, 4000))
    assert (distances > choose_limit(distances, 4000) / 1.15).mean() == pytest.approx(0.01, abs=0.004)


def test_facts_of_a_grey_picture_have_no_colour() -> None:
    facts = dict(zip(FACTS, compute_facts(draw(1, 0)[0][..., :1]), strict=True))
    assert (facts["colour"], facts["tint"]) == (0.0, 0.0)


def test_blurring_lowers_sharpness_step_by_step() -> None:
    picture = draw(1, 0)[0]
    steps = [picture, *(cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (0.7, 1.5, 3, 6))]
    found = [dict(zip(FACTS, compute_facts(step), strict=True))["sharpness"] for step in steps]
    assert found == sorted(found, reverse=True)

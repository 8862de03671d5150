"""The fingerprint: facts worked by hand, of the samples that were given and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pictures import draw_noise, encode, make_sample
from snellen.planning.fingerprint import compute_fingerprint
from snellen.records.cohort import Sample
from snellen.records.plan import Fingerprint


def write(root: Path, name: str, pixels: np.ndarray, label: str = "a", patient: str | None = None) -> Sample:
    (root / name).write_bytes(encode(pixels))
    height, width = pixels.shape[:2]
    return make_sample(
        name, label, patient, width_px=width, height_px=height, channels=1 if pixels.ndim == 2 else 3
    )  # fmt: skip


@pytest.fixture
def fingerprint(tmp_path: Path) -> Fingerprint:
    """Three patients: two of class a with three pictures, one of class b; one picture of four is grey."""
    return compute_fingerprint(
        [
            write(tmp_path, "1.png", draw_noise(1, 20, 40), "a", "P"),
            write(tmp_path, "2.png", draw_noise(2, 20, 40), "a", "P"),
            write(tmp_path, "3.png", draw_noise(3, 20, 40, channels=1), "a", "Q"),
            write(tmp_path, "4.png", draw_noise(4, 10, 10), "b", "R"),
        ],
        tmp_path,
    )


def test_fingerprint_counts_pictures_and_patients(fingerprint: Fingerprint) -> None:
    assert (fingerprint.n_samples, fingerprint.n_patients) == (4, 3)


def test_fingerprint_counts_by_class(fingerprint: Fingerprint) -> None:
    assert fingerprint.class_counts == {"a": 3, "b": 1}
    assert fingerprint.patients_by_class == {"a": 2, "b": 1}


def test_fingerprint_tells_sizes(fingerprint: Fingerprint) -> None:
    # quantiles of 10, 40, 40, 40: the 5 % point lies 0.15 of the way from the first to the second
    assert fingerprint.width_px == (14.5, 40.0, 40.0)
    assert (fingerprint.aspect_median, fingerprint.n_shapes) == (2.0, 2)


def test_fingerprint_tells_share_of_grey(fingerprint: Fingerprint) -> None:
    assert fingerprint.grey_fraction == 0.25


def test_fingerprint_tells_formats(fingerprint: Fingerprint) -> None:
    assert fingerprint.formats == {"PNG": 4}


def test_fingerprint_measures_grey_levels(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), (51, 102, 204), np.uint8)
    half = flat.copy()
    half[:8] = 0
    found = compute_fingerprint([write(tmp_path, "1.png", half)], tmp_path)
    # half the pixels 0, half x: mean and deviation are both x / 2
    assert found.mean == pytest.approx((0.1, 0.2, 0.4), abs=1e-4)  # rounded to four places
    assert found.std == pytest.approx((0.1, 0.2, 0.4), abs=1e-4)


def test_fingerprint_gives_grey_pictures_three_equal_channels(tmp_path: Path) -> None:
    found = compute_fingerprint([write(tmp_path, "1.png", np.full((9, 9), 51, np.uint8))], tmp_path)
    assert found.mean == (0.2, 0.2, 0.2)


def test_fingerprint_measures_black_border(tmp_path: Path) -> None:
    framed = np.zeros((40, 50, 3), np.uint8)
    framed[5:35, 10:40] = 200
    found = compute_fingerprint([write(tmp_path, "1.png", framed)], tmp_path)
    assert found.border_fraction == 1 - 30 * 30 / (40 * 50)


def test_fingerprint_without_border_says_zero(tmp_path: Path) -> None:
    found = compute_fingerprint([write(tmp_path, "1.png", np.full((20, 20), 100, np.uint8))], tmp_path)
    assert found.border_fraction == 0


def test_fingerprint_does_not_depend_on_order(tmp_path: Path) -> None:
    samples = [write(tmp_path, f"{n}.png", draw_noise(n), "ab"[n % 2]) for n in range(8)]
    assert compute_fingerprint(samples, tmp_path) == compute_fingerprint(samples[::-1], tmp_path)


def test_fingerprint_reads_only_what_it_was_given(tmp_path: Path) -> None:
    sample = write(tmp_path, "train.png", draw_noise(1))
    (tmp_path / "test.png").write_bytes(b"would fail to decode")
    assert compute_fingerprint([sample], tmp_path).n_measured == 1


def test_fingerprint_of_large_cohort_measures_a_part(tmp_path: Path) -> None:
    one = write(tmp_path, "1.png", draw_noise(1, 4, 4))
    samples = [one.model_copy(update={"name": str(n), "pixels_sha256": str(n)}) for n in range(950)]
    assert compute_fingerprint(samples, tmp_path).n_measured == 200


def write_deep(root: Path, name: str, values: np.ndarray) -> Sample:
    sample = write(root, name, values)
    return sample.model_copy(update={"bits": 16})


def test_deep_levels_are_quantiles_of_deep_pictures(tmp_path: Path) -> None:
    ramp = np.arange(1001, dtype=np.uint16).reshape(1, -1).repeat(3, 0)
    samples = [write_deep(tmp_path, "1.png", ramp), write(tmp_path, "2.png", np.full((9, 9), 255, np.uint8))]
    found = compute_fingerprint(samples, tmp_path)
    assert found.deep_levels == (5.0, 995.0)
    assert (found.n_deep_measured, found.bits) == (1, {"8": 1, "16": 1})


def test_deep_levels_are_absent_without_deep_pictures(fingerprint: Fingerprint) -> None:
    assert (fingerprint.deep_levels, fingerprint.n_deep_measured, fingerprint.bits) == (None, 0, {"8": 4})


def test_deep_levels_of_a_blank_cohort_span_one_level(tmp_path: Path) -> None:
    sample = write_deep(tmp_path, "1.png", np.full((9, 9), 700, np.uint16))
    assert compute_fingerprint([sample], tmp_path).deep_levels == (700.0, 701.0)


def test_mean_of_deep_pictures_is_that_of_windowed_ones(tmp_path: Path) -> None:
    ramp = np.arange(1001, dtype=np.uint16).reshape(1, -1).repeat(3, 0)
    assert compute_fingerprint([write_deep(tmp_path, "1.png", ramp)], tmp_path).mean[0] == pytest.approx(0.5, abs=0.01)

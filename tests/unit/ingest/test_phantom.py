"""What the synthetic cohorts promise: repeatable pictures, honest names, labels that can be seen."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.ingest.phantom import KINDS, PhantomSpec, draw_picture, list_labels, write_cohort
from snellen.ingest.phantom_canvas import Subject
from snellen.ingest.phantom_fundus import choose_camera

EASY = 0.0


def patient_of(path: Path) -> str:
    return next(part for part in path.stem.split("_") if part.startswith("P") and part[1:].isdigit())


def mean_over_patients(kind: str, label: str, measure: object, n: int = 6) -> float:
    assert callable(measure)
    return float(
        np.mean([measure(draw_picture(kind, label, patient_seed=s, size_px=96, difficulty=EASY)) for s in range(n)])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_draw_picture_repeats_for_equal_seeds(kind: str) -> None:
    label = list_labels(kind)[-1]
    first, second = (draw_picture(kind, label, patient_seed=5, size_px=64) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_draw_picture_differs_between_patients(kind: str) -> None:
    label = list_labels(kind)[0]
    first, second = (draw_picture(kind, label, patient_seed=seed, size_px=64) for seed in (1, 2))
    assert first.shape != second.shape or not np.array_equal(first, second)


@pytest.mark.parametrize(("kind", "label"), [(kind, label) for kind in KINDS for label in list_labels(kind)])
def test_draw_picture_has_the_documented_shape(kind: str, label: str) -> None:
    picture = draw_picture(kind, label, patient_seed=3, size_px=48)
    assert picture.dtype == np.uint8
    if kind == "oct":
        assert picture.shape == (48, 72)
    elif kind == "fundus":
        assert picture.shape[0] == 48
        assert picture.shape[2] == 3
    else:
        assert 0.7 * 48 <= picture.shape[0] <= 1.4 * 48
        assert picture.shape[2] == 3


def test_glomeruli_vary_in_size() -> None:
    shapes = {draw_picture("glomeruli", "sclerotic", patient_seed=s, size_px=64).shape for s in range(6)}
    assert len(shapes) >= 5


def test_pictures_of_one_eye_share_their_anatomy() -> None:
    def blurred(seed: int, picture: int) -> NDArray[np.float64]:
        pixels = draw_picture("oct", "normal", patient_seed=seed, picture=picture, size_px=64)
        rows = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2), dtype=np.float64).mean(axis=1)
        return np.asarray(rows - rows.mean())

    def best_match(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        # A second picture is shifted a little, so compare depth profiles at their best shift.
        scale = np.linalg.norm(first) * np.linalg.norm(second)
        return float(np.correlate(first, second, "full").max() / scale)

    same = [best_match(blurred(seed, 0), blurred(seed, 1)) for seed in range(8)]
    other = [best_match(blurred(a, 0), blurred(b, 0)) for a, b in pairwise(range(9))]
    assert np.mean(same) > np.mean(other)


@pytest.mark.parametrize(("eye", "disc_is_left"), [("left", True), ("right", False)])
def test_fundus_disc_lies_on_the_nasal_side(eye: str, disc_is_left: bool) -> None:
    columns = []
    for seed in range(5):
        picture = draw_picture("fundus", "grade_0", patient_seed=seed, eye=eye, size_px=96)
        # A blur of the disc's size finds the disc and not a reflex or the rim.
        green = cv2.GaussianBlur(picture[..., 1].astype(np.float32), (0, 0), 3)
        middle = green[24:72]
        columns.append(np.unravel_index(int(middle.argmax()), middle.shape)[1] / middle.shape[1])
    assert bool(np.median(columns) < 0.5) is disc_is_left


def test_fundus_border_is_dark() -> None:
    picture = draw_picture("fundus", "grade_2", patient_seed=1, size_px=96)
    corners = [picture[y, x].max() for y in (0, -1) for x in (0, -1)]
    assert max(corners) < 40


@pytest.mark.parametrize("kind", ["oct", "fundus"])
def test_label_changes_lesions_and_nothing_else(kind: str) -> None:
    # Equal pixels away from the lesions: camera, noise and anatomy cannot tell the class. The tolerance of
    # one grey level is for layers that a swelling has moved by less than a pixel.
    for seed in range(3):
        healthy, ill = (
            draw_picture(kind, label, patient_seed=seed, size_px=96).astype(int)
            for label in (list_labels(kind)[0], list_labels(kind)[1])
        )
        assert (np.abs(healthy - ill) <= 1).mean() > 0.5


@pytest.mark.parametrize("kind", ["oct", "fundus"])
def test_difficulty_makes_disease_fainter(kind: str) -> None:
    def change(difficulty: float) -> float:
        pairs = [
            [draw_picture(kind, label, patient_seed=s, size_px=96, difficulty=difficulty).astype(int) for s in range(8)]
            for label in (list_labels(kind)[0], list_labels(kind)[2])
        ]
        return float(np.mean([np.abs(healthy - ill).mean() for healthy, ill in zip(*pairs, strict=True)]))

    assert change(0.0) > change(1.0)


def test_fundus_camera_does_not_depend_on_the_label() -> None:
    # The size of a picture tells its camera; the label must not change it.
    for seed in range(4):
        shapes = {draw_picture("fundus", label, patient_seed=seed, size_px=48).shape for label in list_labels("fundus")}
        assert len(shapes) == 1
    cameras = {choose_camera(Subject(seed)) for seed in range(40)}
    assert len(cameras) >= 4


def test_cysts_darken_the_retina() -> None:
    def share_of_dark_holes(picture: NDArray[np.uint8]) -> float:
        smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
        closed = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))
        return float((closed.astype(int) - smooth > 45).mean())

    assert mean_over_patients("oct", "cysts", share_of_dark_holes) > mean_over_patients(
        "oct", "normal", share_of_dark_holes
    )


def test_grade_4_shows_more_dark_and_bright_spots_than_grade_0() -> None:
    def roughness(picture: NDArray[np.uint8]) -> float:
        green = picture[20:-20, 20:-20, 1].astype(np.float32)
        return float(np.abs(green - cv2.GaussianBlur(green, (0, 0), 4)).mean() / (green.mean() + 1))

    assert mean_over_patients("fundus", "grade_4", roughness, 10) > mean_over_patients(
        "fundus", "grade_0", roughness, 10
    )


def test_sclerosis_closes_the_white_spaces() -> None:
    def share_of_white(picture: NDArray[np.uint8]) -> float:
        height, width = picture.shape[:2]
        middle = picture[height // 4 : -height // 4, width // 4 : -width // 4]
        return float((middle.min(axis=2) > 200).mean())

    open_share = mean_over_patients("glomeruli", "non_sclerotic", share_of_white)
    assert open_share > 2 * mean_over_patients("glomeruli", "sclerotic", share_of_white)


@pytest.mark.parametrize("kind", KINDS)
def test_write_cohort_fills_class_folders_with_synthetic_names(kind: str, tmp_path: Path) -> None:
    spec = PhantomSpec(kind=kind, n_patients=4 * len(list_labels(kind)), size_px=32)
    paths = write_cohort(spec, tmp_path)
    assert {path.parent.name for path in paths} == set(list_labels(kind))
    assert all(path.name.startswith("synthetic_") for path in paths)
    assert sorted(paths) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert all(cv2.imread(str(path)) is not None for path in paths)


def test_write_cohort_writes_equal_bytes_for_equal_specs(tmp_path: Path) -> None:
    spec = PhantomSpec(kind="fundus", n_patients=5, size_px=32, seed=3)
    first, second = (write_cohort(spec, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_write_cohort_shares_no_picture_between_seeds(tmp_path: Path) -> None:
    first, second = (
        {
            path.read_bytes()
            for path in write_cohort(PhantomSpec(n_patients=6, size_px=32, seed=seed), tmp_path / str(seed))
        }
        for seed in (0, 1)
    )
    assert not first & second


@pytest.mark.parametrize("kind", KINDS)
def test_write_cohort_gives_a_patient_one_label(kind: str, tmp_path: Path) -> None:
    paths = write_cohort(PhantomSpec(kind=kind, n_patients=20, size_px=24), tmp_path)
    labels: dict[str, set[str]] = {}
    for path in paths:
        labels.setdefault(patient_of(path), set()).add(path.parent.name)
    assert len(labels) == 20
    assert all(len(names) == 1 for names in labels.values())


@pytest.mark.parametrize(("kind", "n_patients"), [("oct", 16), ("fundus", 20), ("glomeruli", 8)])
def test_write_cohort_gives_every_class_three_patients(kind: str, n_patients: int, tmp_path: Path) -> None:
    paths = write_cohort(PhantomSpec(kind=kind, n_patients=n_patients, size_px=24), tmp_path)
    patients = Counter(label for label, _ in {(path.parent.name, patient_of(path)) for path in paths})
    assert min(patients.values()) >= 3
    assert max(patients.values()) > min(patients.values())


def test_write_cohort_keeps_the_asked_classes(tmp_path: Path) -> None:
    spec = PhantomSpec(n_patients=4, size_px=24, classes=("drusen", "normal"))
    assert {path.parent.name for path in write_cohort(spec, tmp_path)} == {"normal", "drusen"}


def test_write_cohort_tells_progress_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    paths = write_cohort(PhantomSpec(n_patients=4, size_px=24), tmp_path, progress=lambda n, of: told.append((n, of)))
    assert told == [(n, len(paths)) for n in range(1, len(paths) + 1)]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (PhantomSpec(kind="mri"), "mri"),
        (PhantomSpec(classes=("normal", "tumour")), "tumour"),
        (PhantomSpec(classes=()), "classes"),
        (PhantomSpec(n_patients=3), "3 patients"),
        (PhantomSpec(difficulty=1.5), "1.5"),
        (PhantomSpec(size_px=4), "4 px"),
        (PhantomSpec(seed=-1), "-1"),
    ],
)
def test_write_cohort_refuses_a_spec_and_writes_nothing(spec: PhantomSpec, word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        write_cohort(spec, tmp_path / "cohort")
    assert caught.value.hint
    assert not (tmp_path / "cohort").exists()


@pytest.mark.parametrize(
    ("kind", "label", "eye"),
    [("ct", "normal", "left"), ("oct", "grade_1", "left"), ("oct", "normal", "third")],
)
def test_draw_picture_refuses_what_it_does_not_know(kind: str, label: str, eye: str) -> None:
    with pytest.raises(UsageError):
        draw_picture(kind, label, patient_seed=0, eye=eye)

"""Planted defects are what their record says, and the same for the same seed."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snellen.core.errors import PictureError, UsageError
from snellen.imaging.readers import read_picture
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.ingest.phantom_defects import KINDS, Planted, list_kinds, plant_defects
from snellen.ingest.phantom_layouts import read_patient, write_layout

SPEC = PhantomSpec(n_patients=16, size_px=32, classes=("normal", "cysts"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "oct"
    write_cohort(SPEC, folder)
    return folder


@pytest.fixture
def folder(drawn: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(drawn, tmp_path / "oct")
    for locked in tmp_path.rglob("locked"):
        locked.chmod(0o755)  # so that the folder can be deleted


def plant(folder: Path, kind: str) -> tuple[Planted, list[Path]]:
    (planted,) = plant_defects(folder, [kind])
    return planted, [folder / name for name in planted.files]


def list_contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_kind_that_fits_is_planted_once(folder: Path) -> None:
    planted = plant_defects(folder)
    assert [item.kind for item in planted] == list(list_kinds(folder))
    assert set(KINDS) - set(list_kinds(folder)) == {"patient_in_two_splits", "empty_label"}
    assert len({name for item in planted for name in item.files}) == sum(len(item.files) for item in planted)


def test_equal_seeds_plant_equal_defects(drawn: Path, tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind not in ("unreadable_folder", "patient_in_two_splits", "empty_label")]
    done = []
    for name in "ab":
        shutil.copytree(drawn, tmp_path / name)
        done.append((plant_defects(tmp_path / name, kinds, seed=3), list_contents(tmp_path / name)))
    assert done[0] == done[1]


def test_other_seeds_plant_elsewhere(drawn: Path, tmp_path: Path) -> None:
    files = set()
    for seed in range(4):
        shutil.copytree(drawn, tmp_path / str(seed))
        files.add(plant_defects(tmp_path / str(seed), ["truncated"], seed=seed)[0].files)
    assert len(files) > 1


@pytest.mark.parametrize("kind", ["truncated", "zero_bytes", "text_as_jpeg"])
def test_damaged_file_cannot_be_read(folder: Path, kind: str) -> None:
    _, (path,) = plant(folder, kind)
    with pytest.raises(PictureError):
        read_picture(path)


def test_duplicate_has_equal_bytes_and_another_patient(folder: Path) -> None:
    _, (first, second) = plant(folder, "duplicate")
    assert first.read_bytes() == second.read_bytes()
    assert read_patient(first) != read_patient(second)


@pytest.mark.parametrize(("kind", "turns"), [("flipped_copy", "flip"), ("rotated_copy", "turn")])
def test_transformed_copy_shows_the_same_picture(folder: Path, kind: str, turns: str) -> None:
    _, (first, second) = plant(folder, kind)
    pixels = read_picture(second).pixels
    back = pixels[:, ::-1] if turns == "flip" else np.rot90(pixels, -1)
    assert np.array_equal(read_picture(first).pixels, back)


def test_wrong_label_moves_a_picture_to_the_other_class(folder: Path) -> None:
    before = {path.name: path.parent.name for path in folder.glob("*/*")}
    _, (path,) = plant(folder, "wrong_label")
    assert {before[path.name], path.parent.name} == {"normal", "cysts"}


def test_sixteen_bit_is_the_picture_times_257(folder: Path) -> None:
    before = {path.name: read_picture(path).pixels for path in folder.glob("*/*")}
    _, (path,) = plant(folder, "sixteen_bit")
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), before[path.name].astype(np.uint16) * 257)


@pytest.mark.parametrize(("kind", "mode"), [("rgba", "RGBA"), ("cmyk", "CMYK"), ("palette", "P")])
def test_converted_picture_has_its_mode(folder: Path, kind: str, mode: str) -> None:
    _, (path,) = plant(folder, kind)
    with Image.open(path) as image:
        image.load()
        assert image.mode == mode


def test_exif_turns_the_picture_upright_again(folder: Path) -> None:
    before = {path.stem: read_picture(path).pixels for path in folder.glob("*/*")}
    _, (path,) = plant(folder, "exif_rotated")
    upright = read_picture(path).pixels
    assert upright.shape == before[path.stem].shape
    # JPEG changes noise by a few grey levels; a picture turned the wrong way differs by far more
    assert np.abs(upright.astype(int) - before[path.stem]).mean() < 10


def test_monochrome1_stores_the_picture_inverted(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
    before = {path.stem: read_picture(path).pixels for path in folder.glob("*/*")}
    _, (path,) = plant(folder, "monochrome1")
    found = pydicom.dcmread(path)
    assert found.PhotometricInterpretation == "MONOCHROME1"
    assert np.array_equal(255 - found.pixel_array, before[path.stem])


def test_empty_class_holds_nothing(folder: Path) -> None:
    _, (path,) = plant(folder, "empty_class")
    assert list(path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_unreadable_folder_is_shut(folder: Path) -> None:
    _, (path,) = plant(folder, "unreadable_folder")
    assert path.stat().st_mode & 0o777 == 0


@pytest.mark.parametrize(("kind", "ending"), [("missing_extension", ""), ("double_extension", ".png.png")])
def test_renamed_picture_is_still_sound(folder: Path, kind: str, ending: str) -> None:
    _, (path,) = plant(folder, kind)
    assert "".join(path.suffixes) == ending
    assert read_picture(path).pixels.size


def test_patient_in_two_splits_is_in_train_and_test(folder: Path, tmp_path: Path) -> None:
    write_layout(folder, "split_folders", tmp_path / "split")
    _, (moved, stayed) = plant(tmp_path / "split", "patient_in_two_splits")
    assert read_patient(moved) == read_patient(stayed)
    assert moved.parts[-3] == "test"
    assert stayed.parts[-3] == "train"


def test_empty_label_blanks_one_row(folder: Path, tmp_path: Path) -> None:
    table = write_layout(folder, "csv", tmp_path / "table")
    _, (path,) = plant(table.parent, "empty_label")
    with table.open(newline="") as stream:
        assert [row["file"] for row in csv.DictReader(stream) if not row["label"]] == [path.name]


@pytest.mark.parametrize(("kind", "word"), [("patient_in_two_splits", "no place"), ("rust", "rust")])
def test_kind_that_does_not_fit_is_refused(folder: Path, kind: str, word: str) -> None:
    before = list_contents(folder)
    with pytest.raises(UsageError, match=word):
        plant_defects(folder, [kind])
    assert list_contents(folder) == before

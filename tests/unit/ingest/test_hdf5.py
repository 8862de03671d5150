"""HDF5 of others: keys are found by shape and name, asked for where several fit, and never followed out of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from snellen.core.errors import DataError, SnellenError, UsageError
from snellen.ingest.hdf5 import read_hdf5
from snellen.ingest.packed import is_packed
from snellen.ingest.samples import Source

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
NUMBERS = np.array([0, 1, 0, 1, 0, 1])
TEXTS = np.array(["well", "sick"] * 3, dtype="S4")
PATIENTS = np.array(["007", "007", "8", "8", "9", ""], dtype=object)


def write(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            if isinstance(values, np.ndarray) and values.dtype == object:
                file.create_dataset(key, data=values, dtype=h5py.string_dtype())
            else:
                file.create_dataset(key, data=values)
    return path


def read(folder: Path, columns: dict[str, str] | None = None, **arrays: Any) -> Source:
    return read_hdf5(write(folder / "toy.h5", **arrays), columns or {})


def labels_of(source: Source) -> list[str]:
    return [sample.label for sample in source.samples]


def zeros(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (NUMBERS, list("010101")), (NUMBERS[:, None], list("010101")), (NUMBERS.astype(np.float32), list("010101")),
        (TEXTS, ["well", "sick"] * 3), (np.array(["well", "Ödem"] * 3, object), ["well", "Ödem"] * 3),
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], list("012012")), (NUMBERS.astype(bool), list("010101")),
    ],
    ids=["numbers", "column", "decimals", "bytes", "texts", "one-hot", "bool"],
)  # fmt: skip
def test_labels_of_any_kind_are_read(tmp_path: Path, labels: NDArray[Any], expected: list[str]) -> None:
    assert labels_of(read(tmp_path, images=IMAGES, labels=labels)) == expected


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES[..., 0], IMAGES[..., :1], np.moveaxis(IMAGES, 3, 1), IMAGES / 255.0, IMAGES.astype(np.uint16)],
    ids=["rgb", "grey", "grey-last", "rgb-first", "decimals", "uint16"],
)
def test_images_of_any_shape_are_found(tmp_path: Path, images: NDArray[Any]) -> None:
    samples = read(tmp_path, scans=images, truth=NUMBERS).samples
    assert [sample.location for sample in samples[:2]] == ["toy.h5::scans[0]", "toy.h5::scans[1]"]


@pytest.mark.parametrize(
    ("image", "label"),
    [("{}/images", "{}/labels"), ("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("X_{}", "Y_{}"), ("images/{}", "y/{}")],
)
def test_splits_are_told_by_groups_or_names(tmp_path: Path, image: str, label: str) -> None:
    arrays: dict[str, Any] = {}
    for split in ("train", "valid", "test"):
        arrays |= {image.format(split): IMAGES, label.format(split): NUMBERS}
    samples = read(tmp_path, **arrays).samples
    assert [sample.split for sample in samples] == ["train"] * 6 + ["val"] * 6 + ["test"] * 6
    assert samples[0].location == f"toy.h5::{image.format('train')}[0]"
    assert len({sample.name for sample in samples}) == 18


def test_patients_splits_and_names_are_taken(tmp_path: Path) -> None:
    splits = np.array(["train"] * 4 + ["test"] * 2, dtype=object)
    names = np.array([f"scan {number}" for number in range(6)], dtype=object)
    source = read(tmp_path, images=IMAGES, labels=NUMBERS, patients=PATIENTS, splits=splits, names=names)
    assert [sample.patient for sample in source.samples] == ["007", "007", "8", "8", "9", None]
    assert [sample.split for sample in source.samples] == ["train"] * 4 + ["test"] * 2
    assert source.samples[0].name == "scan 0"
    assert source.patient_title == "array patients"


def test_names_that_repeat_are_not_taken(tmp_path: Path) -> None:
    source = read(tmp_path, images=IMAGES, labels=NUMBERS, names=np.array(["a"] * 6, object))
    assert source.samples[0].name == "000000"


def test_whole_number_patients_are_texts(tmp_path: Path) -> None:
    source = read(tmp_path, images=IMAGES, labels=NUMBERS, patient_id=np.arange(6) // 2)
    assert [sample.patient for sample in source.samples] == list("001122")


TWO = {"images": IMAGES, "grade": NUMBERS, "risk": NUMBERS}


def test_several_label_arrays_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"several arrays may be the labels: eye .*, risk") as caught:
        read(tmp_path, images=IMAGES, eye=NUMBERS, risk=NUMBERS)
    assert "--columns label=" in caught.value.hint


def test_several_image_arrays_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"several arrays may be the images: left .*, right"):
        read(tmp_path, left=IMAGES, right=IMAGES, labels=NUMBERS)


def test_keys_can_be_told(tmp_path: Path) -> None:
    told = {"image": "right", "label": "risk", "patient": "who", "split": "part"}
    parts = np.array(["train", "test"] * 3, object)
    source = read(tmp_path, told, left=IMAGES, right=IMAGES, eye=NUMBERS, risk=TEXTS, who=PATIENTS, part=parts)
    first = source.samples[0]
    assert (first.location, first.label, first.patient, first.split) == ("toy.h5::right[0]", "well", "007", "train")


def test_key_without_its_split_can_be_told(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        arrays |= {f"{split}/{key}": value for key, value in TWO.items()}
    samples = read(tmp_path, {"label": "risk"}, **arrays).samples
    assert {sample.split for sample in samples} == {"train", "test"}


@pytest.mark.parametrize("columns", [{"label": "Grade"}, {"image": "x"}])
def test_key_that_does_not_exist_is_refused(tmp_path: Path, columns: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="has no array"):
        read(tmp_path, columns, **{"images": IMAGES, "labels": NUMBERS})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": NUMBERS}, "lacks images"),
        ({"images": IMAGES}, "lacks labels"),
        ({"images": IMAGES, "labels": NUMBERS[:5]}, "for 6 pictures"),
        ({"images": IMAGES.astype(np.int64), "labels": NUMBERS}, "int64"),
        ({"images": IMAGES * 1.0, "labels": NUMBERS}, "decimals from"),
        ({"images": IMAGES, "labels": NUMBERS + 0.5}, r"decimals such as 0\.5"),
        ({"images": IMAGES, "labels": np.ones((6, 3))}, "multi-label"),
        ({"images": IMAGES, "labels": np.eye(6) * 2}, "more than 0 and 1"),
        ({"images": IMAGES, "labels": NUMBERS, "splits": TEXTS}, "name no split: sick, well"),
        ({"train_images": IMAGES, "train_labels": NUMBERS, "val_images": IMAGES[..., 0][..., None, None],
          "val_labels": NUMBERS}, r"\(val\) lacks images"),
        ({}, "holds nothing"),
    ],
    ids=["no-images", "no-labels", "short", "int64", "beyond-one", "half-labels", "multi-label", "not-one-hot",
         "odd-splits", "volumes", "empty"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, **arrays)
    assert "toy.h5" in caught.value.message
    assert caught.value.hint


def test_picture_without_label_is_set_aside(tmp_path: Path) -> None:
    labels = np.array(["well", "", "sick", "well", "sick", " "], object)
    source = read(tmp_path, images=IMAGES, labels=labels)
    assert [(issue.code, issue.samples) for issue in source.issues] == [("empty_label", ("000001", "000005"))]
    assert len(source.samples) == 4


def test_one_hot_row_without_a_one_is_set_aside(tmp_path: Path) -> None:
    labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    labels[4] = 0
    assert read(tmp_path, images=IMAGES, labels=labels).issues[0].samples == ("000004",)


def test_link_within_the_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "toy.h5", images=IMAGES, labels=NUMBERS)
    with h5py.File(path, "a") as file:
        file["again"] = h5py.SoftLink("/images")
    assert [issue.code for issue in read_hdf5(path, {}).issues] == ["hdf5_links_not_used"]


def test_link_out_of_the_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "toy.h5", labels=NUMBERS)
    with h5py.File(path, "a") as file:
        file["images"] = h5py.ExternalLink("/etc/passwd", "/images")
    with pytest.raises(DataError, match="leads to another file"):
        read_hdf5(path, {})


def test_group_that_holds_itself_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "toy.h5", images=IMAGES, labels=NUMBERS)
    with h5py.File(path, "a") as file:
        file["loop"] = file["/"]
    assert len(read_hdf5(path, {}).samples) == 6


@pytest.mark.parametrize("how", ["empty", "text", "cut"])
def test_damaged_file_is_named(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "toy.h5", images=IMAGES, labels=NUMBERS)
    path.write_bytes({"empty": b"", "text": b"<!DOCTYPE html>", "cut": path.read_bytes()[:900]}[how])
    with pytest.raises(SnellenError, match=r"toy\.h5"):
        read_hdf5(path, {})


@pytest.mark.parametrize("is_ours", [True, False])
def test_packed_file_is_recognised(tmp_path: Path, is_ours: bool) -> None:
    path = write(tmp_path / "toy.h5", images=IMAGES)
    if is_ours:
        with h5py.File(path, "a") as file:
            file.attrs["snellen_schema"] = 1
    assert is_packed(path) is is_ours


def test_pictures_that_were_never_written_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (6, 8, 9), np.uint8, chunks=(1, 8, 9))
        file["labels"] = NUMBERS
    with pytest.raises(DataError, match="never written"):
        read_hdf5(tmp_path / "x.h5", {})


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    names = np.array([f"{'1-' * 20_000}{k}" for k in range(6)], dtype="S50000")
    with pytest.raises(DataError, match=r"names holds a name of 40,001 letters"):
        read(tmp_path, images=IMAGES, labels=NUMBERS, names=names)

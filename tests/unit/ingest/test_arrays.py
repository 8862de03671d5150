"""MedMNIST's .npz: read as published, refused with a reason otherwise, never unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pictures import write_npz
from snellen.core.errors import DataError, PictureError
from snellen.imaging.arrays import open_array
from snellen.ingest.arrays import MEDMNIST_CLASSES, read_npz


def labels_of(path: Path) -> list[str]:
    return [sample.label for sample in read_npz(path).samples if sample.split == "train"]


def zeros(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize("shape", [(6, 8, 8), (6, 8, 8, 3), (6, 5, 9)], ids=["grey", "rgb", "oblong"])
def test_read_npz_lists_a_sample_a_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    samples = read_npz(write_npz(tmp_path / "toy.npz", train_images=zeros(*shape))).samples
    assert [sample.location for sample in samples[:2]] == ["toy.npz::train_images[0]", "toy.npz::train_images[1]"]


def test_read_npz_keeps_the_parts(tmp_path: Path) -> None:
    samples = read_npz(write_npz(tmp_path / "toy.npz")).samples
    assert [sample.split for sample in samples] == ["train"] * 6 + ["val"] * 6 + ["test"] * 6


def test_read_npz_gives_every_sample_a_name_of_its_own(tmp_path: Path) -> None:
    samples = read_npz(write_npz(tmp_path / "toy.npz")).samples
    assert len({sample.name for sample in samples}) == len(samples)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 0, 1], [[0], [1], [0], [1], [0], [1]]], ids=["flat", "column"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_read_npz_takes_whole_numbers_as_labels(tmp_path: Path, labels: list[Any], dtype: Any) -> None:
    assert labels_of(write_npz(tmp_path / "toy.npz", train_labels=np.array(labels, dtype))) == list("010101")


def test_read_npz_needs_no_val_and_test(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", train_images=zeros(2, 8, 8), train_labels=zeros(2))
    assert read_npz(tmp_path / "toy.npz").layout == "npz with train"


@pytest.mark.parametrize("name", ["pneumoniamnist.npz", "pneumoniamnist_224.npz"])
def test_read_npz_names_the_classes_of_medmnist(tmp_path: Path, name: str) -> None:
    assert labels_of(write_npz(tmp_path / name))[:2] == ["normal", "pneumonia"]


def test_read_npz_tells_where_names_come_from(tmp_path: Path) -> None:
    assert "recognised by the file's name" in read_npz(write_npz(tmp_path / "pneumoniamnist.npz")).class_origin


def test_read_npz_keeps_numbers_of_unknown_sets(tmp_path: Path) -> None:
    assert set(labels_of(write_npz(tmp_path / "toy.npz"))) == {"0", "1"}


@pytest.mark.parametrize("value", [-1, 2])
def test_read_npz_gives_no_class_name_to_a_number_beyond_the_names(tmp_path: Path, value: int) -> None:
    labels = np.array([0, 1, 0, 1, 0, value], np.int64)
    try:
        last = labels_of(write_npz(tmp_path / "pneumoniamnist.npz", train_labels=labels))[-1]
    except DataError:
        return
    assert last not in MEDMNIST_CLASSES["pneumoniamnist"]


@pytest.mark.parametrize(("name", "expected"), [("retinamnist.npz", True), ("pneumoniamnist.npz", False)])
def test_read_npz_knows_which_sets_are_graded(tmp_path: Path, name: str, expected: bool) -> None:
    assert read_npz(write_npz(tmp_path / name)).is_ordered is expected


def test_read_npz_refuses_several_labels_a_picture(tmp_path: Path) -> None:
    labels = zeros(6, 14)
    labels[:, 3:5] = 1
    with pytest.raises(DataError, match=r"14 columns: several labels a picture \(multi-label\)"):
        read_npz(write_npz(tmp_path / "chestmnist.npz", train_labels=labels))


@pytest.mark.parametrize(
    "images",
    [
        zeros(6, 8, 8, dtype=np.int64), zeros(6, 8), zeros(6, 8, 8, 8), zeros(6, 8, 8, 4), zeros(6, 8, 8, 2),
        zeros(6, 8, 8, 8, 3), np.array(["a"] * 6),
    ],
    ids=["int64", "flat", "volume", "rgba", "two-channels", "rgb-volume", "text"],
)  # fmt: skip
def test_read_npz_refuses_images_of_another_kind(tmp_path: Path, images: NDArray[Any]) -> None:
    with pytest.raises(DataError, match="val_images ") as caught:
        read_npz(write_npz(tmp_path / "toy.npz", val_images=images))
    assert str(images.shape) in caught.value.message


@pytest.mark.parametrize(
    "labels",
    [zeros(5), zeros(7), zeros(0), np.array(list("abcde"))],
    ids=["short", "long", "none", "texts"],
)
def test_read_npz_refuses_labels_that_do_not_fit(tmp_path: Path, labels: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"test_labels is .* for 6 pictures"):
        read_npz(write_npz(tmp_path / "toy.npz", test_labels=labels))


@pytest.mark.parametrize(
    ("key", "values", "columns"),
    [
        ("patients", np.arange(9) // 2, {}),
        ("patients", np.arange(9) // 2, {"patient": "patients"}),
        ("splits", np.array(["train", "test"] * 4 + ["test"]), {}),
        ("cases", np.arange(20).reshape(10, 2), {"patient": "cases"}),
    ],
)
def test_array_that_is_told_or_named_as_patients_or_splits_must_fit(
    tmp_path: Path, key: str, values: NDArray[Any], columns: dict[str, str]
) -> None:
    arrays: dict[str, NDArray[Any]] = {"images": zeros(10, 8, 8), "labels": np.arange(10) % 2, key: values}
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]  # NumPy's stub takes a key for an option
    with pytest.raises(DataError, match=rf"{key} is .* for 10 pictures") as caught:
        read_npz(tmp_path / "own.npz", columns)
    assert "a picture" in caught.value.hint


def test_names_of_classes_may_be_fewer_than_pictures(tmp_path: Path) -> None:
    names, labels = np.array(["well", "ill"]), np.arange(10) % 2
    np.savez(tmp_path / "own.npz", images=zeros(10, 8, 8), labels=labels, names=names, split=np.array("all"))
    assert len(read_npz(tmp_path / "own.npz").samples) == 10


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("train_images",), "labels"), (("train_labels",), "images"),
        (("train_images", "train_labels", "test_images"), "labels"),
        (("train_images", "train_labels", "test_labels"), "images"), ((), "images"),
    ],
)  # fmt: skip
def test_read_npz_names_what_is_missing(tmp_path: Path, names: tuple[str, ...], missing: str) -> None:
    np.savez(tmp_path / "toy.npz", **{name: zeros(2, 8, 8) if "images" in name else zeros(2) for name in names})
    with pytest.raises(DataError, match=f"lacks {missing}"):
        read_npz(tmp_path / "toy.npz")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("key", ["train_images", "train_labels"])
def test_read_npz_refuses_pickles(tmp_path: Path, key: str) -> None:
    path = write_npz(tmp_path / "toy.npz", **{key: np.array([Bomb(tmp_path / "boom")], object)})
    with pytest.raises(DataError, match="no readable"):
        read_npz(path)


def test_read_npz_runs_no_pickle(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "toy.npz", train_labels=np.array([Bomb(tmp_path / "boom")], object))
    with pytest.raises(DataError):
        read_npz(path)
    assert not (tmp_path / "boom").exists()


def test_read_npz_refuses_arrays_packed_without_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for key, value in (("images", zeros(6, 8, 8)), ("labels", zeros(6))):
            stream = io.BytesIO()
            np.save(stream, value)
            archive.writestr(f"{key}.npy", stream.getvalue())
    with pytest.raises(DataError, match=r"images\.npy is packed by bzip2"):
        read_npz(path)
    with pytest.raises(PictureError, match=r"images\.npy is packed by bzip2"):
        open_array(path, "images")


def test_read_npz_refuses_what_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz(tmp_path / "x.npz")
    monkeypatch.setattr("snellen.imaging.arrays._MAX_BYTES", 700)  # the pictures alone would fit
    monkeypatch.setattr("snellen.imaging.arrays.read_free_memory_bytes", lambda: 900)
    with pytest.raises(DataError, match="use HDF5 or files"):
        read_npz(path)
    monkeypatch.setattr("snellen.imaging.arrays._MAX_BYTES", 300)
    with pytest.raises(PictureError, match="GB unpacked"):
        open_array(path, "train_images")


def damage(path: Path, how: str) -> Path:
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":  # inside the compressed pixels of the first array
        path.write_bytes(data[:100] + bytes(255 - value for value in data[100:140]) + data[140:])
    elif how == "array":
        path.unlink()
        np.save(path.with_suffix(".npy"), zeros(6, 8, 8))
        path.with_suffix(".npy").rename(path)
    elif how == "zip-of-texts":
        with zipfile.ZipFile(path, "w") as archive:
            for part in ("train_images", "train_labels"):
                archive.writestr(part, "text")
    else:
        path.write_bytes({"empty": b"", "text": b"<!DOCTYPE html>"}[how])
    return path


@pytest.mark.parametrize("how", ["truncated", "flipped", "array", "zip-of-texts", "empty", "text"])
def test_read_npz_names_a_damaged_file(tmp_path: Path, how: str) -> None:
    with pytest.raises(DataError, match=r"toy\.npz"):
        read_npz(damage(write_npz(tmp_path / "toy.npz"), how))

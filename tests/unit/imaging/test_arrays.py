"""Pictures inside array files, one by one: shapes, types, files that change, and links out of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from snellen.core.errors import DataError, PictureError
from snellen.imaging.arrays import open_dataset, read_array_picture, require_unit_range, to_pixels
from snellen.imaging.readers import read_location

GREY = np.random.default_rng(0).integers(0, 256, (5, 8, 9), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)


def write(path: Path, **arrays: Any) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=values)
    return path


@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.hdf5"])
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY), (RGB, RGB), (GREY[..., None], GREY), (GREY[:, None], GREY), (np.moveaxis(RGB, 3, 1), RGB),
        (GREY / 255.0, GREY), (GREY.astype(np.uint16) * 200, GREY.astype(np.uint16) * 200),
    ],
    ids=["grey", "rgb", "grey-last", "grey-first", "rgb-first", "decimals", "uint16"],
)  # fmt: skip
def test_picture_is_read_by_its_index(tmp_path: Path, name: str, images: NDArray[Any], expected: NDArray[Any]) -> None:
    pixels = read_array_picture(write(tmp_path / name, images=images), "images", 3)
    assert pixels.dtype == expected.dtype
    assert np.array_equal(pixels, expected[3])


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((8, 9, 2), np.uint8), np.zeros((8, 9), np.int64), np.zeros((8, 9), bool), np.zeros(9, np.uint8),
        np.full((8, 9), 1.01), np.full((8, 9), -0.01), np.full((8, 9), np.nan), np.zeros((0, 9), np.uint8),
    ],
    ids=["two-channels", "int64", "bool", "flat", "above-one", "below-zero", "nan", "empty"],
)  # fmt: skip
def test_what_is_no_picture_is_refused(values: NDArray[Any]) -> None:
    with pytest.raises(PictureError):
        to_pixels(values)


def test_values_that_are_no_number_are_refused() -> None:
    with pytest.raises(DataError, match="images holds values that are no number"):
        require_unit_range(Path("a.npz"), "images", np.array([0.5, np.nan], np.float32))


def test_decimals_beyond_one_are_refused_with_their_range() -> None:
    with pytest.raises(DataError, match="images holds decimals from -3 to 255"):
        require_unit_range(Path("x.h5"), "images", np.array([-3.0, 255.0]))


def test_dataset_within_groups_is_read(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", **{"train/images": RGB})
    picture = read_location(tmp_path, "x.h5::train/images[2]")
    assert np.array_equal(picture.pixels, RGB[2])
    assert (picture.width_px, picture.height_px, picture.format) == (9, 8, "h5")


def test_dataset_called_frame_is_no_frame_of_a_dicom(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", frame=RGB)
    assert np.array_equal(read_location(tmp_path, "x.h5::frame[2]").pixels, RGB[2])


def test_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    for level in (1, 2):
        new = write(tmp_path / "new.h5", images=np.full((2, 8, 7 + level), level, np.uint8))
        new.replace(tmp_path / "x.h5")
        assert read_location(tmp_path, "x.h5::images[0]").pixels[0, 0] == level


@pytest.mark.parametrize("location", ["gone.h5::images[0]", "x.h5::none[0]", "x.h5::images[99]", "x.h5::images[-1]",
                                      "x.h5::group[0]", "x.h5::images"])  # fmt: skip
def test_absent_picture_raises_picture_error(tmp_path: Path, location: str) -> None:
    write(tmp_path / "x.h5", images=GREY, **{"group/images": GREY})
    with pytest.raises(PictureError):
        read_location(tmp_path, location)


@pytest.mark.parametrize("link", [h5py.SoftLink("/images"), h5py.ExternalLink("other.h5", "/images")])
def test_link_is_not_followed(tmp_path: Path, link: Any) -> None:
    write(tmp_path / "other.h5", images=GREY)
    with h5py.File(write(tmp_path / "x.h5", images=GREY), "a") as file:
        file["linked"] = link
    with pytest.raises(PictureError, match="is a link"):
        read_array_picture(tmp_path / "x.h5", "linked", 0)


def test_group_that_leads_to_another_file_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", **{"deep/images": GREY})
    with h5py.File(write(tmp_path / "x.h5", images=GREY), "a") as file:
        file["deep"] = h5py.ExternalLink("other.h5", "/deep")
    with pytest.raises(PictureError, match="is a link"):
        read_array_picture(tmp_path / "x.h5", "deep/images", 0)


def test_data_in_other_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", images=GREY)
    layout = h5py.VirtualLayout(shape=GREY.shape, dtype=np.uint8)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "images", GREY.shape)
    (tmp_path / "raw.bin").write_bytes(GREY.tobytes())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", GREY.shape, np.uint8, external=str(tmp_path / "raw.bin"))
    for name in ("virtual", "raw"):
        with pytest.raises(PictureError, match="lies in other files"):
            open_dataset(tmp_path / "x.h5", name)


def test_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (3, 100_000, 100_000), np.uint8, chunks=(1, 64, 64))  # nothing is stored
        file.create_dataset("huge", (3, 100_000, 100_000), np.uint8, chunks=(1, 40_000, 40_000))
    for name in ("images", "huge"):
        with pytest.raises(PictureError, match="GB for one picture"):
            read_array_picture(tmp_path / "x.h5", name, 0)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(50)])
def test_damaged_file_raises_picture_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(PictureError, match="cannot be read"):
        read_array_picture(tmp_path / "x.h5", "images", 0)

"""Lists of samples that a Python program gave: arrays are kept losslessly, and every step reads the list as DATA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snellen.core.errors import DataError, UsageError
from snellen.core.storage import clear_cache, open_cache
from snellen.imaging.readers import read_location
from snellen.ingest.cohort import read_cohort
from snellen.ingest.given import GivenData, write_given
from snellen.ingest.sources import read_source
from snellen.records.run import DataRequest


def draw(n: int, channels: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shape = (24, 20) if channels == 1 else (24, 20, 3)
    return [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(n)]


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_come_back_as_they_were(tmp_path: Path, channels: int) -> None:
    arrays = draw(4, channels)
    path = write_given(GivenData(arrays, list("abab")), tmp_path)
    source = read_source(str(path), {})
    for sample, array in zip(source.samples, arrays, strict=True):
        np.testing.assert_array_equal(read_location(source.root, sample.location).pixels, array)


def test_same_data_give_the_same_list_and_write_no_picture_twice(tmp_path: Path) -> None:
    arrays = draw(4)
    first = write_given(GivenData(arrays, list("abab")), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert write_given(GivenData(arrays, list("abab")), tmp_path) == first
    assert write_given(GivenData(arrays[:3], list("aba")), tmp_path) != first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before
    assert len(before) == 4


def test_picture_that_a_power_cut_emptied_is_written_again(tmp_path: Path) -> None:
    data = GivenData(draw(1), ["a"])
    write_given(data, tmp_path)
    (picture,) = tmp_path.rglob("*.png")
    content = picture.read_bytes()
    picture.write_bytes(b"")
    write_given(data, tmp_path)
    assert picture.read_bytes() == content


def test_cohort_has_the_labels_and_patients_that_were_given(tmp_path: Path) -> None:
    data = GivenData(draw(4), ["10", "9", "10", "9"], ["p", "p", "q", "007"])
    path = write_given(data, tmp_path)
    cohort = read_cohort(DataRequest(data=str(path)), threads=1, cache=tmp_path)
    assert [(sample.label, sample.patient) for sample in cohort.samples] == [
        ("10", "p"), ("9", "p"), ("10", "q"), ("9", "007"),
    ]  # fmt: skip
    assert cohort.patients.rule == "groups given in Python"


def test_file_given_twice_is_two_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    source = read_source(str(write_given(GivenData([str(path), str(path)], ["a", "b"]), tmp_path)), {})
    assert len({sample.name for sample in source.samples}) == 2
    assert {sample.location for sample in source.samples} == {str(path)}


def test_relative_path_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    source = read_source(str(write_given(GivenData(["b.png"], ["a"]), tmp_path)), {})
    assert source.samples[0].location == str(tmp_path / "b.png")


@pytest.mark.parametrize("text", ["", "{}", '{"snellen_samples": 99, "samples": []}', '{"samples": [{"name": 3}]}'])
def test_damaged_list_is_a_data_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.samples.json"
    path.write_text(text)
    with pytest.raises(DataError):
        read_source(str(path), {})


def test_columns_do_not_go_with_a_list(tmp_path: Path) -> None:
    path = write_given(GivenData(draw(1), ["a"]), tmp_path)
    with pytest.raises(UsageError, match="--columns"):
        read_source(str(path), {"label": "x"})


def test_clearing_the_cache_removes_given_pictures(tmp_path: Path) -> None:
    cache = open_cache(str(tmp_path / "cache"))
    path = write_given(GivenData(draw(1), ["a"]), cache)
    assert clear_cache(cache) > 0
    assert not path.exists()

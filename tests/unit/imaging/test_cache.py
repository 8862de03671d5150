"""The pixel cache: found again wherever the data lie, never stale, and finished where a build was killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pictures import draw_noise, encode, make_preprocess, make_sample
from snellen.core.errors import DataError, PictureError, StorageError
from snellen.imaging.cache import PixelCache, build_pixel_cache
from snellen.imaging.preprocess import preprocess_location
from snellen.imaging.readers import compute_pixels_sha256, read_picture
from snellen.records.cohort import Sample

PLAN = make_preprocess(size=16)
NAMES = tuple(f"{number}.png" for number in range(5))


def write(root: Path, name: str, seed: int) -> Sample:
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(encode(draw_noise(seed)))
    return read(root, name)


def read(root: Path, name: str) -> Sample:
    picture = read_picture(root / name)
    return make_sample(name, "x", pixels_sha256=compute_pixels_sha256(picture.pixels), n_bytes=picture.n_bytes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "eyes"


@pytest.fixture
def samples(root: Path) -> list[Sample]:
    return [write(root, name, seed) for seed, name in enumerate(NAMES)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def build(samples: Sequence[Sample], root: Path, folder: Path, threads: int = 2, **changes: Any) -> PixelCache:
    plan = PLAN.model_copy(update=changes)
    return build_pixel_cache(samples, root, plan, folder, threads=threads)


def spoil(cache: PixelCache, row: int, *, is_done: bool) -> None:
    """Fill a row with 77 and mark it done or not, as a killed build might leave it."""
    pixels = np.lib.format.open_memmap(cache.folder / "values.npy", mode="r+")
    done = np.lib.format.open_memmap(cache.folder / "done.npy", mode="r+")
    pixels[row], done[row] = 77, is_done
    pixels.flush()
    done.flush()


def test_cache_holds_what_preprocessing_gives(samples: list[Sample], root: Path, folder: Path) -> None:
    cache = build(samples, root, folder)
    expected = np.stack([preprocess_location(root, sample.location, PLAN) for sample in samples])
    assert np.array_equal(cache.pixels[cache.select(samples)], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_cache_has_the_model_s_shape(samples: list[Sample], root: Path, folder: Path, channels: int) -> None:
    cache = build(samples, root, folder, channels=channels)
    assert (cache.pixels.shape, cache.pixels.dtype) == ((5, 16, 16, channels), np.uint8)


def test_cache_may_not_be_written(samples: list[Sample], root: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        build(samples, root, folder).pixels[0] = 0


def test_cache_selects_rows_in_the_order_of_samples(samples: list[Sample], root: Path, folder: Path) -> None:
    cache = build(samples, root, folder)
    assert cache.select(samples[::-1]).tolist() == cache.select(samples)[::-1].tolist()


def test_cache_does_not_depend_on_threads(samples: list[Sample], root: Path, tmp_path: Path) -> None:
    one, four = (build(samples, root, tmp_path / f"cache{n}", threads=n) for n in (1, 4))
    assert np.array_equal(one.pixels, four.pixels)


def test_cache_is_found_again_under_other_names_elsewhere(samples: list[Sample], root: Path, folder: Path) -> None:
    before = build(samples, root, folder)
    elsewhere = root.parent / "moved"
    shutil.copytree(root, elsewhere)
    for name in NAMES:
        (elsewhere / name).rename(elsewhere / f"renamed-{name}")
    moved = [read(elsewhere, f"renamed-{name}") for name in NAMES]
    assert build(moved, elsewhere, folder).folder == before.folder


def test_cache_that_is_found_is_not_built_again(samples: list[Sample], root: Path, folder: Path) -> None:
    spoil(build(samples, root, folder), 2, is_done=True)
    assert build(samples, root, folder).pixels[2].min() == 77


def test_cache_that_is_whole_needs_no_pictures(samples: list[Sample], root: Path, folder: Path) -> None:
    build(samples, root, folder)
    shutil.rmtree(root)
    assert build(samples, root, folder).pixels.shape[0] == 5


def test_cache_does_not_depend_on_order(samples: list[Sample], root: Path, folder: Path) -> None:
    assert build(samples, root, folder).key == build(samples[::-1], root, folder).key


def test_edited_picture_gets_another_cache(samples: list[Sample], root: Path, folder: Path) -> None:
    before = build(samples, root, folder)
    edited = [*samples[:-1], write(root, NAMES[-1], 99)]
    assert build(edited, root, folder).key != before.key


def test_cache_of_fewer_pictures_is_another(samples: list[Sample], root: Path, folder: Path) -> None:
    assert build(samples, root, folder).key != build(samples[1:], root, folder).key


@pytest.mark.parametrize(
    "change", [{"size": 24}, {"fit": "pad"}, {"crop_border": True}, {"clahe": 1.0}, {"channels": 1}], ids=str
)
def test_other_preprocessing_gets_another_cache(
    samples: list[Sample], root: Path, folder: Path, change: dict[str, Any]
) -> None:
    assert build(samples, root, folder).key != build(samples, root, folder, **change).key


def test_copies_share_a_row(samples: list[Sample], root: Path, folder: Path) -> None:
    copy = write(root, "copy.png", 0)
    cache = build([*samples, copy], root, folder)
    assert len(cache.pixels) == 5
    assert cache.select([copy]).tolist() == cache.select(samples[:1]).tolist()


@pytest.fixture
def resumed(samples: list[Sample], root: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A whole build, and the build after rows 1 and 3 were marked undone and row 4 was spoilt but marked done."""
    cache = build(samples, root, folder)
    whole = np.array(cache.pixels)
    for row, is_done in ((1, False), (3, False), (4, True)):
        spoil(cache, row, is_done=is_done)
    return whole, np.array(build(samples, root, folder).pixels)


def test_killed_build_is_finished_equal(resumed: tuple[np.ndarray, np.ndarray]) -> None:
    whole, after = resumed
    assert np.array_equal(whole[:4], after[:4])


def test_killed_build_rewrites_only_what_was_undone(resumed: tuple[np.ndarray, np.ndarray]) -> None:
    assert resumed[1][4].min() == 77


def test_finished_build_marks_every_row(samples: list[Sample], root: Path, folder: Path) -> None:
    assert np.load(build(samples, root, folder).folder / "done.npy").all()


def test_failed_build_keeps_nothing_undone_for_done(samples: list[Sample], root: Path, folder: Path) -> None:
    (root / NAMES[2]).unlink()
    with pytest.raises(PictureError):
        build(samples, root, folder)
    write(root, NAMES[2], 2)
    cache = build(samples, root, folder)
    expected = np.stack([preprocess_location(root, sample.location, PLAN) for sample in samples])
    assert np.array_equal(cache.pixels[cache.select(samples)], expected)


@pytest.mark.parametrize("name", ["values.npy", "done.npy"])
@pytest.mark.parametrize("left", [0, 40, None], ids=["empty", "half-a-header", "absent"])
def test_build_killed_while_making_its_files_starts_again(
    samples: list[Sample], root: Path, folder: Path, name: str, left: int | None
) -> None:
    cache = build(samples, root, folder)
    whole = np.array(cache.pixels)
    content = (cache.folder / name).read_bytes()
    (cache.folder / name).unlink()
    if left is not None:
        (cache.folder / name).write_bytes(content[:left])
    assert np.array_equal(build(samples, root, folder).pixels, whole)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_build_names_picture_that_broke_since_it_was_read(
    samples: list[Sample], root: Path, folder: Path, content: bytes
) -> None:
    (root / NAMES[2]).write_bytes(content)
    with pytest.raises(PictureError, match=r"2\.png"):
        build(samples, root, folder)


def test_build_refuses_picture_that_changed_since_it_was_read(samples: list[Sample], root: Path, folder: Path) -> None:
    # else its new pixels would be kept for ever under the hash, the label and the split of the old
    (root / NAMES[2]).write_bytes(encode(draw_noise(99, 30, 40)))
    with pytest.raises(PictureError, match=r"2\.png"):
        build(samples, root, folder)


def test_builds_at_the_same_time_agree(samples: list[Sample], root: Path, folder: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: np.array(build(samples, root, folder, threads=1).pixels), range(3))
    assert all(np.array_equal(first, other) for other in others)


def test_cache_folder_that_is_a_file_raises_storage_error(samples: list[Sample], root: Path, folder: Path) -> None:
    folder.write_text("x")
    with pytest.raises(StorageError):
        build(samples, root, folder)


def test_build_restores_opencv_s_threads(samples: list[Sample], root: Path, folder: Path) -> None:
    import cv2

    before = cv2.getNumThreads()
    build(samples, root, folder)
    assert cv2.getNumThreads() == before


def test_cache_refuses_deep_pictures_without_a_window(samples: list[Sample], root: Path, folder: Path) -> None:
    deep = [samples[0].model_copy(update={"bits": 16}), *samples[1:]]
    with pytest.raises(DataError, match=f"such as {samples[0].name}") as caught:
        build(deep, root, folder)
    assert "preprocess.window" in caught.value.hint
    assert not (folder / "pixels").exists()


def test_cache_windows_deep_pictures(root: Path, folder: Path) -> None:
    root.mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
    (root / "deep.png").write_bytes(encode(values))
    sample = read(root, "deep.png").model_copy(update={"bits": 16})
    cache = build([sample], root, folder, window=(0.0, 4095.0))
    expected = preprocess_location(root, "deep.png", PLAN.model_copy(update={"window": (0.0, 4095.0)}))
    assert np.array_equal(cache.pixels[0], expected)

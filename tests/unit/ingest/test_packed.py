"""Packed files: what is written is read again, and what is damaged or of another version is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pictures import write_pictures
from snellen import workflow
from snellen.core.errors import DataError, PictureError, StorageError, UsageError
from snellen.imaging.packed_pixels import read_packed_pixels
from snellen.ingest.cohort import read_cohort
from snellen.ingest.packed import read_packed
from snellen.ingest.packing import Packing, write_packed
from snellen.planning.recipe_files import load_recipe
from snellen.records.cohort import Sample
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_preparation import Prepared, prepare

SETTINGS = ("preprocess.size=32",)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 12 patients with two pictures each, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("data") / "eyes"
    for seed, label in enumerate(("amd", "normál")):
        names = [f"{label}/{patient:03d}_{eye}.png" for patient in range(12) for eye in ("left", "right")]
        write_pictures(folder, names, first_seed=1000 * seed)
    (folder / "amd" / "broken_left.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    cache = str(tmp_path_factory.mktemp("cache"))
    request = TrainRequest(source=DataRequest(data=str(data), cache=cache), settings=SETTINGS)
    return prepare(request, load_recipe("auto", SETTINGS))


@pytest.fixture
def packing(prepared: Prepared) -> Packing:
    pixels = prepared.build_pixels(prepared.cohort.samples)
    row_of = dict(zip((s.name for s in prepared.cohort.samples), pixels.select(prepared.cohort.samples), strict=True))
    return Packing(
        prepared.cohort,
        prepared.splits,
        prepared.fingerprint,
        prepared.plan,
        lambda sample: pixels.pixels[row_of[sample.name]],
    )


@pytest.fixture
def path(packing: Packing, tmp_path: Path) -> Path:
    write_packed(packing, tmp_path / "cohort.h5", n_views=2)
    return tmp_path / "cohort.h5"


def test_cohort_survives_packing(path: Path, prepared: Prepared) -> None:
    cohort = read_packed(path).cohort
    assert cohort is not None
    for before, after in zip(prepared.cohort.samples, cohort.samples, strict=True):
        moved = {"location", "split"}
        assert before.model_dump(exclude=moved) == after.model_dump(exclude=moved)
    assert (cohort.classes, cohort.patients) == (prepared.cohort.classes, prepared.cohort.patients)
    assert [sample.split for sample in cohort.samples] == [row.split for row in prepared.splits]


def test_pictures_that_were_left_out_stay_out(data: Path, tmp_path: Path) -> None:
    """A patient in train and test, as challenges have them: its training pictures belong nowhere."""
    for number, path in enumerate(sorted(data.glob("*/0*.png"))):
        part = ("train", "train", "train", "val", "test", "test")[number % 6]
        (tmp_path / "eyes" / part / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "eyes" / part / path.parent.name / path.name)
    cache = str(tmp_path / "cache")
    before = workflow.plan(tmp_path / "eyes", settings=SETTINGS, cache=cache)
    packed = workflow.pack(tmp_path / "eyes", out=tmp_path / "eyes.h5", settings=SETTINGS, cache=cache)
    after = workflow.plan(packed, cache=cache)
    assert "left_out" in {row.split for row in before.splits}
    assert [(row.sample, row.split) for row in after.splits] == [(row.sample, row.split) for row in before.splits]
    assert after.fingerprint == before.fingerprint


def test_what_was_set_aside_stays_counted(path: Path, prepared: Prepared) -> None:
    cohort = read_packed(path).cohort
    assert cohort is not None
    assert cohort.audit.n_set_aside == prepared.cohort.audit.n_set_aside == 1
    assert {issue.code for issue in cohort.audit.issues} >= {"unreadable_picture", "packed_data"}


def test_packed_pixels_are_the_preprocessed_ones(path: Path, packing: Packing) -> None:
    for row, sample in enumerate(packing.cohort.samples[:5]):
        assert np.array_equal(read_packed_pixels(path.parent, f"cohort.h5::images[{row}]"), packing.pixels_of(sample))


def test_layout_is_what_the_documentation_says(path: Path) -> None:
    with h5py.File(path, "r") as file:
        assert file.attrs["snellen_schema"] == 1
        assert json.loads(file.attrs["classes"]) == ["amd", "normál"]
        assert json.loads(file.attrs["preprocess"])["size"] == 32
        facts = {"layout", "class_origin", "is_ordered", "has_settled_order", "patients"}
        assert set(json.loads(file.attrs["cohort"])) == facts
        assert file["images"].chunks == (1, 32, 32, 3)
        assert set(file["splits"].asstr()[:]) == {"train", "val", "test"}
        assert file["views/view"][:4].tolist() == [1, 2, 1, 2]


def test_a_packed_file_can_be_packed_again(path: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    again = workflow.pack(path, out=tmp_path / "again.h5", cache=cache)
    with h5py.File(path, "r") as first, h5py.File(again, "r") as second:
        assert np.array_equal(first["images"][:], second["images"][:])
        assert first["splits"].asstr()[:].tolist() == second["splits"].asstr()[:].tolist()
    cohort = read_cohort(DataRequest(data=str(again)), threads=1, cache=tmp_path / "cache")
    assert [issue.code for issue in cohort.audit.issues].count("packed_data") == 1


def test_stopped_packing_leaves_the_old_file_and_nothing_else(path: Path, packing: Packing) -> None:
    before = path.read_bytes()

    def stop(_: Sample) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_packed(Packing(packing.cohort, packing.splits, packing.fingerprint, packing.plan, stop), path)
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_what_a_killed_packing_left_is_overwritten(path: Path, packing: Packing) -> None:
    path.with_name(f".{path.name}.part").write_bytes(b"half a file")
    write_packed(packing, path)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda file: file.attrs.__setitem__("snellen_schema", 2), "has schema 2"),
        (lambda file: file.__delitem__("patients"), "patients is missing"),
        (lambda file: file.attrs.__delitem__("preprocess"), "attribute preprocess is missing"),
        (lambda file: file.__delitem__("records/fingerprint"), "records/fingerprint is missing"),
        (lambda file: _replace(file, "labels", file["labels"][:-1]), "lengths differ: names 48, labels 47"),
        (lambda file: _replace(file, "labels", file["labels"][:] + 1), "labels holds 2, but there are 2 classes"),
        (lambda file: _replace(file, "images", file["images"][:].astype(np.float32)), "images is float32"),
        (lambda file: _replace(file, "images", file["images"][:, :16], (1, 32, 32, 3)), "the plan says"),
        (lambda file: _replace(file, "images", file["images"][:], (48, 32, 32, 3)), "in chunks of"),
        (lambda file: _replace(file, "names", h5py.ExternalLink("other.h5", "/names")), "names is missing"),
        (lambda file: _replace(file, "names", h5py.SoftLink("/formats")), "names is missing"),
        (lambda file: _replace(file, "splits", [b"holdout"] * 48), "splits holds 'holdout'"),
        (lambda file: _replace(file, "names", [b"same"] * 48), "two samples have one name"),
        (lambda file: _replace(file, "names", np.arange(48)), "is damaged"),
        (lambda file: file["labels"].__setitem__(3, 1 - file["labels"][3]), "was altered"),
        (lambda file: file["patients"].__setitem__(3, "somebody else"), "was altered"),
        (lambda file: file.attrs.__setitem__("classes", '["normál", "amd"]'), "was altered"),
        (lambda file: file.attrs.__setitem__("classes", "[half"), "is damaged"),
        (lambda file: file.attrs.__setitem__("preprocess", '{"size": 32}'), "another version of Snellen"),
    ],
)
def test_damaged_file_is_told(path: Path, spoil: Callable[[Any], None], word: str) -> None:
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(DataError, match=word) as caught:
        read_packed(path)
    assert caught.value.hint


def _replace(file: Any, key: str, value: Any, chunks: tuple[int, ...] | None = None) -> None:
    del file[key]
    if chunks is None:
        file[key] = value
    else:
        file.create_dataset(key, data=value, chunks=chunks, maxshape=(None,) * value.ndim)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file_is_told(path: Path, share: float, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"cohort\.h5"):
        read_cohort(DataRequest(data=str(path)), threads=1, cache=tmp_path / "cache")


def _flip(path: Path, row: int, n_bytes: int = 1) -> None:
    """Damage the picture of this row, as a bad disk would."""
    with h5py.File(path, "r") as file:
        chunk = file["images"].id.get_chunk_info(row)
    data = bytearray(path.read_bytes())
    for offset in range(chunk.byte_offset + 10, chunk.byte_offset + 10 + n_bytes):
        data[offset] ^= 0xFF
    path.write_bytes(bytes(data))


def test_audit_sets_a_damaged_picture_aside_by_name(path: Path, tmp_path: Path) -> None:
    whole = read_cohort(DataRequest(data=str(path)), threads=1, cache=tmp_path / "cache")
    _flip(path, 7)
    cohort = workflow.audit(path, out=tmp_path / "audit", cache=tmp_path / "cache")
    name = whole.samples[7].name
    issue = next(issue for issue in cohort.audit.issues if issue.code == "damaged_packed_picture")
    assert (issue.severity, issue.samples) == ("severe", (name,))
    assert cohort.audit.n_set_aside == whole.audit.n_set_aside + 1
    assert cohort.audit.n_read == len(cohort.samples) == sum(cohort.audit.classes.values()) == 47
    assert name in (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")


def test_training_on_a_damaged_file_says_the_true_cause(path: Path, tmp_path: Path) -> None:
    _flip(path, 7)
    with pytest.raises(PictureError, match=r"images\[7\] of cohort\.h5 is damaged") as caught:
        workflow.train(path, out=tmp_path / "run", cache=tmp_path / "cache")
    assert "changed" not in caught.value.hint
    assert "pack it again" in caught.value.hint


def test_damaged_picture_is_told_with_its_place(path: Path) -> None:
    _flip(path, 7, 50)
    with pytest.raises(DataError, match=r"images\[7\]") as caught:
        read_packed_pixels(path.parent, "cohort.h5::images[7]")
    assert "pack it again" in caught.value.hint


def test_foreign_file_is_not_taken_for_ours(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match="not written by `snellen pack`"):
        read_packed(tmp_path / "other.h5")


@pytest.mark.parametrize(("name", "word"), [("cohort.zip", "no HDF5"), ("eyes/cohort.h5", "inside the data")])
def test_pack_refuses_a_place_before_it_reads(data: Path, name: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        workflow.pack(data, out=data.parent / name)


def test_full_disk_is_told_before_writing(packing: Packing, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="needs"):
        write_packed(packing, tmp_path / "cohort.h5", n_views=10**12)
    assert list(tmp_path.iterdir()) == []


def test_asked_columns_are_packed_and_kept_only_where_asked_for_again(data: Path, tmp_path: Path) -> None:
    names = [path.relative_to(data).as_posix() for path in sorted(data.glob("*/0*.png"))]
    rows = [
        f"{name},{name.split('/')[0]},{name.rsplit('_', 1)[0]},{'ab'[at % 2]},secret" for at, name in enumerate(names)
    ]
    shutil.copytree(data, tmp_path / "eyes")
    table = tmp_path / "eyes" / "labels.csv"
    table.write_text("\n".join(["image,label,patient,camera,note", *rows]), encoding="utf-8")
    cache = str(tmp_path / "cache")
    packed = workflow.pack(table, out=tmp_path / "eyes.h5", by=["camera"], settings=SETTINGS, cache=cache)
    assert b"secret" not in packed.read_bytes()

    def read(*by: str) -> list[dict[str, str]]:
        cohort = read_cohort(DataRequest(data=str(packed)), threads=1, cache=tmp_path / "cache", by=by)
        return [sample.attributes for sample in cohort.samples]

    assert [found["camera"] for found in read("camera", "eye")] == ["ab"[at % 2] for at in range(len(names))]
    assert not any(read())
    with pytest.raises(UsageError, match="No column note was packed"):
        read("note")

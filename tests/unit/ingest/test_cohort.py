"""From files to a cohort: bad pictures are set aside and counted, facts are read once, nothing stops the rest."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest

from pictures import draw_noise, encode, write_npz, write_picture, write_pictures, write_table
from snellen.core.errors import DataError, StorageError, UsageError
from snellen.ingest.cohort import read_cohort
from snellen.records.cohort import Cohort, Sample
from snellen.records.run import DataRequest

NAMES = ("well/1_left.png", "well/1_right.png", "well/2_left.png", "sick/3_left.png", "sick/4_left.png")
BAD = {
    "truncated.jpg": encode(draw_noise(1, 64, 64), "JPEG")[:900],
    "empty.png": b"",
    "letter.jpg": b"Dear colleague, please find attached the angiography of Ms. X.",
    "page.png": b"<!DOCTYPE html><title>404</title>",
    "float.tiff": encode(draw_noise(1, channels=1).astype("float32"), "TIFF"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "eyes", NAMES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def read(data: Path, cache: Path, **wishes: object) -> Cohort:
    return read_cohort(DataRequest.model_validate({"data": str(data), **wishes}), threads=2, cache=cache)


def find(cohort: Cohort, name: str) -> Sample:
    return next(sample for sample in cohort.samples if sample.name == name)


def replace_keeping_stamp(path: Path, content: bytes) -> None:
    """Other bytes of the same number with the same date, as a copy that keeps dates may leave."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_read_cohort_keeps_every_readable_picture(folder: Path, cache: Path) -> None:
    assert sorted(sample.name for sample in read(folder, cache).samples) == sorted(NAMES)


def get_advice(cohort: Cohort, code: str) -> str:
    return next(issue.advice for issue in cohort.audit.issues if issue.code == code)


def write_labels(folder: Path, patients: list[str]) -> Path:
    rows = [f"{name},{name.split('/')[0]},{patient}\n" for name, patient in zip(NAMES, patients, strict=True)]
    (folder / "labels.csv").write_text("image,label,who\n" + "".join(rows))
    return folder / "labels.csv"


@pytest.mark.parametrize(("wish", "code"), [("none", "patients_unknown"), ("auto", "patients_inferred")])
def test_advice_for_class_folders_names_no_column(wish: str, code: str, tmp_path: Path, cache: Path) -> None:
    folder = write_pictures(tmp_path / "eyes", NAMES)
    advice = get_advice(read(folder, cache, patients=wish), code)
    assert "--patients REGEX" in advice
    assert "--columns" not in advice


@pytest.mark.parametrize(
    ("is_told", "said"),
    [(False, "column who, whose cells are empty"), (True, "Their patient column is empty")],
)
def test_advice_says_that_cells_of_the_patient_column_are_empty(
    is_told: bool, said: str, folder: Path, cache: Path
) -> None:
    patients = ["", *(["P1" if is_told else ""] * (len(NAMES) - 1))]
    cohort = read(write_labels(folder, patients), cache, columns={"patient": "who"})
    code = "patients_unknown" if is_told else "patients_inferred"
    assert said in get_advice(cohort, code)


def test_read_cohort_tells_facts_of_a_picture(folder: Path, cache: Path) -> None:
    path = write_picture(folder / "well" / "9_left.png", 9, height=20, width=30, channels=1)
    sample = find(read(folder, cache), "well/9_left.png")
    assert (sample.width_px, sample.height_px, sample.channels, sample.format, sample.n_bytes) == (
        30, 20, 1, "PNG", path.stat().st_size,
    )  # fmt: skip


def test_read_cohort_counts_classes(folder: Path, cache: Path) -> None:
    assert read(folder, cache).audit.classes == {"sick": 2, "well": 3}


def test_read_cohort_joins_both_eyes(folder: Path, cache: Path) -> None:
    cohort = read(folder, cache)
    assert find(cohort, "well/1_left.png").patient == find(cohort, "well/1_right.png").patient


def test_read_cohort_does_not_depend_on_threads(folder: Path, tmp_path: Path) -> None:
    request = DataRequest(data=str(folder))
    one, four = (read_cohort(request, threads=n, cache=tmp_path / f"cache{n}") for n in (1, 4))
    assert one == four


@pytest.mark.parametrize("name", BAD)
def test_read_cohort_sets_bad_picture_aside_by_name(folder: Path, cache: Path, name: str) -> None:
    (folder / "sick" / name).write_bytes(BAD[name])
    (issue,) = [issue for issue in read(folder, cache).audit.issues if issue.code == "unreadable_picture"]
    assert issue.samples == (f"sick/{name}",)
    assert f"1 of {len(NAMES) + 1} pictures cannot be read" in issue.message


@pytest.mark.parametrize("name", BAD)
def test_read_cohort_goes_on_without_bad_picture(folder: Path, cache: Path, name: str) -> None:
    (folder / "sick" / name).write_bytes(BAD[name])
    assert sorted(sample.name for sample in read(folder, cache).samples) == sorted(NAMES)


def test_read_cohort_counts_what_it_set_aside(folder: Path, cache: Path) -> None:
    for name, content in BAD.items():
        (folder / "sick" / name).write_bytes(content)
    audit = read(folder, cache).audit
    assert (audit.n_samples, audit.n_read, audit.n_set_aside) == (len(NAMES) + len(BAD), len(NAMES), len(BAD))


def test_read_cohort_counts_rows_that_the_table_lost(tmp_path: Path, cache: Path) -> None:
    table = write_table(tmp_path, "image,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\na.png,x\nz.png,x\nb.png,\n")
    audit = read(table, cache).audit
    assert (audit.n_samples, audit.n_read, audit.n_set_aside) == (7, 4, 3)


def test_read_cohort_of_bad_pictures_only_is_refused(tmp_path: Path, cache: Path) -> None:
    for name in ("well/1.png", "sick/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the 2 pictures.*0 bytes"):
        read(tmp_path, cache)


def test_read_cohort_without_labelled_picture_is_refused(tmp_path: Path, cache: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "well").mkdir(parents=True)
    with pytest.raises(DataError, match="no labelled picture"):
        read(tmp_path, cache)


def test_read_cohort_keeps_the_data_s_own_splits(tmp_path: Path, cache: Path) -> None:
    write_pictures(tmp_path, [f"{part}/{name}" for part in ("Training", "valid", "testing") for name in NAMES])
    assert {sample.split for sample in read(tmp_path, cache).samples} == {"train", "val", "test"}


def test_read_cohort_takes_columns_that_were_told(tmp_path: Path, cache: Path) -> None:
    table = write_table(tmp_path, "f,eye,dx\na.png,od,x\nb.png,od,y\nc.png,os,x\nd.png,os,y\n")
    assert read(table, cache, columns={"label": "eye"}).classes == ("od", "os")


def read_grades(tmp_path: Path, cache: Path, merge: dict[str, tuple[str, ...]]) -> Cohort:
    rows = "".join(f"{grade}{eye}.png,{grade}\n" for grade in range(4) for eye in "ab")
    names = [f"{grade}{eye}.png" for grade in range(4) for eye in "ab"]
    table = write_table(tmp_path, f"image,grade\n{rows}", names)
    return read_cohort(DataRequest(data=str(table)), threads=1, cache=cache, merge=merge)


def test_read_cohort_merges_labels_into_classes(tmp_path: Path, cache: Path) -> None:
    cohort = read_grades(tmp_path, cache, {"referable": ("2", "3"), "no": ("0", "1")})
    assert cohort.classes == ("no", "referable")
    assert cohort.audit.classes == {"no": 4, "referable": 4}
    assert "referable = 2, 3" in cohort.class_origin


def test_read_cohort_counts_merged_names_and_keeps_the_labels(tmp_path: Path, cache: Path) -> None:
    cohort = read_grades(tmp_path, cache, {"grade_10": ("0",), "grade_9": ("1", "2"), "grade_1": ("3",)})
    assert cohort.classes == tuple(cohort.audit.classes) == ("grade_1", "grade_9", "grade_10")
    assert cohort.labels == {"0": "grade_10", "1": "grade_9", "2": "grade_9", "3": "grade_1"}
    assert (cohort.is_merged, cohort.label_origin) == (True, "column grade")


@pytest.mark.parametrize("layout", ["folders", "table", "npz", "hdf5"])
def test_read_cohort_counts_labels_in_every_layout(layout: str, tmp_path: Path, cache: Path) -> None:
    labels = ("10", "1.25", "0.5", "-1", "0.25", "9")
    data = tmp_path / "data"
    names = [f"{label}/{index}.png" for index, label in enumerate(labels)]
    pixels = np.stack([draw_noise(seed) for seed in range(len(labels))])
    data.mkdir()
    if layout == "folders":
        write_pictures(data, names)
    elif layout == "table":
        rows = "".join(f"{name},{label}\n" for name, label in zip(names, labels, strict=True))
        data = write_table(data, f"image,grade\n{rows}", names)
    elif layout == "npz":
        np.savez(data / "eyes.npz", images=pixels, labels=np.array(labels))
        data = data / "eyes.npz"
    else:
        with h5py.File(data / "eyes.h5", "w") as file:
            file["images"], file["labels"] = pixels, [label.encode() for label in labels]
        data = data / "eyes.h5"
    columns = {"label": "grade"} if layout == "table" else {}
    assert read(data, cache, columns=columns).classes == ("-1", "0.25", "0.5", "1.25", "9", "10")


def test_read_cohort_tells_of_labels_to_merge_that_are_not_there(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="referable takes '5'"):
        read_grades(tmp_path, cache, {"referable": ("3", "5")})


def test_read_cohort_calls_merged_names_no_longer_alike(tmp_path: Path, cache: Path) -> None:
    write_pictures(tmp_path, [f"{name}/{number}.png" for name in ("Well", "well", "ill") for number in range(2)])
    request = DataRequest(data=str(tmp_path))

    def list_codes(merge: dict[str, tuple[str, ...]]) -> set[str]:
        cohort = read_cohort(request, threads=1, cache=cache, merge=merge)
        return {issue.code for issue in cohort.audit.issues}

    assert "class_names_alike" in list_codes({})
    assert "class_names_alike" not in list_codes({"well": ("Well", "well")})


def test_read_cohort_takes_pattern_for_patients(folder: Path, cache: Path) -> None:
    assert read(folder, cache, patients=r"(\d)_").patients.n == 4


def test_read_cohort_takes_name_of_column_for_patients(tmp_path: Path, cache: Path) -> None:
    # DESIGN 3: --patients auto|none|COLUMN|REGEX
    table = write_table(tmp_path, "image,label,mrn\na.png,x,7\nb.png,y,7\nc.png,x,8\nd.png,y,8\n")
    assert read(table, cache, patients="mrn").patients.n == 2


def test_read_cohort_warns_of_rows_without_patient(tmp_path: Path, cache: Path) -> None:
    table = write_table(tmp_path, "image,label,patient\na.png,x,7\nb.png,y,7\nc.png,x,8\nd.png,y,\n")
    issues = {issue.code: issue.samples for issue in read(table, cache).audit.issues}
    assert issues.get("patients_unknown") == ("d.png",)


def test_read_cohort_with_patients_partly_told_keeps_the_column(tmp_path: Path, cache: Path) -> None:
    table = write_table(tmp_path, "image,label,patient\na.png,x,7\nb.png,y,7\nc.png,x,8\nd.png,y,\n")
    cohort = read(table, cache)
    assert (find(cohort, "b.png").patient, cohort.patients.n) == ("7", 3)


def test_read_cohort_refuses_role_that_does_not_exist(folder: Path, cache: Path) -> None:
    (folder / "labels.csv").write_text("image,label\n1_left,x\n")
    with pytest.raises(UsageError, match="no such role"):
        read(folder, cache, columns={"eye": "label"})


@pytest.mark.parametrize("shape", [(6, 8, 8), (6, 8, 8, 3), (6, 8, 8, 1)], ids=["grey", "rgb", "grey-with-axis"])
def test_read_cohort_reads_npz(tmp_path: Path, cache: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    cohort = read(write_npz(tmp_path / "toy.npz", train_images=pixels), cache)
    assert find(cohort, "train/000000").channels == (3 if shape[-1] == 3 else 1)
    assert len(cohort.samples) == 18


def test_read_cohort_reads_changed_file_again(folder: Path, cache: Path) -> None:
    before = find(read(folder, cache), NAMES[0])
    write_picture(folder / NAMES[0], 99, height=40, width=50)
    after = find(read(folder, cache), NAMES[0])
    assert (after.width_px, after.height_px) == (50, 40)
    assert after.pixels_sha256 != before.pixels_sha256


def test_read_cohort_reads_changed_npz_again(tmp_path: Path, cache: Path) -> None:
    path = write_npz(tmp_path / "toy.npz")
    before = find(read(path, cache), "train/000000").pixels_sha256
    write_npz(path, train_images=draw_noise(77, 6, 8 * 9, channels=1).reshape(6, 8, 9))
    assert find(read(path, cache), "train/000000").pixels_sha256 != before


def test_read_cohort_does_not_read_unchanged_file_again(folder: Path, cache: Path) -> None:
    before = find(read(folder, cache), NAMES[0]).pixels_sha256
    (store,) = (cache / "facts").iterdir()
    store.write_text(store.read_text().replace(before, "as it was stored"))
    assert find(read(folder, cache), NAMES[0]).pixels_sha256 == "as it was stored"


def test_read_cohort_reads_files_again_that_traded_names(folder: Path, cache: Path) -> None:
    plain = {seed: encode(draw_noise(seed), compress_level=0) for seed in (1, 2)}  # stored, so of equal size
    one, other = folder / NAMES[0], folder / NAMES[3]
    for path, seed in ((one, 1), (other, 2)):
        path.write_bytes(plain[seed])
        os.utime(path, ns=(10**18, 10**18))
    before = {name: find(read(folder, cache), name).pixels_sha256 for name in (NAMES[0], NAMES[3])}
    aside = folder.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    after = {name: find(read(folder, cache), name).pixels_sha256 for name in (NAMES[0], NAMES[3])}
    assert after == {NAMES[0]: before[NAMES[3]], NAMES[3]: before[NAMES[0]]}


def test_read_cohort_tries_unreadable_file_again(folder: Path, cache: Path) -> None:
    # the advice is to copy it again: a copy may keep size and date, and a failure to read may pass
    content = encode(draw_noise(5))
    path = folder / "sick" / "9_left.png"
    path.write_bytes(bytes(len(content)))
    assert read(folder, cache).audit.n_set_aside == 1
    replace_keeping_stamp(path, content)
    assert read(folder, cache).audit.n_set_aside == 0


def test_read_cohort_forgets_deleted_file(folder: Path, cache: Path) -> None:
    read(folder, cache)
    (folder / NAMES[0]).unlink()
    assert NAMES[0] not in {sample.name for sample in read(folder, cache).samples}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_read_cohort_reads_again_where_stored_facts_are_damaged(folder: Path, cache: Path, content: bytes) -> None:
    before = read(folder, cache)
    (store,) = (cache / "facts").iterdir()
    store.write_bytes(content)
    assert read(folder, cache) == before


def test_read_cohort_gives_equal_result_from_stored_facts(folder: Path, cache: Path) -> None:
    (folder / "sick" / "bad.png").write_bytes(b"")
    assert read(folder, cache) == read(folder, cache)


def test_read_cohort_with_cache_that_is_a_file_raises_storage_error(folder: Path, cache: Path) -> None:
    cache.write_text("x")
    with pytest.raises(StorageError):
        read(folder, cache)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not text")
def test_read_cohort_with_name_that_is_not_text_can_be_written(folder: Path, cache: Path) -> None:
    # archives packed on old Windows machines unpack to such names
    (folder / NAMES[0]).rename(folder / "well" / os.fsdecode(b"M\xe4rz_left.png"))
    cohort = read(folder, cache)
    assert Cohort.model_validate_json(cohort.to_json()) == cohort


def list_codes(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    return {issue.code: issue.samples for issue in cohort.audit.issues}


def write_deep(path: Path, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4096, (24, 24), dtype=np.uint16)
    path.write_bytes(encode(values))


def test_read_cohort_tells_depth_of_every_picture(folder: Path, cache: Path) -> None:
    write_deep(folder / "sick" / "7_left.png", 7)
    cohort = read(folder, cache)
    assert find(cohort, "sick/7_left.png").bits == 16
    assert {sample.bits for sample in cohort.samples if sample.name != "sick/7_left.png"} == {8}


def test_mixed_depths_are_a_warning_that_names_the_fewer(folder: Path, cache: Path) -> None:
    write_deep(folder / "sick" / "7_left.png", 7)
    codes = list_codes(read(folder, cache))
    assert codes["high_bit_depth"] == ("sick/7_left.png",)
    assert codes["mixed_bit_depth"] == ("sick/7_left.png",)


def test_one_depth_is_no_warning(tmp_path: Path, cache: Path) -> None:
    for seed, name in enumerate(NAMES):
        (tmp_path / "deep" / name).parent.mkdir(parents=True, exist_ok=True)
        write_deep(tmp_path / "deep" / name, seed)
    codes = list_codes(read(tmp_path / "deep", cache))
    assert len(codes["high_bit_depth"]) == len(NAMES)
    assert "mixed_bit_depth" not in codes


def test_kinds_of_pictures_are_told_also_from_stored_facts(folder: Path, cache: Path) -> None:
    clear = np.dstack([draw_noise(8), np.where(np.arange(24) < 12, 255, 0)[None].repeat(24, 0).astype(np.uint8)])
    (folder / "sick" / "8_left.png").write_bytes(encode(clear))
    for _ in range(2):
        assert list_codes(read(folder, cache))["transparent_pictures"] == ("sick/8_left.png",)


def test_pictures_that_only_differ_on_another_background_are_no_copies(folder: Path, cache: Path) -> None:
    # white strokes on nothing: on white both are blank
    for name, at in (("8_left.png", 3), ("9_left.png", 9)):
        strokes = np.full((24, 24, 4), (255, 255, 255, 0), np.uint8)
        strokes[at] = 255
        (folder / "sick" / name).write_bytes(encode(strokes))
    cohort = read(folder, cache)
    assert find(cohort, "sick/8_left.png").pixels_sha256 != find(cohort, "sick/9_left.png").pixels_sha256


def test_read_cohort_joins_patients_written_in_two_unicode_forms(tmp_path: Path, cache: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    table = write_table(
        tmp_path, f"image,label,patient\na.png,x,{composed}\nb.png,y,{decomposed}\nc.png,x,A\nd.png,y,B\n"
    )
    assert read(table, cache).patients.n == 3


def test_blank_pictures_are_told_by_name(folder: Path, cache: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    nearly = np.full((32, 32), 100, np.uint8)
    nearly[::2] += 7
    seen = nearly.copy()
    seen[16, 16] = 200
    for name, pixels in {"red": red, "nearly": nearly, "seen": seen}.items():
        (folder / "sick" / f"9_{name}.png").write_bytes(encode(pixels, "PNG"))
    for _ in range(2):  # read, and remembered
        issue = next(issue for issue in read(folder, cache).audit.issues if issue.code == "blank_pictures")
        assert (issue.severity, issue.samples) == ("warning", ("sick/9_nearly.png", "sick/9_red.png"))

"""One table a split, as challenges publish them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pictures import write_pictures
from snellen.core.errors import DataError
from snellen.ingest.sources import Source, read_source

NAMES = ("train.csv", "valid.csv", "test.csv")
FOLDERS = {"train": "train_images", "val": "val_images", "test": "test_images"}


def write(folder: Path, names: tuple[str, str, str] = NAMES, *, test_header: str = "id_code,diagnosis") -> Path:
    """APTOS: ids without extension, eight pictures a split, the same ids in every split."""
    for (split, images), name in zip(FOLDERS.items(), names, strict=True):
        ids = [f"0{number}" for number in range(8)]
        write_pictures(folder / images, [f"{item}.png" for item in ids], first_seed=len(images))
        has_label = split != "test" or "diagnosis" in test_header
        rows = [f"{item},{number % 3}" if has_label else item for number, item in enumerate(ids)]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([test_header if split == "test" else "id_code,diagnosis", *rows]) + "\n")
    return folder


def read(folder: Path, **columns: str) -> Source:
    return read_source(str(folder), columns)


def list_codes(source: Source) -> list[str]:
    return [issue.code for issue in source.issues]


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ("train_1.csv", "val.csv", "test.csv"),
        ("trainLabels.csv", "validation.csv", "testLabels.csv"),
        ("training.csv", "dev.csv", "testing.csv"),
        ("a. Training Labels.csv", "b. Validation Labels.csv", "c. Testing Labels.csv"),
        ("train/labels.csv", "val/labels.csv", "test/labels.csv"),
        ("truth/train.csv", "truth/val.csv", "truth/test.csv"),
    ],
)
def test_names_of_tables_or_folders_tell_the_splits(tmp_path: Path, names: tuple[str, str, str]) -> None:
    samples = read(write(tmp_path, names)).samples
    assert {(sample.location, sample.label, sample.split) for sample in samples} == {
        (f"{images}/0{number}.png", str(number % 3), split) for split, images in FOLDERS.items() for number in range(8)
    }


def test_table_without_labels_is_ungraded(tmp_path: Path) -> None:
    source = read(write(tmp_path, test_header="id_code"))
    assert {sample.split for sample in source.samples} == {"train", "val"}
    (issue,) = [issue for issue in source.issues if issue.code == "table_without_labels"]
    assert issue.samples == tuple(f"0{number}" for number in range(8))


def test_table_without_a_split_in_its_name_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "sample_submission.csv").write_text("id_code,diagnosis\n00,0\n01,0\n")
    assert "table_not_used" in list_codes(read(tmp_path))


def test_train_table_alone_has_no_splits(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "test.csv").unlink()
    (tmp_path / "valid.csv").rename(tmp_path / "sample_submission.csv")
    for images in ("val_images", "test_images"):
        for path in (tmp_path / images).iterdir():
            path.unlink()
    assert {sample.split for sample in read(tmp_path).samples} == {None}


def test_picture_of_two_tables_stays_in_the_later_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", [f"{name}.png" for name in "abcdef"])
    (tmp_path / "train.csv").write_text("id,label\na,x\nb,y\nc,x\nd,y\n")
    (tmp_path / "test.csv").write_text("id,label\nd,y\ne,x\nf,y\na,y\n")
    source = read(tmp_path)
    split_of = {sample.location: sample.split for sample in source.samples}
    assert (split_of["images/d.png"], split_of["images/a.png"]) == ("test", "test")
    assert sorted(list_codes(source)) == ["conflicting_rows", "repeated_row"]


def test_columns_can_be_told_for_all_tables(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_pictures(tmp_path / split, [f"{split}{number}.png" for number in range(4)])
        rows = "\n".join(f"{split}{number},{number % 2},{number // 2}" for number in range(4))
        (tmp_path / f"{split}.csv").write_text(f"id,dme,dr\n{rows}\n")
    with pytest.raises(DataError, match=r"dme .*dr"):
        read(tmp_path)
    assert [sample.label for sample in read(tmp_path, label="dr").samples] == list("00110011")


def test_class_folders_win_where_the_tables_name_no_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{split}/{name}/1.png" for split in ("train", "test") for name in ("well", "sick")])
    for split in ("train", "test"):
        (tmp_path / f"{split}_log.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    assert {sample.label for sample in read(tmp_path).samples} == {"well", "sick"}

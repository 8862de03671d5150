"""What lies at DATA is found out; what is not used is told."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from pictures import draw_noise, encode, write_npz, write_picture, write_pictures, write_table
from snellen.core.errors import DataError
from snellen.ingest.sources import Source, read_source, sort_classes

CLASSES = ("well/1.png", "well/2.jpg", "sick/1.png", "sick/deeper/3.jpeg", "sick/4.TIF")


def read(folder: Path) -> Source:
    return read_source(str(folder), {})


def to_labels(source: Source) -> dict[str, str]:
    return {sample.location: sample.label for sample in source.samples}


def to_messages(source: Source) -> str:
    return " ".join(issue.message for issue in source.issues)


def test_class_folders_give_their_names_as_labels(tmp_path: Path) -> None:
    assert to_labels(read(write_pictures(tmp_path, CLASSES))) == {name: name.split("/")[0] for name in CLASSES}


def test_class_folders_have_no_splits(tmp_path: Path) -> None:
    assert {sample.split for sample in read(write_pictures(tmp_path, CLASSES)).samples} == {None}


def test_class_folders_may_bear_spaces_and_umlauts(tmp_path: Path) -> None:
    source = read(write_pictures(tmp_path, ("Makula Ödem/1.png", "ohne Befund/1.png")))
    assert set(to_labels(source).values()) == {"Makula Ödem", "ohne Befund"}


def test_class_folders_are_listed_in_the_same_order_each_time(tmp_path: Path) -> None:
    write_pictures(tmp_path, CLASSES)
    assert read(tmp_path).samples == read(tmp_path).samples


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), {"train", "val", "test"}),
        (("Training", "valid", "testing"), {"train", "val", "test"}),
        (("TRAIN", "validation"), {"train", "val"}),
        (("train", "dev", "Test"), {"train", "val", "test"}),
        (("train", "test"), {"train", "test"}),
    ],
)
def test_split_folders_are_recognised(tmp_path: Path, folders: tuple[str, ...], expected: set[str]) -> None:
    source = read(write_pictures(tmp_path, [f"{folder}/{name}" for folder in folders for name in CLASSES]))
    assert Counter(sample.split for sample in source.samples) == dict.fromkeys(expected, len(CLASSES))


def test_split_folders_give_class_names_as_labels(tmp_path: Path) -> None:
    source = read(write_pictures(tmp_path, [f"{part}/{name}" for part in ("train", "test") for name in CLASSES]))
    assert set(to_labels(source).values()) == {"well", "sick"}


def test_split_folders_tell_of_a_folder_beside_them(tmp_path: Path) -> None:
    names = [f"{part}/{name}" for part in ("train", "test", "external") for name in CLASSES]
    assert "external" in to_messages(read(write_pictures(tmp_path, names)))


def test_train_folder_alone_is_a_wrapper_of_class_folders(tmp_path: Path) -> None:
    source = read(write_pictures(tmp_path, [f"train/{name}" for name in CLASSES]))
    assert set(to_labels(source).values()) == {"well", "sick"}


@pytest.mark.parametrize("wrapper", ["archive", "archive/data"])
def test_wrapper_folder_is_looked_through(tmp_path: Path, wrapper: str) -> None:
    source = read(write_pictures(tmp_path, [f"{wrapper}/{name}" for name in CLASSES]))
    assert to_labels(source) == {name: name.split("/")[0] for name in CLASSES}


def test_wrapper_folder_of_split_folders_is_looked_through(tmp_path: Path) -> None:
    names = [f"archive/{part}/{name}" for part in ("train", "test") for name in CLASSES]
    assert {sample.split for sample in read(write_pictures(tmp_path, names)).samples} == {"train", "test"}


@pytest.mark.parametrize("place", ["", "images/"])
def test_wrapper_folder_of_table_is_looked_through(tmp_path: Path, place: str) -> None:
    pictures = [f"{place}{name}.png" for name in "abcd"]
    write_table(tmp_path / "archive", "image,label\na,x\nb,y\nc,x\nd,y\n", pictures)
    assert len(read(tmp_path).samples) == 4


def test_one_class_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 class folder\(s\)") as caught:
        read(write_pictures(tmp_path, ("well/1.png", "well/2.png")))
    assert "at least two classes" in caught.value.hint


def test_pictures_without_folders_are_refused_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 2 pictures in 0 class"):
        read(write_pictures(tmp_path, ("1.png", "2.png")))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels cannot be told"):
        read(tmp_path)


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    for name in ("well", "sick"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="labels cannot be told"):
        read(tmp_path)


def test_path_that_does_not_exist_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist") as caught:
        read(tmp_path / "nowhere")
    assert "class folders" in caught.value.hint


@pytest.mark.parametrize("name", ["data.mat", "data", "picture.png"])
def test_file_of_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="no data set that Snellen reads"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "hidden",
    [
        "well/.hidden.png",
        "well/._1.png",
        ".trash/1.png",
        "well/.ipynb_checkpoints/1-checkpoint.png",
        "well/.cache/d/1.png",
    ],
)
def test_hidden_pictures_are_no_samples(tmp_path: Path, hidden: str) -> None:
    assert set(to_labels(read(write_pictures(tmp_path, (*CLASSES, hidden))))) == set(CLASSES)


@pytest.mark.parametrize("other", ["well/notes.txt", "well/Thumbs.db", "README.md"])
def test_other_files_are_no_samples(tmp_path: Path, other: str) -> None:
    write_pictures(tmp_path, CLASSES)
    (tmp_path / other).write_text("x")
    assert set(to_labels(read(tmp_path))) == set(CLASSES)


def test_folder_named_like_a_picture_is_no_sample(tmp_path: Path) -> None:
    write_pictures(tmp_path, CLASSES)
    (tmp_path / "well" / "scan.png").mkdir()
    assert set(to_labels(read(tmp_path))) == set(CLASSES)


def test_class_whose_pictures_have_an_unknown_format_is_told(tmp_path: Path) -> None:
    # otherwise a three-class study becomes a two-class study without a word
    write_pictures(tmp_path, CLASSES)
    (tmp_path / "oedema").mkdir()
    (tmp_path / "oedema" / "1.ppm").write_bytes(encode(draw_noise(1), "PPM"))
    assert "oedema" in to_messages(read(tmp_path))


def test_class_folder_without_pictures_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, CLASSES)
    (tmp_path / "oedema").mkdir()
    assert "oedema" in to_messages(read(tmp_path))


TABLE = "image,grade\nwell/1.png,0\nwell/2.jpg,1\nsick/1.png,0\nsick/deeper/3.jpeg,1\nsick/4.TIF,1\n"


def test_table_that_names_most_pictures_wins_over_folder_names(tmp_path: Path) -> None:
    source = read(write_table(tmp_path, TABLE, CLASSES).parent)
    assert set(to_labels(source).values()) == {"0", "1"}


def test_table_that_names_few_pictures_leaves_folder_names(tmp_path: Path) -> None:
    source = read(write_table(tmp_path, "image,grade\nwell/1.png,0\nwell/2.jpg,1\n", CLASSES).parent)
    assert set(to_labels(source).values()) == {"well", "sick"}


def test_table_that_is_not_used_is_told(tmp_path: Path) -> None:
    source = read(write_table(tmp_path, "site,n\nPune,3\nBerlin,2\n", CLASSES).parent)
    assert [(issue.code, "labels.csv" in issue.message) for issue in source.issues] == [("table_not_used", True)]


def test_table_is_used_where_columns_are_told(tmp_path: Path) -> None:
    write_table(tmp_path, "image,grade\nwell/1.png,0\nwell/2.jpg,1\n", CLASSES)
    assert len(read_source(str(tmp_path), {"label": "grade"}).samples) == 2


def test_table_given_by_path_has_its_folder_as_root(tmp_path: Path) -> None:
    path = write_table(tmp_path, TABLE, CLASSES)
    assert read(path).root == tmp_path.resolve()


@pytest.mark.parametrize("hidden", ["._labels.csv", ".labels.tsv"])
def test_hidden_table_does_not_hide_the_table(tmp_path: Path, hidden: str) -> None:
    write_table(tmp_path, TABLE, CLASSES)
    (tmp_path / hidden).write_bytes(b"\x00\x05\x16\x07")
    assert set(to_labels(read(tmp_path)).values()) == {"0", "1"}


def test_npz_given_by_path_is_read(tmp_path: Path) -> None:
    assert len(read(write_npz(tmp_path / "toy.npz")).samples) == 18


def test_relative_path_gives_absolute_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "eyes", CLASSES)
    monkeypatch.chdir(tmp_path)
    assert read_source("eyes", {}).root == (tmp_path / "eyes").resolve()


def test_locations_lead_to_the_files(tmp_path: Path) -> None:
    source = read(write_pictures(tmp_path / "archive", [f"x/{name}" for name in CLASSES]))
    assert all((source.root / sample.location).is_file() for sample in source.samples)


def test_link_to_a_picture_is_a_sample(tmp_path: Path) -> None:
    write_pictures(tmp_path / "eyes", CLASSES)
    original = write_picture(tmp_path / "store" / "x.png", 9)
    (tmp_path / "eyes" / "well" / "link.png").symlink_to(original)
    assert "well/link.png" in to_labels(read(tmp_path / "eyes"))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"grade_10", "grade_2", "grade_0"}, ("grade_0", "grade_2", "grade_10")),
        ({"10", "9", "0"}, ("0", "9", "10")),
        ({"Normal", "cataract", "Glaucoma"}, ("cataract", "Glaucoma", "Normal")),
        ({"stage 2b", "stage 2a", "stage 1"}, ("stage 1", "stage 2a", "stage 2b")),
        ({"2", "other", "10"}, ("2", "10", "other")),
        ({"10 mm²", "5 mm²"}, ("5 mm²", "10 mm²")),
        ({"10²", "5²"}, ("5²", "10²")),
    ],
)
def test_sort_classes_is_natural(labels: set[str], expected: tuple[str, ...]) -> None:
    assert sort_classes(labels) == expected


@pytest.mark.parametrize("labels", [("DR", "dr"), ("1", "01"), ("Grade_1", "grade_01")])
def test_sort_classes_does_not_depend_on_hash_order(labels: tuple[str, str]) -> None:
    # a set's order changes from process to process, and with it would the class numbers of a model
    forward, backward = dict.fromkeys(labels).keys(), dict.fromkeys(labels[::-1]).keys()
    assert sort_classes(forward) == sort_classes(backward)  # type: ignore[arg-type]  # ordered stand-ins for sets


def list_codes(source: Source) -> list[str]:
    return [issue.code for issue in source.issues]


def test_pictures_without_a_class_folder_are_told(tmp_path: Path) -> None:
    (issue,) = read(write_pictures(tmp_path, (*CLASSES, "loose.png"))).issues
    assert (issue.code, issue.samples) == ("picture_without_class", ("loose.png",))


def test_pictures_without_a_class_in_a_split_are_told(tmp_path: Path) -> None:
    names = [f"{part}/{name}" for part in ("train", "val", "test") for name in (*CLASSES, "loose.png")]
    (issue,) = read(write_pictures(tmp_path, names)).issues
    assert issue.samples == ("test/loose.png", "train/loose.png", "val/loose.png")


def test_splits_with_differing_classes_are_told(tmp_path: Path) -> None:
    names = [f"{part}/{name}" for part in ("train", "val", "test") for name in CLASSES]
    source = read(write_pictures(tmp_path, [*names, "train/oedema/1.png"]))
    assert list_codes(source) == ["classes_differ_between_splits"]
    assert "val lacks oedema" in to_messages(source)


def test_missing_val_is_told(tmp_path: Path) -> None:
    source = read(write_pictures(tmp_path, [f"{part}/{name}" for part in ("train", "test") for name in CLASSES]))
    assert [issue.code for issue in source.issues] == ["split_missing"]


@pytest.mark.parametrize("folders", [("a. Training Set", "b. Testing Set"), ("train_images", "test_images")])
def test_folder_names_that_hold_a_split_are_no_classes(tmp_path: Path, folders: tuple[str, str]) -> None:
    source = read(write_pictures(tmp_path, [f"{part}/{name}" for part in folders for name in CLASSES]))
    assert {sample.split for sample in source.samples} == {"train", "test"}
    assert set(to_labels(source).values()) == {"well", "sick"}


def test_files_that_are_not_used_are_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, CLASSES)
    (tmp_path / "well" / "notes.docx").write_text("x")
    (issue,) = read(tmp_path).issues
    assert (issue.code, issue.samples) == ("file_not_used", ("well/notes.docx",))


def test_table_beside_masks_and_images_takes_images(tmp_path: Path) -> None:
    names = [f"{folder}/{name}.png" for folder in ("Images", "Masks") for name in "abcd"]
    write_pictures(tmp_path, names)
    (tmp_path / "G1020.csv").write_text("imageID,binaryLabels\na,0\nb,1\nc,0\nd,1\n")
    source = read(tmp_path)
    assert to_labels(source) == {"Images/a.png": "0", "Images/b.png": "1", "Images/c.png": "0", "Images/d.png": "1"}
    assert list_codes(source) == ["folder_chosen"]


def test_table_whose_pictures_lie_in_several_folders_alike_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{folder}/{name}.png" for folder in ("full", "cropped") for name in "abcd"])
    (tmp_path / "labels.csv").write_text("id,label\na,0\nb,1\nc,0\nd,1\n")
    with pytest.raises(DataError, match="lies in several folders") as caught:
        read(tmp_path)
    assert "Write the folder" in caught.value.hint


def test_table_in_a_folder_beside_the_pictures_is_found(tmp_path: Path) -> None:
    write_pictures(tmp_path / "1. Images", [f"{name}.png" for name in "abcd"])
    (tmp_path / "2. Truth").mkdir()
    (tmp_path / "2. Truth" / "grades.csv").write_text("id,grade\na,0\nb,1\nc,0\nd,1\n")
    assert len(read(tmp_path).samples) == 4


def test_header_that_names_a_picture_is_no_header(tmp_path: Path) -> None:
    path = write_table(tmp_path, "a.png,sick\nb.png,well\nc.png,sick\nd.png,well\n")
    with pytest.raises(DataError, match=r"labels.csv has no header: its first row \(a.png, sick\) reads like data"):
        read(path)


@pytest.mark.parametrize("name", ["labels.txt", "labels.TAB", "labels.dat"])
@pytest.mark.parametrize("folder", ["", "images/"])
def test_text_that_may_be_the_table_is_named_and_can_be_given(tmp_path: Path, name: str, folder: str) -> None:
    pictures = [f"{folder}{letter}.png" for letter in "abcd"]
    path = write_table(tmp_path, "image,label\na.png,0\nb.png,1\nc.png,0\nd.png,1\n", pictures, name=name)
    (tmp_path / "README.txt").write_text("notes")
    with pytest.raises(DataError, match="0 tables: labels cannot be told") as caught:
        read(tmp_path)
    assert caught.value.hint.startswith(f"{name}: if it is the table, give it as DATA. ")
    assert len(read(path).samples) == 4


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.ods"])
def test_workbook_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    write_pictures(tmp_path / "images", ["a.png", "b.png"])
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    for data in (tmp_path, tmp_path / name):
        with pytest.raises(DataError) as caught:
            read(data)
        assert "export the sheet as CSV" in caught.value.hint


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.7z", "data.rar"])
def test_other_archives_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="archive") as caught:
        read(tmp_path / name)
    assert "Unpack it" in caught.value.hint


@pytest.mark.parametrize("address", ["https://example.org/data.zip", "s3://bucket/data"])
def test_address_is_refused_with_the_way_out(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (address, str(Path(address).resolve())):  # commands make DATA absolute
        with pytest.raises(DataError, match=address) as caught:
            read_source(data, {})
        assert "Download it first" in caught.value.hint


def test_single_picture_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is one picture") as caught:
        read(write_picture(tmp_path / "a.png"))
    assert "snellen predict" in caught.value.hint


@pytest.mark.parametrize("wrong", ["cohrot", "cohrot/train"])
def test_misspelt_path_gets_the_nearest_name(tmp_path: Path, wrong: str) -> None:
    write_pictures(tmp_path / "cohort", CLASSES)
    with pytest.raises(DataError) as caught:
        read(tmp_path / wrong)
    assert f"Did you mean {tmp_path / 'cohort'}?" in caught.value.hint


def test_folder_with_one_array_file_is_read_as_that_file(tmp_path: Path) -> None:
    write_npz(tmp_path / "toy.npz")
    assert len(read(tmp_path).samples) == 18


def test_several_tables_are_asked_for(tmp_path: Path) -> None:
    write_table(tmp_path, "id,label\na,0\nb,1\nc,0\nd,1\n")
    write_table(tmp_path, "id,label\na,1\nb,1\nc,0\nd,1\n", (), name="second.csv")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert "Which table? Give one as DATA: labels.csv, second.csv" in caught.value.hint


def write_zip(path: Path, folder: Path, *extra: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for item in sorted(folder.rglob("*")):
            if item.is_file():
                archive.write(item, item.relative_to(folder))
        for name in extra:
            archive.writestr(name, b"x")
    return path


@pytest.mark.parametrize("prefix", ["", "cohort/", "a/b/"])
def test_zip_gives_the_names_of_the_plain_folder(tmp_path: Path, prefix: str) -> None:
    write_pictures(tmp_path / "in", [f"{prefix}{name}" for name in CLASSES])
    path = write_zip(tmp_path / "eyes.zip", tmp_path / "in", "__MACOSX/x/._1.png", f"{prefix}.DS_Store")
    source = read_source(str(path), {}, tmp_path / "cache")
    assert to_labels(source) == {name: name.split("/")[0] for name in CLASSES}
    assert source.layout == "zip of class folders"


@pytest.mark.parametrize("kind", ["table", "splits", "npz"])
def test_zip_of_any_layout_is_read(tmp_path: Path, kind: str) -> None:
    if kind == "table":
        write_table(tmp_path / "in", TABLE, CLASSES)
    elif kind == "splits":
        write_pictures(tmp_path / "in", [f"{part}/{name}" for part in ("train", "test") for name in CLASSES])
    else:
        (tmp_path / "in").mkdir()
        write_npz(tmp_path / "in" / "toy.npz")
    path = write_zip(tmp_path / "eyes.zip", tmp_path / "in")
    plain, packed = read(tmp_path / "in"), read_source(str(path), {}, tmp_path / "cache")
    assert packed.samples == plain.samples


def test_zip_within_a_zip_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", CLASSES)
    source = read_source(str(write_zip(tmp_path / "eyes.zip", tmp_path / "in", "more.zip")), {}, tmp_path / "cache")
    assert list_codes(source) == ["archive_not_opened"]


def test_zip_with_a_damaged_picture_sets_it_aside(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", CLASSES)
    path = write_zip(tmp_path / "eyes.zip", tmp_path / "in")
    content = (tmp_path / "in" / CLASSES[0]).read_bytes()
    path.write_bytes(path.read_bytes().replace(content, content[:-9] + bytes(9)))
    source = read_source(str(path), {}, tmp_path / "cache")
    assert [(issue.code, issue.samples) for issue in source.issues] == [("damaged_entry", (CLASSES[0],))]
    assert CLASSES[0] not in to_labels(source)


def test_zip_with_a_damaged_table_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "in", TABLE, CLASSES)
    path = write_zip(tmp_path / "eyes.zip", tmp_path / "in")
    path.write_bytes(path.read_bytes().replace(b"image,grade", b"image,GRADE", 1))
    with pytest.raises(DataError, match=r"labels\.csv in the archive is damaged"):
        read_source(str(path), {}, tmp_path / "cache")

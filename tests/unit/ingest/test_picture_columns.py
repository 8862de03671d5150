"""Pictures that a table names: two columns of different ones are asked about, those that no row names are told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pictures import write_table
from snellen.core.errors import DataError
from snellen.ingest.sources import read_source
from snellen.ingest.tables import Table, read_table

EYES = "patient,left,right,label\n" + "".join(f"{n},{n}_l.png,{n}_r.png,{'ab'[n % 2]}\n" for n in range(4))
SIDES = [f"{n}_{side}.png" for n in range(4) for side in "lr"]
ROWS = "image,label\na.png,sick\nb.png,well\nc.png,sick\nd.png,well\n"


def find_unlisted(table: Table) -> list[tuple[str, tuple[str, ...]]]:
    return [(issue.message, issue.samples) for issue in table.issues if issue.code == "picture_not_in_table"]


def read(folder: Path, text: str, pictures: Sequence[str], **columns: str) -> Table:
    return read_table(write_table(folder, text, pictures), columns)


def test_two_columns_of_different_pictures_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"left \(4 pictures\), right \(4 pictures\)") as caught:
        read(tmp_path, EYES, SIDES)
    assert "--columns image=left" in caught.value.hint


def test_two_columns_of_different_pictures_are_asked_about_in_a_folder(tmp_path: Path) -> None:
    write_table(tmp_path, EYES, [*(f"x/{name}" for name in SIDES), "y/1.png"])
    with pytest.raises(DataError, match="several columns name pictures"):
        read_source(str(tmp_path), {})


def test_the_second_column_is_asked_about_where_many_cells_are_empty(tmp_path: Path) -> None:
    text = EYES.replace("1_r.png", "").replace("2_r.png", "").replace("3_r.png", "")
    with pytest.raises(DataError, match=r"right \(1 pictures\)"):
        read(tmp_path, text, SIDES)


def test_a_column_of_pictures_can_be_told_and_the_rest_is_named(tmp_path: Path) -> None:
    table = read(tmp_path, EYES, SIDES, image="left", label="label")
    assert [sample.name for sample in table.samples] == SIDES[::2]
    assert [names for _, names in find_unlisted(table)] == [tuple(SIDES[1::2])]


def test_ids_beside_file_names_of_the_same_pictures_are_no_conflict(tmp_path: Path) -> None:
    text = "id,image,label\na,a.png,x\nb,b.png,y\nc,c.png,x\nd,d.png,y\n"
    assert len(read(tmp_path, text, [f"{name}.png" for name in "abcd"]).samples) == 4


def test_numbers_that_are_names_of_some_pictures_are_no_conflict(tmp_path: Path) -> None:
    text = "image,age,label\n" + "".join(f"p{n}.png,{n % 3},{'xy'[n % 2]}\n" for n in range(12))
    pictures = [*(f"p{n}.png" for n in range(12)), "0.png", "1.png", "2.png"]
    assert len(read(tmp_path, text, pictures, label="label").samples) == 12


def test_pictures_that_no_row_names_are_told(tmp_path: Path) -> None:
    table = read(tmp_path, ROWS, [f"{name}.png" for name in "abcdef"])
    [(message, names)] = find_unlisted(table)
    assert names == ("e.png", "f.png")
    assert "2 pictures, such as e.png, f.png" in message


def test_a_folder_of_which_no_picture_is_named_is_told_once(tmp_path: Path) -> None:
    names = [f"images/{name}.png" for name in "abcde"] + [f"masks/{name}_mask.png" for name in "abcd"]
    [(message, listed)] = find_unlisted(read(tmp_path, ROWS, names))
    assert "5 of the pictures" in message
    assert "all of masks/ (4)" in message
    assert listed == ("images/e.png",)


def test_a_row_without_label_names_its_picture(tmp_path: Path) -> None:
    table = read(tmp_path, ROWS.replace("b.png,well", "b.png,"), [f"{name}.png" for name in "abcd"])
    assert find_unlisted(table) == []


def test_pictures_that_no_table_of_a_split_names_are_told(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS, [f"images/{name}.png" for name in "abcdefghx"], name="train.csv")
    write_table(tmp_path, "image,label\ne.png,sick\nf.png,well\ng.png,sick\nh.png,well\n", (), name="test.csv")
    issues = {issue.code: issue.samples for issue in read_source(str(tmp_path), {}).issues}
    assert issues["picture_not_in_table"] == ("images/x.png",)


@pytest.mark.parametrize(
    "text",
    [
        "im0,amd\nim1,normal\nim2,amd\nim3,normal\n",
        "im0,rare\nim1,normal\nim2,amd\nim3,normal\nim4,amd\n",
        "amd,p1,x/im0\nnormal,p2,x/im1\namd,p3,x/im2\nnormal,p4,x/im3\n",
    ],
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_first_row_that_names_a_picture_by_its_id_is_no_header(tmp_path: Path, text: str, is_folder: bool) -> None:
    path = write_table(tmp_path, text, [f"x/im{number}.png" for number in range(5)])
    with pytest.raises(
        DataError, match=r"labels.csv has no header: its first row \(.*im0.*\) reads like data"
    ) as caught:
        read_source(str(tmp_path if is_folder else path), {})
    assert "such as image,label" in caught.value.hint


@pytest.mark.parametrize("head", ["image", "image1"])
def test_a_header_called_like_a_picture_is_a_header(tmp_path: Path, head: str) -> None:
    rows = "image1,sick\nim1,well\nim2,sick\nim3,well\n" if head == "image1" else "im0,sick\nim1,well\nim2,sick\n"
    table = read(tmp_path, f"{head},label\n{rows}", [f"{head}.png", *(f"im{number}.png" for number in range(4))])
    assert len(table.samples) == rows.count("\n")


@pytest.mark.parametrize("end", ["", ".png", ".0"])
@pytest.mark.parametrize("name", ["{:04}.png", "img_{:03}.png"])
def test_ids_that_lost_their_leading_zeros_are_told_and_not_matched(tmp_path: Path, name: str, end: str) -> None:
    cell = name.replace(":04", "").replace(":03", "").replace(".png", end)
    text = "label,image\n" + "".join(f"{n % 2},{cell.format(n)}\n" for n in range(1, 9))
    files = [name.format(n) for n in range(1, 9)]
    with pytest.raises(
        DataError, match=f"image with 0 of 8 found; a cell is '{cell.format(1)}', a file {files[0]}"
    ) as caught:
        read(tmp_path, text, files)
    said = f"Without leading zeros 8 of the cells of image would fit, such as '{cell.format(1)}' for {files[0]}"
    assert caught.value.hint.startswith(said)


def test_cells_that_differ_in_more_than_zeros_are_shown_beside_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 of 4 found; a cell is 'a.png', a file x1.png") as caught:
        read(tmp_path, ROWS, ["x1.png", "x2.png"])
    assert "zeros" not in caught.value.hint

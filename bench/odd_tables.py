"""Tables and array files that contradict themselves, are damaged or written by other hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from odd_cases import Build, Case, draw, encode, rows, with_table, write


def _three(head: str, cells: Callable[[int], str]) -> str:
    """A table of three columns, a row each of six pictures."""
    return "\n".join([head, *(f"p{k:03}.png,{cells(k)}" for k in range(6))]) + "\n"


TABLES = [
    Case("a row whose picture is missing", with_table(rows("p999.png,amd")), issue="missing_picture", n=7),
    Case("a row without a label", with_table(rows("p005.png,", n=5)), issue="empty_label", n=6),
    Case("a row that is there twice", with_table(rows("p000.png,amd")), issue="repeated_row", n=7),
    Case("two rows that contradict each other", with_table(rows("p000.png,normal")), issue="conflicting_rows", n=7),
    Case("a row that names /etc/passwd", with_table(rows("../../../../etc/passwd,amd")), issue="missing_picture", n=7),
    Case("an empty table", with_table(""), 2, "0 rows"),
    Case("a header without rows", with_table("image,label\n"), 2, "0 rows"),
    Case("a table of one column", with_table("image\np000.png\n"), 2, "1 columns"),
    Case("a table without a header",
         with_table(rows().removeprefix("image,label\n").replace(".png", "")), 2, "has no header"),
    Case("a comment above a table's header", with_table("# exported 22.11.2026\n\n" + rows()), n=6),
    Case("a title above a table's header", with_table("Grades of the clinic\n" + rows()), 2, "was read as the header"),
    Case("quotes that are never closed", with_table(rows('"p000.png,amd')), 2, "no well-formed table"),
    Case("two columns of one name", with_table("image,label,label\np000.png,a,b\n"), 2, "several columns"),
    Case("random bytes called .csv", with_table(draw(1).tobytes()), 2),
    Case("NUL bytes in a table", with_table(rows("p\x00.png,amd")), issue="missing_picture", n=7),
    Case("a table in UTF-16", with_table(rows().encode("utf-16")), n=6),
    Case("a table that begins with a byte order mark", with_table(rows().encode("utf-8-sig")), n=6),
    Case("a table in Windows-1252", with_table(rows().replace("amd", "Ödem").encode("cp1252")), n=6),
    Case("semicolons instead of commas", with_table(rows().replace(",", ";")), n=6),
    Case("Windows line ends", with_table(rows().replace("\n", "\r\n")), n=6),
    Case("no column that names pictures", with_table(rows().replace("p0", "q0")), 2, "no column names pictures"),
    Case("two columns that could be the label",
         with_table(_three("image,eye,sex", lambda k: f"{'od' if k % 2 else 'os'},{'f' if k < 3 else 'm'}")),
         2, "cannot be told"),
    Case("--columns with a column that is not there", with_table(rows(), "--columns", "label=grade"), 2, "no column"),
    Case("--columns with an unknown role", with_table(rows(), "--columns", "colour=label"), 2, "no such role"),
    Case("--columns that is no pair", with_table(rows(), "--columns", "label"), 2, "role=column"),
    Case("a split column with other values",
         with_table(_three("image,label,split", lambda k: f"{'ab'[k % 2]},{'north' if k else 'train'}")),
         issue="split_not_used", n=6),
    Case("a patient column with empty cells",
         with_table(_three("image,label,patient", lambda k: f"{'ab'[k % 2]},{'' if k == 3 else k}")),
         issue="patients_unknown", n=6),
]  # fmt: skip


def _twice(*others: str) -> Build:
    """A table whose pictures lie in `images`, and pictures of the same names in other folders."""

    def build(folder: Path) -> Sequence[str]:
        command = with_table(rows())(folder)
        for number, other in enumerate(others, start=1):
            for k in range(6):
                write(folder / "data" / other / f"p{k:03}.png", encode(draw(100 * number + k)))
        return command

    return build


TABLES += [
    Case("pictures of one name in images/ and masks/", _twice("masks"), issue="folder_chosen", n=6),
    Case("a picture that no row names", with_table(rows(), n=7), issue="picture_not_in_table", n=6),
    Case("two columns that name different pictures", with_table(
        "patient,left,right,label\n" + "".join(f"{k},p{k:03}.png,p{k + 3:03}.png,{'ab'[k % 2]}\n" for k in range(3))),
         2, "several columns name pictures"),
    Case("a split column with empty cells",
         with_table(_three("image,label,split", lambda k: f"{'ab'[k % 2]},{'train' if k else ''}")),
         issue="split_untold", n=6),
    Case("patients that differ in case",
         with_table(_three("image,label,patient", lambda k: f"{'ab'[k % 2]},{'P' if k else 'p'}{k // 2}")),
         issue="patients_alike", n=6),
    Case("a row without a picture's name", with_table(rows(",amd")), says="row 8", issue="missing_picture", n=7),
    Case("several labels in one cell", with_table(rows("p006.png,amd;normal", n=6), n=7), 2, "multi-label"),
    Case("a lone column of ages",
         with_table("image,age\n" + "".join(f"p{k:03}.png,{40 + k % 12}\n" for k in range(24)), n=24),
         2, "looks like a measure"),
]  # fmt: skip


def _arrays(**changes: Any) -> Build:
    """A MedMNIST file of 6 pictures a part, but for `changes`."""

    def build(folder: Path) -> Sequence[str]:
        content: dict[str, Any] = {}
        for number, part in enumerate(("train", "val", "test")):
            content[f"{part}_images"] = np.random.default_rng(number).integers(0, 256, (6, 12, 12), dtype=np.uint8)
            content[f"{part}_labels"] = np.array([[0], [1]] * 3, np.uint8)
        content |= changes
        np.savez(folder / "set.npz", **{name: array for name, array in content.items() if array is not None})
        return ["audit", "set.npz"]

    return build


def _bytes(content: bytes) -> Build:
    def build(folder: Path) -> Sequence[str]:
        write(folder / "set.npz", content)
        return ["audit", "set.npz"]

    return build


def _cut(folder: Path) -> Sequence[str]:
    command = _arrays()(folder)
    path = folder / "set.npz"
    path.write_bytes(path.read_bytes()[:900])
    return command


_SEVERAL = {f"{part}_labels": np.eye(6, 3, dtype=np.uint8) + 1 for part in ("train", "val", "test")}
_OBJECTS = np.array([{"a": 1}] * 6, dtype=object)

ARRAYS = [
    Case("an array file that was cut off", _cut, 2),
    Case("text called .npz", _bytes(b"no arrays"), 2),
    Case("an empty .npz", _bytes(b""), 2),
    Case("pickled objects in an .npz", _arrays(train_images=_OBJECTS), 2),
    Case("more pictures than labels", _arrays(train_labels=np.zeros((4, 1), np.uint8)), 2),
    Case("several labels a picture", _arrays(**_SEVERAL), 2),
    Case("an .npz without labels", _arrays(train_labels=None), 2),
]  # fmt: skip

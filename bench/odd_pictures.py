"""Pictures that are damaged, lie about themselves or are merely unusual, and folders that hold them."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from odd_cases import N_A_CLASS, Build, Case, draw, encode, with_file, write, write_classes
from PIL import Image

_N = 2 * N_A_CLASS
_BAD = "unreadable_picture"


def _claim_size(side: int) -> bytes:
    """A PNG whose header claims `side`² pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def _flip_byte(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _zip_bytes() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "not a picture")
    return stream.getvalue()


def _transparent_palette() -> bytes:
    return encode(draw(70), mode="P", transparency=0)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(draw(71, 20, 30), "JPEG", exif=exif)


def _pages() -> bytes:
    stream = BytesIO()
    first, second = Image.fromarray(draw(72)), Image.fromarray(draw(73))
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    return stream.getvalue()


def _floats() -> bytes:
    stream = BytesIO()
    Image.fromarray(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)).save(stream, "TIFF")
    return stream.getvalue()


def _one(
    given: str, name: str, content: bytes | str | Callable[[], bytes | str], *, issue: str = "", says: str = ""
) -> Case:
    """A cohort with one more file; where that is unreadable it is set aside, and all others are read."""
    make = content if callable(content) else lambda: content
    return Case(given, with_file(name, make), says=says, issue=issue, n=_N + 1)


FILES = [
    _one("a PNG that was cut off", "x.png", lambda: encode(draw(60))[:300], issue=_BAD),
    _one("a JPEG that was cut off", "x.jpg", lambda: encode(draw(61, 200, 200), "JPEG")[:3000], issue=_BAD),
    _one("a TIFF that was cut off", "x.tif", lambda: encode(draw(62), "TIFF")[:300], issue=_BAD),
    _one("the first 20 bytes of a JPEG", "x.jpg", lambda: encode(draw(63), "JPEG")[:20], issue=_BAD),
    _one("a PNG with one byte changed", "x.png", lambda: _flip_byte(encode(draw(64)), 700), issue=_BAD),
    _one("a file of 0 bytes", "x.png", b"", issue=_BAD, says="0 bytes"),
    _one("text called .jpg", "x.jpg", "see attachment", issue=_BAD),
    _one("a web page called .png", "x.png", "<!DOCTYPE html><title>404</title>", issue=_BAD),
    _one("a PDF called .png", "x.png", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", issue=_BAD),
    _one("a zip called .tif", "x.tif", _zip_bytes, issue=_BAD),
    _one("PostScript called .jpg", "x.jpg", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", issue=_BAD),
    _one("random bytes called .jpg", "x.jpg", lambda: draw(65).tobytes(), issue=_BAD),
    _one("a PNG that claims 100,000 × 100,000 pixels", "x.png", lambda: _claim_size(100_000), issue=_BAD),
    _one("a PNG of 169 million RGB pixels", "x.png", lambda: _claim_size(13_000), issue=_BAD, says="GB of memory"),
    _one("a PNG that claims 0 × 0 pixels", "x.png", lambda: _claim_size(0), issue=_BAD),
    _one("a TIFF of floating-point numbers", "x.tif", _floats, issue=_BAD),
    _one("a JPEG with bytes behind its end", "x.jpg", lambda: encode(draw(66), "JPEG") + b"trailing"),
    _one("a JPEG called .png", "x.png", lambda: encode(draw(67), "JPEG")),
    _one("an extension in capitals", "X.JPG", lambda: encode(draw(68), "JPEG")),
    _one("a CMYK JPEG", "x.jpg", lambda: encode(draw(69), "JPEG", mode="CMYK")),
    _one("a palette with transparency", "x.png", _transparent_palette),
    _one("a picture with an alpha channel", "x.png", lambda: encode(draw(74, channels=4))),
    _one("a picture of 1 bit", "x.png", lambda: encode(draw(75), mode="1")),
    _one("a progressive JPEG", "x.jpg", lambda: encode(draw(76), "JPEG", progressive=True)),
    _one("a JPEG turned by its EXIF", "x.jpg", lambda: _exif(6)),
    _one("a JPEG with damaged EXIF", "x.jpg", lambda: encode(draw(77), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")),
    _one("a TIFF of two pages", "x.tif", _pages),
    _one("a picture of 1 × 1 pixel", "x.png", lambda: encode(draw(78, 1, 1))),
    _one("a picture of 1 × 3000 pixels", "x.png", lambda: encode(draw(79, 3000, 1))),
    _one("a grey picture among colour", "x.png", lambda: encode(draw(80, channels=1))),
    _one("a name with spaces", "the left eye (1).png", lambda: encode(draw(81))),
    _one("a name in other scripts", "Übung 日本 עברית.png", lambda: encode(draw(82))),
    _one("a name of 200 letters", "l" * 196 + ".png", lambda: encode(draw(83))),
    _one("a newline in a name", "two\nlines.png", lambda: encode(draw(84))),
    _one("a name that turns the text around", "scan\u202egpj.png", b"x", issue=_BAD, says="\\u202e"),
    _one("a name with the terminal's escape", "\x1b[31mred.png", b"x", issue=_BAD, says="\\x1b"),
    _one("HTML in a name", "<img src=x onerror=alert(1)>.png", b"x", issue=_BAD),
    _one("a name that begins with a hyphen", "--out.png", lambda: encode(draw(85))),
    _one("a formula as a name", "=cmd|' /C calc'!A0.png", lambda: encode(draw(86))),
]  # fmt: skip


def _special(what: str) -> Build:
    """A pipe or a link to a device in a class folder, called like a picture."""

    def build(folder: Path) -> Sequence[str]:
        place = write_classes(folder / "data") / "amd" / "x.png"
        if what == "pipe":
            os.mkfifo(place)
        else:
            place.symlink_to("/dev/zero")
        return ["audit", "data"]

    return build


def _sparse(folder: Path) -> Sequence[str]:
    with write(write_classes(folder / "data") / "amd" / "x.png", encode(draw(87))).open("ab") as stream:
        stream.truncate(4_000_000_000)
    return ["audit", "data"]


def _hidden(folder: Path) -> Sequence[str]:
    data = write_classes(folder / "data")
    for name in (".DS_Store", "._p000.png", "Thumbs.db", "notes.txt", ".git/a.png"):
        write(data / "amd" / name, "x")
    return ["audit", "data"]


def _not_utf8(folder: Path) -> Sequence[str]:
    data = write_classes(folder / "data")
    with open(os.fsencode(data / "amd") + b"/caf\xe9.png", "wb") as stream:  # noqa: PTH123  # a name of bytes
        stream.write(encode(draw(90)))
    return ["audit", "data"]


def _empty_folder_not_utf8(folder: Path) -> Sequence[str]:
    data = write_classes(folder / "data")
    os.mkdir(os.fsencode(data) + b"/caf\xe9")  # noqa: PTH102  # a name of bytes
    return ["audit", "data"]


def _all_bad_in(*classes: str) -> Build:
    def build(folder: Path) -> Sequence[str]:
        data = write_classes(folder / "data", ("amd", "dme", "normal"))
        for name in classes:
            for path in (data / name).iterdir():
                path.write_bytes(b"")
        return ["audit", "data"]

    return build


def _copies(labels: Sequence[str], *, grey: bool = False) -> Build:
    def build(folder: Path) -> Sequence[str]:
        data = write_classes(folder / "data")
        for number, label in enumerate(labels):
            pixels = draw(91, channels=1)
            seen = np.repeat(pixels[..., None], 3, axis=2) if grey and number else pixels
            write(data / label / f"copy{number}.png", encode(seen))
        return ["audit", "data"]

    return build


def _splits(folder: Path, *, shared: str = "") -> Sequence[str]:
    data = folder / "data"
    for number, part in enumerate(("train", "val", "test")):
        write_classes(data / part, first_seed=10_000 * number, n=4)
        for label in ("amd", "normal"):
            for path in sorted((data / part / label).iterdir()):
                path.rename(path.with_name(f"{part}{path.stem}_left.png"))
    if shared == "pictures":
        write(data / "test" / "amd" / "q9_left.png", (data / "train" / "amd" / "trainp000_left.png").read_bytes())
    if shared == "patients":
        write(data / "test" / "amd" / "trainp000_right.png", encode(draw(92)))
    return ["audit", "data"]


def _class_folders(*names: str, n: int = N_A_CLASS) -> Build:
    def build(folder: Path) -> Sequence[str]:
        write_classes(folder / "data", names, n)
        return ["audit", "data"]

    return build


def _with_rare(n: int) -> Build:
    def build(folder: Path) -> Sequence[str]:
        write_classes(write_classes(folder / "data"), ("rare",), n, first_seed=70_000)
        return ["audit", "data"]

    return build


def _extra_beside_splits(folder: Path) -> Sequence[str]:
    command = _splits(folder)
    write_classes(folder / "data" / "more", n=2, first_seed=50_000)
    return command


def _no_test(folder: Path) -> Sequence[str]:
    for number, part in enumerate(("train", "val")):
        write_classes(folder / "data" / part, first_seed=10_000 * number)
    return ["audit", "data"]


def _loose(folder: Path) -> Sequence[str]:
    for k in range(6):
        write(folder / "data" / f"{k}.png", encode(draw(k)))
    return ["audit", "data"]


def _empty(folder: Path) -> Sequence[str]:
    (folder / "data").mkdir()
    return ["audit", "data"]


def _only_text(folder: Path) -> Sequence[str]:
    for name in ("amd", "normal"):
        write(folder / "data" / name / "notes.txt", "x")
    return ["audit", "data"]


def _empty_class(folder: Path) -> Sequence[str]:
    (write_classes(folder / "data") / "dme").mkdir()
    return ["audit", "data"]


def _strange_suffix(folder: Path) -> Sequence[str]:
    write(folder / "data.docx", "x")
    return ["audit", "data.docx"]


def _patient_folders(folder: Path) -> Sequence[str]:
    for label in ("amd", "normal"):
        for k in range(4):
            for side in ("left", "right"):
                seed = 100 * k + 10 * (label == "amd") + (side == "left")
                write(folder / "data" / label / f"patient {k}" / f"{side}.png", encode(draw(seed)))
    return ["audit", "data"]


def _sites(folder: Path) -> Sequence[str]:
    for number, site in enumerate(("siteA", "siteB")):
        write_classes(folder / "data" / site, n=4, first_seed=5000 * number)
    return ["audit", "data"]


def _columns_without_table(folder: Path) -> Sequence[str]:
    return ["audit", write_classes(folder / "data").name, "--columns", "label=grade"]


def _table_of_patients(folder: Path) -> Sequence[str]:
    data = write_classes(folder / "data")
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    write(
        data / "who.csv", "image,patient,sex\n" + "".join(f"{name},{k},{'fm'[k % 2]}\n" for k, name in enumerate(names))
    )
    return ["audit", "data", "--columns", "patient=patient"]


FOLDERS = [
    Case("hidden files, system files and notes beside pictures", _hidden, n=_N),
    Case("a pipe called like a picture", _special("pipe"), issue="special_file", n=_N + 1),
    Case("a link to a device that never ends", _special("device"), issue="special_file", n=_N + 1),
    Case("a picture file of 4 GB", _sparse, issue="unreadable_picture", n=_N + 1),
    Case("a name that is no UTF-8", _not_utf8, issue="unreadable_name", n=_N + 1),
    Case("an empty folder whose name is no UTF-8", _empty_folder_not_utf8, issue="folder_without_pictures", n=_N),
    Case("all pictures of one of three classes unreadable", _all_bad_in("dme"), issue="class_lost", n=3 * N_A_CLASS),
    Case("all pictures of two of three classes unreadable", _all_bad_in("dme", "amd"),
         issue="splits_cannot_be_filled", n=3 * N_A_CLASS),
    Case("no picture readable at all", _all_bad_in("amd", "dme", "normal"), 2, "can be read"),
    Case("three identical pictures", _copies(["amd"] * 3), says="2 pictures are exact copies", n=_N + 3),
    Case("a grey picture and the same as RGB", _copies(["amd"] * 2, grey=True), says="1 picture is an exact copy",
         n=_N + 2),
    Case("identical pictures with two labels", _copies(["amd", "normal"]), issue="conflicting_copies", n=_N + 2),
    Case("an identical picture in train and test", lambda folder: _splits(folder, shared="pictures"),
         issue="copies_in_several_splits", n=25),
    Case("a patient in train and test", lambda folder: _splits(folder, shared="patients"),
         issue="patients_in_several_splits", n=25),
    Case("folders beside train, val and test", _extra_beside_splits, issue="folder_not_used", n=24),
    Case("train and val, but no test", _no_test, n=32),
    Case("a class with two patients", _with_rare(2), issue="splits_cannot_be_filled", n=_N + 2),
    Case("a class of one picture", _with_rare(1), issue="splits_cannot_be_filled", n=_N + 1),
    Case("one class folder only", _class_folders("amd"), 2, "at least two classes"),
    Case("pictures without class folders", _loose, 2, "labels cannot be told"),
    Case("an empty folder", _empty, 2, "labels cannot be told"),
    Case("class folders that hold no picture", _only_text, 2, "labels cannot be told"),
    Case("an empty class folder beside others", _empty_class, issue="folder_without_pictures", n=_N),
    Case("class names with spaces, quotes and brackets", _class_folders('AMD "wet"', "<b>'normal'"),
         n=_N),
    Case("class names in other scripts", _class_folders("正常", "Übung"), n=_N),
    Case("a folder a patient within the classes", _patient_folders, n=16),
    Case("a folder a site, and in each the classes", _sites, issue="folders_hold_same_folders", n=16),
    Case("--columns for class folders without a table", _columns_without_table, 2, "for tables and array files"),
    Case("class folders, a table beside them, and --columns without a label", _table_of_patients, 2,
         "--columns label="),
    Case("a path that does not exist", lambda _: ["audit", "nowhere"], 2, "does not exist"),
    Case("a kind of file that is no data set", _strange_suffix, 2, "no data set that Snellen reads"),
]  # fmt: skip

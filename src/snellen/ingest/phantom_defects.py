"""Defects on demand in a synthetic cohort: what clinics send, planted on purpose and written down.

Works on class folders, split folders of class folders, or a folder with `labels.csv`, as `write_cohort` and
`write_layout` wrote them. Equal folders, kinds and seeds give equal defects.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.imaging.readers import read_picture
from snellen.ingest.phantom_canvas import build_stream
from snellen.ingest.phantom_layouts import PARTS, read_patient, write_dicom

_TABLE = "labels.csv"
_FIRST_NEW_PATIENT = 9001
_STREAM = 77  # keeps these draws apart from those of the pictures
_NOTE = b"Picture was moved to the archive, please ask the front desk.\n"


@dataclass(frozen=True)
class Planted:
    """One defect: its kind, the files that carry it (relative, with `/`), and what was done in one sentence."""

    kind: str
    files: tuple[str, ...]
    what: str


@dataclass
class _Ground:
    """The cohort while it is spoilt; a picture carries one defect at most."""

    folder: Path
    random: np.random.Generator
    untouched: list[Path]
    n_new: int = 0
    planted: list[Planted] = field(default_factory=list)

    def take(self, fits: Callable[[Path], bool] = lambda _: True) -> Path:
        """A picture that nothing was done to yet."""
        candidates = [path for path in self.untouched if fits(path)]
        if not candidates:
            raise UsageError(f"{self.folder} holds too few pictures for so many defects.", "Draw more patients.")
        chosen = candidates[int(self.random.integers(len(candidates)))]
        self.untouched.remove(chosen)
        return chosen

    def name_new_patient(self, like: Path) -> Path:
        """A free name of the same form that belongs to nobody yet."""
        number = _FIRST_NEW_PATIENT + self.n_new
        self.n_new += 1
        return like.with_name(re.sub(r"_P\d+_", f"_P{number}_", like.name))

    def note(self, kind: str, what: str, *paths: Path) -> None:
        self.planted.append(Planted(kind, tuple(path.relative_to(self.folder).as_posix() for path in paths), what))


def plant_defects(folder: Path, kinds: Sequence[str] | None = None, *, seed: int = 0) -> list[Planted]:
    """Plant one defect of each of `kinds` (None: all that fit the folder) and return what was done.

    Raises UsageError where a kind is unknown or does not fit the folder.
    """
    wanted = list(list_kinds(folder) if kinds is None else kinds)
    unknown = [kind for kind in wanted if kind not in _PLANT]
    if unknown:
        raise UsageError(f"Unknown defect {', '.join(map(repr, unknown))}.", f"Defects: {', '.join(_PLANT)}.")
    pictures = sorted(path for path in folder.rglob("synthetic_*") if path.is_file())
    if not pictures:
        raise UsageError(f"{folder} holds no synthetic pictures.", "Write them with write_cohort first.")
    unfit = [kind for kind in wanted if kind not in list_kinds(folder)]
    if unfit:
        raise UsageError(f"{folder} has no place for {', '.join(unfit)}.", _PLACES)
    ground = _Ground(folder, build_stream(seed, _STREAM), pictures)
    for kind in wanted:
        _PLANT[kind](ground)
    return ground.planted


_PLACES = (
    f"patient_in_two_splits needs split folders, empty_label a folder with {_TABLE}; wrong_label, empty_class and "
    "unreadable_folder need class folders."
)


def list_kinds(folder: Path) -> tuple[str, ...]:
    """The kinds of defects that fit the layout of `folder`."""
    if (folder / _TABLE).is_file():
        return tuple(kind for kind in _PLANT if kind not in (*_OF_FOLDERS, *_OF_SPLITS))
    without = _OF_TABLES if (folder / "train").is_dir() else (*_OF_TABLES, *_OF_SPLITS)
    return tuple(kind for kind in _PLANT if kind not in without)


def _truncate(ground: _Ground) -> None:
    path = ground.take()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    ground.note("truncated", "the last 40 % of the file are missing", path)


def _empty(ground: _Ground) -> None:
    path = ground.take()
    path.write_bytes(b"")
    ground.note("zero_bytes", "the file has 0 bytes", path)


def _write_text(ground: _Ground) -> None:
    path = _replace(ground.take(), ".jpg", _NOTE)
    ground.note("text_as_jpeg", "the file is text with the name of a JPEG", path)


def _duplicate(ground: _Ground) -> None:
    path = ground.take()
    copy = ground.name_new_patient(path)
    shutil.copyfile(path, copy)
    ground.note("duplicate", "the second file is the first once more, under another patient", path, copy)


def _copy_flipped(ground: _Ground) -> None:
    path = ground.take()
    copy = _write_png(
        ground.name_new_patient(path).with_suffix(".png"), np.asarray(read_picture(path).pixels[:, ::-1], np.uint8)
    )
    ground.note("flipped_copy", "the second file is the first, left and right swapped, under another patient",
                path, copy)  # fmt: skip


def _copy_rotated(ground: _Ground) -> None:
    path = ground.take()
    copy = _write_png(ground.name_new_patient(path).with_suffix(".png"), np.rot90(read_picture(path).pixels))
    ground.note("rotated_copy", "the second file is the first, turned by 90°, under another patient", path, copy)


def _spread_patient(ground: _Ground) -> None:
    """Move one of a training patient's pictures to test."""
    by_patient: dict[tuple[Path, str], int] = {}
    for path in (ground.folder / "train").rglob("synthetic_*"):
        by_patient[path.parent, read_patient(path)] = by_patient.get((path.parent, read_patient(path)), 0) + 1
    train = ground.folder / "train"
    path = ground.take(
        lambda item: item.is_relative_to(train) and by_patient.get((item.parent, read_patient(item)), 0) > 1
    )
    moved = ground.folder / "test" / path.relative_to(train)
    path.replace(moved)
    stayed = next(
        item for item in sorted(path.parent.iterdir()) if item.is_file() and f"_{read_patient(path)}_" in item.name
    )
    ground.note("patient_in_two_splits", "the first file was moved to test, the others of its patient stay in train",
                moved, stayed)  # fmt: skip


def _mislabel(ground: _Ground) -> None:
    path = ground.take()
    others = sorted(item for item in path.parent.parent.iterdir() if item.is_dir() and item.name != path.parent.name)
    if not others:
        raise UsageError(f"{path.parent.parent} holds one class: no label can be wrong.", "Draw two classes.")
    moved = others[0] / path.name
    path.replace(moved)
    ground.note("wrong_label", f"the picture shows {path.parent.name} and lies in {others[0].name}", moved)


def _widen(ground: _Ground) -> None:
    import cv2

    path = ground.take()
    pixels = np.asarray(read_picture(path).pixels, np.uint8)
    ordered = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    _, data = cv2.imencode(".png", np.ascontiguousarray(ordered).astype(np.uint16) * 257)
    written = _replace(path, ".png", data.tobytes())
    ground.note("sixteen_bit", "16 bits a channel, each value 257 times the 8-bit one", written)


def _convert(
    kind: str, what: str, suffix: str, encode: Callable[[NDArray[np.uint8]], bytes]
) -> Callable[[_Ground], None]:
    def plant(ground: _Ground) -> None:
        path = ground.take()
        ground.note(kind, what, _replace(path, suffix, encode(np.asarray(read_picture(path).pixels, np.uint8))))

    return plant


def _encode_rgba(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGBA")
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[: max(1, len(alpha) // 8)] = 0
    image.putalpha(Image.fromarray(alpha))
    return _save(image, "PNG")


def _encode_cmyk(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    return _save(Image.fromarray(pixels).convert("RGB").convert("CMYK"), "JPEG")


def _encode_palette(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    return _save(Image.fromarray(pixels).quantize(256), "PNG")


def _encode_exif(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90° clockwise to show
    return _save(Image.fromarray(np.rot90(pixels)), "JPEG", exif=exif)


def _store_monochrome1(ground: _Ground) -> None:
    path = ground.take()
    pixels = np.asarray(read_picture(path).pixels, np.uint8)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2).round().astype(np.uint8)
    written = path.with_suffix(".dcm")
    write_dicom(written, grey, patient=read_patient(path), is_inverted=True)
    path.unlink()
    ground.note("monochrome1", "a DICOM file whose stored 0 is white", written)


def _add_empty_class(ground: _Ground) -> None:
    folder = _find_class_folder(ground).with_name("empty_class")
    folder.mkdir()
    ground.note("empty_class", "a class folder without a file", folder)


def _lock_folder(ground: _Ground) -> None:
    """The one defect that must be undone, with `folder.chmod(0o755)`, before the cohort can be deleted."""
    folder = _find_class_folder(ground) / "locked"
    folder.mkdir()
    path = ground.take()
    path.replace(folder / path.name)
    folder.chmod(0)
    ground.note("unreadable_folder", "nobody but the system's administrator may look into the folder", folder)


def _drop_extension(ground: _Ground) -> None:
    path = ground.take()
    renamed = path.with_suffix("")
    path.replace(renamed)
    ground.note("missing_extension", "a sound picture whose name has no extension", renamed)


def _double_extension(ground: _Ground) -> None:
    path = ground.take()
    renamed = path.with_name(path.name + path.suffix)
    path.replace(renamed)
    ground.note("double_extension", "a sound picture whose name has its extension twice", renamed)


def _drop_label(ground: _Ground) -> None:
    table = ground.folder / _TABLE
    with table.open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    path = ground.take()
    row = next(row for row in rows if row[0] == path.name)
    row[header.index("label")] = ""
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    ground.note("empty_label", f"its row in {_TABLE} has no label", path)


def _find_class_folder(ground: _Ground) -> Path:
    """One of the class folders; that of the training part where there are splits."""
    base = ground.folder / PARTS[0]
    return next(
        item for item in sorted((base if base.is_dir() else ground.folder).iterdir()) if any(item.glob("synthetic_*"))
    )


def _replace(path: Path, suffix: str, data: bytes) -> Path:
    """Put `data` in the place of a picture, under its name with another suffix."""
    path.unlink()
    written = path.with_suffix(suffix)
    written.write_bytes(data)
    return written


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    from PIL import Image

    path.write_bytes(_save(Image.fromarray(np.ascontiguousarray(pixels)), "PNG"))
    return path


def _save(image: object, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)  # type: ignore[attr-defined]  # a Pillow image, not imported at the top
    return stream.getvalue()


_OF_SPLITS = ("patient_in_two_splits",)
_OF_TABLES = ("empty_label",)
_OF_FOLDERS = ("wrong_label", "empty_class", "unreadable_folder")
_PLANT: dict[str, Callable[[_Ground], None]] = {
    "truncated": _truncate,
    "zero_bytes": _empty,
    "text_as_jpeg": _write_text,
    "duplicate": _duplicate,
    "flipped_copy": _copy_flipped,
    "rotated_copy": _copy_rotated,
    "patient_in_two_splits": _spread_patient,
    "wrong_label": _mislabel,
    "sixteen_bit": _widen,
    "rgba": _convert("rgba", "PNG with an alpha channel; the top eighth is transparent", ".png", _encode_rgba),
    "cmyk": _convert("cmyk", "JPEG in CMYK", ".jpg", _encode_cmyk),
    "palette": _convert("palette", "PNG with a palette of at most 256 colours", ".png", _encode_palette),
    "exif_rotated": _convert(
        "exif_rotated", "JPEG stored turned by 90°, its EXIF orientation turns it back", ".jpg", _encode_exif
    ),
    "monochrome1": _store_monochrome1,
    "empty_class": _add_empty_class,
    "unreadable_folder": _lock_folder,
    "missing_extension": _drop_extension,
    "double_extension": _double_extension,
    "empty_label": _drop_label,
}
KINDS = tuple(_PLANT)

"""One target of bench/fuzz.py, in a process of its own.

    python bench/fuzz_targets.py TARGET CORPUS [libFuzzer options]
    python bench/fuzz_targets.py TARGET --once FILE      the processor seconds that one input takes

Each target takes bytes and may raise SnellenError, nothing else. Seeds are drawn pictures and small tables.
"""

from __future__ import annotations

import atexit
import io
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "snellen.imaging", "snellen.ingest", "snellen.core", "csv", "zipfile"]):
    import numpy as np
    from PIL import (
        BmpImagePlugin,  # noqa: F401  # instrumented with the others
        Image,
        JpegImagePlugin,  # noqa: F401
        PngImagePlugin,  # noqa: F401
        TiffImagePlugin,  # noqa: F401
    )

    from snellen.core import archives, unpacking  # noqa: F401  # instrumented, too
    from snellen.core.errors import SnellenError
    from snellen.imaging import dicom, readers  # noqa: F401
    from snellen.ingest import arrays, tables

_FOLDER = Path(tempfile.mkdtemp(prefix="snellen-fuzz-work-"))
_PIXELS = np.random.default_rng(0).integers(0, 256, (14, 18, 3), dtype=np.uint8)


def read_picture(data: bytes) -> None:
    picture = readers.read_picture(data)
    if picture.pixels.ndim not in (2, 3) or not np.issubdtype(picture.pixels.dtype, np.integer):
        raise TypeError(f"{picture.pixels.shape} {picture.pixels.dtype}")


def read_location(data: bytes) -> None:
    """The first line names the entry, the rest is the array file."""
    name, _, content = data.partition(b"\n")
    (_FOLDER / "set.npz").write_bytes(content)
    readers.read_location(_FOLDER, "set.npz::" + name.decode("utf-8", "replace"))


def read_table(data: bytes) -> None:
    path = _FOLDER / "labels.csv"
    path.write_bytes(data)
    tables.read_table(path, {})


def read_npz(data: bytes) -> None:
    path = _FOLDER / "set.npz"
    path.write_bytes(data)
    arrays.read_npz(path)


def read_zip(data: bytes) -> None:
    """Unpacked below the limits, as DATA."""
    from snellen.ingest.sources import read_source

    path, cache = _FOLDER / "data.zip", _FOLDER / "cache"
    path.write_bytes(data)
    try:
        read_source(str(path), {}, cache)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def read_hdf5(data: bytes) -> None:
    from snellen.ingest.sources import read_source

    path = _FOLDER / "data.h5"
    path.write_bytes(data)
    read_source(str(path), {})


def read_tags(data: bytes) -> None:
    from snellen.imaging.dicom import read_tags as read

    path = _FOLDER / "picture.dcm"
    path.write_bytes(data)
    read(path)


def seed_pictures() -> list[bytes]:
    seeds = []
    for mode, forms in (
        ("RGB", ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")), ("L", ("JPEG", "PNG", "TIFF")),
        ("CMYK", ("JPEG", "TIFF")), ("P", ("PNG", "GIF")), ("RGBA", ("PNG", "TIFF")), ("1", ("PNG", "TIFF")),
        ("LA", ("PNG",)), ("I;16", ("PNG", "TIFF")),
    ):  # fmt: skip
        for form in forms:
            stream = io.BytesIO()
            image = (
                Image.fromarray(_PIXELS[..., 0].astype(np.uint16) * 257)
                if mode == "I;16"
                else Image.fromarray(_PIXELS).convert(mode)
            )
            image.save(stream, form)
            seeds.append(stream.getvalue())
    for options in ({"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "tiff_adobe_deflate"}):
        stream = io.BytesIO()
        Image.fromarray(_PIXELS).save(stream, "TIFF", **options)
        seeds.append(stream.getvalue())
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_PIXELS).save(stream, "JPEG", progressive=True, exif=exif)
    return [*seeds, stream.getvalue()]


def seed_tables() -> list[bytes]:
    for name in ("a", "b", "c", "d"):
        Image.fromarray(_PIXELS).save(_FOLDER / f"{name}.png")
    plain = "image,label,patient,split\na.png,x,1,train\nb.png,y,2,test\nc.png,x,,val\nd.png,y,4,train\n"
    return [
        plain.encode(), plain.encode("utf-16"), plain.replace(",", ";").encode("utf-8-sig"),
        b'image,label\n"a.png",x\nb,y\nc,x\nd,y\nq,x\n', plain.replace("x", "\u00d6").encode("cp1252"),
    ]  # fmt: skip


def seed_arrays(*, with_entry: bool = False) -> list[bytes]:
    content = {}
    for part in ("train", "val", "test"):
        content[f"{part}_images"] = np.zeros((2, 4, 4), np.uint8)
        content[f"{part}_labels"] = np.array([[0], [1]], np.uint8)
    seeds = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, **content)
        seeds.append((b"train_images[1]\n" if with_entry else b"") + stream.getvalue())
    return seeds


def seed_zips() -> list[bytes]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in ("x", "y"):
            for number, data in enumerate(seed_pictures()[:2]):
                archive.writestr(f"data/{label}/{number}.png", data)
    return [stream.getvalue()]


def seed_hdf5() -> list[bytes]:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["images"] = np.zeros((4, 5, 5), np.uint8)
        file["labels"] = np.array([0, 1, 0, 1])
    return [stream.getvalue()]


def seed_dicom() -> list[bytes]:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientID, dataset.Rows, dataset.Columns, dataset.NumberOfFrames = "1", 4, 4, "1"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=False, little_endian=True, implicit_vr=False)
    return [stream.getvalue()]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]], str]] = {
    "readers": (read_picture, seed_pictures, ""),
    "locations": (read_location, lambda: seed_arrays(with_entry=True), ""),
    "tables": (read_table, seed_tables, ""),
    "npz": (read_npz, seed_arrays, ""),
    "zip": (read_zip, seed_zips, "snellen.core.archives"),
    "hdf5": (read_hdf5, seed_hdf5, "snellen.ingest.hdf5"),
    "dicom": (read_tags, seed_dicom, "snellen.imaging.dicom"),
}


def main() -> None:
    """Write the seeds, then hand over to libFuzzer, which ends the process."""
    name = sys.argv[1]
    if name not in TARGETS:
        raise SystemExit(f"There is no target {name}. Targets: {', '.join(TARGETS)}.")
    target, seeds, module = TARGETS[name]
    if module:
        import importlib.util

        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"{module} does not exist: this build does not read {name}.")
    atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)

    def one(data: bytes) -> None:
        try:
            target(data)
        except SnellenError:
            return

    if sys.argv[2] == "--once":
        begin = time.process_time()
        one(Path(sys.argv[3]).read_bytes())
        print(time.process_time() - begin)
        return
    corpus, options = Path(sys.argv[2]), sys.argv[3:]
    for number, data in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

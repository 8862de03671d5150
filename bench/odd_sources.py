"""Zip archives, HDF5 files, DICOM trees, one-hot tables and deep pictures: damaged, unsafe or merely unusual."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from odd_cases import N_A_CLASS, Build, Case, draw, encode, with_file, with_table, write, write_classes

_N = 2 * N_A_CLASS


def _zip(
    *more: tuple[str, bytes], change: Callable[[bytes], bytes] = lambda data: data, name: str = "data.zip"
) -> Build:
    """Two sound classes in an archive, and more entries."""

    def build(folder: Path) -> Sequence[str]:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, label in enumerate(("amd", "normal")):
                for k in range(N_A_CLASS):
                    archive.writestr(f"set/{label}/p{k:03}.png", encode(draw(1000 * number + k)))
            for entry, content in more:
                archive.writestr(entry, content)
        write(folder / name, change(stream.getvalue()))
        return ["audit", name]

    return build


def _link(folder: Path) -> Sequence[str]:
    info = zipfile.ZipInfo("set/amd/link.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(info, "/etc/passwd")
        archive.writestr("set/amd/a.png", encode(draw(1)))
        archive.writestr("set/normal/b.png", encode(draw(2)))
    write(folder / "data.zip", stream.getvalue())
    return ["audit", "data.zip"]


def _encrypt(data: bytes) -> bytes:
    """Every entry says of itself that it is encrypted."""
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(mark)
        while place >= 0:
            data = data[: place + at] + bytes([data[place + at] | 1]) + data[place + at + 1 :]
            place = data.find(mark, place + 4)
    return data


def _bzip2(folder: Path) -> Sequence[str]:
    with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("amd/a.png", encode(draw(1)))
        archive.writestr("normal/b.png", encode(draw(2)))
    return ["audit", "data.zip"]


def _understate(folder: Path) -> Sequence[str]:
    size, small = ((n).to_bytes(4, "little") for n in (3_000_000, 5000))
    return _zip(("set/amd/x.png", bytes(3_000_000)), change=lambda data: data.replace(size, small))(folder)


def _nested() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("amd/x.png", encode(draw(5)))
    return stream.getvalue()


ARCHIVES = [
    Case("a zip of class folders", _zip(), n=_N),
    Case("a zip with the files that systems add", _zip(("__MACOSX/set/amd/._p000.png", b"x"), ("set/.DS_Store", b"x"),
         ("set/amd/Thumbs.db", b"x")), n=_N),
    Case("a zip entry that leaves the folder", _zip(("../../evil.png", b"x")), 2, "evil.png"),
    Case("a zip entry with an absolute name", _zip(("/etc/evil.png", b"x")), 2, "evil.png"),
    Case("a zip entry with a drive letter", _zip(("C:\\evil.png", b"x")), 2, "evil.png"),
    Case("a link in a zip", _link, 2, "link.png"),
    Case("two zip entries whose names differ in case", _zip(("set/amd/P000.PNG", encode(draw(9)))), 2, "P000.PNG"),
    Case("an encrypted zip", _zip(change=_encrypt), 2),
    Case("a zip packed by bzip2", _bzip2, 2, "bzip2"),
    Case("a zip entry that holds more than it declares", _understate, issue="damaged_entry", n=_N + 1),
    Case("a zip that was cut off", _zip(change=lambda data: data[: len(data) // 2]), 2, "no readable zip"),
    Case("a zip with damaged bytes", _zip(change=lambda data: data[:200] + b"\xff" * 400 + data[600:]),
         issue="damaged_entry", n=_N),
    Case("text called .zip", lambda folder: ["audit", write(folder / "data.zip", "no archive").name], 2, "zip"),
    Case("an empty .zip", lambda folder: ["audit", write(folder / "data.zip", b"").name], 2, "zip"),
    Case("a damaged picture in a zip", _zip(("set/amd/x.png", b"x")), issue="unreadable_picture", n=_N + 1),
    Case("a zip in a zip", _zip(("set/more.zip", _nested())), n=_N),
    Case("a tar archive", lambda folder: ["audit", write(folder / "data.tar", "x").name], 2, ".tar"),
]  # fmt: skip


def _hdf5(**changes: Any) -> Build:
    """Pictures and labels in HDF5, but for `changes`; None leaves a name out."""

    def build(folder: Path) -> Sequence[str]:
        import h5py

        content: dict[str, Any] = {
            "images": np.random.default_rng(0).integers(0, 256, (12, 20, 20), dtype=np.uint8),
            "labels": np.array([0, 1] * 6),
        }
        with h5py.File(folder / "data.h5", "w") as file:
            for name, value in (content | changes).items():
                if value is not None:
                    file[name] = value
        return ["audit", "data.h5"]

    return build


def _hdf5_cut(folder: Path) -> Sequence[str]:
    command = _hdf5()(folder)
    path = folder / "data.h5"
    path.write_bytes(path.read_bytes()[:2100])
    return command


def _hdf5_outside(folder: Path) -> Sequence[str]:
    import h5py

    command = _hdf5(images=None)(folder)
    with h5py.File(folder / "data.h5", "a") as file:
        file["images"] = h5py.ExternalLink("/etc/other.h5", "/images")
    return command


HDF5 = [
    Case("an HDF5 file of pictures and labels", _hdf5(), n=12),
    Case("an HDF5 file that was cut off", _hdf5_cut, 2),
    Case("text called .h5", lambda folder: ["audit", write(folder / "data.h5", "no data").name], 2),
    Case("an HDF5 file without pictures", _hdf5(images=None), 2),
    Case("an HDF5 file without labels", _hdf5(labels=None), 2),
    Case("an HDF5 file with more labels than pictures", _hdf5(labels=np.array([0, 1] * 9)), 2),
    Case("an HDF5 file with two arrays that could be the pictures",
         _hdf5(images=None, left=np.zeros((12, 20, 20), np.uint8), right=np.ones((12, 20, 20), np.uint8)), 2),
    Case("an HDF5 file that links to another file", _hdf5_outside, 2),
    Case("HDF5 pictures with names of 40,000 letters", _hdf5(names=np.array(["1-" * 20_000 + str(k) for k in range(12)],
         dtype="S50000")), 2, "letters"),
    Case("HDF5 pictures of numbers outside 0 to 1", _hdf5(images=np.full((12, 20, 20), 7.5, np.float32)), 2),
]  # fmt: skip


def _dicom(**changes: Any) -> bytes:
    """A grey picture with made-up tags; None deletes a tag."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["x"])
    values = {
        "PatientID": "P1", "Rows": 16, "Columns": 16, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
        "PixelData": draw(1, 16, 16, 1).tobytes(), **changes,
    }  # fmt: skip
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _dicom_tree(*more: tuple[str, Callable[[], bytes]]) -> Build:
    def build(folder: Path) -> Sequence[str]:
        for number, label in enumerate(("amd", "normal")):
            for k in range(4):
                pixels = draw(100 * number + k, 16, 16, 1).tobytes()
                write(folder / "data" / label / f"{k}.dcm", _dicom(PatientID=f"{label}{k}", PixelData=pixels))
        for name, content in more:
            write(folder / "data" / name, content())
        return ["audit", "data"]

    return build


_BAD = "unreadable_picture"
DICOM = [
    Case("class folders of DICOM files", _dicom_tree(), n=8),
    Case("a DICOM file that was cut off", _dicom_tree(("amd/x.dcm", lambda: _dicom()[:500])), issue=_BAD, n=9),
    Case("a DICOM file without pixels", _dicom_tree(("amd/x.dcm", lambda: _dicom(PixelData=None))), issue=_BAD, n=9),
    Case("text called .dcm", _dicom_tree(("amd/x.dcm", lambda: b"no picture")), issue=_BAD, n=9),
    Case("a DICOM file without a patient", _dicom_tree(("amd/x.dcm", lambda: _dicom(PatientID=""))),
         issue="patients_unknown", n=9),
    Case("a DICOM header that claims 60,000 × 60,000 pixels",
         _dicom_tree(("amd/x.dcm", lambda: _dicom(Rows=60000, Columns=60000))), issue=_BAD, n=9),
    Case("a DICOM file that claims 999 frames and holds one",
         _dicom_tree(("amd/x.dcm", lambda: _dicom(NumberOfFrames="999"))), issue=_BAD, n=9),
    Case("a DICOM file of three frames",
         _dicom_tree(("amd/x.dcm", lambda: _dicom(NumberOfFrames="3", PixelData=draw(7, 48, 16, 1).tobytes()))), n=11),
]  # fmt: skip


def _deep(value: int, form: str = "PNG") -> bytes:
    return encode(draw(90, channels=1).astype(np.uint16) * value, form)


_ONE_HOT = "image,amd,normal\n" + "".join(f"p{k:03}.png,{k % 2},{1 - k % 2}\n" for k in range(5))

LABELS_AND_DEPTHS = [
    Case("one-hot columns", with_table(_ONE_HOT + "p005.png,1,0\n"), n=6),
    Case("one-hot columns with two ones in a row",
         with_table(_ONE_HOT + "p005.png,1,1\n", "--columns", "label=amd+normal"), 2, "multi-label"),
    Case("one-hot columns with no one in a row", with_table(_ONE_HOT + "p005.png,0,0\n"), issue="no_class_marked", n=6),
    Case("an Excel file called labels.xlsx", with_table(b"PK\3\4", name="labels.xlsx"), 2, "CSV"),
    Case("a row with too many cells", with_table("image,label\np000.png,a\np001.png,b\np002.png,a,b,c\np003.png,b\n"),
         n=4),
    Case("a PNG of 16 bits among pictures of 8", with_file("x.png", lambda: _deep(200)), issue="mixed_bit_depth",
         n=_N + 1),
    Case("a TIFF of 16 bits among pictures of 8", with_file("x.tif", lambda: _deep(200, "TIFF")),
         issue="mixed_bit_depth", n=_N + 1),
    Case("a picture without an extension", with_file("x", lambda: encode(draw(91))), n=_N + 1),
    Case("a GIF", with_file("x.gif", lambda: encode(draw(92), "GIF")), n=_N + 1),
    Case("a WebP", with_file("x.webp", lambda: encode(draw(93), "WEBP")), n=_N + 1),
    Case("a BMP", with_file("x.bmp", lambda: encode(draw(94), "BMP")), n=_N + 1),
    Case("a WebP that was cut off", with_file("x.webp", lambda: encode(draw(95), "WEBP")[:200]), issue=_BAD, n=_N + 1),
    Case("a web address as DATA", lambda _: ["audit", "https://example.org/data.zip"], 2, "download"),
    Case("a misspelt path", lambda folder: ["audit", write_classes(folder / "data").name + "a"], 2, "data"),
    Case("class names that differ in case", lambda folder: [
        "audit", write_classes(folder / "data", ("AMD", "amd", "normal")).name], issue="class_names_alike",
        n=3 * N_A_CLASS),
]  # fmt: skip

"""DICOM files: whether they can be opened, and the few tags that Snellen uses. Pixels are decoded in dicom_pixels.

No name, id or other text of a file may get into a message: errors name tags, lengths and syntaxes only.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from snellen.core.errors import PictureError
from snellen.core.quiet import hush_warnings
from snellen.imaging.picture import read_decoding_limits

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

MAX_DICOM_BYTES = 1 << 30
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_TAGS = (
    "PatientID", "ImageLaterality", "Laterality", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation",
)  # fmt: skip
# by these a cohort may be measured in parts, where they are asked for
DICOM_COLUMNS = (
    "PatientSex", "PatientAge", "Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName", "Modality",
)  # fmt: skip
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_BLOCK = 1 << 20
_FEW_FRAMES = 1000


@dataclass(frozen=True)
class DicomTags:
    """What grouping and listing need to know. A text that the file lacks is empty.

    `columns` has those of DICOM_COLUMNS that the file has, the age in years. `n_frames` is 1 also where the file holds
    no picture (`has_pixels`): reading it then says so.
    """

    patient_id: str
    laterality: Literal["L", "R"] | None
    series_uid: str
    sop_uid: str
    n_frames: int
    has_pixels: bool
    columns: Mapping[str, str] = field(default_factory=dict)


def read_tags(source: Path | bytes) -> DicomTags:
    """The tags of a file or its bytes, without its pixels.

    Raises PictureError where it is no DICOM, damaged, or pydicom missing.
    """
    with hush_warnings():  # values are converted, and complained of, when they are asked for
        found = open_dicom(source, tags=(*_TAGS, *DICOM_COLUMNS))
        n_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        side = (_text(found, "ImageLaterality") or _text(found, "Laterality")).upper()
        return DicomTags(
            patient_id=_text(found, "PatientID"),
            laterality="L" if side == "L" else "R" if side == "R" else None,
            series_uid=_text(found, "SeriesInstanceUID"),
            sop_uid=_text(found, "SOPInstanceUID"),
            n_frames=count_claimed_frames(found, n_bytes),
            has_pixels=read_number(found, "Rows", 0) > 0 and read_number(found, "Columns", 0) > 0,
            columns={name: text for name in DICOM_COLUMNS if (text := _read_column(found, name))},
        )


def count_frames(source: Path | bytes) -> int:
    """How many pictures a file or its bytes hold, by the header. Raises as `read_tags`."""
    return read_tags(source).n_frames


def open_dicom(source: Path | bytes, *, tags: Sequence[str] | None = None) -> FileDataset:
    """The data set of a file or its bytes: whole, or only `tags` and nothing behind them.

    Also without preamble or file meta information. Raises PictureError.
    """
    require_dicom()
    import pydicom

    # also what pydicom logs may quote the file
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    options: dict[str, Any] = {"stop_before_pixels": True, "specific_tags": list(tags)} if tags else {}
    try:
        with hush_warnings(), _open_stream(source) as stream:
            _require_inflatable(stream)
            found = pydicom.dcmread(stream, force=True, **options)
            if not any(tag in found for tag in ("SOPClassUID", "Rows", "SOPInstanceUID")):
                raise PictureError("the content is no picture and no other DICOM", "Check what the file really is.")
            return found
    except FileNotFoundError as error:
        raise PictureError("the file does not exist", "Check the path.") from error
    except PictureError:
        raise
    except PermissionError as error:
        raise PictureError(f"the file cannot be read: {error.strerror}", "Check its permissions.") from error
    except Exception as error:  # pydicom lets through whatever a damaged file makes its parts raise
        raise explain_damage(error) from None  # the text of the error may quote the file, its kind cannot


def explain_damage(error: Exception) -> PictureError:
    """What is said of a damaged file: the kind of the failure, never its text."""
    return PictureError(f"the DICOM file is damaged ({type(error).__name__})", "Copy or export it again.")


def require_dicom() -> None:
    """Raises PictureError where what reads DICOM is not installed: other pictures of a cohort can be read all the
    same.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        command = "pip install 'snellen[dicom]'"
        raise PictureError(f"DICOM files need pydicom, which is not installed: {command}", command) from error


def count_claimed_frames(found: FileDataset, n_bytes: int) -> int:
    """Pictures that a file of `n_bytes` says to hold, at least 1. Raises PictureError for more than can be in it."""
    n_frames = max(1, read_number(found, "NumberOfFrames", 1))
    # a compressed picture takes at least the 8 bytes of its item's header
    if n_frames > _FEW_FRAMES and n_frames * 8 > n_bytes:
        raise PictureError(f"the header claims {n_frames} frames in {n_bytes} bytes", "Export the file again.")
    if n_frames > 1 and n_frames * _count_frame_bytes(found) > n_bytes:
        raise PictureError(
            f"the header claims {n_frames} uncompressed frames in {n_bytes} bytes", "Copy or export the file again."
        )
    return n_frames


def _count_frame_bytes(found: FileDataset) -> int:
    """Bytes of a frame in an uncompressed file, at least; 0 where it is compressed or that is not told."""
    if _text(getattr(found, "file_meta", found), "TransferSyntaxUID") not in _PLAIN:
        return 0
    samples, allocated = read_number(found, "SamplesPerPixel", 1), read_number(found, "BitsAllocated", 8)
    if "422" in _text(found, "PhotometricInterpretation"):  # two pixels share their colours
        samples = 2
    return read_number(found, "Rows", 0) * read_number(found, "Columns", 0) * samples * allocated // 8


def read_number(found: Dataset, name: str, default: int) -> int:
    """A whole number of the header; `default` where it is absent or no number."""
    try:
        value = found.get(name)
        return default if value is None else int(value)
    except Exception:  # pydicom has errors of its own for values of a wrong length
        return default


def _text(found: FileDataset, name: str) -> str:
    try:
        value = found.get(name)
    except Exception:  # one that cannot be decoded is as good as absent
        return ""
    return "" if value is None else str(value).strip()


def _read_column(found: FileDataset, name: str) -> str:
    text = _text(found, name)
    if name != "PatientAge":
        return text
    number, unit = text[:-1], text[-1:].upper()  # such as 045Y
    return f"{int(number) / _PER_YEAR[unit]:.3g}" if number.isdecimal() and unit in _PER_YEAR else ""


def _open_stream(source: Path | bytes) -> Any:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _require_inflatable(stream: Any) -> None:
    """Raise PictureError where a deflated data set is larger than a picture may be: pydicom would inflate it whole."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    begin = stream.tell()
    try:
        if read_preamble(stream, force=True) is None:
            return
        if str(_read_file_meta_info(stream).get("TransferSyntaxUID", "")) != _DEFLATED:
            return
        inflater, n_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := stream.read(_BLOCK):
            while block:
                n_bytes += len(inflater.decompress(block, _BLOCK))
                block = inflater.unconsumed_tail
                if n_bytes > MAX_DICOM_BYTES:
                    raise PictureError("the deflated data are larger than 1 GB", "Export it uncompressed.")
                if n_bytes > read_decoding_limits()[1]:
                    raise PictureError("the deflated data are larger than this server takes", "Export it uncompressed.")
    finally:
        stream.seek(begin)

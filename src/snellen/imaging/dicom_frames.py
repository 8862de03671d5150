"""One compressed frame of a DICOM file: its real size before it is decoded, and the kind that pydicom leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.imaging.dicom import read_number

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

_EXTENDED = "1.2.840.10008.1.2.4.51"
_RLE = "1.2.840.10008.1.2.5"
_SKIPPED = (0xC4, 0xC8, 0xCC)  # tables among the markers of JPEG that tell a size
_JPEG_LS = 0xF7


def require_stream_size(data: FileDataset, index: int) -> bytes | None:
    """The bytes of a frame in JPEG, JPEG-LS or JPEG 2000; None for others.

    Raises PictureError where the stream is of another size than the header says: decoders take memory by the stream.
    """
    from pydicom.encaps import get_frame

    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or str(syntax) == _RLE:
        return None
    n_frames = max(1, read_number(data, "NumberOfFrames", 1))
    offsets = None
    if "ExtendedOffsetTable" in data and "ExtendedOffsetTableLengths" in data:
        offsets = (data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths)
    frame = get_frame(data.PixelData, index, number_of_frames=n_frames, extended_offsets=offsets)
    found = read_jpeg_2000_size(frame) if frame[:2] != b"\xff\xd8" else read_jpeg_size(frame)
    expected = read_number(data, "Columns", 0), read_number(data, "Rows", 0)
    if found is not None and found != expected:
        raise PictureError(
            f"the header says {expected[0]}×{expected[1]} pixels, the compressed picture {found[0]}×{found[1]}",
            "Export the file again.",
        )
    return frame


def read_jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG or JPEG-LS; None where there is none."""
    place = 2
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _SKIPPED) or marker == _JPEG_LS:
            height, width = stream[place + 5 : place + 7], stream[place + 7 : place + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def read_jpeg_2000_size(stream: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG 2000 code stream, also inside JP2; None where there is none."""
    place = stream.find(b"\xff\x4f\xff\x51")
    if place < 0 or place + 24 > len(stream):
        return None
    width, height, left, top = (int.from_bytes(stream[place + at : place + at + 4], "big") for at in (8, 12, 16, 20))
    return width - left, height - top


def decode_extended(data: Dataset, frame: bytes) -> NDArray[np.uint16] | None:
    """JPEG Extended with 12 bits, grey, by GDCM, which reads it though pydicom does not ask it; None for others.

    pydicom refuses because GDCM reads other such files wrongly: colour and signed ones are left to its refusal.
    """
    bits, rows, columns = (read_number(data, name, 0) for name in ("BitsStored", "Rows", "Columns"))
    is_plain = read_number(data, "SamplesPerPixel", 1) == 1 and not read_number(data, "PixelRepresentation", 0)
    if str(data.file_meta.TransferSyntaxUID) != _EXTENDED or not 8 < bits <= 12 or not is_plain:
        return None
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, 0))
    found = image.GetBuffer()
    if found is None:
        raise ValueError("GDCM could not decode the frame")
    return np.frombuffer(found.encode("utf-8", "surrogateescape"), "<u2").reshape(rows, columns)

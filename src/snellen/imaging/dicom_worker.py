"""Decodes compressed DICOM frames in a process of its own: GDCM ends the whole process on some damaged streams.

Run as `python -m snellen.imaging.dicom_worker` by `dicom_apart`, and only so. It reads from standard input, until that
closes: two lengths, JSON with the tags that say how a frame is stored, the frame. It answers with two lengths, JSON
with type and shape or the kind of an error, and the values.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import warnings
from typing import IO, Any

LENGTHS = struct.Struct(">IQ")


def main() -> None:
    """Answer until the parent is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not speak between the answers
    questions = sys.stdin.buffer
    while head := questions.read(LENGTHS.size):
        n_tags, n_frame = LENGTHS.unpack(head)
        tags, frame = questions.read(n_tags), questions.read(n_frame)
        _answer(answers, *_decode(tags, frame))


def _decode(tags: bytes, frame: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = decode_frame(json.loads(tags), frame)
    except Exception as error:  # the kind is all that may be told
        return {"error": type(error).__name__}, b""
    return {"dtype": values.dtype.str, "shape": values.shape}, values.tobytes()


def decode_frame(tags: dict[str, Any], frame: bytes) -> Any:
    """The values of one frame, `(H, W)` or `(H, W, 3)` RGB. Raises whatever pydicom raises."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.pixels.utils import pixel_array

    from snellen.imaging.dicom_frames import decode_extended

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = tags.pop("TransferSyntaxUID")
    for name, value in tags.items():
        setattr(data, name, value)
    values = decode_extended(data, frame)
    if values is None:
        data.PixelData = encapsulate([frame])
        values = pixel_array(data, index=0)
    return values


def _answer(stream: IO[bytes], head: dict[str, Any], values: bytes) -> None:
    told = json.dumps(head).encode()
    stream.write(LENGTHS.pack(len(told), len(values)) + told)
    stream.write(values)
    stream.flush()


if __name__ == "__main__":
    main()

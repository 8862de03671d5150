"""Decoding in a process apart: what kills the decoder costs one picture."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from snellen.core.errors import PictureError
from snellen.imaging.dicom_apart import end_workers
from snellen.imaging.readers import read_picture


def packaged(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def break_adobe_marker(data: bytes) -> bytes:
    """A JPEG whose Adobe marker names no transform: GDCM 3 ends the process on it."""
    place = data.index(b"Adobe") - 4
    marker = bytearray(data)
    marker[place + 15 : place + 17] = b"\xff\xff"
    return bytes(marker)


def test_stream_that_kills_the_decoder_is_a_damaged_picture() -> None:
    good = packaged("SC_rgb_dcmtk_+eb+cr.dcm").read_bytes()
    with pytest.raises(PictureError, match="broke down"):
        read_picture(break_adobe_marker(good))
    assert read_picture(good).pixels.shape == (100, 100, 3)


def test_decoders_are_started_anew_after_they_ended() -> None:
    expected = read_picture(packaged("SC_rgb_jpeg_gdcm.dcm")).pixels
    end_workers()
    assert np.array_equal(read_picture(packaged("SC_rgb_jpeg_gdcm.dcm")).pixels, expected)


def test_frames_decoded_at_once_do_not_mix() -> None:
    names = ["SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEG2000.dcm"] * 4
    expected = {name: read_picture(packaged(name)).pixels for name in set(names)}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: read_picture(packaged(name)).pixels, names))
    assert all(np.array_equal(pixels, expected[name]) for name, pixels in zip(names, found, strict=True))


def test_script_without_a_guard_ends_by_itself(tmp_path: Path) -> None:
    # a pool of processes would run the script again, and a decoder left behind would keep it from ending
    script = tmp_path / "script.py"
    path = packaged("SC_rgb_jpeg_gdcm.dcm")
    script.write_text(
        "from pathlib import Path\nfrom snellen.imaging.readers import read_picture\n"
        f"print(read_picture(Path({str(path)!r})).pixels.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("(100, 100, 3)", "", 0)

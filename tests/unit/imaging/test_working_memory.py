"""A picture that would take too much memory is refused before it is decoded; what is accepted takes what was said."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pictures import draw_smooth, encode
from snellen.core.errors import PictureError
from snellen.imaging import encoded, picture, working_memory
from snellen.imaging.readers import read_picture

RGB = draw_smooth(3, 900, 1200)
RGBA = np.dstack([RGB, np.where(RGB[..., 0] > 99, 255, 9).astype(np.uint8)])
_MEASURE = """
import resource, sys
import cv2, numpy, PIL.Image
from pathlib import Path
import snellen.imaging.deep, snellen.imaging.picture
from snellen.imaging.readers import read_picture
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
snellen.imaging.picture.MAX_BYTES, before = int(sys.argv[2]), peak()
try:
    read_picture(Path(sys.argv[1]))
except snellen.core.errors.PictureError:
    print("refused")
print(peak() - before)
"""


def measure(path: Path, limit: int) -> list[str]:
    words = [sys.executable, "-c", _MEASURE, str(path), str(limit)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def make(kind: str) -> bytes:
    large = np.repeat(np.repeat(RGB, 3, 0), 3, 1)
    if kind == "16-bit PNG":
        return cv2.imencode(".png", large.astype(np.uint16) << 8)[1].tobytes()
    if kind == "PNG with transparency":
        return encode(np.dstack([large, large[..., 0]]), compress_level=1)
    options = {"PNG": {"compress_level": 1}, "TIFF": {"compression": "tiff_lzw"}, "JPEG": {"progressive": True}}
    return encode(large, kind, **options.get(kind, {}))


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak is another one elsewhere")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "JPEG", "PNG with transparency", "16-bit PNG"])
def test_decoding_takes_no_more_than_was_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(make(kind))
    with Image.open(path) as image:
        compute = working_memory.compute_deep_bytes if kind == "16-bit PNG" else working_memory.compute_working_bytes
        said = int(compute(image, path.read_bytes(), *([] if kind == "16-bit PNG" else [image.size])))
    [accepted] = measure(path, said + 1)
    assert int(accepted) < said + 40_000_000  # pieces and what the interpreter loads on the way
    word, refused = measure(path, said - 1)
    assert word == "refused"
    assert int(refused) < 30_000_000


def test_refusal_says_size_need_and_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MAX_BYTES", 5_000_000)
    with pytest.raises(PictureError, match="1200×900 pixels of this kind would take") as caught:
        read_picture(encode(RGB))
    assert "baseline JPEG" in caught.value.hint


@pytest.mark.parametrize(("progressive", "is_read"), [(False, True), (True, False)])
def test_jpeg_counts_at_the_scale_that_it_is_decoded_at(
    monkeypatch: pytest.MonkeyPatch, progressive: bool, is_read: bool
) -> None:
    monkeypatch.setattr(picture, "MAX_BYTES", 2_000_000)
    data = encode(RGB, "JPEG", progressive=progressive)
    with pytest.raises(PictureError, match="memory"):
        read_picture(data)
    if is_read:
        assert read_picture(data, min_side_px=100).pixels.shape == (113, 150, 3)
    else:  # its coefficients are kept at full size
        with pytest.raises(PictureError, match="memory"):
            read_picture(data, min_side_px=100)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "1"])
def test_pieces_give_the_pixels_of_the_whole(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    stream = io.BytesIO()
    options = {"transparency": 3} if mode == "P" else {}
    Image.fromarray(RGBA[:70, :50]).convert(mode).save(stream, "TIFF" if mode == "CMYK" else "PNG", **options)
    whole = read_picture(stream.getvalue())
    monkeypatch.setattr(encoded, "_PIECE_PIXELS", 333)
    pieces = read_picture(stream.getvalue())
    assert np.array_equal(pieces.pixels, whole.pixels)
    assert pieces.notes == whole.notes


def test_threads_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_memory, "_LARGE", 10)
    monkeypatch.setattr(working_memory, "MAX_BYTES", 100)
    lock, seen = threading.Lock(), [0, 0]

    def take(n_bytes: int) -> None:
        with working_memory.reserve(n_bytes):
            with lock:
                seen[0] += n_bytes
                seen[1] = max(seen)
            time.sleep(0)
            with lock:
                seen[0] -= n_bytes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [60, 40, 100, 30, 50] * 20))
    assert 0 < seen[1] <= 100

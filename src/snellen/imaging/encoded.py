"""JPEG, PNG, TIFF, BMP, WebP and GIF: bytes → Picture. Pillow decodes: it refuses truncated files, where faster
decoders return grey rows in silence.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.core.quiet import hush_warnings
from snellen.imaging.picture import Background, Levels, Picture, read_decoding_limits, require_memory, require_size
from snellen.imaging.pillow_pixels import copy_rgb
from snellen.imaging.working_memory import compute_deep_bytes, compute_working_bytes, reserve

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")  # EPS, for one, would start Ghostscript on whatever was sent
_NAMES = "JPEG, PNG, TIFF, BMP, WebP, GIF, DICOM"
_DEEP_FORMATS = ("PNG", "TIFF")
_PIECE_PIXELS = 1 << 21
_SEVERAL = {"GIF": "animated", "WEBP": "animated", "PNG": "animated", "TIFF": "multi_page"}  # not a JPEG's preview
_GROUNDS = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255)}


def decode_picture(data: bytes, *, min_side_px: int | None, background: Background) -> Picture:
    """The first picture of a file, upright, in sRGB, transparent parts laid on `background`.

    With `min_side_px` a JPEG may be decoded at 1/2, 1/4 or 1/8 scale. Raises PictureError.
    """
    with hush_warnings():  # of damaged EXIF beside sound pixels, and of large pictures: the limit speaks for itself
        image = _open(data)
        form, (width, height) = image.format or "", image.size
        require_size(width, height)
        try:
            pixels, bits, notes = _decode(image, data, min_side_px, background)
        except PictureError:
            raise
        except Exception as error:  # of damaged files Pillow's plugins may raise anything; fuzzing found TypeError
            raise PictureError(f"the picture is damaged: {error}", "Copy or export it again.") from error
    if (pixels.shape[1] > pixels.shape[0]) != (width > height) and pixels.shape[0] != pixels.shape[1]:
        width, height = height, width
    return Picture(pixels, width, height, form, len(data), bits, notes)


def _open(data: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise PictureError(
            f"the content is no picture that Snellen reads ({_NAMES})", "Check what the file really is."
        ) from error
    except Image.DecompressionBombError as error:
        limit = read_decoding_limits()[0]
        raise PictureError(
            f"its header tells more pixels than the limit of {limit:,}", "Scale the picture down first."
        ) from error
    except Exception as error:  # as above
        raise PictureError(f"the picture cannot be opened: {error}", "Copy or export it again.") from error


def _decode(
    image: Image.Image, data: bytes, min_side_px: int | None, background: Background
) -> tuple[Levels, int, tuple[str, ...]]:
    notes, full_size = [_describe_pages(image)], image.size
    profile = image.info.get("icc_profile")
    if image.format in _DEEP_FORMATS:
        from snellen.imaging.deep import count_bits, decode_deep

        bits = count_bits(image)
        if bits > 8:
            need = compute_deep_bytes(image, data)
            require_memory(*image.size, need)
            with reserve(need):
                values, is_transparent = decode_deep(image, data, background)
            notes += ["transparent" if is_transparent else "", _judge_profile(profile, values)]
            return values, bits, tuple(filter(None, notes))
    if min_side_px is not None:
        image.draft(None, (min_side_px, min_side_px))
    need = compute_working_bytes(image, data, full_size)
    require_memory(*image.size, need)
    with reserve(need):
        pixels, more = _decode_plain(image, profile, background)
    return pixels, 8, tuple(filter(None, (*notes, *more)))


def _decode_plain(
    image: Image.Image, profile: bytes | None, background: Background
) -> tuple[NDArray[np.uint8], list[str]]:
    from PIL import ImageOps

    notes = []
    # in place: a copy would cost a third of the decoding
    ImageOps.exif_transpose(image, in_place=True)
    if profile:
        image, note = _convert_colours(image, profile)
        notes.append(note)
    pixels, is_transparent = _to_pixels(image, background)
    return pixels, [*notes, "transparent" if is_transparent else ""]


def _describe_pages(image: Image.Image) -> str:
    """Whether the file holds more than its first picture. Asking moves through the file, so the first is sought."""
    note = _SEVERAL.get(image.format or "", "")
    if not note or not getattr(image, "is_animated", False):
        return ""
    image.seek(0)
    return note


def _judge_profile(profile: bytes | None, values: Levels) -> str:
    """Colours of more than 8 bits are not converted: told, unless they are sRGB anyway."""
    if not profile:
        return ""
    from snellen.imaging.colour import is_srgb

    return "" if is_srgb(profile, "L" if values.ndim == 2 else "RGB") else "icc_ignored"


def _convert_colours(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    from snellen.imaging.colour import convert_to_srgb

    if image.mode in ("L", "RGB", "CMYK") and "transparency" not in image.info:
        return convert_to_srgb(image, profile)
    if image.mode not in ("L", "RGB", "P", "PA", "RGBA", "LA"):
        return image, "icc_ignored"
    layer = image.convert("RGBA")  # before colours change: one of them may stand for transparent
    grey = image.mode in ("L", "LA")
    plain, note = convert_to_srgb(layer.getchannel(0) if grey else layer.convert("RGB"), profile)
    if note != "icc":
        return image, note
    plain = plain.convert("RGB")
    plain.putalpha(layer.getchannel(3))
    return plain, note


def _to_pixels(image: Image.Image, background: Background) -> tuple[NDArray[np.uint8], bool]:
    width, height = image.size
    is_opaque = "transparency" not in image.info
    if (image.mode == "L" and is_opaque) or width * height <= _PIECE_PIXELS:
        return _to_pixels_whole(image, background)
    # in pieces: on the whole, a picture with transparency would stand in memory five times
    image.load()
    rows = max(1, _PIECE_PIXELS // width)
    pieces = (_to_pixels_whole(image.crop((0, top, width, min(height, top + rows))), background)
              for top in range(0, height, rows))  # fmt: skip
    first, is_transparent = next(pieces)
    pixels = np.empty((height, *first.shape[1:]), np.uint8)
    pixels[:rows] = first
    for number, (piece, is_some) in enumerate(pieces, 1):
        pixels[number * rows : (number + 1) * rows] = piece
        is_transparent |= is_some
    return pixels, is_transparent


def _to_pixels_whole(image: Image.Image, background: Background) -> tuple[NDArray[np.uint8], bool]:
    from PIL import Image

    is_opaque = "transparency" not in image.info
    if image.mode == "RGB" and is_opaque:
        return copy_rgb(image), False
    if image.mode == "L" and is_opaque:
        return np.asarray(image), False
    if image.mode == "1" and is_opaque:
        return np.asarray(image.convert("L")), False
    if image.mode in ("RGBA", "LA", "PA") or not is_opaque:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, _GROUNDS[background])
        is_transparent = int(np.asarray(layer.getchannel("A")).min()) < 255
        return np.asarray(Image.alpha_composite(ground, layer).convert("RGB")), is_transparent
    return np.asarray(image.convert("RGB")), False

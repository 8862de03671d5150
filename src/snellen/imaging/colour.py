"""Colours as sRGB: pictures whose embedded ICC profile says otherwise are converted, all others are left alone.

A profile is judged once: what it makes of a few hundred colours tells whether it is sRGB under another name.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError)
_ALIKE = 2  # levels: sRGB profiles of different makers differ by rounding


def convert_to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """`image` of mode L, RGB or CMYK, with `profile` applied, and what was done: icc, icc_ignored or nothing.

    CMYK becomes RGB in any case but icc_ignored; grey stays grey.
    """
    try:
        space = _choose_space(profile, image.mode)
        transform = _build_transform(profile, space)
    except _UNUSABLE:
        return image, "icc_ignored"
    if transform is None:
        return image, ""
    converted = transform.apply(image.convert(space))
    return (converted.getchannel(1) if image.mode == "L" else converted), "icc"


def is_srgb(profile: bytes, mode: str) -> bool:
    """Whether `profile` leaves pixels of `mode` L or RGB as they are."""
    try:
        return _build_transform(profile, _choose_space(profile, mode)) is None
    except _UNUSABLE:
        return False


def _choose_space(profile: bytes, mode: str) -> str:
    """The mode that the profile speaks of: grey pictures often carry one of RGB, which holds where all are equal."""
    return "RGB" if mode == "L" and profile[16:20] == b"RGB " else mode


@functools.lru_cache(maxsize=64)
def _build_transform(profile: bytes, mode: str) -> Any:
    """None where the profile means sRGB. Raises where it is damaged or of another colour space."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if opened.profile.xcolor_space != _SPACES[mode]:
        raise ValueError(f"a profile of {opened.profile.xcolor_space} with pixels of {mode}")
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    return None if mode != "CMYK" and _changes_little(transform, mode) else transform


def _changes_little(transform: Any, mode: str) -> bool:
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    if mode == "L":
        before = np.repeat(steps[:, None], 3, 1)
        image = Image.fromarray(steps[None])
    else:
        before = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
        image = Image.fromarray(before[None])
    after = np.asarray(transform.apply(image)).reshape(-1, 3)
    return int(np.abs(after.astype(int) - before).max()) <= _ALIKE

"""From a decoded Pillow picture to an array, without Pillow's packing, which holds Python's lock while it copies.

With several threads that lock is what they wait for most. Pillow lends its memory through the Arrow C data
interface (https://arrow.apache.org/docs/format/CDataInterface.html), and OpenCV copies it with the lock released.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image


class _ArrowArray(ctypes.Structure):
    """`struct ArrowArray` of the specification."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def copy_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a picture of mode RGB: uint8 `(H, W, 3)`. Raises what loading raises."""
    image.load()
    width, height = image.size
    try:
        _, lent = image.__arrow_c_array__()  # kept until the copy is made: it owns the memory
    except (AttributeError, ValueError):  # a Pillow before 11.2, or a large picture in several blocks
        return np.asarray(image)
    whole = _ArrowArray.from_address(_get_pointer(lent, b"arrow_array"))
    pixels = whole.children[0].contents  # lists of four bytes a pixel: red, green, blue and a filler
    if pixels.length != width * height * 4 or whole.offset or pixels.offset:
        return np.asarray(image)
    memory = (ctypes.c_uint8 * pixels.length).from_address(pixels.buffers[1])
    view = np.frombuffer(memory, np.uint8).reshape(height, width, 4)
    return np.asarray(cv2.cvtColor(view, cv2.COLOR_RGBA2RGB), np.uint8)

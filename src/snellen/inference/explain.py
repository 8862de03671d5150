"""Where in a picture the evidence for a class lies, by the graph itself. No torch.

Class activation (Zhou et al. 2016) where the graph says what each place adds to each logit, which needs heads that are
linear in pooled features; occlusion (Zeiler and Fergus 2014) for every other network. Evidence counts against the other
classes: what speaks for all of them alike speaks for none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.inference.session import GraphSession
from snellen.records.bundle import CLASS_MAP

CLASS_ACTIVATION = "class activation"
OCCLUSION = "occlusion"
_CELLS = 8  # an occluding window is an eighth of the side, moved by half of itself, or in a slow network by all of it
_SLOW = 2e9  # multiplications of a picture: MobileNetV2 at 224 px has 0.3e9, VGG16 15e9
_AT_ONCE = 64
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EvidenceMap:
    """`array` `(H, W)` float32 within 0 and 1: evidence for `class_name` at each place of `picture` `(H, W, C)`.

    The picture is what the model sees of the file, after preprocessing. 0 is no evidence, or evidence against; 1 is the
    most that this picture has, however little that is: maps of two pictures have different scales.
    """

    array: Floats
    method: str
    class_name: str
    probability: float
    picture: Pixels


class Explainer:
    """Maps of one graph, whose backbone has so many `multiplications` a picture."""

    def __init__(self, session: GraphSession, multiplications: float = 0.0) -> None:
        self._session = session
        self._overlaps = multiplications <= _SLOW
        self.method = CLASS_ACTIVATION if CLASS_MAP in session.outputs else OCCLUSION

    def explain(self, pixels: Pixels, at: int) -> Floats:
        """Evidence for class `at` in one preprocessed picture `(H, W, C)`: `(H, W)` within 0 and 1."""
        return self.explain_beside_random(pixels, at, ())[0]

    def explain_beside_random(self, pixels: Pixels, at: int, seeds: Sequence[int]) -> list[Floats]:
        """The map of `explain`, and one a seed with random weights in place of the head: these must look different.

        All from the same passes through the graph.
        """
        compute = self._compute_activation if self.method == CLASS_ACTIVATION else self._compute_occlusion
        return [scale_evidence(each) for each in compute(pixels, at, seeds)]

    def _compute_activation(self, pixels: Pixels, at: int, seeds: Sequence[int]) -> list[Floats]:
        found = self._session.run(pixels[None], (CLASS_MAP, "feature_map"))
        own, features = found[CLASS_MAP][0], found["feature_map"][0]
        drawn = (np.einsum("dhw,cd->chw", features, _draw_weight(seed, len(own), len(features))) for seed in seeds)
        height, width = pixels.shape[:2]
        maps = (np.ascontiguousarray(_against_others(each, at), np.float32) for each in (own, *drawn))
        return [
            np.asarray(cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR), np.float32) for each in maps
        ]

    def _compute_occlusion(self, pixels: Pixels, at: int, seeds: Sequence[int]) -> list[Floats]:
        """Mean fall of the class's log odds over the windows that cover a place."""
        height, width = pixels.shape[:2]
        windows = list_windows(height, width, overlap=self._overlaps)
        blurred = blur_away(pixels)
        before = self._read_margins(pixels[None], at, seeds)[:, 0]
        fall = np.zeros((1 + len(seeds), height, width), np.float64)
        covered = np.zeros((height, width), np.float64)
        for start in range(0, len(windows), _AT_ONCE):
            part = windows[start : start + _AT_ONCE]
            batch = np.repeat(pixels[None], len(part), axis=0)
            for picture, (rows, columns) in zip(batch, part, strict=True):
                picture[rows, columns] = blurred[rows, columns]
            for (rows, columns), margins in zip(part, self._read_margins(batch, at, seeds).T, strict=True):
                fall[:, rows, columns] += (before - margins)[:, None, None]
                covered[rows, columns] += 1
        return list((fall / covered).astype(np.float32))

    def _read_margins(self, batch: Pixels, at: int, seeds: Sequence[int]) -> NDArray[np.float64]:
        """`(N, H, W, C)` → log odds of class `at` against all others together, by the head and by the random ones:
        `(1 + S, N)`.
        """
        found = self._session.run(batch, ("logits", "embedding"))
        own, features = found["logits"].astype(np.float64), found["embedding"].astype(np.float64)
        drawn = (features @ _draw_weight(seed, own.shape[1], features.shape[1]).T for seed in seeds)
        return np.stack([_compute_margins(logits, at) for logits in (own, *drawn)])


def scale_evidence(evidence: Floats) -> Floats:
    """What speaks against the class becomes 0, the strongest evidence 1; all 0 where nothing speaks for it."""
    found = np.maximum(evidence, 0)
    most = float(found.max())
    return np.asarray(found / most if np.isfinite(most) and most > 0 else np.zeros_like(found), np.float32)


def list_windows(height: int, width: int, *, overlap: bool = True) -> list[tuple[slice, slice]]:
    """Windows that cover a picture: with `overlap` each place but those at the border lies in four."""

    def cut(length: int) -> list[slice]:
        side = max(1, length // _CELLS)
        step = max(1, side // 2) if overlap else side
        starts = sorted({*range(0, length - side + 1, step), length - side})
        return [slice(start, start + side) for start in starts]

    return [(rows, columns) for rows in cut(height) for columns in cut(width)]


def blur_away(pixels: Pixels) -> Pixels:
    """The picture `(H, W, C)` without what is smaller than a window; its brightness stays, so it is no new kind."""
    side = max(pixels.shape[:2]) / _CELLS
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigmaX=side / 2, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.uint8).reshape(pixels.shape)


def choose_class(classes: Sequence[str], name: str | None, decide: Callable[[], int]) -> int:
    """The class that is asked for, or else the one decided for. Raises UsageError for a class that is not there."""
    if name is None:
        return decide()
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"The model knows no class {name!r}.", f"{meant}Its classes are {', '.join(classes)}.")
    return list(classes).index(name)


def _against_others(class_map: NDArray[np.floating], at: int) -> NDArray[np.floating]:
    """`(C, h, w)` → `(h, w)`: what a place adds to the class's logit beyond the mean of the other classes."""
    others = np.delete(class_map, at, axis=0)
    return np.asarray(class_map[at] - others.mean(0)) if len(others) else np.asarray(class_map[at])


def _compute_margins(logits: NDArray[np.float64], at: int) -> NDArray[np.float64]:
    others = np.delete(logits, at, axis=1)
    highest = others.max(1)
    return np.asarray(logits[:, at] - highest - np.log(np.exp(others - highest[:, None]).sum(1)))


def _draw_weight(seed: int, n_classes: int, n_features: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n_classes, n_features))

"""Who is a ready-made copy of whom in `fundus4/cataract`, told without the product's features.

Files `_K_N.jpg` are copies; K is a place in an old listing of the originals, of which some are missing today. K alone
proves nothing, but the listing was sorted: the originals of two copies stand in the order of their numbers. So a copy's
original is sought among all originals by laying each turn (of 5°, mirrored or not) of a 32 px colour picture on all of
them, and the answers that keep the listing's order are taken as the truth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_SIDE, _STEP = 32, 5
_NAME = re.compile(r"(?:.*/)?_(\d+)_\d+\.jpg")
FIRST_LISTING = 360  # larger numbers list some originals once more
_LEAST, _BEST = 0.97, 8


def read_number(name: str) -> int | None:
    """K of `_K_N.jpg`."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def _flatten(pixels: Pixels) -> NDArray[np.float32]:
    """The disc of the picture as one vector, mean 0 and length 1."""
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    y, x = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    inner = small[np.hypot(x, y) < 0.45 * _SIDE]
    inner = inner - inner.mean(axis=0)
    return np.asarray(inner.ravel() / max(float(np.linalg.norm(inner)), 1e-6), np.float32)


def compare_exhaustively(copies: Sequence[Pixels], originals: Sequence[Pixels]) -> NDArray[np.float32]:
    """Best correlation `(copies, originals)` over all turns, mirrored or not."""
    known = np.stack([_flatten(pixels) for pixels in originals])
    best = np.full((len(copies), len(originals)), -1, np.float32)
    for row, pixels in enumerate(copies):
        square = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
        turned = []
        for angle in range(0, 360, _STEP):
            turn = cv2.getRotationMatrix2D((31.5, 31.5), angle, 1)
            rotated = np.asarray(cv2.warpAffine(square, turn, (64, 64)), np.uint8)
            turned += [_flatten(rotated), _flatten(np.ascontiguousarray(rotated[:, ::-1]))]
        best[row] = (np.stack(turned) @ known.T).max(axis=0)
    return best


def find_truth(numbers: Sequence[int], places: Sequence[int], alike: NDArray[np.float32]) -> dict[int, int]:
    """K → column of `alike` (an original) for those numbers whose original is there.

    `numbers` of the rows, `places` of the columns in the sorted listing. Of one K the rows' values are added up. The
    longest run of answers in the listing's order is kept: each K ≤ 360 may take one of its best eight columns.
    """
    rows_of: dict[int, list[int]] = {}
    for row, number in enumerate(numbers):
        rows_of.setdefault(number, []).append(row)
    order = np.argsort(places)
    scores = {number: alike[rows].mean(axis=0) for number, rows in rows_of.items()}
    truth = _keep_order({k: score for k, score in scores.items() if k <= FIRST_LISTING}, order)
    for number, score in scores.items():
        if number > FIRST_LISTING and score.max() >= _LEAST:
            truth[number] = int(score.argmax())
    return truth


def _keep_order(scores: dict[int, NDArray[np.float32]], order: NDArray[np.intp]) -> dict[int, int]:
    """The heaviest set of answers whose places rise with their numbers."""
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    answers = []  # (number, place, weight, column), one number after another
    for number in sorted(scores):
        for column in np.argsort(-scores[number])[:_BEST].tolist():
            if scores[number][column] >= _LEAST:
                weight = float(scores[number][column] - _LEAST + 0.001) * (
                    1 if column != scores[number].argmax() else 3
                )
                answers.append((number, int(rank[column]), weight, column))
    best: list[tuple[float, int]] = []
    for at, (number, place, weight, _) in enumerate(answers):
        before = [(best[k][0], k) for k in range(at) if answers[k][0] < number and answers[k][1] < place]
        value, previous = max(before, default=(0.0, -1))
        best.append((value + weight, previous))
    truth: dict[int, int] = {}
    at = max(range(len(best)), key=lambda k: best[k][0], default=-1)
    while at >= 0:
        truth[answers[at][0]] = answers[at][3]
        at = best[at][1]
    return truth

"""How well the audit finds odd pictures: drawn cohorts in which one of ten pictures is spoilt, by kind of fault.

    python bench/picture_checks.py --json build/picture-checks.json

A cohort of each kind of phantom and fault; prints recall (spoilt pictures that are named), precision (named ones that
are spoilt) and what the faults' strengths are. Letters are drawn in OpenCV's fonts, light and dark, at the rim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.looks import LOOKS, measure_looks
from snellen.ingest.phantom import draw_picture, list_labels
from snellen.ingest.picture_checks import check_pictures
from snellen.ingest.picture_looks import HEADER, Looks
from snellen.records.cohort import Sample

Pixels = NDArray[np.uint8]
Spoil = Callable[[Pixels, np.random.Generator], Pixels]
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_COMPLEX)
_NAMES = ("DOE, JANE", "MUELLER 1950", "12.03.2021", "ID 4711 OD", "SMITH^ANNA", "Patient 0815")


def write_letters(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A name or date in one of the corners, 3 to 7 % of the height."""
    drawn = pixels.copy()
    height, width = drawn.shape[:2]
    font = int(random.choice(_FONTS))
    text = str(random.choice(_NAMES))
    tall = random.uniform(0.03, 0.07) * height
    scale = cv2.getFontScaleFromHeight(font, max(8, round(tall)), 1)
    (wide, high), _ = cv2.getTextSize(text, font, scale, 1)
    x = int(random.choice([4, max(4, width - wide - 4)]))
    y = int(random.choice([high + 4, height - 6]))
    shade = (255,) * 3 if random.random() < 0.8 else (255, 255, 0)
    ground = drawn[max(0, y - high - 3) : y + 4, max(0, x - 3) : x + wide + 3]
    if random.random() < 0.5:
        ground[:] = 0  # as devices do, on a black field
    cv2.putText(drawn, text, (x, y), font, scale, shade if drawn.ndim == 3 else 255, 1, cv2.LINE_AA)
    return drawn


def blur(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(random.uniform(3, 6))), np.uint8)


def overexpose(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return np.clip(pixels.astype(np.float32) * random.uniform(3, 5) + 60, 0, 255).astype(np.uint8)


def underexpose(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return (pixels * random.uniform(0.1, 0.2)).astype(np.uint8)


def cut_off(pixels: Pixels, random: np.random.Generator) -> Pixels:
    cut = pixels.copy()
    cut[-round(random.uniform(0.3, 0.6) * len(cut)) :] = 128
    return cut


def exchange_colour(pixels: Pixels, _random: np.random.Generator) -> Pixels:
    if pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(pixels, cv2.COLORMAP_HOT), cv2.COLOR_BGR2RGB), np.uint8)


def shrink(pixels: Pixels, _random: np.random.Generator) -> Pixels:
    return np.asarray(cv2.resize(pixels, (pixels.shape[1] // 6, pixels.shape[0] // 6)), np.uint8)


FAULTS: dict[str, Spoil] = {
    "text_in_pictures": write_letters,
    "blurred_pictures": blur,
    "overexposed_pictures": overexpose,
    "underexposed_pictures": underexpose,
    "cut_off_pictures": cut_off,
    "odd_colour_pictures": exchange_colour,
    "tiny_pictures": shrink,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200, help="pictures a cohort")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for kind in ("oct", "fundus", "glomeruli"):
        clean = [draw(kind, number, arguments.size) for number in range(arguments.pictures)]
        looks = [measure_looks(picture) for picture in clean]
        rows.append({"kind": kind, "fault": "none", "named": name_all(clean, looks)})
        print(json.dumps(rows[-1]), flush=True)
        for fault, spoil in FAULTS.items():
            rows.append({"kind": kind, **measure(clean, looks, fault, spoil)})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def draw(kind: str, number: int, size_px: int) -> Pixels:
    """One picture of one patient, as it would be decoded."""
    labels = list_labels(kind)
    return draw_picture(kind, labels[number % len(labels)], patient_seed=number, size_px=size_px)


def measure(clean: list[Pixels], looks: list[NDArray[np.float32]], fault: str, spoil: Spoil) -> dict[str, object]:
    """Spoil every tenth picture, and every other tenth where letters are meant, for enough of them."""
    random = np.random.default_rng(0)
    step = 2 if fault == "text_in_pictures" else 10
    spoilt = set(range(0, len(clean), step))
    pictures = [spoil(picture, random) if at in spoilt else picture for at, picture in enumerate(clean)]
    seen = [measure_looks(picture) if at in spoilt else looks[at] for at, picture in enumerate(pictures)]
    named = name_all(pictures, seen)
    own = set(named.pop(fault, []))
    hits = len(own & spoilt)
    return {
        "fault": fault,
        "n": len(spoilt),
        "recall": round(hits / len(spoilt), 3),
        "precision": round(hits / len(own), 3) if own else None,
        "also_named": {code: len(rows) for code, rows in named.items()},
    }


def name_all(pictures: list[Pixels], looks: list[NDArray[np.float32]]) -> dict[str, list[int]]:
    """Code → rows that the audit names."""
    samples = [
        Sample(
            name=str(at), location=str(at), label="a", patient=str(at), width_px=picture.shape[1],
            height_px=picture.shape[0], channels=1 if picture.ndim == 2 else 3,
        )
        for at, picture in enumerate(pictures)
    ]  # fmt: skip
    values = np.concatenate([np.zeros((len(looks), len(HEADER)), np.float32), np.stack(looks)], axis=1)
    issues = check_pictures(samples, Looks((*HEADER, *LOOKS), values))
    return {issue.code: [int(name) for name in issue.samples] for issue in issues}


if __name__ == "__main__":
    main()

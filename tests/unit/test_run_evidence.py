"""How many maps a report draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pictures import draw_smooth, make_sample
from snellen.inference.explain import CLASS_ACTIVATION, OCCLUSION, EvidenceMap
from snellen.run_evidence import build_maps

N = 9


class Pixels:
    """A cache of nine pictures."""

    pixels = np.stack([draw_smooth(seed, 8, 8) for seed in range(N)])

    def select(self, samples: list[Any]) -> list[int]:
        return list(range(len(samples)))


def make_predictor(method: str) -> Any:
    def explain_pixels(pixels: np.ndarray, class_name: str) -> EvidenceMap:
        return EvidenceMap(pixels[..., 0].astype(np.float32) / 255, method, class_name, 0.5, pixels)

    explainer = SimpleNamespace(method=method)
    return SimpleNamespace(open_explainer=lambda: explainer, explain_pixels=explain_pixels)


@pytest.mark.parametrize(("method", "n"), [(CLASS_ACTIVATION, N), (OCCLUSION, 6)])
def test_report_has_few_maps_where_each_takes_long(method: str, n: int) -> None:
    samples = [make_sample(f"{number}.png", "a") for number in range(N)]
    load = build_maps(make_predictor(method), SimpleNamespace(samples=samples), Pixels())  # type: ignore[arg-type]
    assert load("elsewhere.png", "a") is None
    maps = [load(sample.name, "a") for sample in samples]
    assert [each is not None for each in maps] == [True] * n + [False] * (N - n)

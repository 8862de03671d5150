"""The same cohort in every layout: the same pictures and labels, and the same scores of the trained bundle."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import snellen
from pipeline_tools import SMALL
from snellen.ingest.phantom_layouts import LAYOUTS, write_layout

# those that differ most in how they are read; tests/unit/ingest/test_layouts.py holds all seven to the same cohort, and
# SNELLEN_ALL_LAYOUTS=1 trains on every one
COMMON = ("csv_per_split", "npz", "dicom")
CUTS_ITSELF = ("dicom",)  # tells no splits: the same patients must be drawn again


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_scores(run: Path, part: str) -> dict[str, tuple[str, float]]:
    """Hash of the pixels → label and probability of the second class. MedMNIST's numbers stand for the classes."""
    hashes = {row["name"]: row["pixels_sha256"] for row in read_rows(run / "cohort.csv")}
    classes = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["classes"]
    return {
        hashes[row["sample"]]: (str(classes.index(row["label"])), float(row[f"probability_{classes[1]}"]))
        for row in read_rows(run / f"scores-{part}.csv")
    }


@pytest.mark.parametrize("layout", LAYOUTS if os.environ.get("SNELLEN_ALL_LAYOUTS") else COMMON)
def test_layout_trains_to_the_scores_of_class_folders(
    layout: str, run: Path, cohort: Path, cache: Path, tmp_path: Path
) -> None:
    splits = {Path(row["sample"]).name: row["split"] for row in read_rows(run / "splits.csv")}
    assert set(splits.values()) == {"train", "val", "test"}
    told = None if layout in CUTS_ITSELF else splits
    data = write_layout(cohort, layout, tmp_path / "data", splits=told)
    snellen.train(str(data), out=tmp_path / "run", cache=str(cache), settings=SMALL[1::2])
    for part in ("val", "test"):
        expected, found = read_scores(run, part), read_scores(tmp_path / "run", part)
        assert found.keys() == expected.keys()
        assert [label for label, _ in found.values()] == [expected[key][0] for key in found]
        # the order of the pictures is another, and with it the rounding of sums
        np.testing.assert_allclose([found[key][1] for key in expected], [p for _, p in expected.values()], atol=1e-4)

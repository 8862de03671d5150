"""Names of files, patients and classes are a stranger's text: they come back from every table as they went in."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pictures import make_cohort, make_sample
from properties import BOUNDED
from snellen.evaluation.evaluate import save_scores
from snellen.records.cohort import Split
from snellen.records.evaluation import Score
from snellen.runs import Run, save_cohort, save_splits

# what a file system and UTF-8 allow
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
NAMES = st.lists(TEXTS, unique=True, min_size=1, max_size=5)


@BOUNDED
@given(names=NAMES, label=TEXTS, patient=TEXTS)
def test_names_survive_cohort_csv_and_audit_json(tmp_path: Path, names: list[str], label: str, patient: str) -> None:
    cohort = make_cohort([make_sample(name, label, patient) for name in names])
    save_cohort(tmp_path, cohort)
    with (tmp_path / "cohort.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["label"], row["patient"]) for row in rows] == [(name, label, patient) for name in names]
    assert list(Run(tmp_path).pixel_hashes) == names
    assert Run(tmp_path).audit == cohort.audit


@BOUNDED
@given(names=NAMES, label=TEXTS, patient=TEXTS, reason=st.text(max_size=5))
def test_names_survive_splits_csv(tmp_path: Path, names: list[str], label: str, patient: str, reason: str) -> None:
    reason = reason.encode("utf-8", "ignore").decode()
    rows = [
        Split(sample=name, patient=patient, group=patient, label=label, split="train", reason=reason) for name in names
    ]
    save_splits(tmp_path, rows)
    assert Run(tmp_path).splits == rows


@BOUNDED
@given(names=NAMES, classes=st.lists(TEXTS, unique=True, min_size=2, max_size=3))
def test_names_survive_the_scores_file(tmp_path: Path, names: list[str], classes: list[str]) -> None:
    even = tuple(np.full(len(classes), 1 / len(classes)).tolist())
    scores = [
        Score(sample=name, patient=name, label=classes[0], probabilities=even, logits=even, prediction=classes[-1])
        for name in names
    ]
    save_scores(tmp_path / "scores.csv", scores, classes)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["sample"] for row in rows] == names
    assert {(row["label"], row["prediction"]) for row in rows} == {(classes[0], classes[-1])}
    assert all(f"probability_{name}" in rows[0] for name in classes)

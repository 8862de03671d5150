"""Shortcuts: a planted one is told with what it is, and cohorts without one are left in peace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pictures import draw_smooth, encode
from snellen.ingest.cohort import read_cohort
from snellen.ingest.file_facts import shape_name
from snellen.ingest.picture_looks import read_looks
from snellen.ingest.shortcuts import check_shortcuts, measure_shortcuts
from snellen.records.audit import Shortcuts
from snellen.records.cohort import Cohort, Issue
from snellen.records.evaluation import Estimate
from snellen.records.run import DataRequest

Write = Callable[[int, str], tuple[bytes, str]]
SIDE = 48


def draw_plain(number: int, label: str) -> tuple[bytes, str]:
    """Nothing in common but chance."""
    pixels = draw_smooth(number + 1000 * (label == "sick"), SIDE, SIDE)
    return encode(pixels, "JPEG", quality=80 + number % 3), f"P{number:03d}_{label}.jpg"


def save_harder(number: int, label: str) -> tuple[bytes, str]:
    """The sick were saved at another quality."""
    pixels = draw_smooth(number + 1000 * (label == "sick"), SIDE, SIDE)
    return encode(pixels, "JPEG", quality=60 if label == "sick" else 92), f"P{number:03d}.jpg"


def frame_sick(number: int, label: str) -> tuple[bytes, str]:
    """The sick have a bright rim of two pixels."""
    pixels = draw_smooth(number + 1000 * (label == "sick"), SIDE, SIDE).copy()
    if label == "sick":
        pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 250, 250, 250, 250
    return encode(pixels), f"P{number:03d}.png"


def name_otherwise(number: int, label: str) -> tuple[bytes, str]:
    """The same files; the sick have names of another form."""
    content, _ = draw_plain(number, label)
    return content, f"{number}_{number + 7}.jpg" if label == "sick" else f"P{number}.jpg"


def audit(tmp_path: Path, write: Write, n: int = 30) -> tuple[Cohort, Shortcuts, list[Issue]]:
    for label in ("healthy", "sick"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(n):
            content, name = write(number, label)
            (tmp_path / "data" / label / name).write_bytes(content)
    request = DataRequest(data=str(tmp_path / "data"), patients="none")
    cohort = read_cohort(request, threads=1, cache=tmp_path / "cache")
    looks = read_looks(Path(cohort.root), cohort.samples, 1, tmp_path / "cache")
    found = measure_shortcuts(cohort, looks, tmp_path / "cache")
    return cohort, found, check_shortcuts(found)


def list_codes(issues: list[Issue]) -> set[str]:
    return {issue.code for issue in issues if issue.severity != "info"}


def test_cohort_without_shortcut_has_no_issue(tmp_path: Path) -> None:
    _, found, issues = audit(tmp_path, draw_plain)
    assert list_codes(issues) == set()
    assert found.facts_auc is not None
    assert found.facts_auc.low is not None
    assert found.facts_auc.low < 0.6


def test_another_compression_of_one_class_is_severe_and_named(tmp_path: Path) -> None:
    _, found, issues = audit(tmp_path, save_harder)
    issue = next(issue for issue in issues if issue.code == "shortcut_facts")
    assert issue.severity == "severe"
    assert "compression (alone 1.00)" in issue.message
    assert "JPEG tables of sum" in issue.message
    best = found.giveaways[0]
    assert best.auc.value == pytest.approx(1.0)
    assert best.by_class["sick"] != best.by_class["healthy"]


def test_frame_around_one_class_is_told_as_the_rim(tmp_path: Path) -> None:
    _, found, issues = audit(tmp_path, frame_sick)
    assert "shortcut_border" in list_codes(issues)
    assert found.border_auc is not None
    assert (found.border_auc.low or 0) > 0.8


def test_form_of_the_name_alone_is_no_severe_issue(tmp_path: Path) -> None:
    _, found, issues = audit(tmp_path, name_otherwise)
    assert list_codes(issues) == {"names_tell_class"}
    assert found.unnamed_auc is not None
    assert (found.unnamed_auc.low or 1) < 0.7


def test_pictures_of_one_patient_are_never_learned_from_and_judged_at_once(tmp_path: Path) -> None:
    """A patient's own size: with grouping it says nothing of others."""

    def size_by_patient(number: int, label: str) -> tuple[bytes, str]:
        patient = number // 4 + 20 * (label == "sick")
        side = 40 + int(np.random.default_rng(patient).integers(40))
        return encode(
            draw_smooth(number + 1000 * (label == "sick"), side, side)
        ), f"{patient}_{'left' if number % 2 else 'right'}_{number}.png"

    for label in ("healthy", "sick"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(48):
            content, name = size_by_patient(number, label)
            (tmp_path / "data" / label / name).write_bytes(content)
    cohort = read_cohort(DataRequest(data=str(tmp_path / "data")), threads=1, cache=tmp_path / "cache")
    assert cohort.patients.n == 24
    looks = read_looks(Path(cohort.root), cohort.samples, 1, tmp_path / "cache")
    grouped = measure_shortcuts(cohort, looks, tmp_path / "cache")
    alone = [sample.model_copy(update={"patient": sample.name}) for sample in cohort.samples]
    leaking = measure_shortcuts(cohort.model_copy(update={"samples": tuple(alone)}), looks, tmp_path / "cache")
    assert grouped.made_auc is not None
    assert leaking.made_auc is not None
    assert (leaking.made_auc.value or 0) > 0.85
    assert (grouped.made_auc.value or 1) < 0.75


def test_shortcuts_are_measured_once(tmp_path: Path) -> None:
    cohort, found, _ = audit(tmp_path, draw_plain, n=12)
    kept = next((tmp_path / "cache" / "shortcuts").glob("*.json"))
    kept.write_text(found.model_copy(update={"n_folds": 99}).to_json(), encoding="utf-8")
    looks = read_looks(Path(cohort.root), cohort.samples, 1, tmp_path / "cache")
    assert measure_shortcuts(cohort, looks, tmp_path / "cache").n_folds == 99
    moved = [
        sample.model_copy(update={"label": "sick" if at % 2 else "healthy"}) for at, sample in enumerate(cohort.samples)
    ]
    other = cohort.model_copy(update={"samples": tuple(moved)})
    assert measure_shortcuts(other, looks, tmp_path / "cache").n_folds != 99


def test_too_few_patients_leave_the_check_out_and_say_so(tmp_path: Path) -> None:
    _, found, issues = audit(tmp_path, draw_plain, n=2)
    assert found.facts_auc is None
    assert [issue.code for issue in issues] == ["shortcuts_left_out"]
    assert "fewer than 3 patients" in issues[0].message


def test_tiny_class_is_left_out_and_named_and_the_others_are_asked(tmp_path: Path) -> None:
    (tmp_path / "data" / "sikc").mkdir(parents=True)
    (tmp_path / "data" / "sikc" / "P900.jpg").write_bytes(save_harder(900, "sick")[0])
    _, found, issues = audit(tmp_path, save_harder, n=12)
    assert "shortcut_facts" in list_codes(issues)
    assert found.left_out == ("the class “sikc”, with fewer than 3 patients",)
    [told] = [issue for issue in issues if issue.code == "shortcuts_left_out"]
    assert "left out in part: the class “sikc”" in told.message
    assert all("sikc" not in each.by_class for each in found.giveaways)


def test_size_in_bytes_alone_is_to_know_only() -> None:
    sure = Estimate(value=0.9, low=0.85, high=0.95)
    unsure = Estimate(value=0.55, low=0.45, high=0.65)
    from snellen.records.audit import Giveaway

    bytes_only = Giveaway(name="file size in bytes", auc=sure, by_class={"a": "10 kB", "b": "20 kB"})
    found = Shortcuts(facts_auc=sure, unnamed_auc=sure, made_auc=unsure, giveaways=(bytes_only,), n_folds=5)
    assert [(issue.code, issue.severity) for issue in check_shortcuts(found)] == [("file_size_tells_class", "info")]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cataract/_12_3456.jpg", "_9_9.jpg"),
        ("normal/1034_left.jpg", "9_a.jpg"),
        ("cnv/cnv 12.PNG", "a 9.png"),
        ("normal/normal 7.PNG", "a 9.png"),
        ("x/S-2006-005094_PAS_1of2_64552732435c92704a3d37ca.png", "a-9-9_a_9a9_#.png"),
        ("a.npz::train_images[12]", "a.npz"),
    ],
)
def test_form_of_a_name_keeps_no_word_and_no_number(name: str, shape: str) -> None:
    assert shape_name(name) == shape

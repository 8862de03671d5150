"""Copies of a picture: found whatever was done to them; other pictures of the same eye or of another one left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from copies_made import add_noise, brighten, chain, compress, crop, mirror, resize, rotate
from numpy.typing import NDArray

from pictures import encode, make_cohort, make_sample
from snellen.core.storage import clear_cache, open_cache
from snellen.imaging.sketch import SketchStore, encode_sketch, make_sketch
from snellen.ingest.audit import build_audit
from snellen.ingest.cohort import read_cohort
from snellen.ingest.copies import choose_search, find_copies, group_copies, is_copy
from snellen.ingest.copy_issues import check_copies
from snellen.ingest.phantom import draw_picture
from snellen.planning.splits import choose_splits, join_groups
from snellen.records.cohort import CopyLink, Issue, PatientRule, Sample
from snellen.records.recipe import CopySearchWish
from snellen.records.run import DataRequest

Pixels = NDArray[np.uint8]
MADE: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "compressed": compress(30),
    "resized": resize(0.5),
    "stretched": resize(1.0, 1.3),
    "cropped": crop(0.75),
    "brightened": brighten(1.2, 10),
    "noised": add_noise(10),
    "mirrored": mirror(1),
    "upside-down": mirror(0),
    "turned": rotate(37),
    "everything": chain(rotate(200), mirror(1), crop(0.85), brighten(0.8), add_noise(4), resize(0.8), compress(60)),
}
RULE = PatientRule(rule="patient column", origin="column", n=2)


def keep(pictures: dict[str, Pixels], cache: Path) -> tuple[list[Sample], SketchStore]:
    store = SketchStore(cache)
    store.add({name: encode_sketch(make_sketch(pixels)) for name, pixels in pictures.items()})
    return [make_sample(name, "x", name, pixels_sha256=name) for name in pictures], store


@pytest.fixture(scope="module", params=["fundus", "oct"])
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> set[frozenset[str]]:
    """Links among one original, its copies, its fellow eye, and other patients."""
    label = {"fundus": "grade_1", "oct": "normal"}[request.param]
    random = np.random.default_rng(3)
    original = draw_picture(request.param, label, patient_seed=5)
    pictures = {"original": original, "fellow": draw_picture(request.param, label, patient_seed=5, eye="right")}
    pictures |= {f"other {n}": draw_picture(request.param, label, patient_seed=n) for n in range(20, 24)}
    pictures |= {name: make(original, random) for name, make in MADE.items()}
    samples, store = keep(pictures, tmp_path_factory.mktemp("cache"))
    links = find_copies(samples, store, tmp_path_factory.mktemp("kept"), 2)
    return {frozenset(names) for names in group_copies(samples, links)}


@pytest.mark.parametrize("name", MADE)
def test_transformed_copy_is_found(searched: set[frozenset[str]], name: str) -> None:
    assert any({"original", name} <= group for group in searched)


def test_fellow_eye_and_other_patients_are_no_copies(searched: set[frozenset[str]]) -> None:
    assert searched == {frozenset(["original", *MADE])}


def test_copies_are_told_by_what_was_done(tmp_path: Path) -> None:
    original = draw_picture("fundus", "grade_1", patient_seed=5)
    turned = rotate(37)(np.ascontiguousarray(original[:, ::-1]), np.random.default_rng(0))
    samples, store = keep({"a": original, "b": turned}, tmp_path)
    [link] = find_copies(samples, store, tmp_path, 1)
    assert link.is_mirrored
    assert abs(link.rotation_deg) == pytest.approx(37, abs=1)
    assert link.scale == pytest.approx(1, abs=0.02)
    assert link.describe().startswith("mirrored, turned by 37°")


def test_second_search_reads_no_picture(tmp_path: Path) -> None:
    original = draw_picture("oct", "normal", patient_seed=5)
    samples, store = keep({"a": original, "b": np.ascontiguousarray(original[::-1])}, tmp_path)
    first = find_copies(samples, store, tmp_path, 1)
    assert first
    empty = SketchStore(tmp_path / "other")
    assert find_copies(samples, empty, tmp_path, 1) == first


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_blank_and_tiny_pictures_are_no_copies_and_no_trouble(tmp_path: Path, shade: int) -> None:
    blank = {str(n): np.full((20 + n, 30), shade, np.uint8) for n in range(3)}
    samples, store = keep(
        {**blank, "dot": np.zeros((1, 1), np.uint8), "line": np.ones((1, 900, 3), np.uint8)}, tmp_path
    )
    assert find_copies(samples, store, tmp_path, 1) == ()


def link(first: str, second: str, correlation: float) -> CopyLink:
    return CopyLink(first=first, second=second, correlation=correlation, coarse=0.99)


def of_pixels(*names: str) -> list[Sample]:
    return [make_sample(name, "x", name, pixels_sha256=name) for name in names]


CHAIN = (link("a", "b", 0.99), link("c", "d", 0.99), link("b", "c", 0.82))


def test_one_weak_link_does_not_chain_two_groups() -> None:
    assert group_copies(of_pixels("a", "b", "c", "d"), CHAIN) == (("a", "b"), ("c", "d"))


@pytest.mark.parametrize("more", [link("a", "d", 0.81), link("b", "d", 0.97)], ids=["a second weak one", "a sure one"])
def test_second_or_sure_link_joins_two_groups(more: CopyLink) -> None:
    assert group_copies(of_pixels("a", "b", "c", "d"), (*CHAIN, more)) == (("a", "b", "c", "d"),)


def test_weak_link_joins_a_single_picture() -> None:
    assert group_copies(of_pixels("a", "b", "c"), (CHAIN[0], link("b", "c", 0.82))) == (("a", "b", "c"),)


def test_identical_pictures_are_one_group_without_links() -> None:
    samples = [make_sample(f"{n}", "x", pixels_sha256="same") for n in range(3)]
    assert group_copies([*samples, make_sample("other", "x")], ()) == (("0", "1", "2"),)


def check(samples: list[Sample], *links: CopyLink) -> list[Issue]:
    return check_copies(samples, group_copies(samples, links), links, "all")


def test_exact_copies_are_counted_not_their_originals() -> None:
    samples = [make_sample(f"{n}", "x", pixels_sha256="same") for n in range(3)]
    assert check(samples)[0].message.startswith("2 pictures are exact copies")
    assert [issue.code for issue in check(samples)] == ["exact_duplicates"]
    assert check([make_sample("a", "x")]) == []


@pytest.mark.parametrize("patients", ["12", "11"])
def test_transformed_copies_warn_where_they_join_patients(patients: str) -> None:
    samples = [make_sample(name, "x", patient) for name, patient in zip("ab", patients, strict=True)]
    [issue] = check(samples, link("a", "b", 0.97))
    assert (issue.code, issue.severity) == ("transformed_copies", "warning" if patients == "12" else "info")
    assert "a and b (97 % alike)" in issue.message


@pytest.mark.parametrize("same", [True, False])
def test_copies_of_different_labels_are_severe(same: bool) -> None:
    samples = [make_sample(name, name, pixels_sha256="p" if same else name) for name in "ab"]
    conflict = check(samples, *([] if same else [link("a", "b", 0.97)]))[-1]
    assert (conflict.code, conflict.severity, conflict.samples) == ("conflicting_copies", "severe", ("a", "b"))
    assert ("identical pictures" in conflict.message) == same


def test_pictures_that_are_only_much_alike_conflict_as_a_warning_that_asks_for_a_look() -> None:
    samples = [make_sample(name, name, pixels_sha256=name) for name in "ab"]
    conflict = check(samples, link("a", "b", 0.9))[-1]
    assert (conflict.code, conflict.severity) == ("conflicting_copies", "warning")
    assert "different pictures" in conflict.message
    assert "Look at them" in conflict.advice


def test_exact_copies_are_not_called_nothing_to_do_where_their_labels_differ() -> None:
    samples = [make_sample(name, name, pixels_sha256="p") for name in "ab"]
    [exact] = [issue for issue in check(samples) if issue.code == "exact_duplicates"]
    assert exact.advice.startswith("Settle those whose labels differ")
    [exact] = check([sample.model_copy(update={"label": "x"}) for sample in samples])
    assert exact.advice.startswith("Nothing to do")


def test_sure_conflict_is_severe_and_shown_first_beside_a_doubtful_one() -> None:
    samples = [make_sample(name, name, pixels_sha256=name) for name in "abcd"]
    conflict = check(samples, link("a", "b", 0.9), link("c", "d", 0.99))[-1]
    assert conflict.severity == "severe"
    assert "such as c (c), d (d)" in conflict.message


@pytest.mark.parametrize(
    ("facts", "is_so"),
    [
        ({"correlation": 0.84, "coarse": 0.979, "overlap": 0.2, "rotation_deg": -29.6, "scale": 0.83}, False),
        ({"correlation": 0.91, "coarse": 0.985, "overlap": 0.2}, False),
        ({"correlation": 0.97, "coarse": 0.99, "overlap": 0.3}, True),
        ({"correlation": 0.85, "coarse": 0.977, "scale": 1.05}, False),
        ({"correlation": 0.83, "coarse": 0.977, "rotation_deg": -2.4}, False),
        ({"correlation": 0.86, "coarse": 0.977}, True),
        ({"correlation": 0.82, "coarse": 0.985, "rotation_deg": 101.5, "scale": 1.23}, True),
    ],
    ids=["strip", "alike strip", "sure strip", "scaled", "turned", "compressed in place", "turned, noised"],
)
def test_little_overlap_and_moved_pictures_need_more_to_be_copies(facts: dict[str, float], is_so: bool) -> None:
    assert is_copy(CopyLink.model_validate({"first": "a", "second": "b", **facts})) == is_so


def test_copies_in_several_own_splits_are_told() -> None:
    samples = [make_sample("a", "x", "1", split="train"), make_sample("b", "x", "2", split="test")]
    audit = build_audit(samples, ("x",), RULE, [], links=[link("a", "b", 0.9)], copies="all")
    [issue] = [issue for issue in audit.issues if issue.code == "copies_in_several_splits"]
    assert "1 in train and test" in issue.message


@pytest.mark.parametrize("n_folds", [0, 3])
def test_splits_and_folds_keep_transformed_copies_together(n_folds: int) -> None:
    samples = [make_sample(f"{label}{n}", label, f"{label}{n}") for label in "xy" for n in range(30)]
    pairs = [(f"{label}{n}", f"{label}{n + 15}") for label in "xy" for n in range(15)]
    cohort = make_cohort(samples)
    audit = build_audit(samples, cohort.classes, RULE, [], links=[link(*pair, 0.9) for pair in pairs], copies="all")
    rows = choose_splits(cohort.model_copy(update={"audit": audit}), (0.6, 0.2, 0.2), 0, n_folds=n_folds)
    place = {row.sample: (row.split, row.fold) for row in rows}
    assert all(place[one] == place[other] for one, other in pairs)
    apart = choose_splits(cohort, (0.6, 0.2, 0.2), 0, n_folds=n_folds)
    place = {row.sample: (row.split, row.fold) for row in apart}
    assert any(place[one] != place[other] for one, other in pairs)


@pytest.mark.parametrize(
    ("wish", "n", "found"),
    [("auto", 4000, "all"), ("auto", 4001, "exact"), ("all", 10**6, "all"), ("off", 1, "off"), (None, 1, None)],
)
def test_all_copies_are_looked_for_by_rule_where_that_takes_minutes(
    wish: CopySearchWish | None, n: int, found: str | None
) -> None:
    assert choose_search(wish, n) == found


def test_copies_switched_off_are_not_joined() -> None:
    samples = [make_sample(name, "x", name, pixels_sha256="same") for name in "ab"]
    audit = build_audit(samples, ("x",), RULE, [], copies="off")
    assert audit.duplicate_groups == ()
    assert [issue.code for issue in audit.issues if "copies" in issue.code] == ["copies_not_searched"]
    cohort = make_cohort(samples).model_copy(update={"audit": audit})
    assert set(join_groups(cohort).values()) == {"a", "b"}


def write_mixed(folder: Path) -> None:
    """A fundus and its mirrored, turned copy under two labels; others beside them."""
    original = draw_picture("fundus", "grade_1", patient_seed=5)
    copy = cv2.rotate(np.ascontiguousarray(original[:, ::-1]), cv2.ROTATE_90_CLOCKWISE)
    pictures = {"x/a": original, "y/b": np.asarray(copy, np.uint8)}
    pictures |= {f"{label}/{n}": draw_picture("fundus", "grade_1", patient_seed=n) for label, n in (("x", 8), ("y", 9))}
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(encode(pixels, "JPEG", quality=80))


def test_cohort_tells_transformed_copies_only_where_they_are_looked_for(tmp_path: Path) -> None:
    write_mixed(tmp_path)
    request, cache = DataRequest(data=str(tmp_path)), open_cache(str(tmp_path / ".cache"))
    plain = read_cohort(request, threads=1, cache=cache)
    assert plain.audit.duplicate_groups == ()
    found = read_cohort(request, threads=1, cache=cache, copies="all").audit  # facts are known, sketches are not
    assert found.duplicate_groups == (("x/a.jpg", "y/b.jpg"),)
    assert {"transformed_copies", "conflicting_copies"} <= {issue.code for issue in found.issues}
    clear_cache(cache)
    assert read_cohort(request, threads=1, cache=open_cache(str(cache)), copies="all").audit == found

"""Splits by patient: nobody on two sides, every class on every side, the same for the same seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from pictures import make_cohort, make_sample
from snellen.core.errors import DataError, UsageError
from snellen.planning.splits import choose_splits, compute_split_sha256, join_groups
from snellen.records.cohort import PARTS, SPLITS, Cohort, Sample, Split

FRACTIONS = (0.7, 0.15, 0.15)
SEEDS = range(12)
SHARES = {"normal": 0.55, "drusen": 0.3, "cnv": 0.15}
MAX_PICTURES = 4


def simulate(seed: int, n_patients: int = 160, copies: int = 6) -> Cohort:
    """Patients with one to four pictures of both eyes; in some the eyes differ; some pictures are copies of others'."""
    random = np.random.default_rng(seed)
    samples: list[Sample] = []
    for patient in range(n_patients):
        labels = random.choice(list(SHARES), size=2, p=list(SHARES.values()))
        if random.random() < 0.8:
            labels[1] = labels[0]
        for number in range(random.integers(1, MAX_PICTURES + 1)):
            eye = number % 2
            samples.append(make_sample(f"{patient}_{'lr'[eye]}_{number}.png", str(labels[eye]), f"P{patient}"))
    for _ in range(copies):
        one, other = random.choice(len(samples), 2, replace=False)
        samples[one] = samples[one].model_copy(update={"pixels_sha256": samples[other].pixels_sha256})
    return make_cohort([samples[index] for index in random.permutation(len(samples))])


def split(cohort: Cohort, seed: int = 0) -> tuple[Split, ...]:
    return choose_splits(cohort, FRACTIONS, seed)


def to_parts(rows: Sequence[Split]) -> dict[str, str]:
    return {row.sample: row.split for row in rows}


def find_shared(cohort: Cohort, rows: Sequence[Split], fact: str) -> set[str]:
    """Values of `fact` that occur in several parts."""
    places: dict[str, set[str]] = defaultdict(set)
    for sample, row in zip(cohort.samples, rows, strict=True):
        if row.split != "left_out":
            places[getattr(sample, fact)].add(row.split)
    return {value for value, parts in places.items() if len(parts) > 1}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fact", ["patient", "pixels_sha256"])
def test_choose_splits_divides_no_patient_and_no_copies(seed: int, fact: str) -> None:
    cohort = simulate(seed)
    assert find_shared(cohort, split(cohort, seed), fact) == set()


@pytest.mark.parametrize("seed", SEEDS)
def test_choose_splits_shows_every_class_to_every_part(seed: int) -> None:
    rows = split(simulate(seed), seed)
    assert {(row.split, row.label) for row in rows} == {(part, label) for part in SPLITS for label in SHARES}


@pytest.mark.parametrize("seed", SEEDS)
def test_choose_splits_uses_every_picture_once(seed: int) -> None:
    cohort = simulate(seed)
    assert [row.sample for row in split(cohort, seed)] == [sample.name for sample in cohort.samples]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.05, 0.15)])
def test_choose_splits_comes_near_its_fractions(seed: int, fractions: tuple[float, float, float]) -> None:
    cohort = simulate(seed, copies=0)
    parts = list(to_parts(choose_splits(cohort, fractions, seed)).values())
    # in each class a part may end one group too large, so that another lacks what two exceed by
    bound = 2 * MAX_PICTURES * len(SHARES) / len(parts)
    deviations = [abs(parts.count(part) / len(parts) - share) for part, share in zip(SPLITS, fractions, strict=True)]
    assert max(deviations) <= bound


@pytest.mark.parametrize("seed", SEEDS)
def test_choose_splits_does_not_depend_on_the_order_of_files(seed: int) -> None:
    cohort = simulate(seed)
    backwards = cohort.model_copy(update={"samples": cohort.samples[::-1]})
    assert to_parts(split(cohort, seed)) == to_parts(split(backwards, seed))


def test_choose_splits_repeats_for_equal_seeds() -> None:
    assert split(simulate(0), 7) == split(simulate(0), 7)


def test_choose_splits_differs_for_other_seeds() -> None:
    assert to_parts(split(simulate(0), 7)) != to_parts(split(simulate(0), 8))


@pytest.fixture(scope="module")
def deviations() -> dict[str, float]:
    """Mean over draws of the largest difference between a class's share in a fifth of the data and in the whole."""
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    found: dict[str, list[float]] = defaultdict(list)
    for seed in range(8):
        cohort = simulate(seed, copies=0)
        labels = np.array([sample.label for sample in cohort.samples])
        groups = [sample.patient for sample in cohort.samples]
        for name, splitter in (
            ("stratified", StratifiedGroupKFold(5, shuffle=True, random_state=seed)),
            ("random", GroupShuffleSplit(5, test_size=0.2, random_state=seed)),
        ):
            found[name] += [_deviate(labels, test) for _, test in splitter.split(labels, labels, groups)]
        rows = choose_splits(cohort, (0.6, 0.2, 0.2), seed)
        found["ours"] += [_deviate(labels, [row.split == part for row in rows]) for part in ("val", "test")]
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_choose_splits_keeps_classes_nearly_as_even_as_scikit_learn(deviations: dict[str, float]) -> None:
    # scikit-learn searches the best fold for each patient; in a part of 80 pictures three points are two or three
    assert deviations["ours"] <= deviations["stratified"] + 0.03


def test_choose_splits_keeps_classes_more_even_than_chance(deviations: dict[str, float]) -> None:
    assert deviations["ours"] <= 0.6 * deviations["random"]


def _deviate(labels: np.ndarray, part: object) -> float:
    return max(abs(float(np.mean(labels[part] == label) - np.mean(labels == label))) for label in SHARES)


@pytest.mark.parametrize("seed", SEEDS)
def test_choose_splits_manages_with_three_patients_a_class(seed: int) -> None:
    samples = [make_sample(f"{label}{number}", label) for label in "ab" for number in range(3)]
    rows = split(make_cohort(samples), seed)
    assert sorted((row.label, row.split) for row in rows) == [(c, part) for c in "ab" for part in sorted(SPLITS)]


@pytest.mark.parametrize("seed", SEEDS)
def test_choose_splits_counts_patient_of_two_classes_for_the_rarer(seed: int) -> None:
    samples = [make_sample(f"c{n}", "common") for n in range(40)]
    samples += [make_sample(f"{label}{n}", label, f"P{n}") for n in range(3) for label in ("common", "rare")]
    rows = split(make_cohort(samples), seed)
    assert {row.split for row in rows if row.label == "rare"} == set(SPLITS)


def test_choose_splits_lets_one_huge_patient_not_empty_the_other_parts() -> None:
    samples = [make_sample(f"h{n}", "x", "huge") for n in range(500)]
    samples += [make_sample(f"{label}{n}", label) for label in "xy" for n in range(10)]
    rows = split(make_cohort(samples), 3)
    assert {(row.split, row.label) for row in rows} == {(part, label) for part in SPLITS for label in "xy"}


def test_choose_splits_tells_too_small_classes_all_at_once() -> None:
    samples = [make_sample(f"a{n}", "a") for n in range(20)]
    samples += [make_sample(f"b{n}", "b", f"B{n % 2}") for n in range(9)] + [make_sample("c0", "c", "C")]
    with pytest.raises(DataError) as caught:
        split(make_cohort(samples))
    assert "class b: 9 pictures of 2 patients leave test without one" in caught.value.message
    assert "class c: 1 picture of 1 patient leaves val and test without one" in caught.value.message
    assert "class a" not in caught.value.message


def test_choose_splits_counts_the_groups_that_copies_make_of_patients() -> None:
    samples = [make_sample(f"a/{at}", "a", f"p{at}") for at in range(9)]
    samples += [make_sample(f"b/{at}", "b", f"q{at}", pixels_sha256=f"same-{at // 5}") for at in range(9)]
    with pytest.raises(DataError) as caught:
        split(make_cohort(samples))
    assert "class b: 9 pictures of 9 patients, 2 groups by shared pictures or copies, leave" in caught.value.message


def test_choose_splits_of_too_few_patients_says_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        split(make_cohort([make_sample("a", "a"), make_sample("b", "b")]))
    assert "--columns patient=NAME" in caught.value.hint


def test_choose_splits_cuts_no_test_where_it_has_no_share() -> None:
    cohort = simulate(0)
    parts = to_parts(choose_splits(cohort, (0.75, 0.25, 0.0), 0))
    assert set(parts.values()) == {"train", "val"}
    assert list(parts.values()).count("val") / len(parts) == pytest.approx(0.25, abs=0.05)


def test_choose_splits_without_test_wants_two_patients_a_class() -> None:
    samples = [make_sample(f"{label}{n}", label, f"{label}{n % 2}") for label in "ab" for n in range(6)]
    with pytest.raises(DataError, match="train, val and test see"):
        choose_splits(make_cohort(samples), FRACTIONS, 0)
    assert len(choose_splits(make_cohort(samples), (0.8, 0.2, 0.0), 0)) == 12
    with pytest.raises(DataError, match="that train and val see"):
        choose_splits(make_cohort(samples[:7]), (0.8, 0.2, 0.0), 0)


def test_choose_splits_keeps_a_test_that_the_data_bring_whatever_its_share() -> None:
    rows = choose_splits(make_cohort(make_own()), (0.8, 0.2, 0.0), 0)
    assert {row.split for row in rows} == set(SPLITS)


def test_choose_splits_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="one class only: a"):
        split(make_cohort([make_sample(f"a{n}", "a") for n in range(20)]))


def own(part: str | None, label: str, number: int, **facts: str) -> Sample:
    return make_sample(f"{part}/{label}/{number}.png", label, split=part, **facts)


def make_own(parts: Sequence[str] = SPLITS, n: int = 12) -> list[Sample]:
    return [own(part, label, number) for part in parts for label in "ab" for number in range(n)]


def test_choose_splits_keeps_the_data_s_own() -> None:
    samples = make_own()
    assert to_parts(split(make_cohort(samples))) == {sample.name: sample.split for sample in samples}


@pytest.mark.parametrize("seed", SEEDS)
def test_choose_splits_does_not_draw_where_all_parts_are_told(seed: int) -> None:
    cohort = make_cohort(make_own())
    assert split(cohort, seed) == split(cohort, 0)


SHARED = [("train", "test", "test"), ("train", "val", "val"), ("val", "test", "test")]


@pytest.mark.parametrize(("lower", "upper", "kept"), SHARED)
@pytest.mark.parametrize("facts", [{"patient": "7"}, {"pixels_sha256": "same"}], ids=["patient", "pixels"])
def test_shared_pictures_leave_the_training_side(lower: str, upper: str, kept: str, facts: dict[str, str]) -> None:
    pair = [own(lower, "a", 90, **facts), own(upper, "a", 91, **facts)]
    rows = split(make_cohort([*make_own(), *pair]))[-2:]
    assert [row.split for row in rows] == ["left_out", kept]


@pytest.mark.parametrize(("lower", "upper", "kept"), SHARED)
def test_shared_pictures_are_left_out_with_reason(lower: str, upper: str, kept: str) -> None:
    pair = [own(lower, "a", 90, patient="7"), own(upper, "a", 91, patient="7")]
    rows = split(make_cohort([*make_own(), *pair]))[-2:]
    assert [row.reason for row in rows] == [f"its patient or a copy of it is in {kept} too", ""]


def test_shared_pictures_leave_through_a_chain_of_copies() -> None:
    # patient 7 has a copy of a picture of patient 8, who is in test
    chain = [
        own("train", "a", 90, patient="7"), own("train", "a", 91, patient="7", pixels_sha256="same"),
        own("train", "b", 92, patient="8", pixels_sha256="same"), own("test", "b", 93, patient="8"),
    ]  # fmt: skip
    rows = split(make_cohort([*make_own(), *chain]))[-4:]
    assert [row.split for row in rows] == ["left_out", "left_out", "left_out", "test"]


@pytest.mark.parametrize("seed", SEEDS)
def test_own_splits_share_no_patient_in_the_end(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [
        make_sample(f"{n}", "ab"[n % 2], f"P{random.integers(150)}", split=SPLITS[random.choice(3, p=[0.8, 0.1, 0.1])])
        for n in range(300)
    ]
    cohort = make_cohort(samples)
    assert find_shared(cohort, split(cohort, seed), "patient") == set()


@pytest.mark.parametrize(("given", "cut"), [(("train", "test"), "val"), (("train", "val"), "test")])
def test_missing_part_is_cut_from_train(given: tuple[str, ...], cut: str) -> None:
    cohort = make_cohort(make_own(given, 40))
    rows = split(cohort)
    assert {row.sample.split("/")[0] for row in rows if row.split == cut} == {"train"}
    assert {row.sample for row in rows if row.split == given[1]} == {
        s.name for s in cohort.samples if s.split == given[1]
    }


def test_missing_val_is_cut_by_patient() -> None:
    samples = [own("train", "ab"[n % 2], n, patient=f"P{n // 4}") for n in range(160)]
    cohort = make_cohort([*samples, *make_own(("test",))])
    assert find_shared(cohort, split(cohort), "patient") == set()


def test_missing_val_and_test_are_cut_from_train_alone() -> None:
    rows = split(make_cohort(make_own(("train",), 40)))
    assert {row.split for row in rows} == set(SPLITS)


def test_sample_without_split_among_others_is_left_out_with_reason() -> None:
    row = split(make_cohort([*make_own(), own(None, "a", 90)]))[-1]
    assert (row.split, row.reason) == ("left_out", "no split is told for it")


def test_sample_without_split_of_patient_in_test_does_not_train() -> None:
    samples = [*make_own(), own("test", "a", 90, patient="7"), own(None, "a", 91, patient="7")]
    assert split(make_cohort(samples))[-1].split == "left_out"


def test_own_splits_without_training_part_are_refused() -> None:
    with pytest.raises(DataError, match="train without one"):
        split(make_cohort(make_own(("val", "test"))))


def test_own_splits_whose_test_lacks_a_class_are_refused() -> None:
    samples = [sample for sample in make_own() if not (sample.split == "test" and sample.label == "b")]
    with pytest.raises(DataError, match=r"class b: .* leave test without one"):
        split(make_cohort(samples))


def test_join_groups_joins_patients_by_copies_in_any_order() -> None:
    samples = [
        make_sample("1", "a", "P3", pixels_sha256="x"), make_sample("2", "a", "P2", pixels_sha256="x"),
        make_sample("3", "a", "P2", pixels_sha256="y"), make_sample("4", "a", "P1", pixels_sha256="y"),
        make_sample("5", "a", "P4"),
    ]  # fmt: skip
    expected = {"1": "P1", "2": "P1", "3": "P1", "4": "P1", "5": "P4"}
    assert join_groups(make_cohort(samples)) == expected
    assert join_groups(make_cohort(samples[::-1])) == expected


def test_join_groups_copes_with_long_chains() -> None:
    samples = [
        make_sample(f"{n}{side}", "a", f"P{n:05d}", pixels_sha256=str(n + side)) for n in range(3000) for side in (0, 1)
    ]
    assert set(join_groups(make_cohort(samples)).values()) == {"P00000"}


def make_rows(*rows: tuple[str, str]) -> list[Split]:
    return [Split(sample=s, patient=s, group=s, label=label, split="test") for s, label in rows]


def test_compute_split_sha256_does_not_depend_on_order() -> None:
    rows = make_rows(("a", "x"), ("b", "y"))
    assert compute_split_sha256(rows, "test") == compute_split_sha256(rows[::-1], "test")


@pytest.mark.parametrize(
    "other", [[("a", "x")], [("a", "x"), ("b", "x")], [("a", "x"), ("c", "y")], [("a", "y"), ("b", "x")]]
)
def test_compute_split_sha256_tells_test_parts_apart(other: list[tuple[str, str]]) -> None:
    rows = make_rows(("a", "x"), ("b", "y"))
    assert compute_split_sha256(rows, "test") != compute_split_sha256(make_rows(*other), "test")


def test_the_way_out_of_own_splits_is_no_question_of_patients() -> None:
    samples = [
        make_sample(f"{part}{label}{k}.png", label, f"{part}{k}", split=part)
        for part in SPLITS
        for label in ("a", "b")
        for k in range(2)
        if (part, label) != ("test", "b")
    ]
    with pytest.raises(DataError, match="class b") as caught:
        split(make_cohort(samples))
    assert "bring their own splits (train, val, test)" in caught.value.hint
    assert "--patients" not in caught.value.hint


@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.2), (0.8, 0.0, 0.2), (0.5, 0.1, 0.1), (1.2, -0.1, -0.1)])
def test_fractions_that_do_not_fill_the_whole_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        choose_splits(simulate(0), fractions, 0)


def draw_with_calibration(cohort: Cohort, least: int, seed: int = 0, n_folds: int = 0) -> tuple[Split, ...]:
    return choose_splits(cohort, FRACTIONS, seed, n_folds=n_folds, calibration_patients=least)


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_has_patients_of_its_own_and_every_class(seed: int) -> None:
    cohort = simulate(seed)
    rows = draw_with_calibration(cohort, 100, seed)
    assert {(row.split, row.label) for row in rows} == {(part, label) for part in PARTS for label in SHARES}
    assert find_shared(cohort, rows, "patient") == find_shared(cohort, rows, "pixels_sha256") == set()


def test_calibration_is_as_large_as_validation_at_the_cost_of_both_sides() -> None:
    counts = Counter(row.split for row in draw_with_calibration(simulate(0, n_patients=900), 800))
    shares = {part: count / counts.total() for part, count in counts.items()}
    wanted = {"train": 1 - FRACTIONS[2] - 4 / 3 * FRACTIONS[1], "val": 2 / 3 * FRACTIONS[1], "test": FRACTIONS[2]}
    assert shares == pytest.approx({**wanted, "calibration": 2 / 3 * FRACTIONS[1]}, abs=0.02)


def test_calibration_is_cut_from_as_many_groups_on_as_are_asked() -> None:
    cohort = simulate(0, copies=0)
    n = len(set(join_groups(cohort).values()))
    assert "calibration" in to_parts(draw_with_calibration(cohort, n)).values()
    assert draw_with_calibration(cohort, n + 1) == draw_with_calibration(cohort, 0) == split(cohort)


def test_calibration_is_not_cut_where_it_would_lack_a_class() -> None:
    samples = [make_sample(f"{n}", "ab"[n % 2], f"P{n}") for n in range(60)]
    samples += [make_sample(f"rare{n}", "rare", f"R{n}") for n in range(3)]
    assert {row.split for row in draw_with_calibration(make_cohort(samples), 20)} == set(SPLITS)


def test_calibration_beside_the_data_s_own_parts_is_cut_from_train() -> None:
    cohort = make_cohort(make_own(n=60))
    before, after = to_parts(split(cohort)), to_parts(draw_with_calibration(cohort, 20))
    moved = {name for name in before if before[name] != after[name]}
    assert moved
    assert {(before[name], after[name]) for name in moved} == {("train", "calibration")}


def test_calibration_that_the_data_bring_is_kept() -> None:
    cohort = make_cohort(make_own(PARTS, n=80))
    for least in (0, 10):
        assert {row.sample: row.split for row in draw_with_calibration(cohort, least)} == {
            sample.name: sample.split for sample in cohort.samples
        }


def test_calibration_is_not_cut_beside_folds_and_goes_into_them_where_it_is_given() -> None:
    assert {row.split for row in draw_with_calibration(simulate(0), 10, n_folds=3)} == {"train", "test"}
    given = draw_with_calibration(make_cohort(make_own(PARTS, n=80)), 10, n_folds=3)
    assert {row.split for row in given} == {"train", "test"}

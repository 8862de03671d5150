"""Folds by patient: nobody in two of them, classes even, test untouched."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from pictures import make_cohort, make_sample
from snellen.core.errors import DataError, UsageError
from snellen.planning.recipe_files import load_recipe
from snellen.planning.splits import choose_splits
from snellen.records.cohort import Cohort, Split

FRACTIONS = (0.7, 0.15, 0.15)


def simulate(seed: int, n_patients: int = 120) -> Cohort:
    """Patients with one to four pictures; a third of class `rare`; some pictures are copies of others'."""
    random = np.random.default_rng(seed)
    samples = [
        make_sample(f"{patient}_{number}.png", "rare" if patient % 3 == 0 else "common", f"P{patient}")
        for patient in range(n_patients)
        for number in range(random.integers(1, 5))
    ]
    for _ in range(5):
        one, other = random.choice(len(samples), 2, replace=False)
        samples[one] = samples[one].model_copy(update={"pixels_sha256": samples[other].pixels_sha256})
    return make_cohort([samples[index] for index in random.permutation(len(samples))])


def fold(
    cohort: Cohort, n_folds: int = 5, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS
) -> tuple[Split, ...]:
    return choose_splits(cohort, fractions, seed, n_folds=n_folds)


@pytest.mark.parametrize("seed", range(8))
def test_no_patient_and_no_copy_is_in_two_folds(seed: int) -> None:
    cohort = simulate(seed)
    places: dict[str, set[tuple[str, int | None]]] = defaultdict(set)
    for sample, row in zip(cohort.samples, fold(cohort, seed=seed), strict=True):
        for fact in (sample.patient, sample.pixels_sha256):
            places[fact].add((row.split, row.fold))
    assert all(len(found) == 1 for found in places.values())


def test_folds_are_of_train_and_the_test_split_is_what_it_is_without_folds() -> None:
    cohort = simulate(0)
    plain = choose_splits(cohort, FRACTIONS, 0)
    rows = fold(cohort)
    assert [row.split == "test" for row in rows] == [row.split == "test" for row in plain]
    assert {row.split for row in rows} == {"train", "test"}
    assert {row.fold for row in rows if row.split == "train"} == set(range(5))
    assert {row.fold for row in rows if row.split == "test"} == {None}


@pytest.mark.parametrize("n_folds", [3, 5, 10])
def test_every_fold_has_its_share_of_every_class(n_folds: int) -> None:
    cohort = simulate(1)
    counts = Counter((row.fold, row.label) for row in fold(cohort, n_folds) if row.fold is not None)
    for label in ("rare", "common"):
        sizes = [counts[number, label] for number in range(n_folds)]
        assert max(sizes) - min(sizes) <= 8, sizes  # two patients of at most four pictures


def test_folds_do_not_depend_on_the_order_of_the_files() -> None:
    cohort = simulate(2)
    turned = make_cohort(list(reversed(cohort.samples)))
    assert {row.sample: row.fold for row in fold(cohort)} == {row.sample: row.fold for row in fold(turned)}
    assert {row.sample: row.fold for row in fold(cohort)} != {row.sample: row.fold for row in fold(cohort, seed=1)}


def test_no_share_for_test_puts_all_pictures_into_folds() -> None:
    rows = fold(simulate(3), fractions=(0.8, 0.2, 0.0))
    assert all(row.fold is not None for row in rows)


def test_class_of_two_patients_is_refused_with_its_count() -> None:
    samples = [make_sample(f"{n}.png", "rare" if n < 3 else "common", f"P{n}") for n in range(40)]
    with pytest.raises(DataError, match=r"class rare: \d patients, at least 3"):
        fold(make_cohort(samples), fractions=(0.5, 0.25, 0.25))


def test_more_folds_than_patients_are_refused() -> None:
    samples = [make_sample(f"{n}.png", "ab"[n % 2], f"P{n}") for n in range(12)]
    with pytest.raises(DataError, match="do not fill 20 folds"):
        fold(make_cohort(samples), 20)


@pytest.mark.parametrize("folds", [1, 2, 21, -1])
def test_impossible_number_of_folds_is_refused(folds: int) -> None:
    with pytest.raises(UsageError, match=r"evaluation\.folds"):
        load_recipe("auto", [f"evaluation.folds={folds}"])

"""What the counts allow: widths by class, folds, and patients for half the width."""

from __future__ import annotations

from pictures import make_cohort, make_sample
from snellen.planning.needs import compute_needs
from snellen.planning.splits import draw_splits


def test_needs_count_patients_not_pictures() -> None:
    few = [make_sample(f"a{at}_{eye}.png", "a", f"p{at}") for at in range(20) for eye in ("left", "right")]
    many = [make_sample(f"b{at}.png", "b", f"q{at}") for at in range(80)]
    cohort = make_cohort([*few, *many])
    needs = compute_needs(cohort, draw_splits(cohort, (0.7, 0.15, 0.15), 0))
    rare, common = needs.classes
    assert (rare.n_patients, common.n_patients) == (20, 80)
    assert needs.is_assumed
    assert rare.half_width is not None
    assert rare.half_width_folds is not None
    assert rare.half_width_folds < rare.half_width
    assert rare.patients_to_halve is not None
    assert 3 * 20 < rare.patients_to_halve < 5 * 20
    assert 3 <= needs.max_folds <= 20


def test_a_class_that_test_lacks_has_no_width() -> None:
    cohort = make_cohort([*(make_sample(f"b{at}.png", "b") for at in range(40)), make_sample("a.png", "a")])
    needs = compute_needs(cohort, draw_splits(cohort, (0.7, 0.15, 0.15), 0), auc=0.9)
    assert needs.classes[0].half_width is None
    assert needs.max_folds == 0
    assert (needs.auc, needs.is_assumed) == (0.9, False)

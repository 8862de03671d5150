"""scikit-learn's own checks of an estimator, on ImageClassifier with rows drawn as pictures.

Each fit exports a graph: checks with several fits, or that repeat what another shows, run with SNELLEN_ALL_CHECKS=1.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_parameters_default_constructible, estimator_checks_generator

from row_classifier import EXPECTED_FAILURES, RowClassifier
from snellen import ImageClassifier

# several fits each, or shown by another check
SLOW = {
    "check_fit_score_takes_y", "check_dont_overwrite_parameters", "check_estimators_fit_returns_self",
    "check_positive_only_tag_during_fit", "check_estimators_dtypes", "check_pipeline_consistency",
    "check_estimators_nan_inf", "check_f_contiguous_array_estimator", "check_classifier_data_not_an_array",
    "check_classifiers_classes", "check_supervised_y_2d", "check_fit2d_1feature", "check_fit2d_predict1d",
    "check_methods_sample_order_invariance", "check_fit_check_is_fitted", "check_estimators_overwrite_params",
    "check_classifiers_train", "check_n_features_in", "check_n_features_in_after_fitting",
}  # fmt: skip
RUNS_ALL = bool(os.environ.get("SNELLEN_ALL_CHECKS"))
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "scikit-learn.md"


def list_checks() -> list[Any]:
    parameters = []
    for estimator, check in estimator_checks_generator(RowClassifier()):
        name = check.func.__name__
        marks = []
        if name in SLOW and not RUNS_ALL:
            marks.append(pytest.mark.skip(reason="trains for long: run with SNELLEN_ALL_CHECKS=1"))
        elif name in EXPECTED_FAILURES:
            marks.append(pytest.mark.xfail(reason=EXPECTED_FAILURES[name], strict=True))
        words = "-".join(str(value) for value in check.keywords.values())
        parameters.append(pytest.param(estimator, check, id=f"{name}-{words}" if words else name, marks=marks))
    return parameters


@pytest.mark.parametrize(("estimator", "check"), list_checks())
def test_check_of_scikit_learn_passes(estimator: RowClassifier, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no patients, and copies of pictures: the checks' data are so
        check(estimator)


def test_classifier_itself_is_made_without_arguments() -> None:
    check_parameters_default_constructible("ImageClassifier", ImageClassifier())


def test_tags_say_what_is_taken() -> None:
    tags = get_tags(ImageClassifier())
    taken = {name for name in ("one_d_array", "two_d_array", "three_d_array", "sparse", "string", "allow_nan")
             if getattr(tags.input_tags, name)}  # fmt: skip
    assert taken == {"one_d_array", "three_d_array", "string"}
    assert tags.requires_fit
    assert tags.target_tags.required
    assert not tags.non_deterministic
    assert tags.classifier_tags.multi_class
    assert not tags.classifier_tags.multi_label


def test_documentation_lists_the_checks_that_do_not_apply() -> None:
    listed = re.findall(r"^\| `(check_\w+)` \|", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(EXPECTED_FAILURES)

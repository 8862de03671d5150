"""What ImageClassifier takes and refuses, before anything is read or trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, dok_array

from snellen import InputError, InputTypeError
from snellen.estimator_inputs import read_groups, read_labels, read_pictures, read_settings, require_fraction

GREY = np.arange(2 * 8 * 9, dtype=np.uint8).reshape(2, 8, 9)


def test_stack_of_grey_pictures_is_taken_as_it_is() -> None:
    np.testing.assert_array_equal(np.stack(read_pictures(GREY)), GREY)  # type: ignore[arg-type]


def test_single_channel_is_grey() -> None:
    np.testing.assert_array_equal(np.stack(read_pictures(GREY[..., None])), GREY)  # type: ignore[arg-type]


def test_decimals_become_the_nearest_of_256_levels() -> None:
    found = read_pictures(np.full((1, 4, 4, 3), 0.5))
    assert found[0].dtype == np.uint8  # type: ignore[union-attr]
    assert np.unique(found[0]).tolist() == [128]  # 127.5, to even


def test_list_of_other_sizes_and_paths_is_taken() -> None:
    found = read_pictures([GREY[0], np.zeros((5, 6, 3), np.uint8), "a.png", Path("b.png")])
    assert [item if isinstance(item, str) else item.shape for item in found] == [(8, 9), (5, 6, 3), "a.png", "b.png"]


@pytest.mark.parametrize("kind", [np.array, tuple, list])
def test_paths_come_in_any_sequence(kind: Any) -> None:
    assert read_pictures(kind(["a.png", "b.png"])) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((5, 3)), r"shape \(5, 3\).*none of pictures"),
        (np.zeros((5, 3, 8, 8), np.uint8), "channels come last"),
        (np.full((2, 8, 8), np.nan), "NaN"),
        (np.full((2, 8, 8), 255.0), "from 0 to 1"),
        (np.full((2, 8, 8), -0.1), "from 0 to 1"),
        (np.zeros((2, 8, 8), np.int64), "int64"),
        (np.zeros((2, 8, 8), np.uint16), "uint16.*\n.*paths"),
        (np.zeros((2, 8, 8), complex), "Complex"),
        (np.zeros((0, 8, 8), np.uint8), "0 sample"),
        ([], "0 sample"),
        ([np.full((4, 4), np.inf)], "Picture 0 of X contains NaN or infinity"),
    ],
)
def test_wrong_pictures_are_a_value_error_that_says_what_is_wanted(pictures: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_pictures(pictures)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    "pictures", ["folder/", b"", None, {"a": 1}, csr_array(np.eye(3)), dok_array((3, 3)), [1, 2], [GREY[0], b"x"]]
)
def test_what_is_no_picture_is_a_type_error(pictures: Any) -> None:
    with pytest.raises(TypeError) as caught:
        read_pictures(pictures)
    assert isinstance(caught.value, InputTypeError)


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        (["b", "a", "b"], ["a", "b"], ("a", "b")),
        ([10, 9, 10], [9, 10], ("9", "10")),
        ([True, False, True], [False, True], ("False", "True")),
        (["a", "a ", "a"], ["a", "a "], ("a", "a [1]")),
        (np.array([1.0, 2.0, 1.0]), [1.0, 2.0], ("1.0", "2.0")),
    ],
)
def test_classes_keep_their_kind_and_get_names_that_differ(labels: Any, classes: list[Any], names: tuple[str]) -> None:
    found = read_labels(labels, 3)
    assert (found.classes.tolist(), found.names) == (classes, names)
    np.testing.assert_array_equal(found.classes[found.codes], labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "requires y to be passed"),
        ([1, 1, 1], "one class"),
        ([1, 2], "X holds 3 pictures and y 2 labels"),
        ([0.1, 0.2, 0.3], "[Cc]ontinuous"),
        ([0.0, 1.0, np.nan], "NaN"),
        ([[0, 1], [1, 0], [1, 1]], "1d array"),
        (["a", None, "b"], "None|NaN|str"),
    ],
)
def test_wrong_labels_are_refused(labels: Any, message: str) -> None:
    with pytest.raises((InputError, InputTypeError), match=message):
        read_labels(labels, 3)


def test_groups_are_texts_whatever_they_were() -> None:
    assert read_groups(np.array([7, 8]), 2) == ["7", "8"]
    assert read_groups(["007", " x "], 2) == ["007", "x"]
    assert read_groups(None, 2) is None


@pytest.mark.parametrize(
    ("groups", "message"),
    [([1], "shape"), ([[1, 2], [3, 4]], "shape"), ([1, None], "empty for 1"), (["a", ""], "number 1"),
     ([1.0, np.nan], "empty")],
)  # fmt: skip
def test_wrong_groups_are_refused(groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_groups(groups, 2)


def test_settings_are_texts_or_a_mapping() -> None:
    told = {"preprocess.size": 64, "preprocess.crop_border": True, "model.weights": "none"}
    texts = ["preprocess.size=64", "preprocess.crop_border=true", "model.weights=none"]
    assert read_settings(told) == read_settings(tuple(texts)) == texts


@pytest.mark.parametrize("key", ["data.fractions", "data.merge"])
def test_settings_that_the_classifier_makes_itself_are_refused(key: str) -> None:
    with pytest.raises(InputError, match=key):
        read_settings([f"{key}=[1]"])


def test_one_text_is_no_settings() -> None:
    with pytest.raises(TypeError, match="Give a sequence"):
        read_settings("preprocess.size=64")


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, "0.2", True, None])
def test_validation_fraction_is_a_share(value: Any) -> None:
    with pytest.raises(ValueError, match="validation_fraction"):
        require_fraction(value)

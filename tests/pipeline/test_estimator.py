"""`snellen.ImageClassifier` in scikit-learn's hands: its scores are the bundle's, its copies are its own."""

from __future__ import annotations

import copy
import csv
import gc
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import snellen
from snellen import ImageClassifier, InputError
from snellen.estimator import remove_temporary
from snellen.ingest.phantom import PhantomSpec, write_cohort

TINY = {
    "preprocess.size": 32, "augment.views": 0, "evaluation.resamples": 100, "model.weights": "none",
    "model.backbone": "test_resnet", "training.threads": 1,
}  # fmt: skip
CLASSES = np.array(["cysts", "normal"])


class Phantoms:
    """Synthetic OCT as files and as arrays, with labels and patients."""

    def __init__(self, folder: Path) -> None:
        spec = PhantomSpec(kind="oct", n_patients=36, size_px=32, classes=("normal", "cysts"), difficulty=0.0)
        self.folder = folder
        self.paths = sorted(path for path in write_cohort(spec, folder) if path.suffix == ".png")
        self.labels = np.array([path.parent.name for path in self.paths])
        self.patients = np.array([path.stem.rsplit("_", 1)[0] for path in self.paths])
        self.arrays: list[NDArray[np.uint8]] = [np.asarray(Image.open(path).convert("L")) for path in self.paths]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms(tmp_path_factory.mktemp("phantoms") / "oct")


@pytest.fixture(scope="module")
def fitted(data: Phantoms) -> ImageClassifier:
    return ImageClassifier(settings=TINY).fit(data.paths, data.labels, groups=data.patients)


def test_predict_proba_is_what_the_saved_bundle_says(fitted: ImageClassifier, data: Phantoms, tmp_path: Path) -> None:
    model = snellen.load(fitted.save(tmp_path / "bundle"))
    expected = [[row.probabilities[name] for name in CLASSES] for row in model.predict(data.paths)]
    found = fitted.predict_proba(data.paths)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_predict_and_score_follow_from_the_probabilities(fitted: ImageClassifier, data: Phantoms) -> None:
    predicted = CLASSES[fitted.predict_proba(data.paths).argmax(axis=1)]
    np.testing.assert_array_equal(fitted.predict(data.paths), predicted)
    assert fitted.score(data.paths, data.labels) == np.mean(predicted == data.labels)
    assert fitted.score(data.paths, data.labels) > 0.8  # it was trained on most of them: chance is about 0.5


def test_fit_keeps_all_patients_for_training_and_validation(fitted: ImageClassifier, data: Phantoms) -> None:
    with (fitted.run_.folder / "splits.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    part = {patient: {row["split"] for row in rows if row["patient"] == patient} for patient in set(data.patients)}
    assert len(rows) == len(data.paths)
    assert {frozenset(parts) for parts in part.values()} == {frozenset({"train"}), frozenset({"val"})}
    n_val = sum(row["split"] == "val" for row in rows)
    assert n_val / len(rows) == pytest.approx(fitted.validation_fraction, abs=0.1)  # groups are not divided
    assert fitted.validation_.split == "val"
    assert not (fitted.run_.folder / "evaluation.json").exists()


def test_run_of_fit_can_be_evaluated_again(fitted: ImageClassifier) -> None:
    again = snellen.evaluate(fitted.run_.folder, split="val")
    assert again.metrics["auc"] == fitted.validation_.metrics["auc"]


def test_run_of_fit_has_no_test_to_open(fitted: ImageClassifier) -> None:
    with pytest.raises(snellen.UsageError, match="has no split test"):
        snellen.evaluate(fitted.run_.folder)


def test_train_that_would_test_needs_a_test_part(data: Phantoms, tmp_path: Path) -> None:
    with pytest.raises(snellen.UsageError, match=r"data\.fractions leaves no picture for the test") as caught:
        snellen.train(data.folder, out=tmp_path / "run", settings=["data.fractions=[0.8,0.2,0]"])
    assert "--no-test" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_arrays_give_the_same_model_as_their_files(fitted: ImageClassifier, data: Phantoms) -> None:
    of_arrays = ImageClassifier(settings=[f"{key}={value}" for key, value in TINY.items()])
    of_arrays.fit(data.arrays, data.labels, groups=data.patients)
    expected = fitted.predict_proba(data.paths)
    np.testing.assert_array_equal(of_arrays.predict_proba(data.paths), expected)
    np.testing.assert_array_equal(fitted.predict_proba(data.arrays), expected)
    np.testing.assert_array_equal(fitted.predict_proba(np.stack(data.arrays)[..., None]), expected)
    np.testing.assert_array_equal(fitted.predict_proba(np.stack(data.arrays) / 255), expected)


def test_labels_keep_their_kind_and_order(data: Phantoms, tmp_path: Path) -> None:
    labels = np.where(data.labels == "normal", 10, 9)  # as texts, "10" comes before "9"
    model = ImageClassifier(settings=TINY, runs=tmp_path / "runs")
    with (
        pytest.warns(UserWarning, match="counts as a patient of its own"),
        pytest.warns(UserWarning, match=r"absent\.png: the file does not exist"),
    ):
        model.fit([*data.paths, tmp_path / "absent.png"], [*labels, 9])
    assert model.classes_.tolist() == [9, 10]
    assert model.predict(data.paths[:5]).dtype == labels.dtype
    assert model.score(data.paths, labels) > 0.8
    assert model.validation_.intervals.unit == "picture"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [model.run_.folder.name]


def test_clone_is_unfitted_and_shares_nothing(fitted: ImageClassifier) -> None:
    twin = clone(fitted)
    assert is_classifier(twin)
    assert twin.get_params() == fitted.get_params()
    assert [name for name in vars(twin) if name.endswith("_") or name.startswith("_")] == []
    with pytest.raises(NotFittedError):
        twin.predict(["a.png"])
    assert twin.set_params(seed=3).seed == 3
    assert fitted.seed == 0


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_copy_says_the_same_from_a_bundle_of_its_own(fitted: ImageClassifier, data: Phantoms, duplicate: Any) -> None:
    other = duplicate(fitted)
    np.testing.assert_array_equal(other.predict_proba(data.paths), fitted.predict_proba(data.paths))
    place = other.bundle_
    assert place != fitted.bundle_
    assert other.validation_ == fitted.validation_
    assert not hasattr(other, "run_")
    del other
    gc.collect()
    assert not place.exists()
    assert fitted.bundle_.exists()


def test_forked_process_leaves_the_folder_to_its_maker(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    remove_temporary(place, os.getpid() + 1)
    assert place.exists()
    remove_temporary(place, os.getpid())
    assert not place.exists()


def test_altered_bundle_in_a_pickle_is_refused(fitted: ImageClassifier) -> None:
    state = fitted.__getstate__()
    state["_bundle_files"] = {**state["_bundle_files"], "model.onnx": b"other"}
    with pytest.raises(snellen.BundleError, match="not what was measured"):
        ImageClassifier().__setstate__(state)


def test_save_leaves_other_files_alone(fitted: ImageClassifier, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(snellen.UsageError, match="exists already"):
        fitted.save(tmp_path)


def test_unreadable_picture_is_a_value_error_naming_it(fitted: ImageClassifier, data: Phantoms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 pictures.*absent\.png.*does not exist"):
        fitted.predict([data.paths[0], tmp_path / "absent.png"])


def test_too_few_patients_are_a_value_error(data: Phantoms, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be split by patient so that train and val see every class") as caught:
        ImageClassifier(settings=TINY, runs=tmp_path).fit(data.paths, data.labels, groups=np.zeros(len(data.paths)))
    assert list(tmp_path.iterdir()) == []
    assert "correct groups" in caught.value.hint


def test_unknown_setting_is_a_value_error(data: Phantoms) -> None:
    with pytest.raises(ValueError, match=r"preprocess\.sise"):
        ImageClassifier(settings={"preprocess.sise": 3}).fit(data.paths, data.labels, groups=data.patients)


def test_cross_val_score_in_a_pipeline_is_the_same_in_two_processes(data: Phantoms) -> None:
    chain = make_pipeline(FunctionTransformer(np.fliplr), ImageClassifier(settings=TINY, seed=1))
    wanted = {"groups": data.patients, "cv": GroupKFold(2), "params": {"imageclassifier__groups": data.patients}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody may say that patients are unknown
        alone, both = (
            cross_val_score(
                chain, np.stack(data.arrays), data.labels, **wanted, scoring="neg_log_loss", error_score="raise",
                n_jobs=n_jobs,
            )
            for n_jobs in (1, 2)
        )  # fmt: skip
    np.testing.assert_array_equal(alone, both)
    assert -np.mean(alone) < np.log(2)  # better than a coin


def test_grid_search_chooses_settings_with_routed_groups(data: Phantoms) -> None:
    grid = {"settings": [{**TINY, "preprocess.fit": "crop"}, TINY]}
    once = GroupShuffleSplit(n_splits=1, test_size=0.4, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("error")
        search = GridSearchCV(ImageClassifier(), grid, cv=once, refit=False, error_score="raise")
        search.fit(data.paths, data.labels, groups=data.patients)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    assert search.best_params_["settings"] in grid["settings"]

"""Snellen as a scikit-learn classifier: what `fit` learns is a bundle, which `predict_proba` asks by its predictor.

Nothing is computed here: data go through the same steps as `snellen train`, and all they leave is kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from snellen.core.errors import DataError, InputError, UsageError
from snellen.core.interrupts import prefer_interrupt
from snellen.core.storage import open_cache
from snellen.estimator_inputs import (
    Labels,
    read_groups,
    read_labels,
    read_pictures,
    read_settings,
    require_fraction,
    to_sources,
)
from snellen.inference.load import load_bundle
from snellen.ingest.given import GivenData, write_given
from snellen.records.bundle import Prediction
from snellen.records.cohort import Issue
from snellen.runs import Run
from snellen.workflow import build_train_request, describe_command

_SHOWN = 3
_WAY_OUT = "Give more patients of these classes, leave the classes out, or correct groups."
_TOLD = ("unreadable_picture", "unreadable_name", "class_names_alike")


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn brings no types
    """A scikit-learn classifier of pictures whose model is a bundle.

    `recipe`, `settings` and `seed` mean what they mean for `snellen.train`; `settings` may also be a mapping such as
    `{"preprocess.size": 64}`. `validation_fraction` of the patients given to `fit` choose regularisation, calibration
    and thresholds; none are kept for a test. `cache` is the folder for preprocessed pixels and features. `runs` is a
    folder below which every `fit` leaves its whole run; without it the run lies in a temporary folder that goes with
    the classifier, or with the process.

    After `fit`: `classes_`, `bundle_` (folder of the bundle), `predictor_`, `plan_`, `validation_` (the evaluation on
    validation patients), and `run_` (not after unpickling).
    """

    # where metadata are routed, `groups` reach `fit` without being asked for: a forgotten request would leak patients
    __metadata_request__fit = {"groups": True}

    def __init__(
        self,
        recipe: str = "auto",
        settings: Iterable[str] | Mapping[str, object] = (),
        *,
        validation_fraction: float = 0.2,
        seed: int = 0,
        cache: str | Path | None = None,
        runs: str | Path | None = None,
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.cache = cache
        self.runs = runs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True  # of paths
        tags.input_tags.three_d_array = True  # grey pictures; those with colour have four dimensions
        tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train on pictures X with labels y.

        X: paths, a uint8 array `(N, H, W)` or `(N, H, W, 1 or 3)`, or a list of uint8 arrays; decimals from 0 to 1 are
        taken too. `groups`: the patient of each picture; without it each counts as a patient of its own, with a
        warning. Raises InputError, which is a ValueError, for what does not fit.
        """
        pictures = read_pictures(X)
        labels = read_labels(y, len(pictures))
        patients = read_groups(groups, len(pictures))
        if patients is None:
            warnings.warn(
                f"groups is not given: each of the {len(pictures)} pictures counts as a patient of its own. If a "
                "patient has several pictures, give groups=, or validation sees patients that were trained on.",
                UserWarning,
                stacklevel=2,
            )
        data = GivenData(pictures, [labels.names[code] for code in labels.codes], patients)
        folder = _Folder(self.runs)
        try:
            run = self._train(data, folder.path)
        except BaseException:
            with contextlib.suppress(OSError):
                folder.path.rmdir()  # nothing was begun in it
            raise
        self._tell([issue for issue in run.audit.issues if issue.severity == "severe" or issue.code in _TOLD])
        self._keep(run, labels, folder)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Calibrated probabilities `(N, C)` in the order of `classes_`, as the bundle's predictor gives them.

        Raises InputError, which is a ValueError, where a picture cannot be read.
        """
        found = self._ask(X)
        return np.array([[row.probabilities[name] for name in self._names] for row in found], np.float32)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each picture by the recipe's `evaluation.decision`. By default, of two classes the most probable
        one, of more the highest in relation to its share in training, of grades the nearest to the expected grade.

        `predictor_` knows operating points and when to abstain.
        """
        found = self._ask(X)  # before classes_, which an unfitted classifier has not
        predicted: NDArray[Any] = self.classes_[[self._names.index(row.prediction or "") for row in found]]
        return predicted

    def _ask(self, X: Any) -> list[Prediction]:
        check_is_fitted(self)
        found = self.predictor_.predict(to_sources(read_pictures(X)))
        bad = [(index, row) for index, row in enumerate(found) if row.error]
        if bad:
            shown = "; ".join(f"number {index} {row.path}: {row.error}" for index, row in bad[:_SHOWN])
            raise InputError(
                f"{len(bad)} of {len(found)} pictures of X cannot be read: {shown}",
                "Leave them out, or ask predictor_.predict, which tells the error picture by picture.",
            )
        return found

    def save(self, folder: str | Path) -> Path:
        """Copy the bundle to `folder`, which must be new or empty; `snellen.load` opens it. Returns the folder."""
        check_is_fitted(self)
        target = Path(folder).expanduser()
        if target.exists() and (target.is_file() or any(target.iterdir())):
            raise UsageError(f"{target} exists already.", "Choose another folder for the bundle.")
        shutil.copytree(self.bundle_, target, dirs_exist_ok=True)
        return target

    def _train(self, data: GivenData, folder: Path) -> Run:
        share = require_fraction(self.validation_fraction)
        # who belongs together is what `groups` say; identical pictures do in any case
        settings = [
            f"data.fractions={[1 - share, share, 0.0]}", "data.copies=exact", *read_settings(self.settings),
        ]  # fmt: skip
        cache = None if self.cache is None else str(self.cache)
        try:
            request = build_train_request(
                write_given(data, open_cache(cache)),
                {
                    "recipe": str(self.recipe), "settings": settings, "seed": self.seed, "test": False,
                    "cache": cache, "patients": "auto" if data.patients else "none",
                },
            )  # fmt: skip
            with prefer_interrupt():
                from snellen.run_training import run_training

                return run_training(request, Run(folder), describe_command(request, folder))
        except (DataError, UsageError) as error:
            raise InputError(error.message, _WAY_OUT if "--patients" in error.hint else error.hint) from error

    def _keep(self, run: Run, labels: Labels, folder: _Folder) -> None:
        predictor = load_bundle(run.bundle, threads=run.plan.training.threads)
        if lost := set(labels.names) - set(predictor.classes):
            raise InputError(f"No picture can be read of: {', '.join(sorted(lost))}.", "Check the files.")
        self._folder = folder
        self._names = labels.names
        self.classes_ = labels.classes
        self.run_ = run
        self.bundle_ = run.bundle
        self.plan_ = run.plan
        self.validation_ = run.validation
        self.predictor_ = predictor

    @staticmethod
    def _tell(issues: Iterable[Issue]) -> None:
        for issue in issues:
            warnings.warn(f"{issue.message} {issue.advice}", UserWarning, stacklevel=3)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process gets: the bundle's files as bytes, nothing of the run beside it."""
        state = dict(super().__getstate__())
        if "bundle_" in state:
            for name in ("_folder", "run_", "predictor_"):
                state.pop(name, None)
            bundle = Path(state.pop("bundle_"))
            files = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
            state["_bundle_files"] = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay the bundle into a temporary folder of this copy's own and open it: every hash is checked."""
        state = dict(state)
        files = state.pop("_bundle_files", None)
        super().__setstate__(state)
        if files is None:
            return
        self._folder = _Folder(None)
        self.bundle_ = self._folder.path / "bundle"
        for name, content in files.items():
            path = self.bundle_ / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.predictor_ = load_bundle(self.bundle_, threads=self.plan_.training.threads)


class _Folder:
    """A new folder below `parent`, which stays, or in the system's temporary one, which goes with this object."""

    def __init__(self, parent: str | Path | None) -> None:
        if parent is not None:
            place = Path(parent).expanduser()
            place.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix="fit-", dir=place))
            return
        place = Path(tempfile.mkdtemp(prefix="snellen-fit-"))
        self.path = place / "image-classifier"
        self.path.mkdir()
        weakref.finalize(self, remove_temporary, place, os.getpid())


def remove_temporary(place: Path, owner: int) -> None:
    """Only the process that made the folder removes it: a forked one holds the same objects and lets them go."""
    if os.getpid() == owner:
        shutil.rmtree(place, ignore_errors=True)

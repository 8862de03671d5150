"""Which calibration the validation patients support: none, a temperature, or a bias for each class as well.

This room knows logits, labels and patients. It must not know networks or files; it may see validation data only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.metrics.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature
from snellen.metrics.scores import require_labels_and_probabilities

Method = Literal["none", "temperature", "bias_and_temperature"]
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
MIN_PATIENTS = 10
FOLDS = 5
_BIAS_SPREAD = 1.0
_STEPS = 50
_NAMES: dict[Method, str] = {
    "none": "none",
    "temperature": "temperature",
    "bias_and_temperature": "bias and temperature",
}


@dataclass(frozen=True)
class Calibrator:
    """`probabilities = softmax(logits / temperature + bias)`, `bias` `(C,)`; the identity where nothing is given."""

    temperature: float
    bias: Floats

    def apply(self, logits: NDArray[np.floating]) -> Floats:
        """Logits `(N, C)` → probabilities `(N, C)`."""
        return _softmax(np.asarray(logits, np.float64) / self.temperature + self.bias)


@dataclass(frozen=True)
class CalibrationFit:
    """What was chosen, on how many samples, and why in one sentence.

    `is_sound` is False where nothing could be fitted: the run then warns. `is_compared` tells that patients left out
    decided between the methods.
    """

    method: Method
    calibrator: Calibrator
    n: int
    reason: str
    is_sound: bool = True
    is_compared: bool = False


def fit_calibration(
    logits: NDArray[np.floating], labels: NDArray[np.integer], patients: Sequence[str]
) -> CalibrationFit:
    """Fit each calibration on `logits` `(N, C)`, `labels` `(N,)` and keep the one that helps other patients most.

    Judge is the log loss on patients left out, in 5 folds within what is given; of equals the simpler stays. A bias
    must gain more than the standard error of its gain, over patients: noise alone then chooses none. Nothing is fitted
    where `fit_temperature` fits nothing. With fewer than 10 patients, or where a fold leaves nothing to fit, nothing
    can be compared: the temperature is one number and is kept, a bias is not tried.
    """
    labels, values = require_labels_and_probabilities(labels, logits)
    if len(patients) != len(labels):
        raise DataError(f"{len(patients)} patients do not fit {len(labels)} labels")
    temperature, n_classes = fit_temperature(values, labels), values.shape[1]
    if not temperature.is_fitted:
        return CalibrationFit("none", _identity(n_classes), len(labels), temperature.reason, is_sound=False)
    alone = Calibrator(temperature.temperature, np.zeros(n_classes))
    n_patients = len(set(patients))
    lost = _cross_validate(values, labels, assign_folds(labels, patients)) if n_patients >= MIN_PATIENTS else None
    if lost is None:
        reason = f"{n_patients} patients are too few to compare it with a bias for each class; {temperature.reason}"
        return CalibrationFit("temperature", alone, len(labels), reason.rstrip("; "))
    method, best = _choose_method(lost, patients)
    told = ", ".join(f"{_NAMES[name]} {found.mean():.4f}" for name, found in lost.items())
    how = (
        "the smallest"
        if method == best
        else f"{_NAMES[method]} is kept, because the bias gains less than a standard error"
    )
    reason = f"log loss on patients left out, in five folds: {told}; {how}"
    fitted = {
        "none": _identity(n_classes),
        "temperature": alone,
        "bias_and_temperature": fit_bias_and_temperature(values, labels),
    }[method]
    return CalibrationFit(method, fitted, len(labels), f"{reason}; {temperature.reason}".rstrip("; "), is_compared=True)


def fit_bias_and_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibrator:
    """Bias-corrected temperature scaling (Alexandari et al. 2020) of `logits` `(N, C)` on `labels` `(N,)`.

    The log loss of softmax(a · logits + bias) is convex in a = 1 / T and the bias; Newton's method finds its minimum
    with T kept in [0.05, 20]. The bias has a normal prior of standard deviation 1, which few samples do not
    overrule; its entries sum to 0.
    """
    values, labels = np.asarray(logits, np.float64), np.asarray(labels)
    n, n_classes = values.shape
    hot = np.eye(n_classes)[labels]
    ridge = 1 / (n * _BIAS_SPREAD**2)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE

    def measure(at: Floats) -> float:
        raw = at[0] * values + at[1:]
        top = raw.max(1)
        losses = top + np.log(np.exp(raw - top[:, None]).sum(1)) - raw[np.arange(n), labels]
        return float(losses.mean() + 0.5 * ridge * (at[1:] ** 2).sum())

    point = np.append(1.0, np.zeros(n_classes))
    loss = measure(point)
    for _ in range(_STEPS):
        step = _find_step(point, values, hot, ridge, (low, high))
        better, found = _search_line(measure, point, step, loss, (low, high))
        if found > loss - 1e-12:
            break
        point, loss = better, found
    return Calibrator(float(1 / point[0]), point[1:] - point[1:].mean())


def _find_step(point: Floats, values: Floats, hot: Floats, ridge: float, limits: tuple[float, float]) -> Floats:
    """Newton's step `(1 + C,)`; a scale that would leave its limits stays where it is."""
    probabilities = _softmax(point[0] * values + point[1:])
    expected = (probabilities * values).sum(1)
    rest = probabilities - hot
    gradient = np.append((rest * values).sum(1).mean(), rest.mean(0) + ridge * point[1:])
    hessian = np.empty((len(point), len(point)))
    hessian[0, 0] = ((probabilities * values**2).sum(1) - expected**2).mean() + 1e-12
    hessian[0, 1:] = hessian[1:, 0] = (probabilities * (values - expected[:, None])).mean(0)
    hessian[1:, 1:] = np.diag(probabilities.mean(0) + ridge) - probabilities.T @ probabilities / len(values)
    is_held = (point[0] <= limits[0] and gradient[0] > 0) or (point[0] >= limits[1] and gradient[0] < 0)
    free = slice(1, None) if is_held else slice(None)
    step = np.zeros(len(point))
    step[free] = -np.linalg.solve(hessian[free, free], gradient[free])
    return step


def _search_line(
    measure: Callable[[Floats], float], point: Floats, step: Floats, loss: float, limits: tuple[float, float]
) -> tuple[Floats, float]:
    """The first of the step's halves that is better, with its loss; the point itself where none is."""
    for half in range(30):
        tried = point + step / 2**half
        tried[0] = np.clip(tried[0], *limits)
        found = measure(tried)
        if found < loss:
            return tried, found
    return point, loss


def assign_folds(labels: NDArray[np.integer], patients: Sequence[str]) -> NDArray[np.intp]:
    """A fold of 0 … 4 for each sample `(N,)`: patients stay whole, and classes spread over the folds.

    Patients are dealt out like cards, those of the rarest class first, each class in the order of their names: the
    same patients always give the same folds.
    """
    counts = np.bincount(labels)
    rarest: dict[str, int] = {}
    for patient, label in zip(patients, labels.tolist(), strict=True):
        if patient not in rarest or counts[label] < counts[rarest[patient]]:
            rarest[patient] = label
    order = sorted(rarest, key=lambda patient: (counts[rarest[patient]], rarest[patient], patient))
    fold = {patient: place % FOLDS for place, patient in enumerate(order)}
    return np.array([fold[patient] for patient in patients], np.intp)


def _choose_method(lost: dict[Method, Floats], patients: Sequence[str]) -> tuple[Method, Method]:
    """The method to keep, and the one of the smallest loss.

    Left-out patients judge a temperature well, which is one number. A bias is many: it must gain more than the standard
    error of its gain.
    """
    best = min(lost, key=lambda name: float(lost[name].mean()))
    if best != "bias_and_temperature":
        return best, best
    plain: Method = "none" if lost["none"].mean() <= lost["temperature"].mean() else "temperature"
    gain = lost[plain] - lost[best]
    return (best if gain.mean() > compute_clustered_error(gain, patients) else plain), best


def compute_clustered_error(values: Floats, patients: Sequence[str]) -> float:
    """Standard error of the mean of `values` `(N,)` where those of one of `patients` `(N,)` may vary together."""
    cluster = np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    sums = np.bincount(cluster, weights=values - values.mean())
    n = len(sums)
    return float(np.sqrt(n / (n - 1) * (sums**2).sum()) / len(values)) if n > 1 else float("inf")


def _cross_validate(logits: Floats, labels: Labels, folds: NDArray[np.intp]) -> dict[Method, Floats] | None:
    """Log loss `(N,)` of every sample under what the other folds fitted, simplest method first.

    None where a fold's others cannot be fitted: without a class, or without errors.
    """
    n_classes = logits.shape[1]
    losses: dict[Method, Floats] = {name: np.zeros(len(labels)) for name in _NAMES}
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        one = fit_temperature(logits[inside], labels[inside])
        if not one.is_fitted:
            return None
        fitted: dict[Method, Calibrator] = {
            "none": _identity(n_classes),
            "temperature": Calibrator(one.temperature, np.zeros(n_classes)),
            "bias_and_temperature": fit_bias_and_temperature(logits[inside], labels[inside]),
        }
        for name, calibrator in fitted.items():
            own = calibrator.apply(logits[outside])[np.arange(int(outside.sum())), labels[outside]]
            losses[name][outside] = -np.log(np.maximum(own, np.finfo(np.float64).tiny))
    return losses


def _identity(n_classes: int) -> Calibrator:
    return Calibrator(1.0, np.zeros(n_classes))


def _softmax(raw: Floats) -> Floats:
    raised = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))

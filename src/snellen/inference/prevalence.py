"""Probabilities for a population where classes have other shares than in training. No torch.

The step after the graph: p'(c | x) is proportional to p(c | x) · wanted(c) / assumed(c) (Saerens, Latinne and
Decaestecker 2002, eq. 2.4). It holds where pictures of a class look as they did in training and only the mixture
of the classes differs. This room knows probabilities and a manifest. It must not know how they were computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import BundleError, UsageError
from snellen.metrics.decision import Rule, decide, make_rule
from snellen.records.bundle import Manifest, Prediction

MIN_PICTURES = 50
MAX_ITERATIONS = 1000
_SMALLEST_CHANGE = 1e-6
_SUM_TOLERANCE = 1.000001e-6  # 1e-6 and its own rounding
_MOST_IN_EXAMPLE = 6
_PAIR = re.compile(r"\s*(.+?)\s*=\s*([-+.\deE]+|[-+]?nan|[-+]?inf)\s*(?:,|$)", re.DOTALL | re.IGNORECASE)
Floats = NDArray[np.float64]
PrevalenceWish = float | str | Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """Shares `(C,)` found by EM on `n` pictures; `is_settled` is False where the iterations ended before it was.

    `errors` `(C,)` are standard errors from the curvature of the likelihood. They take the pictures as independent and
    the model's probabilities as right.
    """

    shares: Floats
    errors: Floats
    n: int
    n_iterations: int
    is_settled: bool


@dataclass(frozen=True)
class Reweighting:
    """From the shares `(C,)` that a bundle's probabilities assume to those that are wanted."""

    manifest: Manifest
    assumed: Floats
    wanted: Floats
    estimate: Estimate | None = None

    def apply(self, prediction: Prediction) -> Prediction:
        """New probabilities, and the class that the bundle's rule decides for by them.

        With an operating point the decision stays: its threshold moves with the probabilities (`move_threshold`), so
        that the same pictures are positive. Without one the decision is the prediction.
        """
        if prediction.error:
            return prediction
        classes = self.manifest.classes
        before = np.array([[prediction.probabilities[name] for name in classes]])
        after = reweight(before, self.assumed, self.wanted)
        called = classes[int(decide(after, make_rule(self.manifest.decision, self.wanted.tolist()))[0])]
        has_point = any(point.is_default for point in self.manifest.thresholds)
        return prediction.model_copy(
            update={
                "prediction": called,
                "probabilities": dict(zip(classes, after[0].tolist(), strict=True)),
                "decision": prediction.decision if has_point else called,
            }
        )

    def describe(self) -> str:
        """What was done, for the person who reads the probabilities."""
        classes = self.manifest.classes
        told = f"Probabilities are for {_show(classes, self.wanted)}; in training {_show(classes, self.assumed)}."
        if self.estimate is not None:
            found = self.estimate
            errors = _show(classes, found.errors)
            told = (
                f"Prevalence estimated from {found.n} pictures in {found.n_iterations} steps, with standard errors "
                f"{errors}. {told}"
            )
            if not found.is_settled:
                told += f" Warning: the estimate still moved after {found.n_iterations} steps; do not rely on it."
        for point in self.manifest.thresholds:
            if point.is_default and self.manifest.positive is not None:
                at = classes.index(self.manifest.positive)
                moved = move_threshold(point.threshold, at, self.assumed, self.wanted)
                told += (
                    f" Decisions stay those of the operating point {point.name}: its threshold moved from "
                    f"{point.threshold:.4f} to {moved:.4f}."
                )
        return told


def read_prevalence(wish: PrevalenceWish, manifest: Manifest) -> Floats | None:
    """The wanted shares `(C,)`; None for "auto". Raises UsageError for what are no shares of the bundle's classes.

    With two classes a number is the share of the positive one; else a mapping, or text "class=share,class=share".
    """
    compute_assumed(manifest)
    if isinstance(wish, str):
        if wish.strip() == "auto":
            return None
        wish = _parse(wish, manifest)
    if isinstance(wish, Mapping):
        return _require_shares(wish, manifest)
    if manifest.positive is None:
        raise UsageError(
            f"--prevalence {wish:g}: the bundle has {len(manifest.classes)} classes, one number does not say enough.",
            f"Give a share for each: --prevalence {_example(manifest.classes)}, or auto.",
        )
    other = next(name for name in manifest.classes if name != manifest.positive)
    if not 0 < wish < 1:
        raise UsageError(
            f"--prevalence {wish:g}: the share of {manifest.positive} lies between 0 and 1, both excluded.",
            "Example: --prevalence 0.02 where 2 of 100 have it.",
        )
    return _require_shares({manifest.positive: wish, other: 1 - wish}, manifest)


def choose_reweighting(wanted: Floats | None, predictions: Sequence[Prediction], manifest: Manifest) -> Reweighting:
    """The wanted shares as read, or where they are None, those that EM finds in `predictions`.

    EM looks at pictures that were read and on which the model does not abstain. Raises UsageError with fewer than 50.
    """
    assumed = compute_assumed(manifest)
    if wanted is not None:
        return Reweighting(manifest, assumed, wanted)
    used = [row for row in predictions if not row.error and not row.abstain]
    if len(used) < MIN_PICTURES:
        n_abstained = sum(row.abstain for row in predictions)
        raise UsageError(
            f"--prevalence auto: {len(used)} of {len(predictions)} pictures can be used "
            f"({n_abstained} with abstain); at least {MIN_PICTURES} are needed.",
            "Give more pictures of the population, or its prevalence as a number.",
        )
    probabilities = np.array([[row.probabilities[name] for name in manifest.classes] for row in used])
    estimate = estimate_shares(probabilities, assumed)
    return Reweighting(manifest, assumed, estimate.shares, estimate)


def reweight(probabilities: NDArray[np.floating], assumed: Floats, wanted: Floats) -> Floats:
    """Probabilities `(N, C)` at the shares `assumed` `(C,)` → the same at the shares `wanted` `(C,)`."""
    raised = np.asarray(probabilities, np.float64) * (wanted / assumed)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def move_threshold(threshold: float, positive: int, assumed: Floats, wanted: Floats) -> float:
    """Where a threshold on the probability of class `positive` of two lies after `reweight`.

    `reweight` rises strictly with that probability, so the pictures at or above the threshold stay the same. A
    threshold outside of 0 … 1, which nothing or everything reaches, stays.
    """
    if not 0 <= threshold <= 1:
        return threshold
    pair = np.empty((1, 2))
    pair[0, positive], pair[0, 1 - positive] = threshold, 1 - threshold
    return float(reweight(pair, assumed, wanted)[0, positive])


def estimate_shares(probabilities: NDArray[np.floating], assumed: Floats) -> Estimate:
    """Shares of the classes among pictures with these probabilities `(N, C)`, by EM (Saerens et al. 2002, eq. 2.9).

    Each step re-weights the probabilities to the last estimate and takes their mean. The likelihood is concave in the
    shares, so the steps lead to its maximum. At most 1000 steps, or until no share moves by more than 1e-6.
    """
    ratios = np.asarray(probabilities, np.float64) / assumed
    shares = assumed.copy()
    for step in range(1, MAX_ITERATIONS + 1):
        raised = ratios * shares
        found = (raised / raised.sum(axis=1, keepdims=True)).mean(axis=0)
        change = float(np.abs(found - shares).max())
        shares = found
        if change < _SMALLEST_CHANGE:
            return Estimate(shares, _compute_errors(ratios, shares), len(ratios), step, is_settled=True)
    return Estimate(shares, _compute_errors(ratios, shares), len(ratios), MAX_ITERATIONS, is_settled=False)


def _compute_errors(ratios: Floats, shares: Floats) -> Floats:
    """Standard errors `(C,)` by the observed information, along the directions in which shares add up to 1."""
    slopes = ratios / (ratios @ shares)[:, None]
    free = slopes[:, :-1] - slopes[:, -1:]
    information = free.T @ free
    # where pictures tell nothing of a class, its error is large, not undefined
    inverse = np.linalg.inv(information + np.eye(len(information)))
    return np.asarray(np.sqrt(np.append(np.diag(inverse), inverse.sum())))


def compute_assumed(manifest: Manifest) -> Floats:
    """The shares `(C,)` that the probabilities assume: of training, or of what a bias was fitted on.

    A bundle of an earlier version has neither: its counts of training and validation together stand in. Raises
    BundleError where a class has no share.
    """
    counts: Mapping[str, float] = (
        manifest.calibration.prevalence or manifest.prevalence or manifest.trained_on.class_counts
    )
    shares = np.array([counts.get(name, 0) for name in manifest.classes], np.float64)
    if not (np.isfinite(shares).all() and shares.min() > 0):
        without = manifest.classes[int(np.argmin(shares))]
        raise BundleError(
            f"The bundle tells no share of the class {without} in training: its probabilities cannot be re-weighted.",
            "Predict without a prevalence, or train a bundle with this version.",
        )
    return np.asarray(shares / shares.sum())


def read_rule(manifest: Manifest) -> Rule:
    """By which rule a bundle calls a picture a class."""
    return make_rule(manifest.decision, compute_assumed(manifest).tolist() if manifest.decision == "balanced" else ())


def _parse(text: str, manifest: Manifest) -> float | dict[str, float]:
    try:
        return float(text)
    except ValueError:
        pass
    pairs: list[tuple[str, str]] = []
    at = 0
    while at < len(text) and (match := _PAIR.match(text, at)):
        pairs.append((match[1], match[2]))
        at = match.end()
    try:
        shares = {name: float(number) for name, number in pairs}
    except ValueError:
        shares = {}
    if at < len(text) or not shares or len(shares) < len(pairs):
        number = "a number between 0 and 1, or " if manifest.positive is not None else ""
        raise UsageError(
            f"--prevalence {text}: this is no prevalence.",
            f"Give {number}a share for each class, such as {_example(manifest.classes)}, or auto.",
        )
    return shares


def _require_shares(shares: Mapping[str, float], manifest: Manifest) -> Floats:
    unknown = [name for name in shares if name not in manifest.classes]
    absent = [name for name in manifest.classes if name not in shares]
    if unknown or absent:
        wrong = [f"{name} is no class of the bundle" for name in unknown] + [f"{name} has no share" for name in absent]
        raise UsageError(
            f"--prevalence: {'; '.join(wrong)}.", f"Give a share for each class: {_example(manifest.classes)}."
        )
    wanted = np.array([float(shares[name]) for name in manifest.classes])
    if not (wanted > 0).all():
        name = manifest.classes[int(np.argmin(np.where(np.isnan(wanted), -np.inf, wanted)))]
        raise UsageError(
            f"--prevalence: the share of {name} is {shares[name]:g}; a share is above 0.",
            "A class that hardly occurs has a small share, such as 0.001.",
        )
    if not abs(wanted.sum() - 1) <= _SUM_TOLERANCE:
        raise UsageError(
            f"--prevalence: the shares add up to {wanted.sum():.7g}, not to 1.",
            f"Example: {_example(manifest.classes)}.",
        )
    return np.asarray(wanted / wanted.sum())


def _example(classes: Sequence[str]) -> str:
    """Shares that add up to 1, as one would type them."""
    if len(classes) > _MOST_IN_EXAMPLE:
        return f"{classes[0]}=SHARE,{classes[1]}=SHARE,…"
    first = 1 - 0.1 * (len(classes) - 1)
    return ",".join([f"{classes[0]}={first:g}", *(f"{name}=0.1" for name in classes[1:])])


def _show(classes: Sequence[str], shares: Floats) -> str:
    return ", ".join(f"{name} {share:.4g}" for name, share in zip(classes, shares, strict=True))

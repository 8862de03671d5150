"""The one path from pixels to probabilities. Every reported score comes through here. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError, UsageError
from snellen.core.progress import say
from snellen.imaging.picture import is_blank
from snellen.imaging.preprocess import preprocess, preprocess_location, preprocess_picture
from snellen.imaging.readers import Levels
from snellen.inference.explain import EvidenceMap, Explainer, choose_class
from snellen.inference.gate import Gate, Verdicts
from snellen.inference.prevalence import PrevalenceWish, choose_reweighting, read_prevalence, read_rule
from snellen.inference.session import BATCH, GraphSession
from snellen.inference.shift import Tally, measure_shift
from snellen.inference.sources import PictureSource, list_sources, name_source, to_readable
from snellen.metrics.conformal import predict_sets
from snellen.metrics.decision import decide
from snellen.records.bundle import MEMBER_OUTPUTS, Manifest, Prediction, Threshold
from snellen.records.evaluation import BatchShift

__all__ = ["OpenedBundle", "PictureSource", "Predictor", "RawScores"]
_BLANK = "the picture is blank"
_UNREADABLE = "the picture cannot be read"


@dataclass(frozen=True)
class RawScores:
    """What the graph says: `probabilities` and `logits` `(N, C)`, `embedding` `(N, D)`, all float32."""

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose files were checked; `sha256` is that of its manifest, which holds all others."""

    manifest: Manifest
    folder: Path
    sha256: str


class Predictor:
    """A loaded bundle. Safe to call from several threads."""

    def __init__(self, opened: OpenedBundle, session: GraphSession, gate: Gate | None) -> None:
        self.manifest = opened.manifest
        self.folder = opened.folder
        self.sha256 = opened.sha256
        self._session = session
        self._gate = gate
        self._rule = read_rule(opened.manifest)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def threshold(self) -> Threshold | None:
        """The default operating point of a binary model."""
        return next((point for point in self.manifest.thresholds if point.is_default), None)

    def score_pixels(self, pixels: NDArray[np.uint8], members: NDArray[np.intp] | None = None) -> RawScores:
        """Preprocessed pixels `(N, height, width, channels)` uint8 → what the graph says of them. N may be 0.

        With `members` `(N,)`, what that member of a fold ensemble says of each, instead of all together.
        """
        wanted = (self.manifest.input.height_px, self.manifest.input.width_px, self.manifest.input.channels)
        if not isinstance(pixels, np.ndarray):
            raise UsageError(f"The model takes a NumPy array of pixels, not {type(pixels).__name__}.", "Use predict().")
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted:
            raise UsageError(
                f"The model takes uint8 pixels of shape (N, {wanted[0]}, {wanted[1]}, {wanted[2]}), "
                f"not {pixels.dtype} {pixels.shape}.",
                "Use predict(), which preprocesses pictures of any size.",
            )
        n = len(pixels)
        # of no pictures: the shapes are those of one
        batch = pixels if n else np.zeros((1, *wanted), np.uint8)
        if members is None:
            found = self._session.run(batch, ("probabilities", "logits", "embedding"))
            return RawScores(found["probabilities"][:n], found["logits"][:n], found["embedding"][:n])
        found = self._session.run(batch, (*MEMBER_OUTPUTS, "embedding"))
        probabilities, logits = (found[name][np.arange(n), members] for name in MEMBER_OUTPUTS)
        return RawScores(probabilities, logits, found["embedding"][:n])

    def judge(self, pixels: NDArray[np.uint8], embedding: NDArray[np.float32]) -> Verdicts:
        """Preprocessed pixels `(N, height, width, channels)` with their embeddings `(N, D)` → why there is no answer
        for each; no reason for those that the gate lets pass, and, but for blank ones, without a gate.
        """
        found = Verdicts([""] * len(pixels), {}) if self._gate is None else self._gate.judge(pixels, embedding)
        reasons = [_BLANK if is_blank(picture) else why for picture, why in zip(pixels, found.reasons, strict=True)]
        return Verdicts(reasons, found.measured)

    def find_shift(self, measured: Mapping[str, NDArray[np.float64]]) -> BatchShift | None:
        """Whether pictures that `judge` measured so differ as a whole from those of training; None where that cannot be
        told.
        """
        return None if self._gate is None else measure_shift(measured, self._gate.reference)

    def prepare(self, source: PictureSource, *, frame: int | None = None) -> NDArray[np.uint8]:
        """One picture → uint8 `(height, width, channels)`.

        It is a path, encoded bytes, an array `(H, W)` / `(H, W, 3)` RGB, or a Pillow image. An array is uint8 or, where
        the model has a window, of wider integers. A path may name one of several pictures in a file:
        `scan.dcm::frame[3]`; of encoded bytes `frame` names it. Raises PictureError where it cannot be read.
        """
        plan, readable = self.manifest.preprocess, to_readable(source)
        if isinstance(readable, np.ndarray):
            return preprocess(_require_picture(readable), plan)
        if isinstance(readable, bytes):
            return preprocess_picture(readable, plan, frame=frame)[0]
        return preprocess_location(Path(), readable, plan)

    def predict(
        self, sources: PictureSource | Iterable[PictureSource], *, prevalence: PrevalenceWish | None = None
    ) -> list[Prediction]:
        """One Prediction a picture, in order. A picture that cannot be read gets its `error`; the rest goes on.

        `prevalence` re-weights the probabilities to another population: the share of the positive class of two, shares
        by class, or "auto", which estimates them from these pictures. Raises UsageError for what are no shares.
        """
        wanted = None if prevalence is None else read_prevalence(prevalence, self.manifest)
        tally = Tally()
        found = list(self.iterate(sources, tally))
        shift = self.find_shift(tally.collect())
        if shift is not None and shift.message:
            say(f"Warning: {shift.message}")
        if prevalence is None:
            return found
        reweighting = choose_reweighting(wanted, found, self.manifest)
        say(reweighting.describe())
        return [reweighting.apply(prediction) for prediction in found]

    def iterate(
        self, sources: PictureSource | Iterable[PictureSource], tally: Tally | None = None
    ) -> Iterator[Prediction]:
        """As `predict`, one by one, with reading and scoring side by side and bounded memory. `tally` is told what the
        gate measured of each picture, so that `find_shift` can say something of all.
        """
        stream = iter(list_sources(sources))
        with ThreadPoolExecutor(2) as pool:
            while group := list(islice(stream, 4 * BATCH)):
                yield from self._predict_group(group, list(pool.map(self._try_prepare, group)), tally)

    def explain(self, picture: PictureSource, class_name: str | None = None) -> EvidenceMap:
        """Where in a picture the evidence for a class lies, without a name for the class that it is called.

        Raises PictureError where the picture cannot be read, UsageError for a class that the model does not know.
        """
        return self.explain_pixels(self.prepare(picture), class_name)

    def explain_pixels(self, pixels: NDArray[np.uint8], class_name: str | None = None) -> EvidenceMap:
        """As `explain`, of one preprocessed picture `(height, width, channels)`."""
        probabilities = self.score_pixels(pixels[None]).probabilities
        at = choose_class(self.classes, class_name, lambda: int(decide(probabilities, self._rule)[0]))
        explainer = self.open_explainer()
        return EvidenceMap(
            explainer.explain(pixels, at), explainer.method, self.classes[at], float(probabilities[0, at]), pixels
        )

    def call(self, pixels: NDArray[np.uint8]) -> int:
        """Which class one preprocessed picture `(height, width, channels)` is called."""
        return int(decide(self.score_pixels(pixels[None]).probabilities, self._rule)[0])

    def open_explainer(self) -> Explainer:
        """What draws evidence maps of this bundle."""
        return Explainer(self._session, self.manifest.multiplications)

    def _try_prepare(self, source: PictureSource) -> NDArray[np.uint8] | PictureError:
        try:
            return self.prepare(source)
        except PictureError as error:
            return error
        except OSError as error:  # of odd names and failing disks: one picture, not all
            return PictureError(f"the file cannot be read: {error.strerror or error}", "Check the path.")

    def _predict_group(
        self,
        sources: Sequence[PictureSource],
        prepared: Sequence[NDArray[np.uint8] | PictureError],
        tally: Tally | None,
    ) -> Iterator[Prediction]:
        good = [item for item in prepared if isinstance(item, np.ndarray)]
        described = iter(self.describe(np.stack(good), tally)) if good else iter(())
        for source, item in zip(sources, prepared, strict=True):
            name = name_source(source)
            if isinstance(item, PictureError):
                yield describe_unreadable(name, item.message)
            else:
                yield next(described).model_copy(update={"path": name})

    def describe(self, pixels: NDArray[np.uint8], tally: Tally | None = None) -> list[Prediction]:
        """Preprocessed pixels `(N, height, width, channels)` → a Prediction each, without a path."""
        scores = self.score_pixels(pixels)
        found = self.judge(pixels, scores.embedding)
        if tally is not None:
            tally.add(found.measured)
        return [self._decide(row, reason) for row, reason in zip(scores.probabilities, found.reasons, strict=True)]

    def _decide(self, probabilities: NDArray[np.float32], reason: str) -> Prediction:
        """Probabilities `(C,)` of one picture → prediction, and decision at the default operating point."""
        prediction = self.classes[int(decide(probabilities[None], self._rule)[0])]
        decision = prediction
        if self.threshold is not None and self.manifest.positive is not None:
            at = self.classes.index(self.manifest.positive)
            is_positive = float(probabilities[at]) >= self.threshold.threshold
            decision = self.classes[at if is_positive else 1 - at]
        found = self._choose_set(probabilities)
        if self.manifest.abstain_by == "set" and found is not None and len(found) != 1 and not reason:
            reason = f"several classes are likely: {', '.join(found)}" if found else "no class is likely enough"
        return Prediction(
            path="",
            prediction=prediction,
            probabilities={name: float(value) for name, value in zip(self.classes, probabilities, strict=True)},
            decision=decision,
            set=found,
            abstain=bool(reason),
            reason=reason,
        )

    def _choose_set(self, probabilities: NDArray[np.float32]) -> tuple[str, ...] | None:
        """The classes that cannot be left out at the bundle's coverage; None of a bundle without such sets."""
        conformal = self.manifest.conformal
        if conformal is None:
            return None
        quantiles = [conformal.quantiles[name] for name in self.classes]
        (inside,) = predict_sets(probabilities[None], quantiles, is_ordered=self.manifest.ordered)
        return tuple(name for name, is_in in zip(self.classes, inside, strict=True) if is_in)


def describe_unreadable(path: str, error: str) -> Prediction:
    """The row of a picture without an answer: whoever looks at `abstain` alone takes it for none."""
    return Prediction(path=path, abstain=True, reason=_UNREADABLE, error=error)


def _require_picture(array: Levels) -> Levels:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype.kind not in "iu" or array.dtype == np.int8 or not is_picture or array.size == 0:
        raise PictureError(
            f"an array must be uint8 or wider integers of shape (H, W) or (H, W, 3), not {array.dtype} {array.shape}",
            "Convert it to uint8; channels come last, as RGB.",
        )
    return array

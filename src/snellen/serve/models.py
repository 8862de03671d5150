"""The bundles that are served, by name. A new version takes the old one's place between two requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snellen.core.errors import UsageError
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.serve.refusals import RefusedError
from snellen.serve.scoring import Scorer
from snellen.serve.wire import ModelAnswer, OperatingPoint

CARD_FILE = "MODEL_CARD.md"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Observe = Callable[[str, int, float], None]


@dataclass(frozen=True)
class BundleSource:
    """Where a bundle lies, and what it is called in addresses; nothing where its own name decides."""

    path: Path
    name: str = ""


class Served:
    """One version of one model, kept until the last request that holds it is answered."""

    def __init__(self, name: str, scorer: Scorer) -> None:
        self.name = name
        self.scorer = scorer
        self.predictor: Predictor = scorer.predictor
        self.card = _read_card(scorer.predictor)
        self._lock = threading.Lock()
        self._holders = 0
        self._is_retired = False

    @property
    def is_held(self) -> bool:
        """Whether a request is being answered."""
        return self._holders > 0

    def take(self) -> bool:
        """Whether this version answers until it is given back; one that is retired does not."""
        with self._lock:
            if self._is_retired:
                return False
            self._holders += 1
            return True

    def give_back(self) -> None:
        """As often as it was taken."""
        with self._lock:
            self._holders -= 1
            is_over = self._is_retired and self._holders == 0
        if is_over:
            self.scorer.close()

    def retire(self) -> None:
        """End as soon as nobody holds it."""
        with self._lock:
            self._is_retired = True
            is_over = self._holders == 0
        if is_over:
            self.scorer.close()

    def describe(self) -> ModelAnswer:
        """For `GET /v1/models`."""
        manifest = self.predictor.manifest
        return ModelAnswer(
            name=self.name,
            sha256=self.predictor.sha256,
            title=manifest.name,
            created=manifest.created,
            snellen_version=manifest.snellen_version,
            task=manifest.task,
            classes=list(manifest.classes),
            positive=manifest.positive,
            is_ordered=manifest.ordered,
            operating_points=[
                OperatingPoint.model_validate(point.model_dump(include=set(OperatingPoint.model_fields)))
                for point in manifest.thresholds
            ],
            backbone=manifest.backbone,
            width_px=manifest.input.width_px,
            height_px=manifest.input.height_px,
            n_patients=manifest.trained_on.n_patients,
            intended_use=manifest.intended_use,
        )


class Models:
    """All that are served. `find` and `reload` may be called from several threads."""

    def __init__(self, sources: Sequence[BundleSource], pool: ThreadPoolExecutor, observe: Observe) -> None:
        self._pool, self._observe = pool, observe
        self._sources: dict[str, Path] = {}
        self._served: dict[str, Served] = {}
        self._reloading = threading.Lock()
        for source in sources:
            self._add(source)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    @property
    def names(self) -> list[str]:
        """In the order in which they were given."""
        return list(self._served)

    def find(self, name: str) -> Served:
        """Raises RefusedError (404)."""
        served = self._served.get(name)
        if served is None:
            raise RefusedError(
                404, "unknown_model", "There is no model of that name.", f"Served: {', '.join(self.names)}."
            )
        return served

    @contextmanager
    def hold(self, name: str) -> Iterator[Served]:
        """The newest version, which goes on answering within, also when a newer one has come. Raises RefusedError: 404,
        and 503 where the server ends.
        """
        served = self.find(name)
        while not served.take():  # retired since it was found: its successor was in place before that
            successor = self.find(name)
            if successor is served:
                raise RefusedError(503, "stopping", "The server ends.", "Ask again when it is back.", 10)
            served = successor
        try:
            yield served
        finally:
            served.give_back()

    def reload(self, name: str) -> Served:
        """Open the bundle anew; the old one goes on until its requests are answered. Raises BundleError, and then
        nothing changed.
        """
        with self._reloading:
            old = self.find(name)
            new = self._open(name, load_bundle(self._sources[name], serves=True))
            self._served[name] = new
        old.retire()
        return new

    def close(self) -> None:
        """End all scoring threads."""
        for served in self:
            served.retire()

    def _add(self, source: BundleSource) -> None:
        predictor = load_bundle(source.path, serves=True)
        name = source.name or to_name(predictor.manifest.name)
        if name in self._served:
            raise UsageError(
                f"Two bundles are called {name}: {self._sources[name]} and {source.path}.",
                f"Name them: snellen serve {name}-1={self._sources[name]} {name}-2={source.path}",
            )
        self._sources[name] = source.path
        self._served[name] = self._open(name, predictor)

    def _open(self, name: str, predictor: Predictor) -> Served:
        _warm_up(predictor)
        return Served(name, Scorer(predictor, self._pool, lambda size, seconds: self._observe(name, size, seconds)))


def to_name(title: str) -> str:
    """A bundle's own name as it may stand in an address."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", title).strip("-._")[:64]
    return plain.lower() or "model"


def read_source(text: str) -> BundleSource:
    """`PATH` or `NAME=PATH`. Raises UsageError."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return BundleSource(Path(text))
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a model.",
            "Up to 64 letters, digits, dots, dashes and underscores; example: fundus=runs/a/bundle",
        )
    return BundleSource(Path(path), name)


def _read_card(predictor: Predictor) -> str:
    if CARD_FILE not in predictor.manifest.files:
        return ""
    return (predictor.folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")


def _warm_up(predictor: Predictor) -> None:
    """The first call of a graph takes longer than others: nobody shall wait for it."""
    asked = predictor.manifest.input
    predictor.score_pixels(np.zeros((1, asked.height_px, asked.width_px, asked.channels), np.uint8))

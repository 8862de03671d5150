"""What is counted for Prometheus, as `snellen_…`. Labels are models, routes and codes, never a client's text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Measures:
    """The counters of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types; a second series for each, which nobody asked for
        self.registry = CollectorRegistry()
        self._requests = self._count("requests", "Requests by route and status.", ("route", "method", "status"))
        self._seconds = Histogram(
            "snellen_request_seconds", "From the first header to the last byte.", ("route",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._pictures = self._count("pictures", "Pictures by model and outcome.", ("model", "outcome"))
        self._scoring = Histogram(
            "snellen_scoring_seconds", "One batch in the graph.", ("model",), buckets=_SECONDS, registry=self.registry
        )
        self._batch = Histogram(
            "snellen_batch_pictures", "Pictures scored together.", ("model",), buckets=(1, 2, 4, 8),
            registry=self.registry,
        )  # fmt: skip
        self._refused = self._count("refused", "Requests that were refused, by code.", ("code",))

    def note_request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def note_refusal(self, code: str) -> None:
        self._refused.labels(code).inc()

    def note_pictures(self, model: str, outcome: str, n: int = 1) -> None:
        """`outcome` is answered, abstained or unreadable."""
        self._pictures.labels(model, outcome).inc(n)

    def note_batch(self, model: str, size: int, seconds: float) -> None:
        self._scoring.labels(model).observe(seconds)
        self._batch.labels(model).observe(size)

    def watch(
        self, name: str, help_text: str, read: Callable[[], Mapping[tuple[str, ...], float]], labels: tuple[str, ...]
    ) -> None:
        """A gauge that is asked whenever somebody looks: a number for each set of values that `labels` take."""
        self.registry.register(_Watched(f"snellen_{name}", help_text, read, labels))

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return bytes(generate_latest(self.registry))

    def _count(self, name: str, help_text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"snellen_{name}", help_text, labels, registry=self.registry)


class _Watched(Collector):
    def __init__(
        self, name: str, help_text: str, read: Callable[[], Mapping[tuple[str, ...], float]], labels: tuple[str, ...]
    ) -> None:
        self._name, self._help, self._read, self._labels = name, help_text, read, labels

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._help, labels=self._labels)
        for values, number in self._read().items():
            family.add_metric(values, number)
        return [family]

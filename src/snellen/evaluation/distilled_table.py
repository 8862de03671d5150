"""What the report says of the one network in place of a fold ensemble: sentences and a table.

This room knows records and English. It must not know HTML, figures or how a number is computed.
"""

from __future__ import annotations

from snellen.evaluation.tables import UNDEFINED, Cell, Table
from snellen.evaluation.wording import MISSING, format_count, format_percent, name_metric
from snellen.records.evaluation import Evaluation
from snellen.records.run import DistilledRecord

_COMPARED = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic", "f1", "brier", "log_loss")


def describe_distilled(record: DistilledRecord) -> list[str]:
    """How the network was made, and what is known of what it loses."""
    told = [_describe_making(record)]
    if record.differences:
        same = (
            "" if record.same_prediction is None else f" Both call {format_percent(record.same_prediction)} the same."
        )
        told.append(
            "Differences are the network's numbers minus the ensemble's on the same test pictures, with patients "
            f"resampled once for both. An interval that holds 0 leaves open which of the two is better.{same}"
        )
    else:
        told.append(f"{record.reason[:1].upper()}{record.reason[1:]}.")
    return told


def _describe_making(record: DistilledRecord) -> str:
    begin = f"The bundle in distilled/ is one network in place of the ensemble of {record.n_members}."
    if record.is_exact:
        return (
            f"{begin} The members share one frozen backbone, and the mean of their heads is one head: nothing was "
            "learned, and what it says differs by rounding alone."
        )
    epochs = format_count(sum(stage.epochs for stage in record.stages), "epoch")
    return (
        f"{begin} It learned for {epochs} from the ensemble's calibrated probabilities of "
        f"{format_count(record.n_pictures, 'picture')} and {format_count(record.n_views, 'augmented view')} of each. "
        "No picture was left to choose its epoch or to calibrate it; its thresholds are the ensemble's."
    )


def build_distilled(record: DistilledRecord, ensemble: Evaluation, distilled: Evaluation | None) -> Table:
    """The ensemble, the network, and by how much the second exceeds the first; scores where the test was opened."""
    keys = [] if distilled is None else [key for key in _COMPARED if key in record.differences]
    own = {} if distilled is None else distilled.metrics
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            *(metrics.get(key, UNDEFINED) for key in keys),
            _format_millions(multiplications),
            f"{latency:.1f}",
        )
        for name, metrics, multiplications, latency in (
            (
                f"Ensemble of {record.n_members}", ensemble.metrics, record.ensemble_multiplications,
                record.ensemble_latency_ms,
            ),
            ("Distilled network", own, record.multiplications, record.latency_ms),
        )
    ]  # fmt: skip
    if keys:
        rows.append(("Difference", *(record.differences[key] for key in keys), *_compare_cost(record)))
    head = ("", *(name_metric(key) for key in keys), "Million multiplications", "ms a picture, one thread")
    return Table("The ensemble and the network in its place", head, tuple(rows), ("text", *["num"] * (len(head) - 1)))


def _compare_cost(record: DistilledRecord) -> tuple[str, str]:
    one, all_of_them = record.multiplications, record.ensemble_multiplications
    ratios = (
        one / all_of_them if one and all_of_them else None,
        record.latency_ms / record.ensemble_latency_ms if record.ensemble_latency_ms else None,
    )
    first, second = (MISSING if ratio is None else f"× {ratio:.2f}" for ratio in ratios)
    return first, second


def _format_millions(value: float | None) -> str:
    return MISSING if value is None else f"{value / 1e6:,.0f}"

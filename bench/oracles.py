"""The numbers of other libraries on small made data, which the tests hold as constants. No data set, no training.

    python -m venv oracles && oracles/bin/pip install dcurves netcal confidenceinterval
    PYTHONPATH=src oracles/bin/python bench/oracles.py

An environment of their own, because they hold pandas and torch at older versions. Each line shows what the library says
and what Snellen says of the same data.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.calibration import compute_ece
from snellen.metrics.decision_curve import compute_decision_curve
from snellen.metrics.paired_auc import compute_correlated_aucs
from snellen.records.evaluation import Intervals

THRESHOLDS = (0.1, 0.2, 0.35, 0.5)


def main() -> None:
    warnings.simplefilter("ignore")
    labels, risk = make_risks()
    show("confidenceinterval, DeLong's variance", delong(labels, risk), own_variance(labels, risk))
    for name, values in decide(labels, risk).items():
        show(f"dcurves, net benefit of {name}", values, own_benefit(labels, risk)[name])
    truth, probabilities = make_classes()
    show("netcal, ECE in 15 bins", netcal_error(truth, probabilities), [compute_ece(truth, probabilities)])


def make_risks(n: int = 200) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities without chance: the same in every version of NumPy."""
    at = np.arange(n)
    risk = (at * 37 % n + 0.5) / n
    labels = ((at * 53 % 101) / 101 < risk**1.5).astype(np.int64)
    return labels, risk


def make_classes(n: int = 240) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of three classes and probabilities, without chance."""
    at = np.arange(n)
    raw = np.stack([1 + at * 29 % 97, 1 + at * 43 % 89, 1 + at * 17 % 83], axis=1).astype(np.float64) ** 1.5
    return (at * 7 % 3 + (at % 5 == 0)) % 3, raw / raw.sum(axis=1, keepdims=True)


def show(name: str, theirs: list[float], own: list[float]) -> None:
    print(f"{name:<40}{', '.join(f'{value:.10g}' for value in theirs)}")
    print(f"{'Snellen':<40}{', '.join(f'{value:.10g}' for value in own)}")


def delong(labels: NDArray[np.int64], risk: NDArray[np.float64]) -> list[float]:
    from confidenceinterval.delong import delong_roc_variance

    return [float(value) for value in delong_roc_variance(labels, risk)]


def own_variance(labels: NDArray[np.int64], risk: NDArray[np.float64]) -> list[float]:
    found = compute_correlated_aucs(labels == 1, [risk], [str(row) for row in range(len(labels))])
    return [float(found.aucs[0]), float(found.covariance[0, 0])]


def decide(labels: NDArray[np.int64], risk: NDArray[np.float64]) -> dict[str, list[float]]:
    import pandas
    from dcurves import dca

    table = dca(
        data=pandas.DataFrame({"sick": labels, "risk": risk}), outcome="sick", modelnames=["risk"],
        thresholds=np.array(THRESHOLDS),
    )  # fmt: skip
    return {
        name: table[table["model"] == model].sort_values("threshold")["net_benefit"].tolist()
        for name, model in (("model", "risk"), ("all", "all"))
    }


def own_benefit(labels: NDArray[np.int64], risk: NDArray[np.float64]) -> dict[str, list[float]]:
    settings = Intervals(n_resamples=100, unit="picture", seed=0)
    found = compute_decision_curve(labels, risk, [str(row) for row in range(len(labels))], settings, THRESHOLDS)
    return {"model": list(found.model), "all": list(found.treat_all)}


def netcal_error(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[float]:
    from netcal.metrics import ECE

    return [float(ECE(15).measure(probabilities, labels))]


if __name__ == "__main__":
    main()

"""The content of `comparison.json`: two models on the same pictures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from snellen.records.base import Record
from snellen.records.evaluation import Estimate, Intervals
from snellen.records.recipe import DecisionRule, EvaluationUnit


class ComparedModel(Record):
    """One side. `n` counts the pictures of its test set, also those that the other lacks."""

    name: str
    folder: str
    data: str
    bundle_sha256: str
    decision: DecisionRule
    n: int
    unit: EvaluationUnit = "picture"
    test_opened: int


class MetricDifference(Record):
    """A metric of both models, and B minus A. `better` is `a` or `b` where the interval leaves out 0."""

    a: float | None
    b: float | None
    difference: Estimate
    standard_error: float | None
    detectable: float | None = Field(description="smallest true difference that is told from 0 with a power of 80 %")
    n_patients_needed: int | None = Field(description="patients that would tell the difference as seen, same power")
    better: Literal["a", "b", "undecided", "equal", "undefined"]


class Agreement(Record):
    """Pictures by which of the two models is right."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    same_prediction: int


class Comparison(Record):
    """The content of `comparison.json`. `headline` is the metric by which the two are told apart first."""

    schema_version: int = 1
    a: ComparedModel
    b: ComparedModel
    task: Literal["binary", "multiclass", "ordinal"]
    classes: tuple[str, ...]
    positive: str | None
    n: int
    n_patients: int
    n_only_a: int
    n_only_b: int
    n_by_class: dict[str, int]
    matched_by: Literal["pixels", "name"]
    headline: str
    metrics: dict[str, MetricDifference]
    agreement: Agreement
    intervals: Intervals
    verdict: str
    notes: tuple[str, ...] = ()
    snellen_version: str

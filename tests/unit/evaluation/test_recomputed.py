"""Every number of evaluation.json and of each figure, from the scores file alone, by scikit-learn and by hand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from models import CALIBRATED, deliver_plain_bundle, edit_manifest
from pictures import make_sample
from snellen.evaluation.evaluate import Question, Scored, evaluate, format_scores
from snellen.evaluation.report import ReportInputs, render_report
from snellen.inference.load import load_bundle
from snellen.metrics.decision import Rule, make_rule
from snellen.records.bundle import Calibration
from snellen.records.cohort import PatientRule
from snellen.records.evaluation import Evaluation, Intervals
from snellen.records.recipe import DecisionRule

KNOWN = PatientRule(rule="patient column", origin="column", n=70)
THRESHOLDS = {"balanced": 0.35, "screening": 0.2}
PLAIN = Calibration(method="none", temperature=1.0, fitted_on="val", n=0)


@dataclass(frozen=True)
class Case:
    """An evaluation as it is written, its report, and the columns of its scores file."""

    evaluation: Evaluation
    page: str
    labels: np.ndarray
    probabilities: np.ndarray
    before: np.ndarray
    called: np.ndarray
    sites: np.ndarray

    @property
    def positive(self) -> int:
        return self.evaluation.classes.index(str(self.evaluation.positive))


SHARES = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module", params=["two classes", "three classes", "grades"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind = request.param
    classes = {"two classes": ("ill", "well"), "three classes": ("a", "b", "c"), "grades": ("0", "1", "2", "3")}[kind]
    names: dict[str, DecisionRule] = {"grades": "expected_grade", "three classes": "balanced"}
    rule = make_rule(names.get(kind, "most_probable"), SHARES)
    folder = tmp_path_factory.mktemp("bundle")
    is_binary, calibration = kind == "two classes", PLAIN if kind == "three classes" else CALIBRATED
    deliver_plain_bundle(folder, classes, positive="ill" if is_binary else None, calibration=calibration)
    points = [
        {"name": name, "rule": "youden", "threshold": at, "chosen_on": "val", "is_default": name == "balanced",
         "n_positive": 31, "n_negative": 64}
        for name, at in THRESHOLDS.items()
    ]  # fmt: skip
    edit_manifest(
        folder,
        decision=names.get(kind, "most_probable"),
        prevalence=dict(zip(classes, SHARES, strict=False)),
        **({"thresholds": points} if is_binary else {}),
    )
    if kind == "grades":
        edit_manifest(folder, ordered=True, task="ordinal")
    scored = make_scored(classes, rule, calibration.temperature)
    question = Question(
        split="test", data="/data", patients=KNOWN, intervals=Intervals(n_resamples=200, unit="patient", seed=0),
        subgroups=("site",), prevalence=0.02,
    )  # fmt: skip
    evaluation = evaluate(load_bundle(folder, threads=1), scored, question)
    rows = list(csv.DictReader(io.StringIO(format_scores(scored.to_scores(), classes))))
    page = render_report(ReportInputs(title="recomputed", evaluation=evaluation, scores=scored.to_scores()))
    logits = np.array([[float(row[f"logit_{name}"]) for name in classes] for row in rows])
    raised = np.exp(logits - logits.max(1, keepdims=True))
    stated = np.array([[float(row[f"probability_{name}"]) for name in classes] for row in rows])
    return Case(
        # as another program reads it
        Evaluation.model_validate_json(evaluation.to_json()),
        page,
        np.array([classes.index(row["label"]) for row in rows]),
        stated / stated.sum(1, keepdims=True),  # of seven digits, which do not quite add up
        raised / raised.sum(1, keepdims=True),
        np.array([classes.index(row["prediction"]) for row in rows]),
        np.array([sample.attributes["site"] for sample in scored.samples]),
    )


def make_scored(classes: tuple[str, ...], rule: Rule, temperature: float, n: int = 140) -> Scored:
    random = np.random.default_rng(3)
    labels = np.arange(n) // 2 % len(classes)
    distance = np.abs(labels[:, None] - np.arange(len(classes)))
    logits = random.normal(0, 1.5, (n, len(classes))) - 1.2 * distance
    raised = np.exp(logits / temperature)
    samples = [
        make_sample(f"{row}.png", classes[label], f"P{row // 2}").model_copy(update={"attributes": {"site": site}})
        for row, (label, site) in enumerate(zip(labels, np.repeat(random.choice(["A", "B"], n // 2), 2), strict=True))
    ]
    embedding = random.normal(0.5, 0.1, (n, 3)).astype(np.float32)
    probabilities = raised / raised.sum(1, keepdims=True)
    scored = Scored(tuple(samples), labels, probabilities, logits, embedding, 0, classes, rule)
    return replace(scored, rule=rule)


# the file holds seven digits
CLOSE: dict[str, Any] = {"rel": 2e-5, "abs": 2e-6}


def compute_error(labels: np.ndarray, probabilities: np.ndarray, edges: np.ndarray) -> float:
    """Σ |hits - confidence| over bins of confidence, closed above, by a loop."""
    confidence, hits = probabilities.max(1), probabilities.argmax(1) == labels
    found = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        found += abs(hits[inside].sum() - confidence[inside].sum())
    return found / len(labels)


def compute_even_error(labels: np.ndarray, probabilities: np.ndarray, n_bins: int = 15) -> float:
    confidence, hits = probabilities.max(1), probabilities.argmax(1) == labels
    order = np.argsort(confidence, kind="stable")
    bins = np.arange(len(labels)) * n_bins // len(labels)
    return sum(abs(hits[order][bins == b].sum() - confidence[order][bins == b].sum()) for b in range(n_bins)) / len(
        labels
    )


def rank_classes(case: Case, score: Any) -> float:
    y, p = case.labels, case.probabilities
    if case.evaluation.positive:
        return float(score(y == case.positive, p[:, case.positive]))
    return float(np.mean([score(y == c, p[:, c]) for c in range(p.shape[1])]))


def test_metrics(case: Case) -> None:
    y, p, called = case.labels, case.probabilities, case.called
    macro, weighted = ({"average": how, "zero_division": 0} for how in ("macro", "weighted"))
    brier = ((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean() / (2 if p.shape[1] == 2 else 1)
    shares = np.bincount(y) / len(y)
    prior = (shares * (1 - shares)).sum() / (2 if p.shape[1] == 2 else 1)
    expected = {
        "accuracy": metrics.accuracy_score(y, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, called),
        "f1": metrics.f1_score(y, called, **macro),
        "precision": metrics.precision_score(y, called, **macro),
        "recall": metrics.recall_score(y, called, **macro),
        "f1_weighted": metrics.f1_score(y, called, **weighted),
        "precision_weighted": metrics.precision_score(y, called, **weighted),
        "recall_weighted": metrics.recall_score(y, called, **weighted),
        "mcc": metrics.matthews_corrcoef(y, called),
        "auc": rank_classes(case, metrics.roc_auc_score),
        "average_precision": rank_classes(case, metrics.average_precision_score),
        "log_loss": metrics.log_loss(y, p),
        "brier": brier,
        "brier_skill": 1 - brier / prior,
        "ece": compute_error(y, p, np.linspace(0, 1, 16)),
        "ece_adaptive": compute_even_error(y, p),
    }
    if case.evaluation.task == "ordinal":
        expected |= {
            "kappa_quadratic": metrics.cohen_kappa_score(y, called, weights="quadratic"),
            "kappa_linear": metrics.cohen_kappa_score(y, called, weights="linear"),
            "off_by_two": (np.abs(y - called) >= 2).mean(),
        }
    found = case.evaluation.metrics
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, **CLOSE), name


def test_counts_and_confusion(case: Case) -> None:
    evaluation = case.evaluation
    assert (evaluation.n, evaluation.n_patients) == (140, 70)
    assert np.array_equal(evaluation.confusion, metrics.confusion_matrix(case.labels, case.called))


def test_each_class(case: Case) -> None:
    for c, (_, own) in enumerate(case.evaluation.per_class.items()):
        y, called, p = case.labels == c, case.called == c, case.probabilities[:, c]
        assert own.n == y.sum()
        expected = {
            "precision": metrics.precision_score(y, called), "recall": metrics.recall_score(y, called),
            "specificity": metrics.recall_score(~y, ~called), "npv": metrics.precision_score(~y, ~called),
            "f1": metrics.f1_score(y, called), "auc": metrics.roc_auc_score(y, p),
            "average_precision": metrics.average_precision_score(y, p),
        }  # fmt: skip
        for name, value in expected.items():
            assert getattr(own, name).value == pytest.approx(value, **CLOSE), name


def test_operating_points_and_decision_curve(case: Case) -> None:
    evaluation = case.evaluation
    if evaluation.positive is None:
        assert (evaluation.operating_points, evaluation.decision_curve) == ((), None)
        return
    sick, risk = case.labels == case.positive, case.probabilities[:, case.positive]
    for point in evaluation.operating_points:
        called = risk >= THRESHOLDS[point.name]
        tn, fp, fn, tp = metrics.confusion_matrix(sick, called).ravel()
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        expected = {
            "sensitivity": sensitivity, "specificity": specificity, "ppv": tp / (tp + fp), "npv": tn / (tn + fn),
            "lr_positive": sensitivity / (1 - specificity), "lr_negative": (1 - sensitivity) / specificity,
        }  # fmt: skip
        for name, value in expected.items():
            assert getattr(point, name).value == pytest.approx(value), name
        assert (point.n_positive, point.n_chosen_positive, point.n_chosen_negative) == (sick.sum(), 31, 64)
        assert 0.02 in [each.prevalence for each in point.at_prevalence]
        for each in point.at_prevalence:
            odds = each.prevalence / (1 - each.prevalence) * expected["lr_positive"]
            assert each.ppv.value == pytest.approx(odds / (1 + odds))
            odds = (1 - each.prevalence) / each.prevalence / expected["lr_negative"]
            assert each.npv.value == pytest.approx(odds / (1 + odds))
    curve = evaluation.decision_curve
    assert curve is not None
    for at, model, everyone in zip(curve.thresholds, curve.model, curve.treat_all, strict=True):
        called = risk >= at
        assert model == pytest.approx(((called & sick).sum() - (called & ~sick).sum() * at / (1 - at)) / 140)
        assert everyone == pytest.approx(sick.mean() - (1 - sick.mean()) * at / (1 - at))


def test_calibration(case: Case) -> None:
    own, y = case.evaluation.calibration, case.labels
    edges = np.linspace(0, 1, 16)
    assert own.ece_before == pytest.approx(compute_error(y, case.before, edges), **CLOSE)
    assert own.ece_after == pytest.approx(compute_error(y, case.probabilities, edges), **CLOSE)
    assert own.log_loss_before == pytest.approx(metrics.log_loss(y, case.before), **CLOSE)
    assert own.log_loss_after == pytest.approx(metrics.log_loss(y, case.probabilities), **CLOSE)
    parts = [(own.bins, own.check, case.probabilities), (own.bins_before, own.check_before, case.before)]
    assert (own.check_before is None) == (own.method == "none")
    for bins, check, p in [part for part in parts if part[1] is not None]:
        confidence, hits = p.max(1), p.argmax(1) == y
        for each in bins:
            inside = (confidence > each.low) & (confidence <= each.high)
            assert each.n == inside.sum()
            assert each.accuracy == pytest.approx(hits[inside].mean())
            assert each.confidence == pytest.approx(confidence[inside].mean(), **CLOSE)
        assert sum(each.n for each in bins) == 140
        assert check is not None
        assert check.ece_adaptive == pytest.approx(compute_even_error(y, p), **CLOSE)
        for c, line in enumerate(check.lines.values()):
            logit = np.log(p[:, c] / (1 - p[:, c]))[:, None]
            slope = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000).fit(logit, y == c).coef_[0, 0]
            assert line.slope.value == pytest.approx(slope, rel=2e-3)
            # at the intercept with slope 1 the mean probability is the share
            moved = 1 / (1 + np.exp(-(logit[:, 0] + (line.intercept.value or 0))))
            assert moved.mean() == pytest.approx((y == c).mean(), abs=1e-5)
            assert line.mean_probability == pytest.approx(p[:, c].mean(), **CLOSE)


def test_parts(case: Case) -> None:
    assert [part.value for part in case.evaluation.subgroups] == ["A", "B"]
    for part in case.evaluation.subgroups:
        inside = case.sites == part.value
        hits = case.called == case.labels
        assert part.n == inside.sum()
        assert part.metrics["accuracy"].value == pytest.approx(hits[inside].mean())
        assert part.differences["accuracy"].value == pytest.approx(hits[inside].mean() - hits[~inside].mean())


class Figures(HTMLParser):
    """Of each figure of a report, the rows of its data table: texts of the cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._figure, self._cell = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = dict(attrs).get("id") or ""
        if tag == "figure" and name.startswith("figure-"):
            self._figure = name.removeprefix("figure-")
            self.found[self._figure] = []
        if self._figure and tag == "tr":
            self.found[self._figure].append([])
        if self._figure and tag in ("td", "th") and self.found[self._figure]:
            self.found[self._figure][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        if tag == "figure":
            self._figure = ""

    def handle_data(self, data: str) -> None:
        if self._figure and self._cell:
            self.found[self._figure][-1][-1] += data


def read_number(text: str) -> float:
    """The first number of a cell, as it is printed."""
    found = re.search(r"−?\d+(\.\d+)?", text)
    assert found, text
    return float(found[0].replace("−", "-"))


def test_every_figure_shows_its_numbers(case: Case) -> None:
    shown = Figures(case.page).found
    assert {"confusion", "roc", "pr", "reliability", "parts", "baselines"} <= shown.keys()
    assert ("decision" in shown) == (case.evaluation.positive is not None)
    printed = {"abs": 0.00051}  # three decimals
    for row, counts in zip(shown["confusion"][1:], case.evaluation.confusion, strict=True):
        assert [read_number(cell) for cell in row[1:-1]] == list(counts)
    columns = [case.evaluation.classes.index(name) for name in shown["roc"][0][1:]]
    for kind, curve in (("roc", metrics.roc_curve), ("pr", metrics.precision_recall_curve)):
        for row in shown[kind][1:]:
            at = float(row[0])
            for cell, c in zip(row[1:], columns, strict=True):
                first, second, _ = curve(case.labels == c, case.probabilities[:, c])
                best = second[first <= 1 - at + 1e-9].max() if kind == "roc" else first[second >= at - 1e-9].max()
                assert read_number(cell) == pytest.approx(best, **printed)
    bins = [*case.evaluation.calibration.bins_before, *case.evaluation.calibration.bins]
    for row, each in zip(shown["reliability"][1:], bins, strict=True):
        assert int(row[1]) == each.n
        assert read_number(row[3]) == pytest.approx(each.accuracy, **printed)
    for row, part in zip(shown["parts"][1:], case.evaluation.subgroups, strict=True):
        assert read_number(row[2]) == pytest.approx(part.metrics["auc"].value, **printed)
    if case.evaluation.decision_curve is not None:
        curve_of = dict(
            zip(case.evaluation.decision_curve.thresholds, case.evaluation.decision_curve.model, strict=True)
        )
        for row in shown["decision"][1:]:
            assert read_number(row[1]) == pytest.approx(curve_of[float(row[0])], **printed)

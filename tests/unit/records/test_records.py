"""Records are inert and strict: frozen, no unknown keys, no NaN, the same after JSON; plans know no "auto"."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pictures import make_augment, make_cohort, make_preprocess, make_sample
from snellen.records.base import Record
from snellen.records.bundle import Prediction
from snellen.records.cohort import Cohort, Issue, Split
from snellen.records.evaluation import Estimate
from snellen.records.layers import Dense, Dropout
from snellen.records.plan import AugmentPlan, DataPlan, ImbalancePlan, PreprocessPlan, StagePlan, TrainingPlan
from snellen.records.recipe import DataWish, EvaluationWish, ModelWish, PreprocessWish, Recipe, StageWish
from snellen.records.run import DataRequest, TrainRequest

STAGE = {
    "unfreeze": "none", "epochs": 3, "batch_size": 32, "lr": 0.1, "weight_decay": (0.1,), "schedule": "cosine",
    "patience": 2,
}  # fmt: skip
DATA = {
    "task": "binary", "classes": ("a", "b"), "ordered": False, "positive": "b", "fractions": (0.7, 0.15, 0.15),
}  # fmt: skip
PLANS: list[tuple[type[Record], dict[str, Any]]] = [
    (PreprocessPlan, make_preprocess().model_dump()),
    (AugmentPlan, make_augment().model_dump()),
    (ImbalancePlan, {"method": "none"}),
    (StagePlan, STAGE),
    (TrainingPlan, {"seed": 0, "threads": 2, "stages": (STAGE,)}),
    (DataPlan, DATA),
]
PLAN_KEYS = [(kind, key) for kind, values in PLANS for key in values if key != "positive"]
RECORDS = [
    make_cohort([make_sample("a.png", "x", "007"), make_sample("b.png", "y", split="val")]),
    make_preprocess(),
    Recipe(),
    TrainRequest(source=DataRequest(data="d", columns={"image": "file"}), settings=("a=1",)),
    Prediction(path="a.png", probabilities={"x": 0.25, "y": 0.75}),
]


def test_record_refuses_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_preprocess().size = 64  # type: ignore[misc]  # the point


def test_record_refuses_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="sise"):
        make_preprocess(sise=64)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_record_refuses_numbers_that_json_lacks(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Estimate(value=number)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_is_the_same_after_json(record: Record) -> None:
    assert type(record).model_validate_json(record.to_json()) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_is_the_same_after_strict_json(record: Record) -> None:
    assert type(record).model_validate_json(record.to_json(), strict=True) == record


def test_record_json_ends_with_newline() -> None:
    assert make_preprocess().to_json().endswith("}\n")


@pytest.mark.parametrize(("kind", "key"), PLAN_KEYS, ids=lambda value: getattr(value, "__name__", value))
def test_plan_refuses_auto(kind: type[Record], key: str) -> None:
    values = next(values for other, values in PLANS if other is kind)
    with pytest.raises(ValidationError):
        kind.model_validate({**values, key: "auto"})


@pytest.mark.parametrize("patient", ["007", "0", "1e5", "None"])
def test_sample_keeps_patient_a_string(patient: str) -> None:
    assert make_sample("a.png", "x", patient).patient == patient


def test_sample_refuses_patient_that_became_a_number() -> None:
    with pytest.raises(ValidationError, match="string"):
        make_sample("a.png", "x", 7)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("/data/eyes", "eyes"), ("/data/eyes/", "eyes"), ("/data/eyes.v2", "eyes.v2"), ("C:\\data\\eyes", "eyes"),
        ("/data/octmnist.npz", "octmnist"), ("/data/labels.csv", "labels"), ("/data/labels.tsv", "labels"),
        ("/", "cohort"), ("", "cohort"),
    ],
)  # fmt: skip
def test_cohort_name_is_short(root: str, expected: str) -> None:
    assert make_cohort([make_sample("a.png", "x")], root=root).name == expected


def test_cohort_json_survives_quotes_and_umlauts() -> None:
    cohort = make_cohort([make_sample('a"\n,ß.png', "Größe, klein")])
    assert Cohort.model_validate_json(cohort.to_json()) == cohort


@pytest.mark.parametrize("severity", ["info", "warning", "severe"])
def test_issue_takes_the_three_severities(severity: str) -> None:
    assert Issue.model_validate({"code": "c", "severity": severity, "message": "m", "advice": "a"}).severity == severity


def test_issue_refuses_another_severity() -> None:
    with pytest.raises(ValidationError):
        Issue.model_validate({"code": "c", "severity": "critical", "message": "m", "advice": "a"})


def test_split_refuses_an_unknown_part() -> None:
    with pytest.raises(ValidationError):
        Split.model_validate({"sample": "a", "patient": "p", "group": "p", "label": "x", "split": "holdout"})


def test_recipe_by_default_leaves_the_choice_open() -> None:
    recipe = Recipe()
    assert {recipe.preprocess.size, recipe.model.backbone, recipe.data.task, recipe.augment.views} == {"auto"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (PreprocessWish, {"size": 15}), (PreprocessWish, {"size": 2049}), (PreprocessWish, {"channels": 2}),
        (PreprocessWish, {"clahe": -1}), (PreprocessWish, {"fit": "squash"}), (DataWish, {"fractions": (1.2, 0, 0)}),
        (DataWish, {"fractions": (0.5, 0.5)}), (StageWish, {"epochs": 0}), (StageWish, {"lr": 0}),
        (StageWish, {"weight_decay": (-0.1,)}), (StageWish, {"unfreeze": "all"}), (Dropout, {"p": 1}),
        (Dense, {"units": 0}), (EvaluationWish, {"level": 1}), (EvaluationWish, {"sensitivity": 0.5}),
        (EvaluationWish, {"resamples": 10}), (ModelWish, {"head": [{"type": "softmax"}]}),
    ],
)  # fmt: skip
def test_recipe_refuses_values_out_of_range(kind: type[Record], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(values)


def test_recipe_tells_head_layers_by_type() -> None:
    head = ModelWish.model_validate({"head": [{"type": "dense", "units": 8}, {"type": "relu"}]}).head
    assert [type(layer).__name__ for layer in head] == ["Dense", "Relu"]


def test_record_with_a_name_that_is_no_utf8_is_json_all_the_same() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    text = Issue(code="x", severity="info", message=name, advice="a").to_json()
    assert json.loads(text.encode("utf-8"))["message"] == name


def test_plan_written_before_windows_and_backgrounds_loads() -> None:
    old = {"size": 32, "fit": "pad", "crop_border": False, "clahe": 0.0, "channels": 3, "normalize": "weights"}
    plan = PreprocessPlan.model_validate(old)
    assert (plan.window, plan.background) == (None, "white")


def test_cohort_is_called_by_its_folder_or_by_the_file_that_holds_all() -> None:
    folder = [make_sample("a/1.png", "a"), make_sample("b/1.png", "b")]
    inside = [
        sample.model_copy(update={"location": f"chest.npz::train_images[{at}]"}) for at, sample in enumerate(folder)
    ]
    assert make_cohort(folder, root="/data/eyes").name == "eyes"
    assert make_cohort(inside, root="/data").name == "chest"
    assert make_cohort([*folder, *inside], root="/data/mixed").name == "mixed"

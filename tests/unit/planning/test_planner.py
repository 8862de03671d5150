"""The plan: every value concrete, decided by a rule that is told, and never against what was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pictures import make_cohort, make_sample
from snellen.core.errors import UsageError
from snellen.planning.plan_data import choose_positive
from snellen.planning.planner import Machine, choose_plan
from snellen.planning.recipe_files import load_recipe
from snellen.records.cohort import Cohort
from snellen.records.plan import Decision, Fingerprint, Plan

MACHINE = Machine(threads=2, seed=7, has_offline_weights=True)


def make_classes(*classes: str, **facts: Any) -> Cohort:
    return make_cohort([make_sample(f"{name}.png", name) for name in classes], classes, **facts)


def make_fingerprint(**changes: Any) -> Fingerprint:
    plain: dict[str, Any] = {
        "n_samples": 500, "n_patients": 400, "class_counts": {"a": 300, "b": 200},
        "patients_by_class": {"a": 250, "b": 150},
        "width_px": (300, 300, 300), "height_px": (300, 300, 300), "aspect_median": 1.0, "n_shapes": 1,
        "formats": {"JPEG": 500}, "grey_fraction": 0.0, "border_fraction": 0.0, "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2), "n_measured": 200,
    }  # fmt: skip
    return Fingerprint.model_validate({**plain, **changes})


def plan(*settings: str, cohort: Cohort | None = None, **facts: Any) -> Plan:
    cohort = cohort or make_classes("normal", "pneumonia")
    return choose_plan(load_recipe("auto", settings), cohort, make_fingerprint(**facts), MACHINE)


def get_decision(made: Plan, key: str) -> Decision:
    return next(decision for decision in made.decisions if decision.key == key)


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (("normal", "pneumonia"), "pneumonia"), (("NORMAL", "PNEUMONIA"), "PNEUMONIA"), (("DR", "No_DR"), "DR"),
        (("Healthy", "AMD"), "AMD"), (("no", "yes"), "yes"), (("0", "1"), "1"), (("false", "true"), "true"),
        (("negative", "positive"), "positive"), (("benign", "malignant"), "malignant"),
        (("absent", "present"), "present"),
        (("cataract", "normal eye"), "cataract"), (("glaucoma", "non-glaucoma"), "glaucoma"),
        (("globally_sclerotic", "non_globally_sclerotic"), "globally_sclerotic"), (("control", "oedema"), "oedema"),
        (("abnormal", "normal"), "abnormal"), (("noduli", "normal"), "noduli"),
        (("malignant", "normal, benign"), "malignant"),
    ],
)  # fmt: skip
def test_choose_positive_takes_the_finding(classes: tuple[str, str], positive: str) -> None:
    assert choose_positive(classes)[0] == positive


@pytest.mark.parametrize("classes", [("cnv", "drusen"), ("control", "normal"), ("A", "B"), ("left", "right")])
def test_choose_positive_says_when_it_cannot_tell(classes: tuple[str, str]) -> None:
    positive, _, reason = choose_positive(classes)
    assert reason.startswith("UNDECIDED")
    assert positive in reason


def test_choose_positive_that_can_tell_does_not_warn() -> None:
    assert "UNDECIDED" not in choose_positive(("normal", "pneumonia"))[2]


@pytest.mark.parametrize(
    ("classes", "facts", "task"),
    [
        (("normal", "pneumonia"), {}, "binary"), (("cnv", "drusen", "normal"), {}, "multiclass"),
        (("grade_0", "grade_1", "grade_2", "grade_3", "grade_4"), {}, "ordinal"),
        (("Stage 1", "Stage 2", "Stage 3"), {}, "ordinal"), (("0", "1", "2"), {}, "multiclass"),
        (("0", "1", "2"), {"class_origin": "column dr_grade"}, "ordinal"),
        (("0", "1", "2"), {"class_origin": "column site"}, "multiclass"),
        (("0", "1", "2"), {"is_ordered": True}, "ordinal"),
        (("grade_0", "grade_1"), {}, "binary"), (("grade_0", "grade_1", "ungradable"), {}, "multiclass"),
    ],
)  # fmt: skip
def test_task_follows_from_the_classes(classes: Sequence[str], facts: dict[str, Any], task: str) -> None:
    made = plan(cohort=make_classes(*classes, **facts)).data
    assert (made.task, made.ordered) == (task, task == "ordinal")


def test_unordered_task_says_how_to_order_it() -> None:
    made = plan(cohort=make_classes("large", "medium", "small"))
    assert 'set data.order=["small", "medium", "large"]' in get_decision(made, "data.ordered").reason


def test_task_asked_to_be_ordinal_orders_the_classes() -> None:
    made = plan("data.task=ordinal", cohort=make_classes("small", "medium", "large")).data
    assert (made.task, made.ordered) == ("ordinal", True)


def test_order_asked_makes_the_task_ordinal() -> None:
    assert plan("data.ordered=true", cohort=make_classes("mild", "none", "severe")).data.task == "ordinal"


def test_more_than_two_classes_have_no_positive() -> None:
    assert plan(cohort=make_classes("a", "b", "c")).data.positive is None


@pytest.mark.parametrize(
    ("task", "classes"), [("binary", "abc"), ("multiclass", "ab"), ("ordinal", "ab"), ("binary", "abcde")]
)
def test_task_that_does_not_fit_the_classes_is_refused(task: str, classes: str) -> None:
    with pytest.raises(UsageError, match=f"data.task = {task}, but the data have {len(classes)} classes") as caught:
        plan(f"data.task={task}", cohort=make_classes(*classes))
    assert caught.value.hint


def test_positive_among_three_classes_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="for two classes only, not for 3: a, b, c"):
        plan("data.positive=b", cohort=make_classes("a", "b", "c"))


def test_positive_that_is_none_of_three_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="'gesund' is none of the classes a, b, c"):
        plan("data.positive=gesund", cohort=make_classes("a", "b", "c"))


def test_positive_that_is_no_class_is_refused_with_the_classes() -> None:
    with pytest.raises(UsageError, match=r"'Pneumonia' is none of the classes normal, pneumonia"):
        plan("data.positive=Pneumonia")


def test_fractions_that_add_up_but_for_rounding_are_taken() -> None:
    assert plan("data.fractions=[0.6, 0.3, 0.1]").data.fractions == (0.6, 0.3, 0.1)


@pytest.mark.parametrize(("grey", "channels"), [(1.0, 1), (0.99, 3), (0.0, 3)])
def test_channels_follow_colour(grey: float, channels: int) -> None:
    assert plan(grey_fraction=grey).preprocess.channels == channels


@pytest.mark.parametrize(("border", "expected"), [(0.0, False), (0.01, False), (0.2, True)])
def test_black_border_is_cut_off_where_there_is_one(border: float, expected: bool) -> None:
    assert plan(border_fraction=border).preprocess.crop_border is expected


def test_border_decision_tells_the_measured_share() -> None:
    assert "20%" in get_decision(plan(border_fraction=0.2), "preprocess.crop_border").reason


def test_views_shrink_with_the_cohort() -> None:
    views = [plan(n_samples=n).augment.views for n in (50, 1000, 4000, 6000, 50_000)]
    assert views == sorted(views, reverse=True)
    assert views[0] > views[-1] >= 1


def test_views_shrink_with_the_size() -> None:
    small, large = (plan(f"preprocess.size={size}", n_samples=3000).augment.views for size in (128, 512))
    assert small > large


def test_tiny_pictures_of_a_large_cohort_are_not_blown_up_to_the_full() -> None:
    tiny = {"width_px": (28, 28, 28), "height_px": (28, 28, 28)}
    assert plan(n_samples=100_000, **tiny).preprocess.size < plan(n_samples=1000, **tiny).preprocess.size


def test_large_pictures_of_a_small_cohort_keep_more_detail() -> None:
    large = {"width_px": (4000, 4000, 4000), "height_px": (3000, 3000, 3000)}
    assert plan(n_samples=400, **large).preprocess.size > plan(n_samples=400).preprocess.size
    sizes = [plan(n_samples=n, **large).preprocess.size for n in (1500, 1501, 2500, 2501)]
    assert sizes == [400, 320, 320, 224]


def walk(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of plain JSON; a list of records is walked, another is one value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from walk(inner, f"{prefix}{key}.")
    elif isinstance(value, list) and value and isinstance(value[0], dict) and not prefix.startswith("model.head"):
        for index, inner in enumerate(value):
            yield from walk(inner, f"{prefix}{index}.")
    else:
        yield prefix[:-1], value


# what the recipe has no say in, or what another decision implies
GIVEN = {
    "schema_version", "recipe", "data.classes", "model.n_classes", "model.mean", "model.std", "model.side_px",
    "training.seed",
    "training.stages.0.unfreeze",
}  # fmt: skip


def test_every_value_has_a_decision() -> None:
    made = plan().to_dict()
    made.pop("decisions")
    decided = {decision.key for decision in plan().decisions}
    assert {key for key, _ in walk(made)} - GIVEN - decided == set()


def test_every_decision_is_about_a_value() -> None:
    made = plan()
    keys = {key for key, _ in walk(made.to_dict())}
    assert {decision.key for decision in made.decisions} <= keys


def test_every_decision_tells_the_value_that_was_taken() -> None:
    made = plan("training.stages.0.weight_decay=0.5", "preprocess.size=64")
    values = dict(walk(made.to_dict()))
    wrong = [
        d.key for d in made.decisions if json.loads(json.dumps(d.value)) not in (values[d.key], *_single(values[d.key]))
    ]
    assert wrong == []


def _single(value: Any) -> tuple[Any, ...]:
    """A list of one may be told as its only value."""
    return (value[0],) if isinstance(value, list) and len(value) == 1 else ()


def test_every_key_is_decided_once() -> None:
    keys = [decision.key for decision in plan().decisions]
    assert len(set(keys)) == len(keys)


def test_every_decision_has_a_reason_of_its_own() -> None:
    assert [decision.key for decision in plan().decisions if len(decision.reason) < 10] == []


def test_plan_says_auto_nowhere() -> None:
    made = plan().to_dict()
    assert made.pop("recipe") == "auto"  # the recipe's name
    assert '"auto"' not in json.dumps(made)


ASKED = [
    ("preprocess.size", "64", 64), ("preprocess.fit", "crop", "crop"), ("preprocess.crop_border", "true", True),
    ("preprocess.channels", "1", 1), ("preprocess.clahe", "2.0", 2.0), ("preprocess.normalize", "unit", "unit"),
    ("data.positive", "normal", "normal"), ("augment.views", "0", 0), ("augment.flip_horizontal", "false", False),
    ("augment.rotation_deg", "0.0", 0.0), ("imbalance.method", "class_weights", "class_weights"),
    ("imbalance.focal_gamma", "1.5", 1.5), ("imbalance.logit_tau", "0.5", 0.5), ("imbalance.neighbors", "3", 3),
    ("model.backbone", "mobilenetv2_100", "mobilenetv2_100"), ("model.weights", "none", "none"),
    ("training.threads", "1", 1), ("training.stages.0.epochs", "3", 3), ("training.stages.0.lr", "0.5", 0.5),
    ("evaluation.resamples", "200", 200),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "value"), ASKED)
def test_asked_value_wins(key: str, text: str, value: Any) -> None:
    assert dict(walk(plan(f"{key}={text}").to_dict()))[key] == value


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, text, _ in ASKED])
def test_asked_value_is_recorded_as_asked(key: str, text: str) -> None:
    assert get_decision(plan(f"{key}={text}"), key).how == "asked"


@pytest.mark.parametrize("key", [key for key, *_ in ASKED])
def test_value_that_nobody_asked_for_is_not_recorded_as_asked(key: str) -> None:
    assert get_decision(plan(), key).how != "asked"


def test_single_weight_decay_becomes_a_list_of_one() -> None:
    assert plan("training.stages.0.weight_decay=0.5").training.stages[0].weight_decay == (0.5,)


@pytest.mark.parametrize(
    ("normalize", "mean"), [("unit", (0, 0, 0)), ("imagenet", (0.485, 0.456, 0.406)), ("weights", (0.5, 0.5, 0.5))]
)
def test_normalisation_is_what_was_asked(normalize: str, mean: tuple[float, ...]) -> None:
    # timm publishes mean 0.5 for tf_efficientnet_lite0
    assert plan(f"preprocess.normalize={normalize}", "model.backbone=tf_efficientnet_lite0").model.mean == mean


def test_unknown_backbone_is_refused_with_near_names() -> None:
    with pytest.raises(UsageError, match="mobilenetv2_10") as caught:
        plan("model.backbone=mobilenetv2_10")
    assert "mobilenetv2_100" in caught.value.hint


def test_plan_takes_threads_and_seed_of_the_machine() -> None:
    made = plan().training
    assert (made.threads, made.seed) == (2, 7)


def test_plan_repeats_for_equal_input() -> None:
    assert plan() == plan()


def test_plan_reads_back_from_its_json() -> None:
    assert Plan.model_validate_json(plan().to_json()) == plan()


@pytest.mark.parametrize("counts", [{"a": 5}, {"a": 5, "b": 0}, {"a": 9000, "b": 3}])
def test_plan_copes_with_lopsided_counts(counts: dict[str, int]) -> None:
    assert plan(class_counts=counts).imbalance.method in ("none", "class_weights")


@pytest.mark.parametrize(
    ("method", "key"),
    [("focal", "focal_gamma"), ("logit_adjustment", "logit_tau"), ("smote_tomek", "neighbors"), ("random_over", "on")],
)
def test_parameter_of_another_method_is_said_to_be_unused(method: str, key: str) -> None:
    assert "not used" not in get_decision(plan(f"imbalance.method={method}"), f"imbalance.{key}").reason
    assert "not used" in get_decision(plan("imbalance.method=none"), f"imbalance.{key}").reason


@pytest.mark.parametrize(
    "setting", ["focal_gamma=-1", "focal_gamma=6", "logit_tau=2.5", "neighbors=0", "method=smotee", "on=faces"]
)
def test_imbalance_outside_its_range_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        plan(f"imbalance.{setting}")


def test_plan_of_an_earlier_version_has_the_defaults() -> None:
    content = plan().to_dict()
    content["imbalance"] = {"method": "class_weights"}
    found = Plan.model_validate_json(json.dumps(content)).imbalance
    assert (found.focal_gamma, found.on) == (2.0, "features")


def test_old_name_of_smote_is_smote() -> None:
    one, other = (plan(f"imbalance.method={name}") for name in ("oversample_features", "smote"))
    assert one == other
    content = other.to_dict()
    content["imbalance"]["method"] = "oversample_features"
    assert Plan.model_validate_json(json.dumps(content)) == other


@pytest.mark.parametrize("method", ["smote", "smote_tomek"])
def test_new_pictures_are_small(method: str) -> None:
    settings = (f"imbalance.method={method}", "imbalance.on=pixels")
    with pytest.raises(UsageError, match=r"at most 64 px.*224") as told:
        plan(*settings, "preprocess.size=224")
    assert "preprocess.size=64" in told.value.hint
    assert plan(*settings, "preprocess.size=64").imbalance.on == "pixels"


def test_new_pictures_are_few() -> None:
    settings = ("imbalance.method=smote", "imbalance.on=pixels", "preprocess.size=64", "preprocess.channels=3")
    # 2 classes × 4,500 × 64² × 3 × 4 bytes = 442 MB
    with pytest.raises(UsageError, match="442 MB of pixels"):
        plan(*settings, class_counts={"a": 4500, "b": 30})


@pytest.mark.parametrize("method", ["random_over", "random_under", "augment", "class_weights"])
def test_what_makes_no_pictures_may_be_large(method: str) -> None:
    found = plan(f"imbalance.method={method}", "imbalance.on=pixels", "preprocess.size=224")
    assert found.imbalance.method == method


def test_window_is_what_was_measured() -> None:
    made = plan(deep_levels=(100.0, 3000.0), n_deep_measured=42)
    assert made.preprocess.window == (100.0, 3000.0)
    assert get_decision(made, "preprocess.window").how == "measured"
    assert "42 training pictures" in get_decision(made, "preprocess.window").reason


def test_window_is_absent_where_all_pictures_have_8_bits() -> None:
    assert plan().preprocess.window is None


def test_window_that_was_asked_for_wins() -> None:
    made = plan("preprocess.window=[0, 4095]", deep_levels=(100.0, 3000.0), n_deep_measured=42)
    assert made.preprocess.window == (0, 4095)
    assert get_decision(made, "preprocess.window").how == "asked"


@pytest.mark.parametrize("window", ["[5, 5]", "[9, 1]"])
def test_window_without_width_is_refused(window: str) -> None:
    with pytest.raises(UsageError, match=r"preprocess\.window"):
        plan(f"preprocess.window={window}")


def test_window_cannot_be_measured_on_validation_or_test() -> None:
    deep = make_cohort([make_sample("normal.png", "normal"), make_sample("pneumonia.png", "pneumonia", bits=16)])
    with pytest.raises(UsageError, match="cannot be measured") as caught:
        plan(cohort=deep)
    assert "--set preprocess.window" in caught.value.hint
    assert plan("preprocess.window=[0, 4095]", cohort=deep).preprocess.window == (0, 4095)


@pytest.mark.parametrize(("settings", "expected"), [((), "white"), (("preprocess.background=black",), "black")])
def test_background_is_white_unless_asked(settings: tuple[str, ...], expected: str) -> None:
    assert plan(*settings).preprocess.background == expected


GRADES = ("grade_0", "grade_1", "grade_2")


def test_grades_are_decided_by_the_expected_grade() -> None:
    made = plan(cohort=make_classes(*GRADES))
    assert made.evaluation.decision == "expected_grade"
    assert get_decision(made, "evaluation.decision").how == "rule"
    assert "quadratic kappa" in get_decision(made, "evaluation.decision").reason


def test_three_classes_without_order_are_decided_in_relation_to_their_shares() -> None:
    made = plan(cohort=make_classes("cnv", "drusen", "normal"))
    assert made.evaluation.decision == "balanced"
    assert "every class counts the same" in get_decision(made, "evaluation.decision").reason


@pytest.mark.parametrize("classes", [("normal", "pneumonia"), ("grade_0", "grade_1")])
def test_two_classes_are_decided_by_the_highest_probability(classes: tuple[str, ...]) -> None:
    assert plan(cohort=make_classes(*classes)).evaluation.decision == "most_probable"


def test_most_probable_may_be_asked_for_grades() -> None:
    made = plan("evaluation.decision=most_probable", cohort=make_classes(*GRADES))
    assert made.evaluation.decision == "most_probable"
    assert get_decision(made, "evaluation.decision").how == "asked"


@pytest.mark.parametrize("classes", [("cnv", "drusen", "normal"), ("normal", "pneumonia"), ("grade_0", "grade_1")])
def test_expected_grade_of_what_are_no_grades_is_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="needs at least 3 ordered classes") as caught:
        plan("evaluation.decision=expected_grade", cohort=make_classes(*classes))
    assert "data.ordered=true" in caught.value.hint


def test_unknown_decision_rule_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"evaluation\.decision: must be 'most_probable', 'balanced' or 'expected_grade'"
    ):
        plan("evaluation.decision=median", cohort=make_classes(*GRADES))


def test_arguments_of_the_network_reach_the_plan_and_are_told_as_asked() -> None:
    made = plan("model.backbone_args={output_stride=8}")
    assert made.model.backbone_args == {"output_stride": 8}
    assert get_decision(made, "model.backbone_args").how == "asked"
    assert get_decision(plan(), "model.backbone_args").how == "fixed"

"""Heads, listed backbones and first stages are planned whole, and refused before anything is learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pictures import make_cohort, make_sample
from snellen.core.errors import UsageError
from snellen.planning.planner import Machine, choose_plan
from snellen.planning.recipe_files import list_recipes, load_recipe
from snellen.records.layers import BatchNorm, Conv, Flatten, GlobalAvgPool, MaxPool
from snellen.records.plan import FinetunePlan, Fingerprint, Plan, StagePlan

SMALL = ("preprocess.size=64", "model.backbone=test_resnet", "model.weights=none")
MAP_HEAD = 'model.head=[{type="conv", channels=4}, {type="flatten"}]'
LAYERS = 'model.layers=[{type="conv", channels=4}, {type="relu"}, {type="max_pool"}]'


def make_fingerprint(**changes: Any) -> Fingerprint:
    plain: dict[str, Any] = {
        "n_samples": 500, "n_patients": 400, "class_counts": {"a": 300, "b": 200},
        "patients_by_class": {"a": 250, "b": 150},
        "width_px": (300,) * 3, "height_px": (300,) * 3, "aspect_median": 1.0, "n_shapes": 1,
        "formats": {"JPEG": 500}, "grey_fraction": 0.0, "border_fraction": 0.0, "mean": (0.5,) * 3,
        "std": (0.2,) * 3, "n_measured": 200,
    }  # fmt: skip
    return Fingerprint.model_validate({**plain, **changes})


def plan(*settings: str, recipe: str = "auto", classes: Sequence[str] = ("normal", "sick"), **facts: Any) -> Plan:
    cohort = make_cohort([make_sample(f"{name}.png", name) for name in classes], classes)
    machine = Machine(threads=2, seed=7, has_offline_weights=True)
    return choose_plan(load_recipe(recipe, settings), cohort, make_fingerprint(**facts), machine)


def get_first(made: Plan) -> FinetunePlan:
    first = made.training.stages[0]
    assert isinstance(first, FinetunePlan)
    return first


def get_reason(made: Plan, key: str) -> str:
    return next(decision.reason for decision in made.decisions if decision.key == key)


def test_pooled_head_keeps_the_fast_path() -> None:
    made = plan(*SMALL, 'model.head=[{type="global_avg_pool"}, {type="dense", units=8}, {type="prelu"}]')
    assert isinstance(made.training.stages[0], StagePlan)
    assert made.training.begins_on_features


def test_head_on_the_map_learns_alone_on_kept_activations() -> None:
    made = plan(*SMALL, MAP_HEAD, "augment.views=3")
    first = get_first(made)
    assert (first.unfreeze, first.share, first.cache, first.keep, first.blend) == ("none", 0.0, True, "always", False)
    assert first.views == 3
    assert not made.training.begins_on_features
    assert "the head alone learns" in get_reason(made, "training.stages.0.unfreeze")


def test_keys_of_the_first_stage_count_for_a_head_on_the_map() -> None:
    stage = {"epochs": 7, "batch_size": 12, "lr": 0.02, "weight_decay": 0.0, "schedule": "plateau", "patience": 2}
    asked = [f"training.stages.0.{key}={json.dumps(value)}" for key, value in stage.items()]
    made = plan(*SMALL, MAP_HEAD, *asked)
    first = get_first(made)
    assert {key: getattr(first, key) for key in stage} == stage
    assert first.head_lr == 0.02
    told = {decision.key: decision.how for decision in made.decisions}
    assert {told[f"training.stages.0.{key}"] for key in stage} == {"asked"}


def test_later_stage_goes_on_from_a_head_on_the_map() -> None:
    made = plan(*SMALL, MAP_HEAD, "training.stages.1.unfreeze=top")
    later = made.training.stages[1]
    assert isinstance(later, FinetunePlan)
    assert (later.head_init, later.keep, later.dropout) == ("before", "better", 0.0)
    assert later.blend


@pytest.mark.parametrize(("unfreeze", "share"), [("all", 1.0), ("top", 0.6)])
def test_network_may_learn_from_the_start(unfreeze: str, share: float) -> None:
    first = get_first(plan(*SMALL, f"training.stages.0.unfreeze={unfreeze}", "training.stages.1.unfreeze=none"))
    assert (first.unfreeze, first.share, first.keep, first.blend) == (unfreeze, share, "always", False)
    assert first.head_init == "before"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (('model.head=[{type="dense", units=3}]',), "model.head.0 (dense) takes features, but its input is"),
        (('model.head=[{type="max_pool", size=4}]',), "model.head.0 (max_pool) pools 4 by 4 places"),
        (('model.head=[{type="relu"}]',), "model.head ends in a map of 96×2×2, and the 2 classes need features"),
        (('model.head=[{type="global_avg_pool"}, {type="conv", channels=2}]',), "model.head.1 (conv) takes a map"),
        ((MAP_HEAD, "training.stages.0.optimizer=lbfgs"), 'training.stages.0.optimizer = "lbfgs"'),
        ((MAP_HEAD, "training.stages.0.weight_decay=[0.1, 1.0]"), "weight_decay lists 2 values"),
        (("training.stages.0.unfreeze=all", "training.stages.0.keep=better"), "there is no model that could stay"),
        (("training.stages.0.schedule=plateau",), "only constant and cosine are known"),
        (("model.backbone=layers",), "needs its blocks in model.layers"),
        (("model.backbone=layers", LAYERS, "model.backbone_args={pad_type='same'}"), "are for networks of timm"),
        (("model.backbone=layers", LAYERS, "model.weights=timm"), "nobody published weights"),
        (("model.backbone=layers", 'model.layers=[{type="max_pool", size=16}, {type="max_pool", size=16}]'),
         "model.layers.1 (max_pool) pools 16 by 16"),
    ],
)  # fmt: skip
def test_what_cannot_stand_is_refused_in_words(settings: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(*SMALL, *settings)
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ('[{unfreeze="auto", share=0.5}]', 'the first stage says what learns: unfreeze = "none"'),
        ('[{unfreeze="top"}, {epochs=3}]', "each stage after the first says what learns"),
    ],
)
def test_stages_in_an_impossible_order_are_refused(stages: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("auto", [f"training.stages={stages}"])
    assert told in caught.value.message


def test_none_leaves_a_later_stage_out_whatever_else_it_says() -> None:
    stages = '[{epochs=2}, {unfreeze="none", lr=0.1, epochs=3}, {unfreeze="all", epochs=4}]'
    made = plan(*SMALL, f"training.stages={stages}")
    assert [(stage.unfreeze, stage.epochs) for stage in made.training.stages] == [("none", 2), ("all", 4)]


def test_layers_alone_make_the_backbone() -> None:
    made = plan(LAYERS, "preprocess.size=32", "preprocess.channels=1")
    assert (made.model.backbone, made.model.weights, made.model.side_px) == ("layers", "none", 32)
    assert made.model.layers[0] == Conv(channels=4)
    assert (made.model.mean, made.model.std) == ((0.0,), (1.0,))


def test_listed_backbone_of_colours_has_three_channels() -> None:
    made = plan(LAYERS, "preprocess.size=32", "preprocess.channels=3", "preprocess.normalize=imagenet")
    assert made.model.mean == (0.485, 0.456, 0.406)


def test_grey_imagenet_normalisation_is_the_mean_of_the_colours() -> None:
    made = plan(LAYERS, "preprocess.size=32", "preprocess.channels=1", "preprocess.normalize=imagenet")
    assert made.model.mean == pytest.approx((0.449,), abs=1e-3)


def test_layers_beside_another_backbone_are_refused() -> None:
    with pytest.raises(UsageError, match=r'model.layers lists .* model.backbone is "test_resnet"'):
        plan(*SMALL, LAYERS)


def test_size_of_a_backbone_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r'preprocess.sizes: "test_resnat" is no architecture') as caught:
        plan("preprocess.sizes={test_resnat=96}", *SMALL)
    assert "test_resnet" in str(caught.value.hint)


@pytest.mark.parametrize(("backbone", "size"), [("efficientnet_b0", 256), ("efficientnet_b3", 300)])
def test_backbone_brings_its_own_size(backbone: str, size: int) -> None:
    settings = (f"model.backbone={backbone}", "model.weights=none", 'model.head=[{type="global_avg_pool"}]')
    made = plan(*settings, "training.stages.1.unfreeze=none", recipe="fundus-efficientnet-b0")
    assert made.preprocess.size == size
    assert "preprocess.sizes" in get_reason(made, "preprocess.size")


def test_size_that_was_asked_wins_over_the_backbone_s_own() -> None:
    made = plan("preprocess.sizes={test_resnet=96}", *SMALL)
    assert made.preprocess.size == 64


def test_plan_with_all_kinds_of_layers_reads_back_from_its_json() -> None:
    head = 'model.head=[{type="prelu", per="position"}, {type="attention", kind="eca"}, {type="flatten"}]'
    made = plan(LAYERS, head, "preprocess.size=32")
    assert Plan.model_validate_json(made.to_json()) == made


def test_fundus_recipe_lists_the_published_head() -> None:
    head = load_recipe("fundus-efficientnet-b0").recipe.model.head
    assert [type(layer) for layer in head[:3]] == [BatchNorm, MaxPool, GlobalAvgPool]


def test_kermany_recipe_flattens_its_map() -> None:
    assert Flatten() in load_recipe("kermany-vgg16").recipe.model.head


@pytest.mark.parametrize("name", sorted(set(list_recipes()) - {"auto"}))
def test_published_recipe_is_short_and_commented(name: str) -> None:
    from snellen.planning.recipe_files import read_recipe_text

    lines = read_recipe_text(name).splitlines()
    assert len(lines) <= 50
    assert sum("#" in line for line in lines) >= 5
    assert "published" in list_recipes()[name]

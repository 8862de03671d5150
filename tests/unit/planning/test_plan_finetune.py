"""Fine-tuning is planned where validation can tell whether it paid, within minutes, and not against what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from snellen.core.errors import UsageError
from snellen.planning.ledger import Ledger
from snellen.planning.plan_finetune import MIN_PATIENTS, MIN_PICTURES, Means, plan_finetune
from snellen.records.plan import FinetunePlan, Fingerprint
from snellen.records.recipe import FinetuneWish

PLACE = "training.stages.1"
COST = 4e8  # of EfficientNet-Lite0 at 224 px


def make_fingerprint(n: int = 500, fewest: int = 100) -> Fingerprint:
    return Fingerprint.model_validate(
        {
            "n_samples": n, "n_patients": n, "class_counts": {"a": n // 2, "b": n - n // 2},
            "patients_by_class": {"a": n // 2, "b": fewest}, "width_px": (300,) * 3, "height_px": (300,) * 3,
            "aspect_median": 1.0, "n_shapes": 1, "formats": {"PNG": n}, "grey_fraction": 0.0, "border_fraction": 0.0,
            "mean": (0.5,) * 3, "std": (0.2,) * 3, "n_measured": 100,
        }
    )  # fmt: skip


def choose(
    *, n: int = 500, fewest: int = 100, cost: float = COST, machine: tuple[int, str] = (2, "cpu"), **wishes: Any
) -> tuple[FinetunePlan | None, Ledger]:
    ledger = Ledger(frozenset(f"{PLACE}.{key}" for key in wishes))
    return plan_finetune(
        FinetuneWish(**wishes), PLACE, make_fingerprint(n, fewest), ledger, Means(*machine, cost)
    ), ledger


def get_reason(ledger: Ledger, key: str) -> tuple[str, str]:
    return next((each.how, each.reason) for each in ledger.decisions if each.key == f"{PLACE}.{key}")


@pytest.mark.parametrize(("n", "fewest"), [(MIN_PICTURES - 1, 20), (500, MIN_PATIENTS - 1)])
def test_few_pictures_or_patients_are_not_fine_tuned_and_the_reason_counts_them(n: int, fewest: int) -> None:
    made, ledger = choose(n=n, fewest=fewest)
    assert made is None
    how, reason = get_reason(ledger, "unfreeze")
    assert how == "rule"
    assert f"{n} training pictures, {fewest} patients" in reason


def test_just_enough_pictures_and_patients_are_fine_tuned() -> None:
    made, _ = choose(n=MIN_PICTURES, fewest=MIN_PATIENTS)
    assert made is not None
    assert (made.unfreeze, made.cache) == ("top", True)
    assert 0 < made.share < 1


def test_whole_network_and_a_share_of_it_contradict_each_other() -> None:
    with pytest.raises(UsageError, match=r"stages.1.share = 0.5, but .*unfreeze"):
        choose(unfreeze="all", share=0.5)
    made, _ = choose(unfreeze="all", share=1)
    assert made is not None
    assert made.share == 1


def test_none_leaves_the_stage_out_as_asked() -> None:
    made, ledger = choose(unfreeze="none")
    assert made is None
    assert get_reason(ledger, "unfreeze")[0] == "asked"


@pytest.mark.parametrize("n", [20, 500, 1_000_000])
def test_top_is_fine_tuned_when_asked_however_many_pictures_there_are(n: int) -> None:
    made, ledger = choose(n=n, fewest=3, unfreeze="top")
    assert made is not None
    assert made.unfreeze == "top"
    assert made.epochs >= 1
    assert get_reason(ledger, "unfreeze")[0] == "asked"


def test_all_learns_the_whole_network_and_keeps_no_activations() -> None:
    made, _ = choose(unfreeze="all")
    assert made is not None
    assert (made.unfreeze, made.share, made.cache) == ("all", 1.0, False)


ASKED: dict[str, Any] = {
    "share": 0.2, "epochs": 3, "batch_size": 8, "lr": 1e-5, "head_lr": 1e-2, "layer_decay": 0.5, "weight_decay": 0.3,
    "schedule": "one_cycle", "warmup": 0.3, "patience": 2, "ema": 0.0, "clip_norm": 0.0, "dropout": 0.0,
    "drop_path": 0.1, "batch_norm": "frozen", "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "randaugment": 9,
    "views": 0, "cache": False, "precision": "bf16", "channels_last": False,
    "head_init": "before", "keep": "always", "blend": False,
}  # fmt: skip


def test_asked_values_win_and_say_so() -> None:
    made, ledger = choose(**ASKED)
    assert made is not None
    assert {key: getattr(made, key) for key in ASKED} == ASKED
    assert {get_reason(ledger, key)[0] for key in ASKED} == {"asked"}


def test_every_value_of_the_plan_has_its_reason() -> None:
    made, ledger = choose()
    assert made is not None
    assert {each.key for each in ledger.decisions} == {f"{PLACE}.{key}" for key in FinetunePlan.model_fields}
    assert all(each.reason for each in ledger.decisions)


def list_sizes(numbers: Sequence[int]) -> list[tuple[float, int]]:
    made = [choose(n=n)[0] for n in numbers]
    return [(each.share, each.epochs) if each else (0.0, 0) for each in made]


def test_the_more_pictures_the_less_is_learned_until_nothing_is() -> None:
    sizes = list_sizes([200, 2_000, 3_000, 4_000, 6_000, 8_000, 11_000, 100_000])
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == (0.6, 12)
    assert sizes[-1] == (0.0, 0)
    assert len(set(sizes)) > 3


@pytest.mark.parametrize("n", [200, 1_000, 2_000, 4_000, 6_000])
def test_views_are_one_an_epoch_or_half_as_many_and_not_fewer_than_three(n: int) -> None:
    made, _ = choose(n=n)
    assert made is not None
    assert made.views in (made.epochs, made.epochs // 2)
    assert made.views >= min(3, made.epochs)


def test_fewer_epochs_asked_draw_no_views_that_none_would_see() -> None:
    made, _ = choose(n=300, epochs=5)
    assert made is not None
    assert (made.epochs, made.views) == (5, 5)


def test_disk_does_not_fill_with_views_of_many_pictures() -> None:
    made, _ = choose(n=100_000, machine=(2, "cuda"))
    assert made is not None
    assert made.views == 2


def test_what_takes_too_long_says_so() -> None:
    assert (
        "100000 pictures would take more than 5 minutes on 2 processors"
        in get_reason(choose(n=100_000)[1], "unfreeze")[1]
    )


def test_more_processors_learn_longer() -> None:
    few, many = (choose(n=8_000, machine=(threads, "cpu"))[0] for threads in (1, 16))
    assert few is None
    assert many is not None
    assert many.epochs == 12


def test_gpu_has_no_budget_and_halves_precision() -> None:
    made, _ = choose(n=100_000, machine=(2, "cuda"))
    assert made is not None
    assert (made.share, made.epochs, made.precision) == (0.6, 12, "bf16")


def test_network_that_cannot_be_cut_is_not_fine_tuned() -> None:
    made, ledger = choose(cost=0.0)
    assert made is None
    assert "cannot be cut" in get_reason(ledger, "unfreeze")[1]


def test_members_of_an_ensemble_share_the_time() -> None:
    def size(n_members: int) -> tuple[float, int]:
        ledger = Ledger(frozenset())
        means = Means(2, "cpu", COST, n_members)
        made = plan_finetune(FinetuneWish(), PLACE, make_fingerprint(2_000), ledger, means)
        return (made.share, made.epochs) if made else (0.0, 0)

    assert size(10) < size(5) <= size(1)


def test_frozen_layers_count_once_for_all_members() -> None:
    """A member has less time than one model, and yet room for more views, which it shares with the others."""
    sizes = []
    for n_members in (1, 5):
        means = Means(2, "cpu", COST, n_members)
        made = plan_finetune(FinetuneWish(), PLACE, make_fingerprint(1600), Ledger(frozenset()), means)
        assert made is not None
        sizes.append((made.epochs, made.views))
    (one_epochs, one_views), (epochs, views) = sizes
    assert epochs == one_epochs
    assert views > one_views
    assert [Means(2, "cpu", COST, n_members).learned_share for n_members in (1, 5)] == [1, pytest.approx(0.8)]

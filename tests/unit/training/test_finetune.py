"""The loop learns, repeats bit by bit, goes on after a kill as if there had been none, and shrinks with the memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from snellen.core.errors import UsageError
from snellen.modeling.blocks import MapHead, build_head
from snellen.records.layers import BatchNorm, Conv, GlobalAvgPool, HeadLayer, Relu
from snellen.records.plan import FinetunePlan, ImbalancePlan
from snellen.records.run import EpochRecord
from snellen.training.feature_table import FeatureTable
from snellen.training.finetune import Finetuned, Material, Place, Trainee, finetune
from snellen.training.imbalance import rebalance
from snellen.training.soft_targets import SoftTargets, soften
from snellen.training.sources import KeptActivations

N_VAL = 40
TIMES = {"seconds", "images_per_s"}
PLAIN: dict[str, Any] = {"ema": 0.0, "dropout": 0.0, "clip_norm": 0.0, "batch_norm": "frozen", "views": 0}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_stage(**changes: Any) -> FinetunePlan:
    plain: dict[str, Any] = {
        "unfreeze": "top", "share": 0.5, "epochs": 5, "batch_size": 16, "lr": 1e-2, "head_lr": 1e-2, "layer_decay": 1.0,
        "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.1, "patience": 9, "ema": 0.9, "clip_norm": 1.0,
        "dropout": 0.3, "drop_path": 0.0, "batch_norm": "learned", "label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0,
        "randaugment": 0, "views": 2, "cache": True, "precision": "fp32", "channels_last": True,
        "head_init": "before", "keep": "better",
    }  # fmt: skip
    return FinetunePlan(**{**plain, **changes})


def draw_activations(n: int, views: int = 2, side: int = 6) -> tuple[KeptActivations, np.ndarray]:
    """Noise in which class 1 has a stripe, upright or lying: no single value tells the classes apart."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 2
    values = random.normal(0, 0.5, (n, 3, side, side))
    for row in np.flatnonzero(labels):
        at = random.integers(side)
        values[row, 0, at, :] += 2.0 * (-1) ** np.arange(side)
    arrays = tuple((values + random.normal(0, 0.1, values.shape)).astype(np.float16) for _ in range(views + 1))
    return KeptActivations(arrays, np.arange(n)), labels.astype(np.int64)


def build_trainee(kind: type[Trainee] = Trainee, dropout: float = 0.0) -> Trainee:
    torch.manual_seed(0)
    upper = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    return kind(upper, nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2)), dropout)


def make_material(trainee: Trainee, n_train: int = 80, imbalance: str = "none", side: int = 6) -> Material:
    source, labels = draw_activations(n_train + N_VAL, side=side)
    train, val = np.arange(n_train), np.arange(n_train, n_train + N_VAL)
    table = FeatureTable.hold(np.zeros((1, n_train, 1), np.float32))
    plan = ImbalancePlan.model_validate({"method": imbalance})
    made = rebalance(table, labels[train], 2, plan, in_batches=True, seed=0)
    return Material(source, train, made, val, labels[val], ((list(trainee.upper.parameters()), 1.0, 0.01),))


def learn(
    folder: Path,
    stage: FinetunePlan,
    *,
    seed: int = 0,
    kind: type[Trainee] = Trainee,
    note: Callable[[EpochRecord], None] | None = None,
    **material: Any,
) -> Finetuned:
    trainee = build_trainee(kind, stage.dropout)
    place = Place(1, None, seed, folder / "stage-1.safetensors", f"toy {seed}", torch.device("cpu"))
    return finetune(trainee, make_material(trainee, **material), stage, place, note)


def assert_equal(one: Finetuned, other: Finetuned) -> None:
    """Bit by bit, but for times."""
    assert one.state.keys() == other.state.keys()
    assert [name for name in one.state if not torch.equal(one.state[name], other.state[name])] == []
    assert [record.model_dump(exclude=TIMES) for record in one.epochs] == [
        record.model_dump(exclude=TIMES) for record in other.epochs
    ]
    assert (one.epoch, one.val_loss, one.val_auc) == (other.epoch, other.val_loss, other.val_auc)


def test_loop_learns_what_can_be_told_apart(tmp_path: Path) -> None:
    found = learn(tmp_path, make_stage(epochs=12))
    assert found.val_auc is not None
    assert found.val_auc > 0.95  # chance is 0.5
    assert found.val_loss < 0.4  # chance is log 2 = 0.69
    assert found.epochs[-1].train_loss < found.epochs[0].train_loss


def test_best_state_says_what_was_recorded(tmp_path: Path) -> None:
    found = learn(tmp_path, make_stage(blend=False))
    best = min(found.epochs, key=lambda record: record.val_loss or 0.0)
    assert (found.epoch, found.val_loss, found.val_auc) == (best.epoch, best.val_loss, best.val_auc)
    trainee = build_trainee()
    trainee.load_state_dict(found.state)
    material = make_material(trainee)
    with torch.no_grad():
        logits = trainee.eval()(material.source.take(material.val, np.zeros(N_VAL, int)))
    scores = (logits[:, 1] - logits[:, 0]).numpy()
    wins = scores[material.val_labels == 1][:, None] > scores[material.val_labels == 0][None]
    assert found.val_auc == pytest.approx(wins.mean())


ALL_ON = {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1, "schedule": "plateau", "patience": 4}


@pytest.mark.parametrize("changes", [{}, ALL_ON, {"precision": "bf16"}], ids=["plain", "all", "bf16"])
def test_equal_seeds_learn_bit_by_bit_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    stage = make_stage(epochs=3, **changes)
    assert_equal(learn(tmp_path / "one", stage), learn(tmp_path / "other", stage))


def test_other_seed_learns_otherwise(tmp_path: Path) -> None:
    one, other = (learn(tmp_path / str(seed), make_stage(epochs=2), seed=seed) for seed in (0, 1))
    assert one.epochs[-1].train_loss != other.epochs[-1].train_loss


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed", [1, 2, 4])
@pytest.mark.parametrize("changes", [{}, ALL_ON], ids=["plain", "all"])
def test_killed_stage_ends_as_if_it_had_not_been(tmp_path: Path, killed: int, changes: dict[str, Any]) -> None:
    stage = make_stage(epochs=5, **changes)
    whole = learn(tmp_path / "whole", stage)

    def kill(epoch: EpochRecord) -> None:
        if epoch.epoch == killed:
            raise KilledError

    with pytest.raises(KilledError):
        learn(tmp_path / "part", stage, note=kill)
    told: list[int] = []
    again = learn(tmp_path / "part", stage, note=lambda epoch: told.append(epoch.epoch))
    assert_equal(again, whole)
    assert told == [record.epoch for record in whole.epochs]


def test_finished_stage_is_not_learned_again(tmp_path: Path) -> None:
    stage = make_stage(epochs=2)
    whole = learn(tmp_path, stage)
    again = learn(tmp_path, stage)
    assert again.epochs == whole.epochs  # with their times
    assert_equal(again, whole)


def test_checkpoint_of_other_work_is_not_taken_up(tmp_path: Path) -> None:
    learn(tmp_path, make_stage(epochs=2), seed=1)
    assert_equal(learn(tmp_path, make_stage(epochs=2)), learn(tmp_path / "clean", make_stage(epochs=2)))


class Small(Trainee):
    """No room for more than six pictures while it learns."""

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        if self.training and len(activation) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(activation)


class NoRoom(Trainee):
    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError(f"CUDA out of memory: {len(activation)} pictures.")


class Broken(Trainee):
    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"sizes do not fit: {len(activation)}")


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4, "label_smoothing": 0.1}], ids=["plain", "mixed"])
@pytest.mark.parametrize("imbalance", ["none", "class_weights"])
def test_out_of_memory_halves_what_goes_through_and_keeps_the_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], imbalance: str
) -> None:
    stage = make_stage(**PLAIN, epochs=2, **changes)
    whole = learn(tmp_path / "whole", stage, imbalance=imbalance)
    with caplog.at_level("INFO", logger="snellen"):
        small = learn(tmp_path / "small", stage, kind=Small, imbalance=imbalance)
    said = [line for line in caplog.messages if "out of memory" in line]
    assert [line.split("; ")[1][:31] for line in said] == [
        "going on with 8 pictures at onc", "going on with 4 pictures at onc",
    ]  # fmt: skip  # 16 → 8 → 4, and never again
    for one, other in zip(whole.epochs, small.epochs, strict=True):
        # sums in another order: float32
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-3)
    for name, value in whole.state.items():
        torch.testing.assert_close(small.state[name], value, rtol=1e-2, atol=1e-3)


def test_no_room_for_one_picture_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="One picture needs more memory") as caught:
        learn(tmp_path, make_stage(), kind=NoRoom)
    assert "share" in caught.value.hint


def test_other_errors_are_not_taken_for_lack_of_memory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="sizes do not fit"):
        learn(tmp_path, make_stage(), kind=Broken)


@pytest.mark.parametrize("smoothing", [0.0, 0.4])
def test_label_smoothing_is_a_share_of_even_labels(tmp_path: Path, smoothing: float) -> None:
    stage = make_stage(**PLAIN, epochs=1, batch_size=80, label_smoothing=smoothing)
    trainee = build_trainee()
    material = make_material(trainee)
    with torch.no_grad():
        logits = trainee.eval()(material.source.take(material.train, np.zeros(80, int)))
    labels = torch.from_numpy(material.made.labels)
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    # one step on all pictures: its loss is that of the weights before
    assert learn(tmp_path, stage).epochs[0].train_loss == pytest.approx(float(expected), rel=1e-5)


def test_moving_average_counts_later_steps_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snellen.training.finetune.BLENDS", ())
    trainee = build_trainee()
    steps = [trainee.state_dict()["head.1.weight"].clone()]
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(trainee.state_dict()["head.1.weight"].clone()))
    try:
        place = Place(1, None, 0, tmp_path / "stage.safetensors", "toy", torch.device("cpu"))
        material = replace(make_material(trainee), chooses=False)
        found = finetune(trainee, material, make_stage(ema=0.9999), place)
    finally:
        hook.remove()
    # where it began counts as the two steps before the first would
    counts = torch.tensor([3.0, *range(3, len(steps) + 2)])
    expected = (torch.stack(steps) * (counts / counts.sum())[:, None, None]).sum(0)
    assert len(steps) == 26
    torch.testing.assert_close(found.state["head.1.weight"], expected, rtol=1e-5, atol=1e-6)


def test_moving_average_of_0_is_the_state_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snellen.training.finetune.BLENDS", ())
    states = []
    for ema in (0.0, 0.9):
        trainee = build_trainee()
        place = Place(1, None, 0, tmp_path / str(ema), "toy", torch.device("cpu"))
        found = finetune(trainee, make_material(trainee), make_stage(epochs=1, ema=ema), place)
        states.append((found.state, trainee.state_dict()))
    (averaged, last), (lagging, still) = states
    assert all(torch.equal(averaged[name], last[name]) for name in last if last[name].is_floating_point())
    assert all(torch.equal(last[name], still[name]) for name in last)
    assert not torch.equal(lagging["head.1.weight"], still["head.1.weight"])


def test_clipping_of_0_clips_nothing(tmp_path: Path) -> None:
    without, wide, tight = (
        learn(tmp_path / f"{norm}", make_stage(epochs=1, clip_norm=norm)) for norm in (0, 1e9, 1e-9)
    )
    assert_equal(without, wide)
    assert not torch.equal(without.state["head.1.weight"], tight.state["head.1.weight"])


def test_frozen_statistics_stay_and_learned_ones_move(tmp_path: Path) -> None:
    before = build_trainee().state_dict()
    for batch_norm in ("frozen", "learned"):
        found = learn(tmp_path / batch_norm, make_stage(epochs=1, batch_norm=batch_norm)).state
        for name in ("upper.1.running_mean", "head.0.running_mean"):
            assert torch.equal(found[name], before[name]) == (batch_norm == "frozen")


def test_validation_that_gains_nothing_ends_the_stage(tmp_path: Path) -> None:
    found = learn(tmp_path, make_stage(**PLAIN, lr=1e-30, head_lr=1e-30, epochs=20).model_copy(update={"patience": 3}))
    assert (found.epoch, len(found.epochs)) == (1, 4)


def test_last_picture_alone_has_no_statistics_and_waits(tmp_path: Path) -> None:
    # 3 px leave one place of a map: a batch norm refuses a single value
    found = learn(tmp_path, make_stage(epochs=1), n_train=33, side=3)
    assert np.isfinite(found.epochs[0].train_loss)


@pytest.mark.parametrize("lr", [1e6, 1e30])
def test_rate_that_diverges_is_told(tmp_path: Path, lr: float) -> None:
    with pytest.raises(UsageError, match="diverged") as caught:
        learn(tmp_path, make_stage(lr=lr, head_lr=lr, warmup=0.0, clip_norm=0.0, schedule="constant"))
    assert "training.stages.1.lr" in caught.value.hint


def test_images_per_second_are_counted(tmp_path: Path) -> None:
    found = learn(tmp_path, make_stage(epochs=1)).epochs[0]
    assert found.images_per_s is not None
    assert found.images_per_s > 0
    assert (found.stage, found.candidate, found.fold) == (1, 0, None)


def test_blend_is_the_mean_with_the_state_before_that_validation_likes_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(epochs=1, lr=0.5, head_lr=0.5)  # too fast: half of it is better than all
    blended = learn(tmp_path / "blended", stage)
    monkeypatch.setattr("snellen.training.finetune.BLENDS", ())
    whole = learn(tmp_path / "whole", stage)
    assert blended.blend < whole.blend == 1.0
    assert blended.val_loss < whole.val_loss
    before = build_trainee().state_dict()
    name = "head.1.weight"
    assert torch.allclose(blended.state[name], torch.lerp(before[name], whole.state[name], blended.blend))


def build_map_trainee(dropout: float = 0.0) -> Trainee:
    torch.manual_seed(0)
    layers: tuple[HeadLayer, ...] = (Conv(channels=8), BatchNorm(affine=True), Relu(), GlobalAvgPool())
    return Trainee(nn.Identity(), build_head(layers, (3, 6, 6), 2), dropout)


def learn_map_head(folder: Path, **changes: Any) -> tuple[Trainee, Finetuned]:
    trainee = build_map_trainee()
    material = make_material(trainee)
    material = replace(material, groups=())
    plan = {"unfreeze": "none", "share": 0.0, "epochs": 12, "dropout": 0.0, "keep": "always", "blend": False}
    stage = make_stage(**{**plan, **changes})
    place = Place(0, None, 0, folder / "stage-0.safetensors", "map", torch.device("cpu"))
    return trainee, finetune(trainee, material, stage, place)


def test_head_on_the_map_learns_on_kept_activations_alone(tmp_path: Path) -> None:
    _, found = learn_map_head(tmp_path)
    assert found.val_auc is not None
    assert found.val_auc > 0.95  # chance is 0.5
    assert {record.stage for record in found.epochs} == {0}


def test_head_on_the_map_learns_the_statistics_of_its_batch_norms_even_where_others_keep_theirs(tmp_path: Path) -> None:
    trainee, found = learn_map_head(tmp_path, batch_norm="frozen", ema=0.0)
    assert not torch.equal(found.state["head.1.running_mean"], torch.zeros(8))
    assert isinstance(trainee.head, MapHead)


def test_without_blend_the_best_epoch_is_taken_as_it_is(tmp_path: Path) -> None:
    _, found = learn_map_head(tmp_path)
    assert found.blend == 1.0
    assert found.val_loss == min(record.val_loss for record in found.epochs if record.val_loss is not None)


def make_soft_material(trainee: Trainee) -> tuple[Material, np.ndarray]:
    """All pictures to learn from and none to judge; a teacher doubts the opposite of the labels."""
    plain = make_material(trainee)
    labels = plain.made.labels
    answers = np.where(np.eye(2)[labels] > 0, 0.2, 0.8).astype(np.float32)
    targets = SoftTargets((answers, answers, answers), np.arange(len(labels)))
    nothing = np.zeros(0, np.intp)
    made = soften(labels, 2)
    soft = replace(plain, made=made, val=nothing, val_labels=np.zeros(0, np.int64), targets=targets)
    return soft, answers


def learn_softly(folder: Path, stage: FinetunePlan, note: Callable[[EpochRecord], None] | None = None) -> Finetuned:
    trainee = build_trainee(dropout=stage.dropout)
    place = Place(1, None, 0, folder / "stage-1-distilled.safetensors", "toy soft", torch.device("cpu"))
    return finetune(trainee, make_soft_material(trainee)[0], stage, place, note)


def test_teacher_is_learned_and_labels_are_not(tmp_path: Path) -> None:
    found = learn_softly(tmp_path, make_stage(epochs=15, patience=2))
    trainee = build_trainee()
    material, answers = make_soft_material(trainee)
    trainee.load_state_dict(found.state)
    with torch.no_grad():
        logits = trainee.eval()(material.source.take(material.train, np.zeros(len(material.train), int)))
    said = torch.softmax(logits, 1).numpy()
    assert np.abs(said - answers).mean() < 0.1  # one that knows nothing differs by 0.3, the labels by 0.6 and more
    assert (said.argmax(1) == answers.argmax(1)).mean() > 0.95


def test_where_none_judges_the_last_epoch_is_taken(tmp_path: Path) -> None:
    found = learn_softly(tmp_path, make_stage(epochs=4, patience=1, schedule="plateau"))
    assert (found.epoch, len(found.epochs), found.blend) == (4, 4, 1.0)
    assert {(record.val_loss, record.val_auc) for record in found.epochs} == {(None, None)}


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_learning_from_a_teacher_goes_on_after_a_kill(tmp_path: Path, changes: dict[str, Any]) -> None:
    stage = make_stage(epochs=4, **changes)
    whole = learn_softly(tmp_path / "whole", stage)

    def kill(epoch: EpochRecord) -> None:
        if epoch.epoch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        learn_softly(tmp_path / "killed", stage, kill)
    assert_equal(learn_softly(tmp_path / "killed", stage), whole)

"""Stage 2: the top of the network, or all of it, learns with the head. Validation patients choose the epoch.

Every epoch draws its chances from the seed, the stage, the fold and its own number, and leaves a checkpoint: a run
that was killed ends as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.errors import UsageError
from snellen.core.progress import say
from snellen.modeling.blocks import MapHead
from snellen.records.plan import FinetunePlan
from snellen.records.run import EpochRecord
from snellen.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from snellen.training.imbalance import Rebalanced
from snellen.training.judging import judge_logits
from snellen.training.mixing import mix
from snellen.training.schedules import compute_rate_factor
from snellen.training.soft_targets import SoftTargets
from snellen.training.sources import Source

State = dict[str, torch.Tensor]
Note = Callable[[EpochRecord], None]
_EVALUATED = 32
_WAIT_SHARE = 2
BLENDS = (0.75, 0.5, 0.25)


class Trainee(nn.Module):
    """What learns: activation `(N, C, h, w)` → logits `(N, classes)`. `head` takes pooled features, or the map if it is
    a MapHead; so much `dropout` lies before it.
    """

    def __init__(self, upper: nn.Module, head: nn.Sequential, dropout: float) -> None:
        super().__init__()
        self.upper = upper
        self.head = head
        self.dropout = dropout

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        found = self.upper(activation)
        taken = found if isinstance(self.head, MapHead) else found.mean((2, 3))
        logits: torch.Tensor = self.head(nn.functional.dropout(taken, self.dropout, self.training))
        return logits

    def begin_learning(self, *, learns_statistics: bool) -> None:
        """Training mode; without `learns_statistics` batch norms keep those that they have. A head on the map begins
        without any, and always learns them.
        """
        self.train()
        for module in (self.upper if isinstance(self.head, MapHead) else self).modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not learns_statistics:
                module.eval()


@dataclass(frozen=True)
class Material:
    """Pictures of `source` by position: those to learn from with `made` (labels, loss, draws), and those that judge.

    Where none judges, or what they say `chooses` nothing, every epoch is learned and the last one is taken. `targets`
    are learned instead of labels.
    `decays` are optimizer groups of the trainee's upper part as (parameters, factor of the rate, weight decay).
    """

    source: Source
    train: NDArray[np.intp]
    made: Rebalanced
    val: NDArray[np.intp]
    val_labels: NDArray[np.int64]
    groups: tuple[tuple[list[nn.Parameter], float, float], ...]
    targets: SoftTargets | None = None
    chooses: bool = True

    def take_targets(self, picked: NDArray[np.intp], views: NDArray[np.intp]) -> torch.Tensor:
        """Labels `(n,)` of pictures to learn from, or probabilities `(n, C)` of their views."""
        if self.targets is not None:
            return self.targets.take(self.train[picked], views)
        return torch.from_numpy(self.made.labels[picked])


@dataclass(frozen=True)
class Place:
    """Which stage of which fold this is, its seed, its checkpoint and the `identity` of what it is made of."""

    stage: int
    fold: int | None
    seed: int
    path: Path
    identity: str
    device: torch.device


@dataclass(frozen=True)
class Finetuned:
    """The trainee's best state, and the epochs that led there.

    `blend` is the part of that state in the weighted mean with the state before (WiSE-FT, Wortsman et al. 2022): what
    was learned from few pictures does not overrule all that the network knew. `val_loss` is inf where nothing judged.
    `counts` `(2, C)` are the pictures of each class before and after resampling, where that was done.
    """

    state: State
    blend: float
    epoch: int
    val_loss: float
    val_auc: float | None
    epochs: tuple[EpochRecord, ...]
    counts: NDArray[np.int64] | None = None


@dataclass
class _Standing:
    """All that changes from epoch to epoch."""

    ema: State
    best: State
    best_epoch: int = 0
    best_loss: float = math.inf
    best_auc: float | None = None
    step: int = 0
    records: list[EpochRecord] = field(default_factory=list)


def finetune(
    trainee: Trainee, material: Material, plan: FinetunePlan, place: Place, note: Note | None = None
) -> Finetuned:
    """Learn from `material` until the plan's epochs are over or validation gains nothing; `note` is told every epoch.

    Raises UsageError where no loss is a number, or where one picture is more than the memory holds.
    """
    trainee.to(place.device)
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    trainee.to(memory_format=layout)
    groups = [*material.groups, (list(trainee.head.parameters()), plan.head_lr / plan.lr, plan.weight_decay)]
    optimizer = torch.optim.AdamW(
        [{"params": params, "lr": plan.lr * factor, "weight_decay": decay} for params, factor, decay in groups],
        fused=place.device.type in ("cpu", "cuda"),
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    state = _copy(trainee.state_dict())
    before = _copy(state)
    standing = _Standing(ema=state, best=_copy(state))
    _resume(trainee, optimizer, standing, place)
    for record in standing.records:
        if note is not None:
            note(record)
    worker = _Worker(trainee, material, plan, optimizer, rates, place)
    while not _is_over(standing, plan):
        begin = time.monotonic()
        train_loss = worker.run_epoch(standing)
        val_loss, val_auc = worker.judge(standing.ema) if len(material.val) else (None, None)
        if not math.isfinite(train_loss) or not math.isfinite(val_loss or 0.0):
            break
        epoch = len(standing.records) + 1
        seconds = time.monotonic() - begin
        standing.records.append(
            EpochRecord(
                stage=place.stage, candidate=place.fold or 0, fold=place.fold, weight_decay=plan.weight_decay,
                epoch=epoch, lr=optimizer.param_groups[0]["lr"], train_loss=train_loss, val_loss=val_loss,
                val_auc=val_auc, seconds=round(seconds, 4), images_per_s=round(len(material.train) / seconds, 1),
            )
        )  # fmt: skip
        if val_loss is None or not material.chooses or val_loss < standing.best_loss:
            standing.best_loss = math.inf if val_loss is None else val_loss
            standing.best_auc, standing.best_epoch = val_auc, epoch
            standing.best = _copy(standing.ema)
        if note is not None:
            note(standing.records[-1])
        _save(trainee, optimizer, standing, place)
    if not standing.best_epoch:
        raise UsageError(
            f"Fine-tuning diverged: no loss is a number at lr {plan.lr:g}.",
            f"Choose a smaller training.stages.{place.stage}.lr.",
        )
    best = standing.best_loss, standing.best_auc
    has_blends = plan.blend and material.chooses
    blend, found, (loss, auc) = _choose_blend(worker, before, standing) if has_blends else (1.0, standing.best, best)
    _save(trainee, optimizer, standing, place, final=found)
    records, counts = tuple(standing.records), material.made.counts
    return Finetuned(found, blend, standing.best_epoch, loss, auc, records, counts)


def _choose_blend(
    worker: _Worker, before: State, standing: _Standing
) -> tuple[float, State, tuple[float, float | None]]:
    """The mean of the states before and after with the smallest loss on validation pictures."""
    chosen = 1.0, standing.best, (standing.best_loss, standing.best_auc)
    for blend in BLENDS if len(worker.material.val) else ():
        mixed = {
            name: torch.lerp(before[name], value, blend) if value.dtype.is_floating_point else value
            for name, value in standing.best.items()
        }
        judged = worker.judge(mixed)
        if judged[0] < chosen[2][0]:
            chosen = blend, mixed, judged
    return chosen


def _is_over(standing: _Standing, plan: FinetunePlan) -> bool:
    done = len(standing.records)
    return done >= plan.epochs or (done > 0 and done - standing.best_epoch >= plan.patience)


@dataclass
class _Worker:
    """One epoch at a time; `micro` is how many pictures go through at once."""

    trainee: Trainee
    material: Material
    plan: FinetunePlan
    optimizer: torch.optim.Optimizer
    rates: list[float]
    place: Place
    micro: int = 0

    def run_epoch(self, standing: _Standing) -> float:
        """Mean training loss of one epoch."""
        epoch = len(standing.records)
        seeds = np.random.SeedSequence([self.place.seed, self.place.stage, (self.place.fold or 0), epoch])
        random = np.random.Generator(np.random.PCG64(seeds))
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        self.trainee.begin_learning(learns_statistics=self.plan.batch_norm == "learned")
        n = len(self.material.train)
        draw = self.material.made.draw
        order = random.permutation(n) if draw is None else random.choice(n, n, p=_to_chances(draw))
        views = random.integers(0, self.plan.views + 1, n)
        # a last picture alone has no statistics
        batches = [batch for batch in _split(n, self.plan.batch_size) if len(order[batch]) > 1]
        total, losses = 0.0, [each.train_loss if each.val_loss is None else each.val_loss for each in standing.records]
        for batch in batches:
            done = standing.step / (len(batches) * self.plan.epochs)
            patience = max(1, self.plan.patience // _WAIT_SHARE)
            factor = compute_rate_factor(
                self.plan.schedule, done, warmup=self.plan.warmup, losses=losses, patience=patience
            )
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            total += self._step(order[batch], views[batch], random) * len(order[batch])
            standing.step += 1
            self._average(standing)
        return total / n

    def _step(self, picked: NDArray[np.intp], views: NDArray[np.intp], random: np.random.Generator) -> float:
        values = self.material.source.take(self.material.train[picked], views)
        mixed = mix(values, random, mixup=self.plan.mixup, cutmix=self.plan.cutmix)
        labels = self.material.take_targets(picked, views)
        others = labels if mixed.partner is None else labels[mixed.partner]
        chances = torch.random.get_rng_state()
        while True:
            try:
                return self._descend(mixed.values, (labels, others, mixed.kept))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(picked))
                torch.random.set_rng_state(chances)

    def _descend(self, values: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor, float]) -> float:
        """One step of the optimizer on the whole batch, in as many parts as the memory asks for."""
        labels, others, kept = target
        loss_of, device = self.material.made.loss, self.place.device
        weight = kept * loss_of.sum_weights(labels) + (1 - kept) * loss_of.sum_weights(others)
        self.optimizer.zero_grad()
        total = 0.0
        for part in _split(len(values), self.micro or len(values)):
            with torch.autocast(device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
                logits = self.trainee(self._place(values[part])).float().cpu()
            loss = kept * loss_of.compute(logits, labels[part], weight)
            if kept < 1:
                loss = loss + (1 - kept) * loss_of.compute(logits, others[part], weight)
            if self.plan.label_smoothing:
                even = -torch.log_softmax(logits, 1).mean(1).sum() / len(values)
                loss = (1 - self.plan.label_smoothing) * loss + self.plan.label_smoothing * even
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += float(loss.detach())
        if self.plan.clip_norm:
            learned = [each for group in self.optimizer.param_groups for each in group["params"]]
            nn.utils.clip_grad_norm_(learned, self.plan.clip_norm)
        self.optimizer.step()
        return total

    def _place(self, values: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if self.plan.channels_last else torch.contiguous_format
        return values.to(self.place.device, memory_format=layout)

    def _halve(self, n: int) -> None:
        """Fewer pictures at once, the same batch: their gradients are added up before the step."""
        self.micro = (self.micro or n) // 2
        if not self.micro:
            raise UsageError(
                "One picture needs more memory than the device has left for learning.",
                f"Choose a smaller training.stages.{self.place.stage}.share, preprocess.size or model.backbone.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        if self.place.device.type == "cuda":
            torch.cuda.empty_cache()
        say(
            f"Warning: out of memory; going on with {self.micro} picture{'s' * (self.micro > 1)} at once, whose "
            f"gradients are added up: a step still learns from {n}"
        )

    def _average(self, standing: _Standing) -> None:
        """Moving average of what learns, whose decay grows to the plan's; with 0 it is the state itself.

        Until then a state counts as the number of its step does (polynomial-decay averaging, Shamir and Zhang 2013):
        half of the weight is on the last three tenths of the way, however long that is.
        """
        decay = min(self.plan.ema, (1 + standing.step) / (3 + standing.step)) if self.plan.ema else 0.0
        with torch.no_grad():
            for name, value in self.trainee.state_dict().items():
                if value.dtype.is_floating_point:
                    standing.ema[name].lerp_(value, 1 - decay)

    def judge(self, ema: State) -> tuple[float, float | None]:
        """Loss (nan where a logit is no number) and AUC on validation pictures with the averaged weights, at the true
        prior.
        """
        learning = _copy(self.trainee.state_dict())
        self.trainee.load_state_dict(ema)
        logits = compute_logits(self.trainee, self.material.source, self.material.val, self.place.device)
        self.trainee.load_state_dict(learning)
        made = self.material.made
        at_prior = (made.loss.recover(torch.from_numpy(logits)) - made.shift).double().numpy()
        if not np.isfinite(at_prior).all():
            return math.nan, None
        return judge_logits(at_prior, self.material.val_labels)


def compute_logits(
    trainee: Trainee, source: Source, positions: NDArray[np.intp], device: torch.device
) -> NDArray[np.float64]:
    """Logits `(n, C)` of pictures without views."""
    trainee.eval()
    parts = []
    with torch.no_grad():
        for part in _split(len(positions), _EVALUATED):
            values = source.take(positions[part], np.zeros(len(positions[part]), np.intp))
            parts.append(trainee(values.to(device)).cpu().double().numpy())
    return np.concatenate(parts)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or this machine has no room left."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _split(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)


def _to_chances(draw: torch.Tensor) -> NDArray[np.float64]:
    chances = draw.double().numpy()
    return np.asarray(chances / chances.sum())


def _copy(state: Mapping[str, torch.Tensor]) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


def _save(
    trainee: Trainee, optimizer: torch.optim.Optimizer, standing: _Standing, place: Place, final: State | None = None
) -> None:
    """Where the stage stands; `final` is what it hands over once it is over."""
    tensors: State = {}
    parts = {"now": trainee.state_dict(), "ema": standing.ema, "best": standing.best, "final": final or {}}
    for part, state in parts.items():
        tensors |= {f"{part}/{name}": value for name, value in state.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    facts = {
        "identity": place.identity,
        "best_epoch": standing.best_epoch,
        "best_loss": standing.best_loss,
        "best_auc": standing.best_auc,
        "step": standing.step,
        "epochs": [record.to_dict() for record in standing.records],
    }
    save_checkpoint(place.path, Checkpoint(tensors, facts))


def _resume(trainee: Trainee, optimizer: torch.optim.Optimizer, standing: _Standing, place: Place) -> None:
    """Take up what the checkpoint of the same work holds; leave all as it is where there is none."""
    found = load_checkpoint(place.path, place.identity)
    if found is None:
        return
    trainee.load_state_dict(found.select("now"))
    own = trainee.state_dict()
    standing.ema = {name: _lay_out(value, own[name]) for name, value in found.select("ema").items()}
    standing.best = {name: _lay_out(value, own[name]) for name, value in found.select("best").items()}
    standing.best_epoch, standing.best_loss = found.facts["best_epoch"], found.facts["best_loss"]
    standing.best_auc, standing.step = found.facts["best_auc"], found.facts["step"]
    standing.records = [EpochRecord.model_validate(epoch) for epoch in found.facts["epochs"]]
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, State] = {}
    for name, value in found.select("optimizer").items():
        number, _, key = name.partition("/")
        like = learned[int(number)]
        moments.setdefault(int(number), {})[key] = _lay_out(value, like) if value.shape == like.shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    say(f"Going on after epoch {len(standing.records)} of stage {place.stage}")


def _lay_out(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`value` on the device and in the memory order of `like`: in another order sums differ in their last bits."""
    return torch.empty_like(like, dtype=value.dtype).copy_(value)

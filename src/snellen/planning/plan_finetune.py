"""Whether and how the network is fine-tuned: how much of it, for how long, within minutes of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snellen.core.errors import UsageError
from snellen.planning.ledger import Ledger
from snellen.records.plan import Decision, FinetunePlan, Fingerprint, How
from snellen.records.recipe import FinetuneWish

MIN_PICTURES = 150
MIN_PATIENTS = 12
BUDGET_S = 300  # of the ten minutes that a training may take, also on a slow machine
FOLDS_BUDGET_S = 1020  # of the twenty-five minutes that a training with folds may take
_LEARNED_PER_S = 2e10  # multiplications a thread: rough, from EfficientNet-Lite0 on a busy machine
_RUN_PER_S = 1.5e10  # the same for the frozen layers, which are the large ones
_PASSES = 3  # a step costs the forward pass and twice as much backwards
_EPOCHS = ((0.6, (12, 10, 8, 6, 5, 4)), (0.35, (12, 10, 8, 6, 5, 4, 3, 2)))  # of each share, the larger first
_ASKED = (0.6, 12, 4)  # share, epochs and views where none of them fits and it is asked for all the same
_FEWEST_VIEWS, _FEWEST_VIEWS_OF_MANY = 3, 2
_VIEWS_IN_ALL = 30_000
_FIRST_EPOCHS = 30

Rule = tuple[Any, How, str]


@dataclass(frozen=True)
class Means:
    """What learning can count on: processors, the kind of device, the multiplications of one picture's forward pass
    (`cost`), and among how many members of a fold ensemble the time is shared.
    """

    threads: int
    device: str
    cost: float
    n_members: int = 1

    @property
    def budget_s(self) -> float:
        """Seconds for one member."""
        return BUDGET_S if self.n_members == 1 else FOLDS_BUDGET_S / self.n_members

    @property
    def learned_share(self) -> float:
        """The part of the pictures that one member learns from."""
        return 1.0 if self.n_members == 1 else 1 - 1 / self.n_members


@dataclass(frozen=True)
class Begin:
    """What a stage begins with: nothing learned (`is_first`), a head that takes the feature map, and the `views` of
    `[augment]`.
    """

    is_first: bool = False
    takes_map: bool = False
    views: int = 0


_FOLLOWS = Begin()


@dataclass(frozen=True)
class _Size:
    """What fits: `epochs` is 0 where nothing does; the reason of the choice."""

    share: float
    epochs: int
    views: int
    reason: str


def plan_finetune(
    wish: FinetuneWish, place: str, fingerprint: Fingerprint, ledger: Ledger, means: Means, begin: Begin = _FOLLOWS
) -> FinetunePlan | None:
    """The stage at `place`, or None where it would not pay. A first stage is never left out.

    Raises UsageError where two wishes contradict each other.
    """
    size, device = _choose_size(fingerprint, means), means.device
    reason = size.reason
    if not begin.is_first and (wish.unfreeze == "none" or (wish.unfreeze == "auto" and not size.epochs)):
        if wish.unfreeze == "none":
            ledger.settle(f"{place}.unfreeze", wish.unfreeze, ("none", "rule", reason))
            return None
        ledger.decisions.append(Decision(key=f"{place}.unfreeze", value="none", how="rule", reason=reason))
        return None
    if begin.is_first and wish.unfreeze == "none":
        reason = "the head alone learns, on the feature map of the frozen network"
        ledger.decisions.append(Decision(key=f"{place}.unfreeze", value="none", how="rule", reason=reason))
        ledger.decisions.append(Decision(key=f"{place}.share", value=0.0, how="rule", reason="the backbone is frozen"))
        rules = _list_rules(0.0, (_ASKED[1], begin.views), device) | _change_rules(wish, begin, 0.0)
        found = {key: ledger.settle(f"{place}.{key}", getattr(wish, key), rule) for key, rule in rules.items()}
        return _require_begin(FinetunePlan(unfreeze="none", share=0.0, **found), place, begin)
    unfreeze = ledger.settle(f"{place}.unfreeze", wish.unfreeze, ("top", "rule", reason))
    share, epochs, views = (size.share, size.epochs, size.views) if size.epochs else _ASKED
    if wish.epochs != "auto":
        views = min(views, wish.epochs)
    whole = unfreeze == "all"
    if whole and wish.share not in ("auto", 1):
        raise UsageError(
            f'{place}.share = {wish.share:g}, but {place}.unfreeze = "all" lets the whole network learn.',
            f'Leave share out, or say {place}.unfreeze = "top".',
        )
    share = ledger.settle(
        f"{place}.share",
        1.0 if whole and wish.share == "auto" else wish.share,
        (1.0 if whole else share, "rule", "all of it" if whole else "early layers see edges and colours: they stay"),
    )
    rules = _list_rules(1.0 if whole else share, (epochs, views), device) | _change_rules(wish, begin, share)
    found = {key: ledger.settle(f"{place}.{key}", getattr(wish, key), rule) for key, rule in rules.items()}
    return _require_begin(FinetunePlan(unfreeze="all" if whole else "top", share=share, **found), place, begin)


def _list_rules(share: float, size: tuple[int, int], device: str) -> dict[str, Rule]:
    """What holds for a stage behind the head's own; `size` is epochs and views."""
    epochs, views = size
    whole = share == 1
    return {
        "epochs": (epochs, "rule", "as many as fit into minutes, twelve at most; without folds, validation stops it"),
        "batch_size": (16, "fixed", "small batches need fewer epochs, and gradients of 16 pictures are steady enough"),
        "lr": (1e-3, "fixed", "the rate that learned most in our experiments, with a new head"),
        "head_lr": (2e-3, "fixed", "the head is new and has further to go"),
        "head_init": ("new", "fixed", "in our experiments it learned more than a head fitted to frozen features"),
        "layer_decay": (1.0, "fixed", "one rate for all that learns, as in our experiments"),
        "weight_decay": (0.05, "fixed", "usual for AdamW"),
        "schedule": ("cosine", "fixed", "falls to nothing, so that the last epochs settle"),
        "warmup": (0.1, "fixed", "the first steps are unsure: the rate climbs over the first tenth"),
        "patience": (5, "fixed", "epochs without a better validation loss; with folds all epochs are learned"),
        "ema": (0.9999, "fixed", "never reached in few epochs: an average of the whole way, later steps counting more"),
        "clip_norm": (1.0, "fixed", "one odd batch must not undo many"),
        "dropout": (0.3, "fixed", "few patients: the head must not lean on single features"),
        "drop_path": (0.0, "fixed", "off: not tried in our experiments"),
        "batch_norm": ("learned", "fixed", "pictures differ from those of the pretraining, and so do their statistics"),
        "label_smoothing": (0.0, "fixed", "calibration follows, and smoothing would stand in its way"),
        "mixup": (0.0, "fixed", "off: not shown to help here"),
        "cutmix": (0.0, "fixed", "off: a lesion may be cut away while its label stays"),
        "randaugment": (0, "fixed", "off: its stronger operations change what is looked for"),
        "views": (views, "rule", "up to one for each epoch, as many as the disk should hold"),
        "cache": (not whole, "rule", "no layer is frozen" if whole else "frozen layers are run once a view"),
        "precision": (
            "bf16" if device == "cuda" else "fp32", "measured",
            "halves memory and time on this device" if device == "cuda" else "bf16 is slower on this processor",
        ),
        "keep": ("better", "fixed", "validation chooses: before, after, or the mean of both where it cannot tell"),
        "channels_last": (True, "rule", "faster for convolutions on processors and GPUs alike"),
        "blend": (True, "fixed", "few pictures do not overrule all that was known before; not with folds"),
    }  # fmt: skip


def _change_rules(wish: FinetuneWish, begin: Begin, share: float) -> dict[str, Rule]:
    """What holds instead where nothing was learned before, or where the head takes the feature map."""
    lr = 1e-3 if wish.lr == "auto" else wish.lr
    changed: dict[str, Rule] = {}
    if begin.is_first or begin.takes_map:
        changed |= {
            "head_lr": (lr, "rule", "one rate for all that learns"),
            "dropout": (0.0, "rule", "the head lists its own layers"),
        }
    if begin.takes_map and not begin.is_first:
        changed["head_init"] = ("before", "rule", "the head has learned on the feature map, and goes on from there")
    if begin.is_first:
        few = "augmented views as in [augment]; each costs a pass of the frozen layers, once"
        many = "one for each possible epoch, whatever augment.views says: drawn anew, they cost no room"
        changed |= {
            "epochs": (_FIRST_EPOCHS, "fixed", "at most; validation stops earlier"),
            "batch_size": (32, "fixed", "usual where nothing was learned before"),
            "weight_decay": (0.01, "fixed", "usual for AdamW"),
            "head_init": ("before", "rule", "there is no head before: it begins by chance, under the seed"),
            "warmup": (0.0, "fixed", "off: what begins by chance has nothing to lose"),
            "patience": (8, "fixed", "epochs without a better validation loss"),
            "ema": (0.0, "fixed", "off: an average would lag behind what begins by chance"),
            "views": (_FIRST_EPOCHS if share == 1 else begin.views, "rule", many if share == 1 else few),
            "keep": ("always", "rule", "nothing was learned before that could stay"),
            "blend": (False, "rule", "nothing was learned before that could be mixed in"),
        }
    return changed


def _require_begin(plan: FinetunePlan, place: str, begin: Begin) -> FinetunePlan:
    """A first stage has no model before it. Raises UsageError where it is asked to compare with one."""
    if begin.is_first and plan.keep != "always":
        raise UsageError(
            f'{place}.keep = "{plan.keep}", but before the first stage there is no model that could stay.',
            f'Leave it out, or say {place}.keep = "always".',
        )
    return plan


def _choose_size(fingerprint: Fingerprint, means: Means) -> _Size:
    """The most that fits into the budget: first the larger share, then epochs, then views."""
    n = fingerprint.n_samples
    fewest = min(fingerprint.patients_by_class.values(), default=0)
    if n < MIN_PICTURES or fewest < MIN_PATIENTS:
        return _Size(0, 0, 0, (
            f"{n} training pictures, {fewest} patients in the smallest class: fewer than {MIN_PICTURES} and "
            f"{MIN_PATIENTS} cannot show whether fine-tuning paid"
        ))  # fmt: skip
    if not means.cost:
        return _Size(0, 0, 0, 'this network cannot be cut in two; unfreeze = "all" lets the whole of it learn')
    reason = "validation decides whether it pays, and averages both models where it cannot tell"
    for share, epochs in ((share, epochs) for share, choices in _EPOCHS for epochs in choices):
        for views in _list_views(epochs, n):
            learning = means.learned_share * _PASSES * share * epochs / _LEARNED_PER_S
            kept = (1 - share) * (1 + views) / _RUN_PER_S / means.n_members  # the frozen layers run once for all
            seconds = means.cost * n / means.threads * (learning + kept)
            if means.device != "cpu" or seconds <= means.budget_s:
                return _Size(share, epochs, views, reason)
    return _Size(
        0, 0, 0, f"{n} pictures would take more than {means.budget_s / 60:.0f} minutes on {means.threads} processors"
    )


def _list_views(epochs: int, n: int) -> list[int]:
    """One an epoch, or half as many but three at least; fewer only of so many pictures that the disk would fill."""
    most = max(_FEWEST_VIEWS_OF_MANY, _VIEWS_IN_ALL // n)
    wanted = [views for views in (epochs, epochs // 2) if views >= min(epochs, _FEWEST_VIEWS)]
    return [views for views in wanted if views <= most] or [most]

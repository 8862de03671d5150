"""Whether and how the network is fine-tuned: how much of it, for how long, within minutes of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from snellen.planning.ledger import Ledger
from snellen.records.plan import Decision, FinetunePlan, Fingerprint, How
from snellen.records.recipe import FinetuneWish

MIN_PICTURES = 150
MIN_PATIENTS = 12
BUDGET_S = 400
FOLDS_BUDGET_S = 1200
_LEARNED_PER_S = 2e10  # multiplications a thread: rough, from EfficientNet-Lite0 on a busy machine
_RUN_PER_S = 1.5e10  # the same for the frozen layers, which are the large ones
_PASSES = 3  # a step costs the forward pass and twice as much backwards
_SHARES = (0.6, 0.35)
_EPOCHS = (12, 8, 6, 4)
_FEWEST_VIEWS = 2
_VIEWS_IN_ALL = 30_000


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


@dataclass(frozen=True)
class _Size:
    """What fits: `epochs` is 0 where nothing does; the reason of the choice."""

    share: float
    epochs: int
    views: int
    reason: str


def plan_finetune(
    wish: FinetuneWish, place: str, fingerprint: Fingerprint, ledger: Ledger, means: Means
) -> FinetunePlan | None:
    """The stage at `place`, or None where it would not pay."""
    size, device = _choose_size(fingerprint, means), means.device
    reason = size.reason
    if wish.unfreeze == "none" or (wish.unfreeze == "auto" and not size.epochs):
        if wish.unfreeze == "none":
            ledger.settle(f"{place}.unfreeze", wish.unfreeze, ("none", "rule", reason))
            return None
        ledger.decisions.append(Decision(key=f"{place}.unfreeze", value="none", how="rule", reason=reason))
        return None
    unfreeze = ledger.settle(f"{place}.unfreeze", wish.unfreeze, ("top", "rule", reason))
    share, epochs, views = (
        (size.share, size.epochs, size.views) if size.epochs else (_SHARES[0], _EPOCHS[0], _EPOCHS[-1])
    )
    whole = unfreeze == "all"
    share = ledger.settle(
        f"{place}.share",
        1.0 if whole and wish.share == "auto" else wish.share,
        (1.0 if whole else share, "rule", "all of it" if whole else "early layers see edges and colours: they stay"),
    )
    rules: dict[str, tuple[Any, How, str]] = {
        "epochs": (epochs, "rule", "as many as fit into minutes, twelve at most; validation stops earlier"),
        "batch_size": (16, "fixed", "small batches need fewer epochs, and gradients of 16 pictures are steady enough"),
        "lr": (1e-3, "fixed", "the rate that learned most in our experiments, with a new head"),
        "head_lr": (2e-3, "fixed", "the head is new and has further to go"),
        "head_init": ("new", "fixed", "in our experiments it learned more than a head fitted to frozen features"),
        "layer_decay": (1.0, "fixed", "one rate for all that learns, as in our experiments"),
        "weight_decay": (0.05, "fixed", "usual for AdamW"),
        "schedule": ("cosine", "fixed", "falls to nothing, so that the last epochs settle"),
        "warmup": (0.1, "fixed", "the first steps are unsure: the rate climbs over the first tenth"),
        "patience": (5, "fixed", "epochs without a better validation loss"),
        "ema": (0.98, "fixed", "the average of the last weights is steadier than the last ones"),
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
    }  # fmt: skip
    found = {key: ledger.settle(f"{place}.{key}", getattr(wish, key), rule) for key, rule in rules.items()}
    return FinetunePlan(unfreeze="all" if whole else "top", share=share, **found)


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
    most = max(_FEWEST_VIEWS, _VIEWS_IN_ALL // n)
    for share, epochs in product(_SHARES, _EPOCHS):
        for views in (epochs, epochs // 2, _FEWEST_VIEWS):
            learning = _PASSES * share * epochs / _LEARNED_PER_S
            seconds = means.cost * n / means.threads * (learning + (1 - share) * (1 + views) / _RUN_PER_S)
            if views <= most and (means.device != "cpu" or seconds <= means.budget_s):
                return _Size(share, epochs, views, reason)
    return _Size(
        0, 0, 0, f"{n} pictures would take more than {means.budget_s / 60:.0f} minutes on {means.threads} processors"
    )

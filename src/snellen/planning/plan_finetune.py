"""Whether and how the network is fine-tuned: how much of it, for how long, within minutes of this machine."""

from __future__ import annotations

from typing import Any

from snellen.planning.ledger import Ledger
from snellen.records.plan import Decision, FinetunePlan, Fingerprint, How
from snellen.records.recipe import FinetuneWish

MIN_PICTURES = 150
MIN_PATIENTS = 12
BUDGET_S = 480
_MULTIPLICATIONS_PER_S = 2e10  # a thread, learning; measured with EfficientNet-Lite0 on two cores
_PASSES = 3  # a step costs the forward pass and twice as much backwards
_SHARE = 0.6
_LEAST_SHARE = 0.35
_EPOCHS = 12
_LEAST_EPOCHS = 4


def plan_finetune(
    wish: FinetuneWish, place: str, fingerprint: Fingerprint, ledger: Ledger, machine: tuple[int, str], cost: float
) -> FinetunePlan | None:
    """The stage at `place`, or None where it would not pay. `machine` has the threads and the kind of device; `cost`
    is the number of multiplications of one picture's forward pass.
    """
    threads, device = machine
    share, epochs, reason = _choose_size(fingerprint, threads, device, cost)
    if wish.unfreeze == "none" or (wish.unfreeze == "auto" and not epochs):
        if wish.unfreeze == "none":
            ledger.settle(f"{place}.unfreeze", wish.unfreeze, ("none", "rule", reason))
            return None
        ledger.decisions.append(Decision(key=f"{place}.unfreeze", value="none", how="rule", reason=reason))
        return None
    unfreeze = ledger.settle(f"{place}.unfreeze", wish.unfreeze, ("top", "rule", reason))
    share, epochs = (share, epochs) if epochs else (_SHARE, _EPOCHS)
    whole = unfreeze == "all"
    share = ledger.settle(
        f"{place}.share",
        1.0 if whole and wish.share == "auto" else wish.share,
        (1.0 if whole else share, "rule", "all of it" if whole else "early layers see edges and colours: they stay"),
    )
    rules: dict[str, tuple[Any, How, str]] = {
        "epochs": (epochs, "rule", "as many as fit into eight minutes, twelve at most; validation stops earlier"),
        "batch_size": (16, "fixed", "small batches need fewer epochs, and gradients of 16 pictures are steady enough"),
        "lr": (3e-4, "fixed", "usual for AdamW on pretrained layers"),
        "head_lr": (3e-4, "fixed", "the head begins where stage 1 ended, so it needs no higher rate"),
        "layer_decay": (0.9, "fixed", "lower layers are more general and move less"),
        "weight_decay": (0.05, "fixed", "usual for AdamW"),
        "schedule": ("cosine", "fixed", "falls to nothing, so that the last epochs settle"),
        "warmup": (0.1, "fixed", "the first steps are unsure: the rate climbs over the first tenth"),
        "patience": (5, "fixed", "epochs without a better validation loss"),
        "ema": (0.98, "fixed", "the average of the last weights is steadier than the last ones"),
        "clip_norm": (1.0, "fixed", "one odd batch must not undo many"),
        "dropout": (0.3, "fixed", "few patients: the head must not lean on single features"),
        "drop_path": (0.0, "fixed", "small networks lose more than they gain"),
        "batch_norm": ("learned", "fixed", "pictures differ from those of the pretraining, and so do their statistics"),
        "label_smoothing": (0.0, "fixed", "calibration follows, and smoothing would stand in its way"),
        "mixup": (0.0, "fixed", "off: not shown to help here"),
        "cutmix": (0.0, "fixed", "off: a lesion may be cut away while its label stays"),
        "randaugment": (0, "fixed", "off: its stronger operations change what is looked for"),
        "views": (4, "fixed", "views whose activations are kept; epochs draw among them"),
        "cache": (not whole, "rule", "no layer is frozen" if whole else "frozen layers are run once a view"),
        "precision": (
            "bf16" if device == "cuda" else "fp32", "measured",
            "halves memory and time on this device" if device == "cuda" else "bf16 is slower on this processor",
        ),
        "channels_last": (True, "rule", "faster for convolutions on processors and GPUs alike"),
    }  # fmt: skip
    found = {key: ledger.settle(f"{place}.{key}", getattr(wish, key), rule) for key, rule in rules.items()}
    return FinetunePlan(unfreeze="all" if whole else "top", share=share, **found)


def _choose_size(fingerprint: Fingerprint, threads: int, device: str, cost: float) -> tuple[float, int, str]:
    """Share of the network, epochs (0 where nothing is fine-tuned) and the reason."""
    fewest = min(fingerprint.patients_by_class.values(), default=0)
    if fingerprint.n_samples < MIN_PICTURES or fewest < MIN_PATIENTS:
        return 0, 0, (
            f"{fingerprint.n_samples} training pictures, {fewest} patients in the smallest class: fewer than "
            f"{MIN_PICTURES} and {MIN_PATIENTS} cannot show whether fine-tuning paid"
        )  # fmt: skip
    if not cost:
        return 0, 0, 'this network cannot be cut in two; unfreeze = "all" lets the whole of it learn'
    if device != "cpu":
        return _SHARE, _EPOCHS, "validation decides whether it pays; the frozen network's model stays otherwise"
    whole_s = fingerprint.n_samples * _PASSES * cost / (_MULTIPLICATIONS_PER_S * threads)
    for share in (_SHARE, _LEAST_SHARE):
        epochs = int(min(_EPOCHS, BUDGET_S / (whole_s * share)))
        if epochs >= _LEAST_EPOCHS:
            return share, epochs, "validation decides whether it pays; the frozen network's model stays otherwise"
    return 0, 0, f"{fingerprint.n_samples} pictures would take more than eight minutes on {threads} processors"

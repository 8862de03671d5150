"""Stage 2 of a run: stages of fine-tuning on top of the head, each kept only where validation patients say it paid."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]  # timm marks no exports
from torch import nn

from snellen.core.progress import say
from snellen.core.storage import compute_digest, describe_need, hold_lock
from snellen.imaging.cache import PixelCache
from snellen.modeling.architectures import (
    Calibrated,
    Classifier,
    FrozenBackbone,
    NetworkEnsemble,
    compute_map_shape,
)
from snellen.modeling.blocks import HeadEnsemble
from snellen.modeling.cut import Halves, cut_backbone
from snellen.modeling.devices import choose_device
from snellen.modeling.graph import export_graph
from snellen.modeling.weights import compute_state_sha256, load_weights
from snellen.records.cohort import Sample
from snellen.records.layers import takes_map
from snellen.records.plan import FinetunePlan, Plan
from snellen.records.run import ChosenHead, EpochRecord, StageOutcome
from snellen.run_features import build_frozen, encode_labels
from snellen.run_learning import Learned, guess_by_prior, initialise_head
from snellen.run_preparation import Prepared
from snellen.training.crossval import FoldData
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.finetune import Finetuned, Material, Place, Trainee, compare_logits, finetune, judge_logits
from snellen.training.head import HeadData, iterate_epochs, make_ready
from snellen.training.imbalance import Rebalanced, rebalance, undo_shift
from snellen.training.sources import KeptActivations, LivePixels, Source

State = dict[str, torch.Tensor]
Note = Callable[[EpochRecord], None]
Follow = Callable[[int], AbstractContextManager[Note]]
CHECKPOINTS = "checkpoints"
_GRAPH_VERSION = "lower-1"
_STEP = 8


@dataclass(frozen=True)
class Network:
    """State of a whole backbone after fine-tuning (or as it was), and the head on it."""

    backbone: State
    head: nn.Sequential


@dataclass(frozen=True)
class Tuned:
    """What stage 2 leaves: `networks` (one, or one a fold; empty where no stage paid), the held-out logits `(M, C)`
    with them, and what each stage gave.
    """

    networks: tuple[Network, ...]
    logits: NDArray[np.float64]
    outcomes: tuple[StageOutcome, ...]

    @property
    def changes_backbone(self) -> bool:
        """Whether the features are no longer those of the frozen network."""
        return any(outcome.kept and outcome.share > 0 for outcome in self.outcomes)


@dataclass(frozen=True)
class Bench:
    """Everything that all stages and folds share. `frozen` is the network with pretrained weights."""

    prepared: Prepared
    pixels: PixelCache
    frozen: FrozenBackbone
    folder: Path
    device: torch.device

    @property
    def plan(self) -> Plan:
        return self.prepared.plan

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the network's input."""
        preprocess = self.plan.preprocess
        return preprocess.size, preprocess.size, preprocess.channels


@dataclass(frozen=True)
class Part:
    """One training: positions of `rows` (of the pixel cache) to learn from and to judge on, and the head to begin with.

    `labels` `(N,)` are those of all rows, `before` log loss and AUC of the head alone on the judging pictures.
    `fallback` is the head that stays where no stage pays: with folds it has learned from the judging pictures too.
    """

    fold: int | None
    rows: NDArray[np.intp]
    labels: NDArray[np.int64]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    head: nn.Sequential
    before: tuple[float, float | None]
    fallback: nn.Sequential
    patients: tuple[str, ...]


def finetune_run(bench: Bench, data: HeadData | FoldData, learned: Learned, follow: Follow) -> Tuned:
    """All stages of the plan behind the first. `follow(stage)` gives what is told every epoch of a stage."""
    torch.set_num_threads(bench.plan.training.threads)
    parts = [_cut_split(bench, data, learned)] if isinstance(data, HeadData) else _cut_folds(bench, data, learned)
    logits = learned.logits.copy()
    networks, outcomes = [], list[StageOutcome]()
    for part in parts:
        network, told = _tune_part(bench, part, follow)
        outcomes += told
        networks.append(network)
        if any(outcome.kept for outcome in told):
            held = part.val if part.fold is None else np.flatnonzero(_folds_of(data) == part.fold)
            at = slice(None) if part.fold is None else held
            logits[at] = compute_network_logits(bench, network, part.rows[held])
    return Tuned(tuple(networks) if any(outcome.kept for outcome in outcomes) else (), logits, tuple(outcomes))


def learn_fold(
    prepared: Prepared, samples: Sequence[Sample], labels: NDArray[np.int64], held: NDArray[np.bool_], folder: Path
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """All stages of a plan that learns on the feature map from the start, on the `samples` that are not `held` `(N,)`;
    what is held out chooses the epochs. Its logits `(n, C)` and its positions. Checkpoints go below `folder`.
    """
    plan = prepared.plan
    torch.set_num_threads(plan.training.threads)
    frozen = build_frozen(plan)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    pixels = prepared.build_pixels(samples)
    bench = Bench(prepared, pixels, frozen, folder, choose_device())
    rows, train, val = pixels.select(samples), np.flatnonzero(~held), np.flatnonzero(held)
    map_shape = compute_map_shape(frozen, plan.preprocess)
    table = None if takes_map(plan.model.head) else _pool(frozen, pixels, rows[train])
    head = initialise_head(plan, map_shape, table)
    patients = tuple(sample.patient for sample in samples)
    before = judge_logits(guess_by_prior(labels[train], len(val), plan.model.n_classes), labels[val])
    part = Part(None, rows, labels, train, val, head, before, head, patients)
    network = Network(_copy(frozen.backbone.state_dict()), head)
    for number, stage in enumerate(plan.training.finetune_stages):
        network, _ = _run_stage(bench, part, (number, stage), network, lambda _: None)
    return compute_network_logits(bench, network, rows[val]), val


def _pool(frozen: FrozenBackbone, pixels: PixelCache, rows: NDArray[np.intp]) -> FeatureTable:
    """Pooled features of pictures, computed here and now."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _STEP):
            taken = torch.from_numpy(np.ascontiguousarray(pixels.take(rows[start : start + _STEP])))
            parts.append(frozen.eval()(taken)[0].numpy())
    return FeatureTable.hold(np.concatenate(parts)[None])


def build_tuned_classifier(bench: Bench, networks: Sequence[Network]) -> Calibrated:
    """One network, or an ensemble that shares the part which no stage changed."""
    if len(networks) == 1:
        bench.frozen.backbone.load_state_dict(networks[0].backbone)
        return Classifier(bench.frozen, networks[0].head)
    share = max(stage.share for stage in bench.plan.training.finetune_stages)
    lower = cut_backbone(bench.frozen, bench.shape, share).lower
    members = []
    for network in networks:
        own = copy.deepcopy(bench.frozen)
        own.backbone.load_state_dict(network.backbone)
        members.append((cut_backbone(own, bench.shape, share).upper, network.head))
    return NetworkEnsemble(lower, members)


def compute_network_logits(bench: Bench, network: Network, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Logits `(n, C)` of rows of the pixel cache, from pixels: what the exported graph will say."""
    own = copy.deepcopy(bench.frozen)
    own.backbone.load_state_dict(network.backbone)
    whole = Classifier(own, network.head).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _STEP):
            pixels = torch.from_numpy(np.ascontiguousarray(bench.pixels.take(rows[start : start + _STEP])))
            parts.append(whole(pixels)[1].double().numpy())
    return np.concatenate(parts)


def _folds_of(data: HeadData | FoldData) -> NDArray[np.intp]:
    return data.folds if isinstance(data, FoldData) else np.zeros(0, np.intp)


def _cut_split(bench: Bench, data: HeadData, learned: Learned) -> Part:
    train, val = bench.prepared.members("train"), bench.prepared.members("val")
    if not isinstance(learned.head, nn.Sequential):
        raise TypeError("a validation split gives one head")
    return Part(
        fold=None,
        rows=bench.pixels.select([*train, *val]),
        labels=np.concatenate([encode_labels(train, bench.plan), data.val_labels]),
        train=np.arange(len(train)),
        val=np.arange(len(train), len(train) + len(val)),
        head=learned.head,
        before=judge_logits(learned.logits, data.val_labels),
        fallback=learned.head,
        patients=tuple(sample.patient for sample in (*train, *val)),
    )


def _cut_folds(bench: Bench, data: FoldData, learned: Learned) -> list[Part]:
    """A member that leaves out fold k is judged on the next fold, which it leaves out as well: what chooses for k must
    not have seen k. Its head is fitted anew without both.
    """
    if not isinstance(learned.head, HeadEnsemble):
        raise TypeError("folds give an ensemble")
    rows = bench.pixels.select(learned.samples)
    patients = tuple(sample.patient for sample in learned.samples)
    parts = []
    for fold in range(data.n_folds):
        judge = (fold + 1) % data.n_folds
        val = np.flatnonzero(data.folds == judge)
        train = np.flatnonzero(~np.isin(data.folds, (fold, judge)))
        head: nn.Sequential = learned.head.members[fold]  # type: ignore[assignment]  # a Sequential
        if learned.members:
            head = _fit_without(data, bench.plan, (fold, judge), learned.members[fold])
            with torch.no_grad():
                logits = head(torch.from_numpy(data.table.take(0, val))).double().numpy()
        else:
            logits = guess_by_prior(data.labels[train], len(val), bench.plan.model.n_classes)
        before = judge_logits(logits, data.labels[val])
        fallback: nn.Sequential = learned.head.members[fold]  # type: ignore[assignment]  # a Sequential
        parts.append(Part(fold, rows, data.labels, train, val, head, before, fallback, patients))
    return parts


def _fit_without(data: FoldData, plan: Plan, folds: tuple[int, int], chosen: ChosenHead) -> nn.Sequential:
    ready = make_ready(data.leave_out(*folds), plan)
    kept: nn.Sequential | None = None
    for head, _, _ in islice(iterate_epochs(ready, plan, chosen.weight_decay), chosen.epoch):
        kept = head
    if kept is None:
        raise ValueError("a member that was fitted can be fitted on less")
    undo_shift(kept, ready.rebalanced.shift)
    torch.set_num_threads(plan.training.threads)
    return copy.deepcopy(kept).eval()


def _tune_part(bench: Bench, part: Part, follow: Follow) -> tuple[Network, list[StageOutcome]]:
    network = Network(_copy(bench.frozen.backbone.state_dict()), part.head)
    before, outcomes = part.before, []
    stages = bench.plan.training.finetune_stages
    for number, stage in enumerate(stages, start=len(bench.plan.training.stages) - len(stages)):
        with follow(number) as note:
            tried, found = _run_stage(bench, part, (number, stage), network, note)
        fallen, error = _compare(bench, part, network, tried)
        # a rule of one standard error (Breiman et al. 1984): the best of many epochs looks better than it is
        kept = fallen > error or stage.keep == "always"
        outcome = StageOutcome(
            stage=number, fold=part.fold, share=stage.share, epoch=found.epoch, n_epochs=len(found.epochs),
            blend=found.blend,
            standard_error=error,
            before_loss=before[0], before_auc=before[1], val_loss=found.val_loss, val_auc=found.val_auc, kept=kept,
        )  # fmt: skip
        say(describe_outcome(outcome))
        outcomes.append(outcome)
        if kept:
            network, before = tried, (found.val_loss, found.val_auc)
    if not any(outcome.kept for outcome in outcomes):
        return Network(network.backbone, part.fallback), outcomes
    return network, outcomes


def _compare(bench: Bench, part: Part, before: Network, after: Network) -> tuple[float, float]:
    """By how much the loss falls on the judging pictures, from their pixels, and the standard error of that."""
    rows = part.rows[part.val]
    logits = [compute_network_logits(bench, network, rows) for network in (before, after)]
    return compare_logits(logits[0], logits[1], part.labels[part.val], [part.patients[at] for at in part.val])


def describe_outcome(outcome: StageOutcome) -> str:
    """One line: whether it paid, and by what."""
    where = "" if outcome.fold is None else f", fold {outcome.fold}"
    aucs = (
        f", AUC {outcome.before_auc:.3f} → {outcome.val_auc:.3f}"
        if outcome.before_auc is not None and outcome.val_auc is not None
        else ""
    )
    verdict = "kept" if outcome.kept else "not kept, the model before it stays"
    return (
        f"Stage {outcome.stage}{where}: {verdict}; validation loss {outcome.before_loss:.3f} → {outcome.val_loss:.3f} "
        f"(± {outcome.standard_error:.3f})"
        f"{aucs} (epoch {outcome.epoch} of {outcome.n_epochs}, {outcome.blend:.0%} of what was learned)"
    )


def _run_stage(
    bench: Bench, part: Part, which: tuple[int, FinetunePlan], network: Network, note: Note
) -> tuple[Network, Finetuned]:
    number, stage = which
    own = _build_learner(bench, stage)
    own.backbone.load_state_dict(network.backbone)
    halves = cut_backbone(own, bench.shape, stage.share)
    head = copy.deepcopy(network.head)
    if stage.head_init == "new":
        _renew(head, bench.plan.training.seed)
    made = _rebalance(part, bench.plan)
    undo_shift(head, -made.shift)  # learning goes on at the prior that the method makes
    trainee = Trainee(halves.upper, head, stage.dropout)
    source = _open_source(bench, part, stage, halves)
    place = Place(
        stage=number,
        fold=part.fold,
        seed=bench.plan.training.seed,
        path=bench.folder
        / CHECKPOINTS
        / (f"stage-{number}" + ("" if part.fold is None else f"-fold-{part.fold}") + ".safetensors"),
        identity=_identify(bench, part, stage, trainee),
        device=bench.device,
    )
    groups = _group_parameters(own.backbone, halves.upper, stage)
    found = finetune(
        trainee, Material(source, part.train, made, part.val, part.labels[part.val], groups), stage, place, note
    )
    trainee.load_state_dict(found.state)
    trainee.to("cpu").to(memory_format=torch.contiguous_format)
    undo_shift(head, made.shift)
    head.eval()
    return Network(_copy(own.backbone.state_dict()), head), found


def _renew(head: nn.Sequential, seed: int) -> None:
    """Begin anew: hidden layers by chance, the last one at zero, so that the first steps follow the pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in head.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv1d):
                module.reset_parameters()
    for parameter in head[-1].parameters():
        nn.init.zeros_(parameter)


def _build_learner(bench: Bench, stage: FinetunePlan) -> FrozenBackbone:
    """The same network, with stochastic depth where it is asked for."""
    own = copy.deepcopy(bench.frozen)  # a new one would draw weights that are not used
    if stage.drop_path:
        model = bench.plan.model
        arguments = {**model.backbone_args, "drop_path_rate": stage.drop_path}
        own = FrozenBackbone(model.model_copy(update={"backbone_args": arguments}))
    own.requires_grad_(False)
    return own


def _rebalance(part: Part, plan: Plan) -> Rebalanced:
    """As the plan says; what makes new features cannot make new activations, and draws pictures more often instead."""
    imbalance = plan.imbalance
    if imbalance.method == "oversample_features":
        imbalance = imbalance.model_copy(update={"method": "balanced_sampling"})
    labels = part.labels[part.train]
    nothing = FeatureTable.hold(np.zeros((1, len(labels), 1), np.float32))
    return rebalance(nothing, labels, plan.model.n_classes, imbalance, in_batches=True, seed=plan.training.seed)


def _open_source(bench: Bench, part: Part, stage: FinetunePlan, halves: Halves) -> Source:
    plan, cache = bench.plan, bench.prepared.cache
    seed, threads = plan.training.seed, plan.training.threads
    if not stage.cache:
        store = FeatureStore(Path(), bench.pixels, plan.augment, cache, seed, threads, randaugment=stage.randaugment)
        lower = halves.lower.to(bench.device)
        return LivePixels(store, part.rows, lower, bench.device)
    graph = _export_lower(bench, halves)
    store = FeatureStore(graph, bench.pixels, plan.augment, cache, seed, threads, "activation", True, stage.randaugment)
    with torch.no_grad():
        pixels = torch.zeros(1, *bench.shape, dtype=torch.uint8)
        n_values = halves.lower(pixels).numel()
    train, val = part.rows[part.train], part.rows[part.val]
    n_kept = len(np.unique(part.rows)) + len(np.unique(train)) * stage.views
    say(describe_need(cache, {"activations": n_kept * n_values * 2}))
    store.fill(val, 0, "Computing activations of validation pictures")
    return KeptActivations(store.fill(train, stage.views, "Computing activations"), part.rows)


def _export_lower(bench: Bench, halves: Halves) -> Path:
    """The part that learns nothing as a graph, kept in the cache by its weights and input."""
    model = bench.plan.model
    key = compute_digest(
        [_GRAPH_VERSION, compute_state_sha256(halves.lower), model.backbone, repr(sorted(model.backbone_args.items())),
         repr(model.mean), repr(model.std), repr(bench.shape), f"{halves.share:.6f}",
         *(layer.model_dump_json() for layer in model.layers)]
    )  # fmt: skip
    path = bench.prepared.cache / "graphs" / f"{key[:24]}.onnx"
    with hold_lock(bench.prepared.cache / "locks" / f"{key[:24]}.lock"):
        if not path.exists():
            export_graph(halves.lower, path, shape=bench.shape, outputs=("activation",))
    return path


def _group_parameters(
    backbone: nn.Module, upper: nn.Module, stage: FinetunePlan
) -> tuple[tuple[list[nn.Parameter], float, float], ...]:
    """Optimizer groups by depth: (parameters, factor of the rate, weight decay). Scales and offsets do not decay."""
    for parameter in upper.parameters():
        parameter.requires_grad_(True)
    groups = param_groups_layer_decay(backbone, weight_decay=stage.weight_decay, layer_decay=stage.layer_decay)
    top = max((group["lr_scale"] for group in groups), default=1.0)
    return tuple((group["params"], group["lr_scale"] / top, group["weight_decay"]) for group in groups)


def _identify(bench: Bench, part: Part, stage: FinetunePlan, trainee: Trainee) -> str:
    """What a checkpoint must be of to be taken up."""
    return compute_digest(
        [
            stage.model_dump_json(),
            bench.plan.model.model_dump_json(),
            bench.plan.imbalance.model_dump_json(),
            bench.plan.augment.model_dump_json(),
            str(bench.plan.training.seed),
            bench.pixels.key,
            compute_state_sha256(trainee),
            *(repr(values.tolist()) for values in (part.rows, part.labels, part.train, part.val)),
        ]
    )


def _copy(state: dict[str, torch.Tensor]) -> State:
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}

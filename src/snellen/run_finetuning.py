"""Stage 2 of a run: stages of fine-tuning on top of the head, each kept only where validation patients say it paid."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
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
from snellen.modeling.architectures import Calibrated, Classifier, FrozenBackbone, NetworkEnsemble
from snellen.modeling.blocks import HeadEnsemble
from snellen.modeling.cut import Halves, cut_backbone
from snellen.modeling.graph import export_graph
from snellen.modeling.weights import compute_state_sha256
from snellen.records.plan import FinetunePlan, Plan
from snellen.records.run import ChosenHead, EpochRecord, StageOutcome
from snellen.run_features import encode_labels
from snellen.run_learning import Learned
from snellen.run_preparation import Prepared
from snellen.run_resampling import describe_resampling, record_resampling
from snellen.training.crossval import FoldData
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.finetune import Finetuned, Material, Place, Trainee, compare_logits, finetune, judge_logits
from snellen.training.head import HeadData, iterate_epochs, make_ready
from snellen.training.imbalance import MAKERS, PICKERS, RESAMPLERS, Rebalanced, count_pictures, rebalance, undo_shift
from snellen.training.pictures import resample_pictures
from snellen.training.sources import Joined, KeptActivations, LivePixels, Source

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
    for fold, chosen in enumerate(learned.members):
        judge = (fold + 1) % data.n_folds
        head = _fit_without(data, bench.plan, (fold, judge), chosen)
        val = np.flatnonzero(data.folds == judge)
        with torch.no_grad():
            logits = head(torch.from_numpy(data.table.take(0, val))).double().numpy()
        train = np.flatnonzero(~np.isin(data.folds, (fold, judge)))
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
    for number, stage in enumerate(bench.plan.training.finetune_stages, start=1):
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
    train, made, new = resample_part(bench, part)
    undo_shift(head, -made.shift)  # learning goes on at the prior that the method makes
    trainee = Trainee(halves.upper, head, stage.dropout)
    source = _open_source(bench, part, stage, halves, new)
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
        trainee, Material(source, train, made, part.val, part.labels[part.val], groups), stage, place, note
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
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    for parameter in head[-1].parameters():
        nn.init.zeros_(parameter)


def _build_learner(bench: Bench, stage: FinetunePlan) -> FrozenBackbone:
    """The same network, with stochastic depth where it is asked for."""
    model = bench.plan.model
    if stage.drop_path:
        arguments = {**model.backbone_args, "drop_path_rate": stage.drop_path}
        model = model.model_copy(update={"backbone_args": arguments})
    own = FrozenBackbone(model)
    own.requires_grad_(False)
    return own


def resample_part(bench: Bench, part: Part) -> tuple[NDArray[np.intp], Rebalanced, PixelCache | None]:
    """As the plan says: positions to learn from, what is made of them, and new pictures, whose positions follow all
    others. What makes new features cannot make new activations, and draws pictures more often instead.
    """
    plan, imbalance = bench.plan, bench.plan.imbalance
    labels, seed, n_classes = part.labels[part.train], plan.training.seed, plan.model.n_classes
    if imbalance.on == "pixels" and imbalance.method in (*MAKERS, *PICKERS):
        found = resample_pictures(bench.pixels, part.rows[part.train], labels, imbalance, seed)
        made = count_pictures(labels, np.concatenate([labels[found.picked], found.labels]), n_classes)
        say(describe_resampling(record_resampling(made.counts, plan, part.fold)))
        behind = len(part.rows) + np.arange(len(found.labels))
        return np.concatenate([part.train[found.picked], behind]), made, found.new
    if imbalance.method in RESAMPLERS:
        imbalance = imbalance.model_copy(update={"method": "balanced_sampling"})
    nothing = FeatureTable.hold(np.zeros((1, len(labels), 1), np.float32))
    return part.train, rebalance(nothing, labels, n_classes, imbalance, in_batches=True, seed=seed), None


def _open_source(bench: Bench, part: Part, stage: FinetunePlan, halves: Halves, new: PixelCache | None) -> Source:
    """The pictures of `part`, and behind them `new` ones."""
    plan, cache = bench.plan, bench.prepared.cache
    graph = _export_lower(bench, halves) if stage.cache else Path()
    store = FeatureStore(
        graph, bench.pixels, plan.augment, cache, plan.training.seed, plan.training.threads, "activation", True,
        stage.randaugment,
    )  # fmt: skip
    known = _open_pictures(bench, (store, part.rows, part.rows[part.train], part.rows[part.val]), stage, halves)
    if new is None:
        return known
    rows = np.arange(len(new.pixels))
    made = _open_pictures(bench, (replace(store, pixels=new), rows, rows, rows[:0]), stage, halves)
    return Joined(known, made, len(part.rows))


def _open_pictures(
    bench: Bench,
    asked: tuple[FeatureStore, NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
    stage: FinetunePlan,
    halves: Halves,
) -> Source:
    """Pictures at rows of the store's pixel cache, of which some are to learn from and some to judge on."""
    store, rows, train, val = asked
    if not stage.cache:
        return LivePixels(store, rows, halves.lower.to(bench.device), bench.device)
    with torch.no_grad():
        pixels = torch.zeros(1, *bench.shape, dtype=torch.uint8)
        n_values = halves.lower(pixels).numel()
    n_kept = len(np.unique(rows)) + len(np.unique(train)) * stage.views
    say(describe_need(bench.prepared.cache, {"activations": n_kept * n_values * 2}))
    if len(val):
        store.fill(val, 0, "Computing activations of validation pictures")
    return KeptActivations(store.fill(train, stage.views, "Computing activations"), rows)


def _export_lower(bench: Bench, halves: Halves) -> Path:
    """The part that learns nothing as a graph, kept in the cache by its weights and input."""
    model = bench.plan.model
    key = compute_digest(
        [_GRAPH_VERSION, compute_state_sha256(halves.lower), model.backbone, repr(sorted(model.backbone_args.items())),
         repr(model.mean), repr(model.std), repr(bench.shape), f"{halves.share:.6f}"]
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

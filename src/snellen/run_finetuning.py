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
from snellen.metrics.calibration import fit_temperature
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
from snellen.records.run import ChosenHead, EpochRecord, Resampling, StageOutcome
from snellen.run_features import build_frozen, encode_labels
from snellen.run_learning import Learned, guess_by_prior, initialise_head
from snellen.run_preparation import Prepared
from snellen.run_resampling import describe_resampling, record_resampling
from snellen.training.crossval import FoldData
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.finetune import Finetuned, Material, Place, Trainee, finetune
from snellen.training.head import HeadData, iterate_epochs, make_ready
from snellen.training.imbalance import MAKERS, PICKERS, RESAMPLERS, Rebalanced, count_pictures, rebalance, undo_shift
from snellen.training.judging import choose_model, compare_logits, judge_logits
from snellen.training.pictures import resample_pictures
from snellen.training.soft_targets import Teacher, soften
from snellen.training.sources import Joined, KeptActivations, LivePixels, Source

State = dict[str, torch.Tensor]
Note = Callable[[EpochRecord], None]
Follow = Callable[[int], AbstractContextManager[Note]]
CHECKPOINTS = "checkpoints"
EMBEDDINGS = "embeddings"
_GRAPH_VERSION = "lower-1"
_STEP = 8


@dataclass(frozen=True)
class Branch:
    """State of a whole backbone after fine-tuning, or as it was (`is_frozen`), and the head on it, whose logits were
    divided by `temperature`.
    """

    backbone: State
    head: nn.Sequential
    is_frozen: bool = False
    temperature: float = 1.0


@dataclass(frozen=True)
class Network:
    """One model: the mean of the logits of its branches, one or two."""

    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Tuned:
    """What stage 2 leaves: `networks` (one, or one a fold; empty where no stage paid), the held-out logits `(M, C)`
    with them, what each stage gave, and what resampling made of the pictures that its first stage learned from.
    """

    networks: tuple[Network, ...]
    logits: NDArray[np.float64]
    outcomes: tuple[StageOutcome, ...]
    resampled: tuple[Resampling, ...] = ()

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

    `labels` `(N,)` are those of all rows. `fallback` is the head that stays on the frozen network: with folds it has
    learned from the judging pictures too. `begin` are logits `(M, C)` of the judging pictures before the first stage,
    by `head` on the frozen network or, where nothing `has_learned`, by the prior alone. A `teacher` is learned from
    instead of labels; then nothing judges.
    """

    fold: int | None
    rows: NDArray[np.intp]
    labels: NDArray[np.int64]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    head: nn.Sequential
    fallback: nn.Sequential
    patients: tuple[str, ...]
    begin: NDArray[np.float64] | None = None
    has_learned: bool = True
    teacher: Teacher | None = None

    @property
    def checkpoint(self) -> str:
        """What is added to the name of a stage's checkpoint."""
        if self.teacher is not None:
            return "-distilled"
        return "" if self.fold is None else f"-fold-{self.fold}"


def finetune_run(bench: Bench, data: HeadData | FoldData, learned: Learned, follow: Follow) -> Tuned:
    """All stages of the plan behind the first. `follow(stage)` gives what is told every epoch of a stage."""
    torch.set_num_threads(bench.plan.training.threads)
    parts = [_cut_split(bench, data, learned)] if isinstance(data, HeadData) else _cut_folds(bench, data, learned)
    logits = learned.logits.copy()
    networks, outcomes, resampled = [], list[StageOutcome](), list[Resampling]()
    for part in parts:
        model, told, counts = _tune_part(bench, part, follow)
        outcomes += told
        resampled += record_resampling(counts, bench.plan, part.fold)
        networks.append(model.network)
        if not any(outcome.kept for outcome in told):
            continue
        if part.fold is None:
            logits[:] = model.logits  # what judged is what was held out
        else:
            held = np.flatnonzero(_folds_of(data) == part.fold)
            logits[held] = compute_network_logits(bench, model.network, part.rows[held])
    kept = tuple(networks) if any(outcome.kept for outcome in outcomes) else ()
    return Tuned(kept, logits, tuple(outcomes), tuple(resampled))


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
    patients = prepared.name_units(samples)
    part = Part(None, rows, labels, train, val, head, head, patients)
    branch = Branch(_copy(frozen.backbone.state_dict()), head)
    for number, stage in enumerate(plan.training.finetune_stages):
        branch, _ = run_stage(bench, part, (number, stage), branch, lambda _: None)
    return _compute_branch_logits(bench, branch, rows[val]), val


def _pool(frozen: FrozenBackbone, pixels: PixelCache, rows: NDArray[np.intp]) -> FeatureTable:
    """Pooled features of pictures, computed here and now."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _STEP):
            taken = torch.from_numpy(np.ascontiguousarray(pixels.take(rows[start : start + _STEP])))
            parts.append(frozen.eval()(taken)[0].numpy())
    return FeatureTable.hold(np.concatenate(parts)[None])


def build_tuned_classifier(bench: Bench, networks: Sequence[Network]) -> Calibrated:
    """One network, or several that share the part which no stage changed; the frozen upper part stands there once."""
    if len(networks) == 1 and len(networks[0].branches) == 1:
        (branch,) = networks[0].branches
        bench.frozen.backbone.load_state_dict(branch.backbone)
        return Classifier(bench.frozen, branch.head)
    share = max(stage.share for stage in bench.plan.training.finetune_stages)
    lower = cut_backbone(bench.frozen, bench.shape, share).lower
    uppers: list[nn.Module] = []
    frozen_at: int | None = None
    members = []
    for network in networks:
        branches = []
        for branch in network.branches:
            at = len(uppers) if not branch.is_frozen or frozen_at is None else frozen_at
            if at == len(uppers):
                own = copy.deepcopy(bench.frozen)
                own.backbone.load_state_dict(branch.backbone)
                uppers.append(cut_backbone(own, bench.shape, share).upper)
            frozen_at = at if branch.is_frozen else frozen_at
            branches.append((at, branch.head))
        members.append(branches)
    return NetworkEnsemble(lower, uppers, members)


def compute_network_logits(bench: Bench, network: Network, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Logits `(n, C)` of rows of the pixel cache, from pixels: what the exported graph will say."""
    return np.asarray(np.mean([_compute_branch_logits(bench, branch, rows) for branch in network.branches], axis=0))


def _compute_branch_logits(bench: Bench, branch: Branch, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    own = copy.deepcopy(bench.frozen)
    own.backbone.load_state_dict(branch.backbone)
    whole = Classifier(own, branch.head).eval()
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
        fallback=learned.head,
        patients=bench.prepared.name_units([*train, *val]),
        begin=learned.logits,
        has_learned=learned.chosen is not None,
    )


def _cut_folds(bench: Bench, data: FoldData, learned: Learned) -> list[Part]:
    """A member that leaves out fold k is judged on the next fold, which it leaves out as well: what chooses for k must
    not have seen k. Its head is fitted anew without both.
    """
    if not isinstance(learned.head, HeadEnsemble):
        raise TypeError("folds give an ensemble")
    rows = bench.pixels.select(learned.samples)
    patients = bench.prepared.name_units(learned.samples)
    parts = []
    for fold in range(data.n_folds):
        judge = (fold + 1) % data.n_folds
        val = np.flatnonzero(data.folds == judge)
        train = np.flatnonzero(~np.isin(data.folds, (fold, judge)))
        head: nn.Sequential = learned.head.members[fold]  # type: ignore[assignment]  # a Sequential
        if learned.members:
            head = _fit_without(data, bench.plan, (fold, judge), learned.members[fold])
            with torch.no_grad():
                begin = head(torch.from_numpy(data.table.take(0, val))).double().numpy()
        else:
            begin = guess_by_prior(data.labels[train], len(val), bench.plan.model.n_classes)
        fallback: nn.Sequential = learned.head.members[fold]  # type: ignore[assignment]  # a Sequential
        parts.append(Part(fold, rows, data.labels, train, val, head, fallback, patients, begin, bool(learned.members)))
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


@dataclass(frozen=True)
class _Judged:
    """A model, and logits `(M, C)` of the judging pictures: by it, and by its first branch alone."""

    network: Network
    logits: NDArray[np.float64]
    first_logits: NDArray[np.float64]


def _tune_part(
    bench: Bench, part: Part, follow: Follow
) -> tuple[_Judged, list[StageOutcome], NDArray[np.int64] | None]:
    """The model that all stages leave, what each gave, and the counts `(2, C)` before and after resampling."""
    if part.begin is None:
        raise TypeError("a part that is judged knows how well it begins")
    first = Branch(_copy(bench.frozen.backbone.state_dict()), part.head, is_frozen=True)
    model, outcomes = _Judged(Network((first,)), part.begin, part.begin), list[StageOutcome]()
    counts = None
    stages = bench.plan.training.finetune_stages
    for number, stage in enumerate(stages, start=len(bench.plan.training.stages) - len(stages)):
        with follow(number) as note:
            tried, found = run_stage(bench, part, (number, stage), model.network.branches[-1], note)
        logits = _compute_branch_logits(bench, tried, part.rows[part.val])
        model, outcome = _judge_stage(part, (number, stage), model, _Judged(Network((tried,)), logits, logits), found)
        say(describe_outcome(outcome))
        outcomes.append(outcome)
        counts = found.counts if counts is None else counts
    # a fold's head on the frozen network may in the end be the one that has learned from the judging pictures too
    branches = (
        _divide(replace(each, head=part.fallback), each.temperature) if each.is_frozen else each
        for each in model.network.branches
    )
    return replace(model, network=Network(tuple(branches))), outcomes, counts


def _judge_stage(
    part: Part, which: tuple[int, FinetunePlan], before: _Judged, after: _Judged, found: Finetuned
) -> tuple[_Judged, StageOutcome]:
    """The model before the stage, the one after it, or the mean of both: the mean, unless validation says otherwise."""
    number, stage = which
    labels, patients = part.labels[part.val], [part.patients[at] for at in part.val]
    options = {"before": before, "after": after}
    if part.has_learned or not before.network.branches[0].is_frozen:
        options["mean"] = _average(before, after, labels)
    logits = {name: each.logits for name, each in options.items()}
    taken = "after" if stage.keep == "always" else choose_model(logits, "mean", labels, patients)
    scores = {name: judge_logits(each, labels) for name, each in logits.items()}
    mean = scores.get("mean", (None, None))
    compared = "mean" if taken == "before" else taken
    outcome = StageOutcome(
        stage=number, fold=part.fold, share=stage.share, epoch=found.epoch, n_epochs=len(found.epochs),
        blend=found.blend,
        standard_error=compare_logits(logits["before"], logits[compared], labels, patients)[1],
        before_loss=scores["before"][0], before_auc=scores["before"][1],
        val_loss=scores["after"][0], val_auc=scores["after"][1],
        mean_loss=mean[0], mean_auc=mean[1],
        kept=taken != "before", averaged=taken == "mean",
    )  # fmt: skip
    return options[taken], outcome


def _average(before: _Judged, after: _Judged, labels: NDArray[np.int64]) -> _Judged:
    """The first branch before and the one after, each as sure as it should be, so that both have an equal say."""
    branches, parts = [], []
    for branch, logits in (
        (before.network.branches[0], before.first_logits),
        (after.network.branches[0], after.logits),
    ):
        temperature = fit_temperature(logits, labels).temperature
        branches.append(_divide(branch, temperature))
        parts.append(logits / temperature)
    return _Judged(Network(tuple(branches)), np.mean(parts, axis=0), parts[0])


def _divide(branch: Branch, temperature: float) -> Branch:
    """The same branch with its logits divided by a number."""
    head = copy.deepcopy(branch.head)
    last = head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError("a head ends in a linear layer")
    with torch.no_grad():
        last.weight.div_(temperature)
        last.bias.div_(temperature)
    return replace(branch, head=head, temperature=temperature)


def describe_outcome(outcome: StageOutcome) -> str:
    """One line: what was taken, and what it gained."""
    where = "" if outcome.fold is None else f", fold {outcome.fold}"
    verdict = "kept" if outcome.kept else "not kept, the model before it stays"
    loss, auc = (outcome.mean_loss, outcome.mean_auc) if outcome.averaged else (outcome.val_loss, outcome.val_auc)
    if outcome.averaged:
        verdict = f"kept, averaged with the model before it (alone {outcome.val_loss:.3f})"
    if outcome.kept and loss is not None and loss > outcome.before_loss:
        before = "the shares of the classes alone" if outcome.stage == 0 else "the model before it"
        verdict += f", though {before} did better"
    gained = f", AUC {outcome.before_auc:.3f} → {auc:.3f}" if outcome.before_auc is not None and auc is not None else ""
    return (
        f"Stage {outcome.stage}{where}: {verdict}; validation loss {outcome.before_loss:.3f} → {loss:.3f} "
        f"(± {outcome.standard_error:.3f})"
        f"{gained} (epoch {outcome.epoch} of {outcome.n_epochs}, {outcome.blend:.0%} of what was learned)"
    )


def run_stage(
    bench: Bench, part: Part, which: tuple[int, FinetunePlan], begin: Branch, note: Note
) -> tuple[Branch, Finetuned]:
    """One stage, from the network `begin`: what it leaves, and the epochs that led there."""
    number, stage = which
    own = _build_learner(bench, stage)
    own.backbone.load_state_dict(begin.backbone)
    halves = cut_backbone(own, bench.shape, stage.share)
    head = copy.deepcopy(begin.head)
    if stage.head_init == "new":
        _renew(head, bench.plan.training.seed)
    train, made, new = resample_part(bench, part, stage.views)
    undo_shift(head, -made.shift)  # learning goes on at the prior that the method makes
    trainee = Trainee(halves.upper, head, stage.dropout)
    source = _open_source(bench, part, stage, halves, new)
    place = Place(
        stage=number,
        fold=part.fold,
        seed=bench.plan.training.seed,
        path=bench.folder / CHECKPOINTS / f"stage-{number}{part.checkpoint}.safetensors",
        identity=_identify(bench, part, stage, trainee),
        device=bench.device,
    )
    groups = _group_parameters(own.backbone, halves.upper, stage)
    targets = None
    if part.teacher is not None:
        targets = part.teacher.answer(bench.pixels, part.rows, bench.plan, stage.views, stage.randaugment)
    material = Material(source, train, made, part.val, part.labels[part.val], groups, targets)
    found = finetune(trainee, material, stage, place, note)
    trainee.load_state_dict(found.state)
    trainee.to("cpu").to(memory_format=torch.contiguous_format)
    undo_shift(head, made.shift)
    head.eval()
    return Branch(_copy(own.backbone.state_dict()), head), found


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


def resample_part(bench: Bench, part: Part, n_views: int) -> tuple[NDArray[np.intp], Rebalanced, PixelCache | None]:
    """As the plan says: positions to learn from, what is made of them, and new pictures, whose positions follow all
    others. What makes new features cannot make new activations, and draws pictures more often instead; so does
    `augment`, for each draw is another one of `n_views` views. A teacher's pictures stay as they are.
    """
    plan, imbalance = bench.plan, bench.plan.imbalance
    labels, seed, n_classes = part.labels[part.train], plan.training.seed, plan.model.n_classes
    if part.teacher is not None:
        return part.train, soften(labels, n_classes), None
    if imbalance.on == "pixels" and imbalance.method in (*MAKERS, *PICKERS):
        found = resample_pictures(bench.pixels, part.rows[part.train], labels, imbalance, seed)
        made = count_pictures(labels, np.concatenate([labels[found.picked], found.labels]), n_classes)
        say(describe_resampling(record_resampling(made.counts, plan, part.fold)))
        behind = len(part.rows) + np.arange(len(found.labels))
        return np.concatenate([part.train[found.picked], behind]), made, found.new
    if imbalance.method in RESAMPLERS:
        say(describe_draws(imbalance.method, n_views))
        imbalance = imbalance.model_copy(update={"method": "balanced_sampling"})
    nothing = FeatureTable.hold(np.zeros((1, len(labels), 1), np.float32))
    return part.train, rebalance(nothing, labels, n_classes, imbalance, in_batches=True, seed=seed), None


def describe_draws(method: str, n_views: int) -> str:
    """What a stage that learns from pictures does for smaller classes in place of a method on features."""
    if method == "augment" and n_views:
        return f"Imbalance: every class is shown equally often, a picture each time in one of its {n_views + 1} views"
    if method in MAKERS:
        return (
            f"Imbalance: {method} makes features, and this stage learns from pictures: it draws smaller classes more "
            'often instead (imbalance.on = "pixels" makes small pictures)'
        )
    return f"Imbalance: {method} works on features; this stage draws smaller classes more often instead"


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
            *([] if part.teacher is None else [part.teacher.sha256]),
        ]
    )


def _copy(state: dict[str, torch.Tensor]) -> State:
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}

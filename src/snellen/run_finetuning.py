"""Stage 2 of a run: stages of fine-tuning on top of the head, each kept only where validation patients say it paid."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]  # timm marks no exports
from torch import nn

from snellen.core.progress import say
from snellen.core.storage import compute_digest, describe_need, hold_lock
from snellen.imaging.cache import PixelCache
from snellen.modeling.architectures import FrozenBackbone, compute_map_shape
from snellen.modeling.blocks import HeadEnsemble
from snellen.modeling.cut import Halves, cut_backbone
from snellen.modeling.devices import choose_device
from snellen.modeling.graph import export_graph
from snellen.modeling.weights import compute_state_sha256, load_weights
from snellen.records.cohort import Sample
from snellen.records.layers import takes_map
from snellen.records.plan import FinetunePlan
from snellen.records.run import EpochRecord, Resampling, StageOutcome
from snellen.run_features import build_frozen, encode_labels
from snellen.run_judging import Judged, Tried, describe_outcome, judge
from snellen.run_learning import Learned, guess_by_prior, initialise_head
from snellen.run_networks import Bench, Branch, Network, compute_branch_logits, compute_network_logits, copy_state
from snellen.run_preparation import Prepared
from snellen.run_resampling import describe_resampling, record_resampling
from snellen.training.crossval import FoldData
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.finetune import Finetuned, Material, Place, Trainee, finetune
from snellen.training.head import HeadData
from snellen.training.imbalance import MAKERS, PICKERS, RESAMPLERS, Rebalanced, count_pictures, rebalance, undo_shift
from snellen.training.pictures import resample_pictures
from snellen.training.soft_targets import Teacher, soften
from snellen.training.sources import Joined, KeptActivations, LivePixels, Source

Note = Callable[[EpochRecord], None]
Follow = Callable[[int], AbstractContextManager[Note]]
CHECKPOINTS = "checkpoints"
EMBEDDINGS = "embeddings"
_GRAPH_VERSION = "lower-1"
_STEP = 8


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
class Part:
    """One training: positions of `rows` (of the pixel cache) to learn from and to judge on, and the head to begin with.

    `labels` `(N,)` are those of all rows. `begin` are logits `(M, C)` of the judging pictures before the first stage,
    by `head` on the frozen network or, where nothing `has_learned`, by the prior alone. Where they are `left_out`, the
    judging pictures are those of `fold`: they choose nothing of this training, neither epoch nor blend. A `teacher` is
    learned from instead of labels; then nothing judges.
    """

    fold: int | None
    rows: NDArray[np.intp]
    labels: NDArray[np.int64]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    head: nn.Sequential
    patients: tuple[str, ...]
    begin: NDArray[np.float64] | None = None
    has_learned: bool = True
    left_out: bool = False
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
    models = [_begin(bench, part) for part in parts]
    outcomes, resampled = list[StageOutcome](), list[Resampling]()
    stages = bench.plan.training.finetune_stages
    for number, stage in enumerate(stages, start=len(bench.plan.training.stages) - len(stages)):
        tried = [
            _try_stage(bench, (part, model), (number, stage), follow) for part, model in zip(parts, models, strict=True)
        ]
        if not resampled:
            for part, each in zip(parts, tried, strict=True):
                resampled += record_resampling(each.found.counts, bench.plan, part.fold)
        judged = judge(tried, stage, (number, [part.fold for part in parts]))
        for _, outcome in judged:
            say(describe_outcome(outcome))
        models, outcomes = [model for model, _ in judged], [*outcomes, *(outcome for _, outcome in judged)]
    kept = any(outcome.kept for outcome in outcomes)
    logits = _gather_logits(bench, data, (parts, models), learned) if kept else learned.logits.copy()
    return Tuned(tuple(model.network for model in models) if kept else (), logits, tuple(outcomes), tuple(resampled))


def _begin(bench: Bench, part: Part) -> Judged:
    """The model before all stages."""
    if part.begin is None:
        raise TypeError("a part that is judged knows how well it begins")
    first = Branch(copy_state(bench.frozen.backbone.state_dict()), part.head, is_frozen=True)
    return Judged(Network((first,)), part.begin, part.begin)


def _try_stage(bench: Bench, begin: tuple[Part, Judged], which: tuple[int, FinetunePlan], follow: Follow) -> Tried:
    """One stage of one training, and what its judging pictures are said to be before and after."""
    part, before = begin
    with follow(which[0]) as note:
        branch, found = run_stage(bench, part, which, before.network.branches[-1], note)
    logits = compute_branch_logits(bench, branch, part.rows[part.val])
    after = Judged(Network((branch,)), logits, logits)
    patients = tuple(part.patients[at] for at in part.val)
    has_mean = part.has_learned or not before.network.branches[0].is_frozen
    return Tried(before, after, part.labels[part.val], patients, found, has_mean)


def _gather_logits(
    bench: Bench, data: HeadData | FoldData, found: tuple[list[Part], list[Judged]], learned: Learned
) -> NDArray[np.float64]:
    """Logits `(M, C)` of what was held out, each picture by a network that has not seen it."""
    logits = learned.logits.copy()
    for part, model in zip(*found, strict=True):
        if isinstance(data, HeadData):
            return model.logits  # what judged is what was held out
        held = np.flatnonzero(data.folds == part.fold)
        logits[held] = model.logits if part.left_out else compute_network_logits(bench, model.network, part.rows[held])
    return logits


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
    part = Part(None, rows, labels, train, val, head, patients)
    branch = Branch(copy_state(frozen.backbone.state_dict()), head)
    for number, stage in enumerate(plan.training.finetune_stages):
        branch, _ = run_stage(bench, part, (number, stage), branch, lambda _: None)
    return compute_branch_logits(bench, branch, rows[val]), val


def _pool(frozen: FrozenBackbone, pixels: PixelCache, rows: NDArray[np.intp]) -> FeatureTable:
    """Pooled features of pictures, computed here and now."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _STEP):
            taken = torch.from_numpy(np.ascontiguousarray(pixels.take(rows[start : start + _STEP])))
            parts.append(frozen.eval()(taken)[0].numpy())
    return FeatureTable.hold(np.concatenate(parts)[None])


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
        patients=bench.prepared.name_units([*train, *val]),
        begin=learned.logits,
        has_learned=learned.chosen is not None,
    )


def _cut_folds(bench: Bench, data: FoldData, learned: Learned) -> list[Part]:
    """A training a fold. On a head that has learned it sees all but its own fold, for as many epochs as are planned.

    What begins by chance needs to be told when to stop, by pictures that are not those it is measured on: it leaves out
    the next fold as well.
    """
    if not isinstance(learned.head, HeadEnsemble):
        raise TypeError("folds give an ensemble")
    rows = bench.pixels.select(learned.samples)
    patients = bench.prepared.name_units(learned.samples)
    has_learned = bool(learned.members)
    parts = []
    for fold in range(data.n_folds):
        own, following = data.folds == fold, data.folds == (fold + 1) % data.n_folds
        val = np.flatnonzero(own if has_learned else following)
        train = np.flatnonzero(~own if has_learned else ~(own | following))
        head: nn.Sequential = learned.head.members[fold]  # type: ignore[assignment]  # a Sequential
        begin = (
            learned.logits[val]
            if has_learned
            else guess_by_prior(data.labels[train], len(val), bench.plan.model.n_classes)
        )
        parts.append(Part(fold, rows, data.labels, train, val, head, patients, begin, has_learned, has_learned))
    return parts


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
    material = Material(
        source, train, made, part.val, part.labels[part.val], groups, targets, chooses=not part.left_out
    )
    found = finetune(trainee, material, stage, place, note)
    trainee.load_state_dict(found.state)
    trainee.to("cpu").to(memory_format=torch.contiguous_format)
    undo_shift(head, made.shift)
    head.eval()
    return Branch(copy_state(own.backbone.state_dict()), head), found


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
            str(part.left_out),
            bench.pixels.key,
            compute_state_sha256(trainee),
            *(repr(values.tolist()) for values in (part.rows, part.labels, part.train, part.val)),
            *([] if part.teacher is None else [part.teacher.sha256]),
        ]
    )

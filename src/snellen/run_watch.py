"""Who is told of a run while it goes on: `metrics.jsonl`, the person at the terminal, and trackers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from snellen import __version__
from snellen.core.progress import show_line
from snellen.epoch_log import EPOCHS, identify, write_epochs
from snellen.records.evaluation import Evaluation
from snellen.records.plan import Plan, StagePlan
from snellen.records.run import EpochRecord
from snellen.runs import Run
from snellen.tracking.trackers import Begin, Results, Trackers, open_trackers


@dataclass(frozen=True)
class Watch:
    """One run and those that follow it."""

    run: Run
    trackers: Trackers

    @contextmanager
    def follow_epochs(self, plan: Plan, stage: int = 0) -> Iterator[Callable[[EpochRecord], None]]:
        """A function to be told every epoch of a stage as soon as it is over."""
        wanted = plan.training.stages[stage]
        n_candidates = plan.evaluation.folds or (len(wanted.weight_decay) if isinstance(wanted, StagePlan) else 1)
        with write_epochs(self.run.folder / EPOCHS) as write, show_line() as show:

            def note(epoch: EpochRecord) -> None:
                write(epoch)
                done = epoch.candidate * wanted.epochs + epoch.epoch
                show(describe_epoch(epoch, n_candidates), done, n_candidates * wanted.epochs)
                self.trackers.note(epoch, "/".join(f"{k}-{v}" for k, v in identify(epoch) if k != "epoch"))

            yield note

    def finish(self) -> None:
        """Hand over what the run's folder holds at its end."""
        folder = self.run.folder
        names = ("evaluation-val.json", "evaluation-oof.json", "evaluation.json")
        paths = [*(folder / name for name in names), self.run.report]
        evaluations = [self.run.validation]
        if (folder / "evaluation.json").exists():
            evaluations.append(self.run.evaluation)
        self.trackers.finish(
            Results(
                metrics={name: value for found in evaluations for name, value in _list_metrics(found).items()},
                tags={"snellen.bundle_sha256": evaluations[-1].bundle_sha256},
                files=[path for path in paths if path.exists()],
            )
        )


@contextmanager
def watch_run(run: Run, names: tuple[str, ...], plan: Plan, split_sha256: str) -> Iterator[Watch]:
    """`names` are the trackers that were asked for. What they do wrong is told and costs nothing else."""
    tags = {
        "snellen.run": run.folder.name,
        "snellen.version": __version__,
        "snellen.split_sha256": split_sha256,
    }
    parameters = dict(flatten(plan.model_dump(mode="json", exclude={"decisions", "schema_version"})))
    with open_trackers(names, Begin(run.folder, parameters, tags)) as trackers:
        yield Watch(run, trackers)


def describe_epoch(epoch: EpochRecord, n_candidates: int) -> str:
    """A line of 80 letters: `candidate 2 of 7, epoch 12: loss 0.413, validation 0.520, AUC 0.871`.

    Fine-tuning has no candidates, and its speed is worth knowing: `epoch 3: loss 0.413, …, 48 images/s`.
    """
    auc = "" if epoch.val_auc is None else f", AUC {epoch.val_auc:.3f}"
    loss = "" if epoch.val_loss is None else f", validation {epoch.val_loss:.3f}"
    fold = "" if epoch.fold is None else f"fold {epoch.fold}, "
    is_tuning = epoch.stage > 0 or epoch.images_per_s is not None
    who = fold or ("" if is_tuning else f"candidate {epoch.candidate + 1} of {n_candidates}, ")
    speed = "" if epoch.images_per_s is None else f", {epoch.images_per_s:.0f} images/s"
    return f"{who}epoch {epoch.epoch}: loss {epoch.train_loss:.3f}{loss}{auc}{speed}"


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values as text; lists stay whole unless they hold tables."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from flatten(value, f"{prefix}{key}.")
    elif isinstance(values, list) and values and isinstance(values[0], dict):
        for number, value in enumerate(values):
            yield from flatten(value, f"{prefix}{number}.")
    else:
        yield prefix[:-1], values if isinstance(values, str) else json.dumps(values, ensure_ascii=False)


def _list_metrics(evaluation: Evaluation) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, estimate in evaluation.metrics.items():
        parts = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
        found |= {f"{evaluation.split}/{name}{end}": value for end, value in parts.items() if value is not None}
    return found

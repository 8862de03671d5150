"""The steps of `snellen train --seeds`: one ordinary run a seed, then mean and spread over them.

Knows runs and their records, not how a run is trained: that is handed in.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from snellen import __version__
from snellen.core.errors import StorageError, UsageError
from snellen.core.progress import say
from snellen.core.storage import write_atomic
from snellen.outputs import RUN, SEEDS, Output, hold_output, make_output
from snellen.records.run import TrainRequest
from snellen.records.seeds import SEEDS_FILE, SeedOutcome, SeedsRecord, Spread
from snellen.runs import Run, load_record

MOST = 100
TrainOne = Callable[[TrainRequest, Run], Run]
# of an earlier call: its runs with all that they left
_WHOLE_RUN = Output(RUN.mark, (*RUN.owned, "checkpoints"))
_SAID = {
    "whole": "Each seed draws its own split, so the spread holds what other patients in each part would give. Test "
    "pictures of one run are training pictures of another: the runs together have no untouched test split.",
    "not_test": "All runs share the test split; train and val are drawn anew by each seed. The shared test split was "
    "opened by every run.",
    "none": "All runs share one split, so the spread holds only the chance of training (order, views, first weights), "
    "not that of the patients. The shared test split was opened by every run.",
}  # fmt: skip


@dataclass(frozen=True)
class SeedRuns:
    """Runs of one request with several seeds, on disk. Every property reads its file anew."""

    folder: Path

    @property
    def record(self) -> SeedsRecord:
        """`seeds.json`: mean, standard deviation, smallest and largest of each metric, and what to know of them."""
        return load_record(self.folder / SEEDS_FILE, SeedsRecord)

    @property
    def runs(self) -> list[Run]:
        """The run of each seed, in the order of the seeds."""
        return [Run(self.folder / name_run(seed)) for seed in self.record.seeds]

    @property
    def recommended(self) -> Run:
        """The run that was best on validation. Raises UsageError while runs are missing."""
        seed = self.record.recommended
        if seed is None:
            raise UsageError(
                f"The runs in {self.folder} are not finished, or none has a validation loss.",
                f"Go on with them: snellen train --resume {self.folder}",
            )
        return Run(self.folder / name_run(seed))

    @property
    def page(self) -> Path:
        return self.folder / "seeds.html"


def name_run(seed: int) -> str:
    """The folder of a seed's run."""
    return f"seed-{seed}"


def is_seed_runs(folder: Path) -> bool:
    """Whether `folder` holds runs of several seeds."""
    return (folder / SEEDS_FILE).is_file()


def begin_seeds(folder: Path, request: TrainRequest, n: int, command: str) -> SeedRuns:
    """Make the folder of `n` runs, whose seeds count up from `request.seed`; what an earlier call left goes."""
    if request.seed + n > 2**32:
        raise UsageError(f"--seed {request.seed} leaves no room for {n} seeds.", f"Seeds end at {2**32 - 1}.")
    if is_seed_runs(folder):
        for run in SeedRuns(folder).runs:
            if run.folder.is_dir():
                make_output(run.folder, _WHOLE_RUN)
                if not any(run.folder.iterdir()):
                    run.folder.rmdir()
    record = SeedsRecord(
        state="running",
        request=request,
        seeds=tuple(range(request.seed, request.seed + n)),
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    make_output(folder, SEEDS)
    write_atomic(folder / SEEDS_FILE, record.to_json())
    return SeedRuns(folder)


def go_through_seeds(whole: SeedRuns, train_one: TrainOne) -> SeedRuns:
    """Train what is not yet finished, one seed after the other, and tell the spread.

    `train_one` goes on with a run that was begun. Raises what it raises; finished runs stay.
    """
    record = whole.record
    for number, (seed, run) in enumerate(zip(record.seeds, whole.runs, strict=True), start=1):
        request = record.request.model_copy(update={"seed": seed})
        if _is_done(run, request):
            say(f"Seed {seed} ({number} of {len(record.seeds)}): done already")
            continue
        say(f"Seed {seed} ({number} of {len(record.seeds)})")
        with hold_output(run.folder):
            train_one(request, run)
    finished = summarise(record, whole.runs)
    from snellen.evaluation.seeds_page import render_seeds

    write_atomic(whole.page, render_seeds(finished, whole.folder.name, __version__))
    # last of all: what is finished has its page
    write_atomic(whole.folder / SEEDS_FILE, finished.to_json())
    return whole


def drop_empty_seeds(whole: SeedRuns) -> None:
    """Take back a folder in which no run could begin, as `train` leaves none where the data are refused."""
    if any(run.folder.exists() for run in whole.runs):
        return
    (whole.folder / SEEDS_FILE).unlink(missing_ok=True)
    if not any(whole.folder.iterdir()):
        whole.folder.rmdir()


def _is_done(run: Run, request: TrainRequest) -> bool:
    if not (run.folder / RUN.mark).is_file():
        return False
    record = run.record
    if record.request != request:
        raise UsageError(
            f"{run.folder} holds a run of another request.",
            "Move it away and resume, or begin anew with --overwrite.",
        )
    return record.state == "finished"


def summarise(record: SeedsRecord, runs: Sequence[Run]) -> SeedsRecord:
    """The record of finished runs. Test numbers enter the spread and nothing else."""
    outcomes = [_read_outcome(seed, run) for seed, run in zip(record.seeds, runs, strict=True)]
    held = runs[0].validation.split
    varies = _compare_splits(runs)
    losses = {each.seed: each.values[held].get("log_loss") for each in outcomes}
    known = {seed: loss for seed, loss in losses.items() if loss is not None}
    return record.model_copy(
        update={
            "state": "finished",
            "classes": runs[0].validation.classes,
            "held": held,
            "spreads": compute_spreads([each.values for each in outcomes]),
            "runs": tuple(outcomes),
            "split_varies": varies,
            "recommended": min(known, key=lambda seed: known[seed]) if known else None,
            "notes": explain(varies, held, len(runs)),
        }
    )


def _read_outcome(seed: int, run: Run) -> SeedOutcome:
    record, validation = run.record, run.validation
    found = {validation.split: validation}
    if (run.folder / "evaluation.json").exists():
        found["test"] = run.evaluation
    try:
        digest = record.sha256["splits.csv"]
    except KeyError as error:
        raise StorageError(
            f"{run.folder / RUN.mark} names no splits.csv.", "It was written by another version, or altered."
        ) from error
    return SeedOutcome(
        seed=seed,
        folder=run.folder.name,
        values={
            split: {name: estimate.value for name, estimate in each.metrics.items()} for split, each in found.items()
        },
        splits_sha256=digest,
        test_opened=record.test_opened,
        bundle_sha256=validation.bundle_sha256,
    )


def _compare_splits(runs: Iterable[Run]) -> Literal["whole", "not_test", "none"]:
    """What differs from run to run: by the files themselves, since data may bring splits of their own."""
    records = [run.record for run in runs]
    if len({record.sha256["splits.csv"] for record in records}) == 1:
        return "none"
    return "not_test" if len({record.split_sha256 for record in records}) == 1 else "whole"


def compute_spreads(
    values: Sequence[Mapping[str, Mapping[str, float | None]]],
) -> dict[str, dict[str, Spread]]:
    """Split → metric → spread over the runs. A metric that no run defines is left out."""
    found: dict[str, dict[str, Spread]] = {}
    for split, metrics in values[0].items():
        for name in metrics:
            known = [value for each in values if (value := each.get(split, {}).get(name)) is not None]
            if known:
                found.setdefault(split, {})[name] = Spread(
                    mean=statistics.fmean(known),
                    sd=statistics.stdev(known) if len(known) > 1 else None,
                    smallest=min(known),
                    largest=max(known),
                    n=len(known),
                )
    return found


def explain(varies: Literal["whole", "not_test", "none"], held: str, n: int) -> tuple[str, ...]:
    """What a reader must know of the numbers."""
    chosen_on = "out-of-fold scores" if held == "oof" else "validation"
    notes = [
        _SAID[varies],
        f"{n} runs share patients: the standard deviation says how much chance moves the result, and is no interval. "
        "How far few patients can be trusted is told by the intervals of each run.",
    ]
    other = " Their patients differ from run to run, so part of its lead is luck." if varies != "none" else ""
    notes.append(
        f"The recommended run is the one of least log loss on {chosen_on}; test had no say.{other} "
        "Report the mean, not the recommended run alone."
    )
    return tuple(notes)

"""TensorBoard: event files in the run's own folder. Look at them with `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping

from snellen.records.run import EpochRecord
from snellen.tracking.trackers import Begin, Ending, Results, list_numbers

FOLDER = "tensorboard"


class TensorBoardEvents:
    """Curves of every candidate, the final numbers at step 0, the plan and the tags as text."""

    def __init__(self, begin: Begin) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(begin.folder / FOLDER), flush_secs=5)
        self._write("plan", begin.parameters)
        self._write("tags", begin.tags)

    def note(self, epoch: EpochRecord, name: str) -> None:
        for number, value in list_numbers(epoch).items():
            self._writer.add_scalar(f"{name}/{number}", value, epoch.epoch)

    def finish(self, results: Results) -> None:
        for name, value in results.metrics.items():
            self._writer.add_scalar(name, value, 0)
        self._write("tags", results.tags, step=1)

    def close(self, ending: Ending) -> None:
        self._writer.add_text("ending", ending)
        self._writer.close()

    def _write(self, title: str, values: Mapping[str, str], step: int = 0) -> None:
        rows = [f"| {key} | {value} |" for key, value in values.items()]
        self._writer.add_text(title, "\n".join(["| | |", "| --- | --- |", *rows]), step)

"""`metrics.jsonl`: a line an epoch, written while training goes on. Knows one file and its records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from snellen.core.storage import explain_os_error, write_atomic
from snellen.records.run import EpochRecord

EPOCHS = "metrics.jsonl"
_MEASURED = {"lr", "train_loss", "val_loss", "val_auc", "seconds", "weight_decay", "images_per_s"}


def read_epochs(path: Path) -> list[EpochRecord]:
    """Every whole line; none where there is no file. The last line of a machine that lost its power may be torn."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [EpochRecord.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@contextmanager
def write_epochs(path: Path) -> Iterator[Callable[[EpochRecord], None]]:
    """A function that adds a line at once. What the file held stays, and an epoch that it held is not added again."""
    before = read_epochs(path)
    # written anew: a torn line would swallow the next one
    write_atomic(path, "".join(_to_line(epoch) for epoch in before))
    known = {identify(epoch) for epoch in before}

    def add(epoch: EpochRecord) -> None:
        if identify(epoch) in known:
            return
        known.add(identify(epoch))
        try:
            stream.write(_to_line(epoch))
            stream.flush()
        except OSError as error:
            raise explain_os_error(error, path) from error

    with path.open("a", encoding="utf-8") as stream:
        yield add


def identify(epoch: EpochRecord) -> tuple[tuple[str, int | str], ...]:
    """Which epoch it is, as `(("stage", 0), ("candidate", 2), ("epoch", 7))`, without what was measured in it."""
    told = epoch.to_dict().items()
    return tuple((name, value) for name, value in told if name not in _MEASURED and value is not None)


def _to_line(epoch: EpochRecord) -> str:
    return json.dumps(epoch.to_dict()) + "\n"

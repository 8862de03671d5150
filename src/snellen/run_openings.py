"""How often a test split was opened by all runs that lie together. Reads records of runs, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snellen.core.errors import StorageError
from snellen.core.storage import read_json
from snellen.records.seeds import SEEDS_FILE


@dataclass(frozen=True)
class Openings:
    """`n_opened` openings of one test split by `n_runs` runs below `folder`."""

    n_opened: int
    n_runs: int
    folder: Path


def count_openings(run: Path, split_sha256: str | None) -> Openings:
    """Openings of the test split with this hash by the runs beside `run`, itself among them.

    The workspace is the folder that holds the run, of runs of several seeds the one above. Runs that were deleted or
    moved away are not known.
    """
    folder = run.resolve().parent
    if (folder / SEEDS_FILE).is_file():
        folder = folder.parent
    records = [_read(path) for pattern in ("*/run.json", "*/seed-*/run.json") for path in sorted(folder.glob(pattern))]
    opened = [
        record["test_opened"]
        for record in records
        if split_sha256 and record.get("split_sha256") == split_sha256 and isinstance(record.get("test_opened"), int)
    ]
    return Openings(sum(opened), sum(count > 0 for count in opened), folder)


def _read(path: Path) -> dict[str, Any]:
    """A record as it lies there; one that is damaged or of another version counts nothing."""
    try:
        found = read_json(path)
    except StorageError:
        return {}
    return found if isinstance(found, dict) else {}

"""metrics.jsonl is there while training goes on, survives a kill, and says no epoch twice."""

from __future__ import annotations

from pathlib import Path

from snellen.epoch_log import read_epochs, write_epochs
from snellen.records.run import EpochRecord


def epoch_of(number: int, candidate: int = 0, **changes: float) -> EpochRecord:
    known = {"weight_decay": 0.1, "lr": 1.0, "train_loss": 0.5, "val_loss": 0.6, "val_auc": 0.7, "seconds": 0.01}
    return EpochRecord.model_validate({"stage": 0, "candidate": candidate, "epoch": number, **known, **changes})


def test_a_line_is_on_disk_as_soon_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with write_epochs(path) as write:
        write(epoch_of(1))
        assert read_epochs(path) == [epoch_of(1)]
        write(epoch_of(2))
        assert read_epochs(path) == [epoch_of(1), epoch_of(2)]


def test_a_torn_last_line_is_passed_over_and_written_whole_later(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with write_epochs(path) as write:
        write(epoch_of(1))
        write(epoch_of(2))
    path.write_bytes(path.read_bytes()[:-20])
    assert read_epochs(path) == [epoch_of(1)]
    with write_epochs(path) as write:
        write(epoch_of(2))
    assert read_epochs(path) == [epoch_of(1), epoch_of(2)]


def test_an_epoch_computed_again_is_not_added_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with write_epochs(path) as write:
        write(epoch_of(1))
    with write_epochs(path) as write:
        write(epoch_of(1, seconds=9.0))
        write(epoch_of(1, candidate=1))
    assert read_epochs(path) == [epoch_of(1), epoch_of(1, candidate=1)]


def test_no_file_has_no_epochs(tmp_path: Path) -> None:
    assert read_epochs(tmp_path / "metrics.jsonl") == []


def test_an_epoch_of_the_distilled_network_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    own = epoch_of(1).model_copy(update={"model": "distilled"})
    with write_epochs(path) as write:
        write(epoch_of(1))
        write(own)
        write(own)
    assert read_epochs(path) == [epoch_of(1), own]

"""A tracker that fails is left alone, and the training is not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from snellen.core.errors import UsageError
from snellen.records.run import EpochRecord
from snellen.tracking import trackers
from snellen.tracking.trackers import Begin, Ending, Results, Trackers, open_trackers, require_trackers

EPOCH = EpochRecord(
    stage=0, candidate=0, weight_decay=0.1, epoch=1, lr=1.0, train_loss=0.5, val_loss=None, val_auc=None, seconds=0.1
)


class Dying:
    """Answers once."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, epoch: EpochRecord, name: str) -> None:  # noqa: ARG002  # the protocol's
        self.told.append(name)
        if len(self.told) > 1:
            raise ConnectionError("server gone")

    def finish(self, results: Results) -> None:  # noqa: ARG002  # the protocol's
        self.told.append("finish")

    def close(self, ending: Ending) -> None:
        self.told.append(ending)


def test_tracker_that_dies_is_told_once_and_asked_no_more(caplog: pytest.LogCaptureFixture) -> None:
    dying = Dying()
    followers = Trackers({"mlflow": dying})
    with caplog.at_level(logging.INFO, logger="snellen"):
        for _ in range(4):
            followers.note(EPOCH, "stage-0")
        followers.finish(Results({}, {}, []))
        followers.close("finished")
    assert dying.told == ["stage-0", "stage-0"]
    assert caplog.text.count("Warning: mlflow no longer follows this run, which goes on") == 1
    assert "server gone" in caplog.text


@pytest.mark.parametrize(
    ("error", "ending"), [(None, "finished"), (KeyboardInterrupt(), "stopped"), (ValueError(), "failed")]
)
def test_trackers_are_told_how_a_run_ended(
    error: BaseException | None, ending: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = Dying()
    monkeypatch.setitem(trackers._OPENERS, "mlflow", lambda _: lambda: one)

    def run() -> None:
        with open_trackers(("mlflow", "mlflow"), Begin(tmp_path, {}, {})):
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    assert one.told == [ending]


def test_unknown_tracker_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="tensorbord") as caught:
        require_trackers(["tensorbord"])
    assert "tensorboard" in caught.value.hint


def test_missing_package_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.MODULES, "mlflow", ("no_such_module",))
    with pytest.raises(UsageError, match="no_such_module") as caught:
        require_trackers(["mlflow"])
    assert "pip install 'snellen[track]'" in caught.value.hint

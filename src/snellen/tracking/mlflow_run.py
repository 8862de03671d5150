"""MLflow: a run at `$MLFLOW_TRACKING_URI`, else in a SQLite file beside the run's folder.

Only the client is used: MLflow's own notion of an active run stays as it is.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from snellen.core.progress import say
from snellen.records.run import EpochRecord
from snellen.tracking.trackers import Begin, Ending, Results, list_numbers

DATABASE = "mlflow.db"
FILES = "mlflow-files"
_FOLDER_TAG = "snellen.folder"
_FLUSH_S = 2.0
_MOST_METRICS = 900  # a batch may hold 1000
_MOST_PARAMETERS = 100
_LONGEST_VALUE = 6000
_ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
# Seven attempts with growing pauses would hold a training up for minutes; usage statistics are nobody's business.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowRun:
    """Parameters and tags at once, epochs in batches, files at the end."""

    def __init__(self, begin: Begin) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        for name in ("mlflow", "alembic"):  # its import sets a level of its own
            logging.getLogger(name).setLevel(logging.WARNING)
        address, files = _choose_place(begin.folder)
        self._client = MlflowClient(tracking_uri=address)
        experiment = self._find_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "snellen", files)
        folder = str(begin.folder.resolve())
        self._end_interrupted(experiment, folder)
        tags = {**begin.tags, _FOLDER_TAG: folder}
        self._run = self._client.create_run(experiment, run_name=begin.folder.name, tags=tags).info.run_id
        self._waiting: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        parameters = [Param(key, value[:_LONGEST_VALUE]) for key, value in begin.parameters.items()]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=parameters[start : start + _MOST_PARAMETERS])
        say(f"MLflow: run {self._run} at {address}; it will be given the report, which shows pictures of the data")

    def note(self, epoch: EpochRecord, name: str) -> None:
        now = int(time.time() * 1000)
        self._waiting += [(f"{name}/{key}", value, now, epoch.epoch) for key, value in list_numbers(epoch).items()]
        if time.monotonic() - self._flushed > _FLUSH_S or len(self._waiting) > _MOST_METRICS:
            self._flush()

    def finish(self, results: Results) -> None:
        now = int(time.time() * 1000)
        self._waiting += [(name, value, now, 0) for name, value in results.metrics.items()]
        self._flush()
        for name, value in results.tags.items():
            self._client.set_tag(self._run, name, value)
        for path in results.files:
            self._client.log_artifact(self._run, str(path))

    def close(self, ending: Ending) -> None:
        self._flush()
        self._client.set_terminated(self._run, status=_ENDINGS[ending])

    def _flush(self) -> None:
        from mlflow.entities import Metric

        waiting, self._waiting, self._flushed = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), _MOST_METRICS):
            metrics = [Metric(*row) for row in waiting[start : start + _MOST_METRICS]]
            self._client.log_batch(self._run, metrics=metrics)

    def _find_experiment(self, name: str, files: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, artifact_location=files))
        return str(found.experiment_id)

    def _end_interrupted(self, experiment: str, folder: str) -> None:
        """What a killed process left open in this folder has ended: its resumption is a run of its own."""
        quoted = folder.replace("'", "''")
        query = f"tags.`{_FOLDER_TAG}` = '{quoted}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([experiment], filter_string=query):
            self._client.set_terminated(run.info.run_id, status="KILLED")


def _choose_place(folder: Path) -> tuple[str, str | None]:
    """Address and where files go; a server chooses the latter itself."""
    if address := os.environ.get("MLFLOW_TRACKING_URI"):
        return address, None
    parent = folder.resolve().parent
    return f"sqlite:///{(parent / DATABASE).as_posix()}", (parent / FILES).as_uri()

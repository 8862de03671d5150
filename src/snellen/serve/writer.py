"""Group commit: one thread writes, and whoever calls meanwhile goes into its next transaction.

A transaction waits for the disk, and its rows hardly count: alone each would wait for the disk by itself.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from snellen.core.errors import StoreUnavailableError
from snellen.serve.row_values import Values

LOG = logging.getLogger("snellen.serve.store")
MOST_AT_ONCE = 2_000  # rows: some 10 ms of work beside the disk's
MOST_WAITING = 20_000
REST_S = 0.1


@dataclass(frozen=True, eq=False)
class _Batch:
    rows: Sequence[Values]
    done: Future[None] = field(default_factory=Future)


class GroupWriter:
    """`write` is called with the rows of all who wait, `rest` now and then, and when nobody waits any more."""

    def __init__(self, write: Callable[[list[Values]], None], rest: Callable[[], None]) -> None:
        self._write, self._rest = write, rest
        self._waiting: deque[_Batch] = deque()
        self._n_waiting = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[Values]) -> Future[None]:
        """Ends when `write` has returned for these rows, all together; cannot be cancelled."""
        batch = _Batch(rows)
        batch.done.set_running_or_notify_cancel()
        with self._changed:
            if self._is_closing:
                raise StoreUnavailableError("The store was closed.")
            if self._n_waiting + len(rows) > MOST_WAITING and self._waiting:
                raise StoreUnavailableError(f"{self._n_waiting} rows wait for the audit database.")
            self._waiting.append(batch)
            self._n_waiting += len(rows)
            self._changed.notify()
        return batch.done

    def close(self) -> None:
        """Write what waits, then end the thread. Nothing may be given afterwards."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        has_rested = True
        while (group := self._take(None if has_rested else REST_S)) != []:
            if group is None:
                self._call_rest()
            else:
                self._commit(group)
            has_rested = group is None

    def _call_rest(self) -> None:
        """Nobody waits for it, and whatever happens there, rows must be written on."""
        try:
            self._rest()
        except Exception:
            LOG.exception("What follows the audit log failed.")

    def _take(self, timeout_s: float | None) -> list[_Batch] | None:
        """The next group; None where none came in time, an empty one at the end."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._is_closing, timeout_s):
                return None
            group: list[_Batch] = []
            n_rows = 0
            while self._waiting and (not group or n_rows + len(self._waiting[0].rows) <= MOST_AT_ONCE):
                group.append(self._waiting.popleft())
                n_rows += len(group[-1].rows)
            self._n_waiting -= n_rows
            return group

    def _commit(self, group: list[_Batch]) -> None:
        error: BaseException | None = None
        try:
            self._write([row for batch in group for row in batch.rows])
        except BaseException as failure:  # whatever it is: they wait for an answer
            error = failure
            if not isinstance(failure, StoreUnavailableError):
                LOG.exception("The audit database failed in a way that it must not.")
        for batch in group:
            if error is None:
                batch.done.set_result(None)
            else:
                batch.done.set_exception(error)

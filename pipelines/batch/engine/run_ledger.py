"""The run ledger: one run from its lock to the row that publishes it.

Publishing is one insert of one row, so it happens or does not. Who may run is in `run_lock`, what
is recorded in `run_states`, and `retention` drops what is shown no more.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.batch.engine.run_lock import alive_here, exists, take_lock
from pipelines.batch.engine.run_states import FAILED, SUCCEEDED, RunState, database_time, record
from pipelines.batch.engine.tables import schema_of
from schemas.errors import BatchError, ZerostockError

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

#: A live run sends a heartbeat this often.
BEAT_EVERY = timedelta(seconds=15)

_PUBLICATIONS = schema_of("batch_publications")


class Run:
    """One run that holds the lock of its job and period, from `begin` until the block ends.

    Raises `BusyError` on entering while another run of the same job and period lives.
    """

    def __init__(self, warehouse: Warehouse, state: RunState) -> None:
        self._warehouse = warehouse
        self._state = state
        self._revision = 0
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="batch-beat", daemon=True)
        self._lock = ""

    def __enter__(self) -> Run:
        """Take the lock and record the run as running."""
        alive_here.add(self._state.run_id)
        try:
            self._lock = take_lock(self._warehouse, self._state)
            self._record()
        except BaseException:
            self._stop_heartbeat()
            self._leave()
            raise
        self._beats.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record a failure, and give the lock back."""
        self._stop_heartbeat()
        if error is None:
            self._leave()
            return
        # What went wrong first is what the user must hear, even if this fails as well.
        with suppress(ZerostockError):
            self._finish(FAILED, f"{type(error).__name__}: {error}")
        with suppress(ZerostockError):
            self._leave()

    def _stop_heartbeat(self) -> None:
        """Stop the heartbeat."""
        self._over.set()
        if self._beats.is_alive():
            self._beats.join()
        alive_here.discard(self._state.run_id)

    def _leave(self) -> None:
        if self._lock:
            self._warehouse.execute(f"DROP VIEW IF EXISTS {self._lock}")

    @property
    def state(self) -> RunState:
        """What is known of the run so far."""
        return self._state

    def note(self, **figures: Any) -> None:
        """Keep figures of the run; they are recorded with the next state."""
        with self._turn:
            self._state = replace(self._state, **figures)

    def publish(self) -> None:
        """Show this run's rows instead of those shown so far, in one step.

        Raises `BatchError` where the lock was lost (the run was suspended for so long that another
        counted it as dead).
        """
        if not exists(self._warehouse, self._lock):
            raise BatchError(
                f"run {self._state.run_id} was counted as dead; its rows are not shown"
            )
        self._record()  # the rows show from when until when their data reach
        state = self._state
        newest = self._warehouse.query(
            "SELECT max(generation) AS newest FROM batch_publications"
            " WHERE job = {job:String} AND period = {period:String}",
            {"job": state.job, "period": state.period},
        )
        row = {
            "job": state.job,
            "period": state.period,
            "generation": newest["newest"][0].as_py() + 1,
            "run_id": state.run_id,
            "published_at": database_time(self._warehouse),
        }
        self._warehouse.insert(
            "batch_publications", pa.Table.from_pylist([row], schema=_PUBLICATIONS)
        )
        self._finish(SUCCEEDED)

    def _finish(self, status: str, error: str = "") -> None:
        self.note(status=status, error=error, finished_at=database_time(self._warehouse))
        self._record()

    def _record(self) -> None:
        with self._turn:
            self._revision += 1
            record(self._warehouse, self._state, self._revision)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_EVERY.total_seconds()):
            try:
                self._record()
            except ZerostockError:
                # The next beat may get through; if none does, publishing finds the lock gone.
                continue

"""The run ledger: who may run, what became of each run, and which run's rows are shown.

A run of a job and period holds a lock while it lives: a view whose name is the lock, since creating
one is the only thing ClickHouse does for exactly one of two clients. A dead owner's lock is passed
over by creating the next number. Publishing is one insert of one row, so it happens or does not.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.batch.tables import COUNT, TEXT, TIME, ResultTable
from schemas.errors import BatchError, BusyError, WarehouseError, ZerostockError

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

#: A live run shows a sign of life this often, and is taken for dead after so long without one.
BEAT_EVERY = timedelta(seconds=15)
DEAD_AFTER = timedelta(seconds=60)

RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"

_STATES = pa.schema(
    {
        "run_id": TEXT,
        "revision": pa.uint32(),
        "job": TEXT,
        "period": TEXT,
        "started_at": TIME,
        "beat_at": TIME,
        "finished_at": TIME,
        "rows_read": COUNT,
        "rows_rejected": COUNT,
        "rows_written": COUNT,
        "status": TEXT,
        "error": TEXT,
        "version": TEXT,
        "inputs": TEXT,
    }
)

_PUBLICATIONS = pa.schema(
    {"job": TEXT, "period": TEXT, "generation": COUNT, "run_id": TEXT, "published_at": TIME}
)

#: Runs alive in this process; another process is asked for by its id.
_alive_here: set[str] = set()


@dataclass(frozen=True, slots=True)
class RunState:
    """A row of batch_runs; `inputs` is file → checksum."""

    run_id: str
    job: str
    period: str
    started_at: datetime
    version: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    finished_at: datetime | None = None
    rows_read: int = 0
    rows_rejected: int = 0
    rows_written: int = 0
    status: str = RUNNING
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str
    run_id: str
    host: str
    pid: int
    silent: timedelta


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
        _alive_here.add(self._state.run_id)
        try:
            self._lock = _take_lock(self._warehouse, self._state)
            self._record()
        except BaseException:
            self._silence()
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
        self._silence()
        if error is None:
            self._leave()
            return
        # What went wrong first is what the user must hear, even if this fails as well.
        with suppress(ZerostockError):
            self._finish(FAILED, f"{type(error).__name__}: {error}")
        with suppress(ZerostockError):
            self._leave()

    def _silence(self) -> None:
        """No more signs of life."""
        self._over.set()
        if self._beats.is_alive():
            self._beats.join()
        _alive_here.discard(self._state.run_id)

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

        Raises `BatchError` where the lock was lost (the run stood still for so long that another
        took it for dead).
        """
        if not _exists(self._warehouse, self._lock):
            raise BatchError(f"run {self._state.run_id} was taken for dead; its rows are not shown")
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
            "published_at": _now(self._warehouse),
        }
        self._warehouse.insert(
            "batch_publications", pa.Table.from_pylist([row], schema=_PUBLICATIONS)
        )
        self._finish(SUCCEEDED)

    def _finish(self, status: str, error: str = "") -> None:
        self.note(status=status, error=error, finished_at=_now(self._warehouse))
        self._record()

    def _record(self) -> None:
        with self._turn:
            self._revision += 1
            _record(self._warehouse, self._state, self._revision)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_EVERY.total_seconds()):
            try:
                self._record()
            except ZerostockError:
                # The next beat may get through; if none does, publishing finds the lock gone.
                continue


def _record(warehouse: Warehouse, state: RunState, revision: int) -> None:
    row = {
        "run_id": state.run_id,
        "revision": revision,
        "job": state.job,
        "period": state.period,
        "started_at": state.started_at,
        "beat_at": _now(warehouse),
        "finished_at": state.finished_at,
        "rows_read": state.rows_read,
        "rows_rejected": state.rows_rejected,
        "rows_written": state.rows_written,
        "status": state.status,
        "error": state.error,
        "version": state.version,
        "inputs": json.dumps(dict(state.inputs), ensure_ascii=False, sort_keys=True),
    }
    warehouse.insert("batch_run_states", pa.Table.from_pylist([row], schema=_STATES))


def _now(warehouse: Warehouse) -> datetime:
    """The database's clock, the only one that all runs share."""
    now: datetime = warehouse.query("SELECT now64(3, 'UTC') AS now")["now"][0].as_py()
    return now


# --- the lock -----------------------------------------------------------------------------------


def _lock_prefix(job: str, period: str) -> str:
    return "batch_lock_" + re.sub(r"[^A-Za-z0-9]", "_", f"{job}_{period}") + "__"


def _take_lock(warehouse: Warehouse, state: RunState) -> str:
    prefix = _lock_prefix(state.job, state.period)
    dead = _owners(warehouse, prefix)
    _refuse_if_alive(dead, state)
    number = 1 + max((int(owner.name[len(prefix) :]) for owner in dead), default=0)
    name = f"{prefix}{number}"
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    try:
        warehouse.execute(
            f"CREATE VIEW {name} AS SELECT '{_plain(state.run_id)}' AS run_id, '{host}' AS host,"
            f" {os.getpid()} AS pid, toDateTime64('{_now(warehouse):%F %T}', 3, 'UTC') AS taken_at"
        )
    except WarehouseError as error:
        if _exists(warehouse, name):
            raise _busy(state, "another run") from error
        raise
    try:
        others = [owner for owner in _owners(warehouse, prefix) if owner.name != name]
        _refuse_if_alive(others, state)
        for owner in others:
            _bury(warehouse, owner)
    except BaseException:
        warehouse.execute(f"DROP VIEW IF EXISTS {name}")
        raise
    return name


def _plain(run_id: str) -> str:
    """A run id that can stand in SQL as it is. Raises `BatchError` for any other."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", run_id):
        raise BatchError(f"not a run id: {run_id!r}")
    return run_id


def _busy(state: RunState, other: str) -> BusyError:
    return BusyError(f"{state.job} {state.period} is being run already, by {other}")


def _refuse_if_alive(owners: Iterable[_Owner], state: RunState) -> None:
    for owner in owners:
        if _lives(owner):
            raise _busy(state, f"{owner.run_id} (process {owner.pid} on {owner.host})")


def _lives(owner: _Owner) -> bool:
    if owner.host == re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()):
        if owner.pid == os.getpid():
            return owner.run_id in _alive_here
        if not _process_lives(owner.pid):
            return False
    return owner.silent < DEAD_AFTER


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _exists(warehouse: Warehouse, name: str) -> bool:
    found = warehouse.query(
        "SELECT count() AS n FROM system.tables"
        " WHERE database = currentDatabase() AND name = {name:String}",
        {"name": name},
    )
    return bool(found["n"][0].as_py())


def _owners(warehouse: Warehouse, prefix: str) -> list[_Owner]:
    names = warehouse.query(
        "SELECT name FROM system.tables"
        " WHERE database = currentDatabase() AND startsWith(name, {prefix:String}) ORDER BY name",
        {"prefix": prefix},
    )["name"].to_pylist()
    owners = []
    for name in names:
        if not name[len(prefix) :].isdigit():
            continue
        try:
            lock = warehouse.query(f"SELECT * FROM {name}").to_pylist()[0]  # noqa: S608 - our own
        except WarehouseError:
            continue  # given back since the list was made
        owners.append(
            _Owner(name, lock["run_id"], lock["host"], lock["pid"], _silence(warehouse, lock))
        )
    return owners


def _silence(warehouse: Warehouse, lock: Mapping[str, Any]) -> timedelta:
    beat = warehouse.query(
        "SELECT max(beat_at) AS at, count() AS n FROM batch_run_states"
        " WHERE run_id = {run_id:String}",
        {"run_id": lock["run_id"]},
    ).to_pylist()[0]
    seen: datetime = max(beat["at"], lock["taken_at"]) if beat["n"] else lock["taken_at"]
    return _now(warehouse) - seen


def _bury(warehouse: Warehouse, owner: _Owner) -> None:
    """Record how a run that died has ended, and drop its lock."""
    rows = warehouse.query(
        "SELECT *, run_id IN (SELECT run_id FROM batch_publications) AS shown"
        " FROM batch_run_states FINAL WHERE run_id = {run_id:String}",
        {"run_id": owner.run_id},
    ).to_pylist()
    for row in rows:
        shown = row.pop("shown")
        if row["status"] == RUNNING:
            end = {
                "status": SUCCEEDED if shown else FAILED,
                "error": "" if shown else "the process ended",
                "revision": row["revision"] + 1,
                "finished_at": row["beat_at"],
            }
            ended = pa.Table.from_pylist([row | end], schema=_STATES)
            warehouse.insert("batch_run_states", ended)
    warehouse.execute(f"DROP VIEW IF EXISTS {owner.name}")


# --- old rows -----------------------------------------------------------------------------------


def drop_old(warehouse: Warehouse, tables: Iterable[ResultTable], job: str, period: str) -> None:
    """Drop the rows of all but the two newest published runs of a job and period.

    The one before the newest stays, for a reader that began before the newest was shown.
    """
    keep = warehouse.query(
        "SELECT run_id FROM batch_publications WHERE job = {job:String}"
        " AND period = {period:String} ORDER BY generation DESC LIMIT 2",
        {"job": job, "period": period},
    )["run_id"].to_pylist()
    for table in tables:
        for run_id in _partitions(warehouse, table, f"{job}.{period}."):
            if run_id not in keep:
                warehouse.execute(f"ALTER TABLE {table.stored} DROP PARTITION '{_plain(run_id)}'")


def drop_run(warehouse: Warehouse, tables: Iterable[ResultTable], run_id: str) -> None:
    """Drop the rows of a run that will never be shown."""
    for table in tables:
        for found in _partitions(warehouse, table, run_id):
            warehouse.execute(f"ALTER TABLE {table.stored} DROP PARTITION '{_plain(found)}'")


def _partitions(warehouse: Warehouse, table: ResultTable, prefix: str) -> list[str]:
    found: list[str] = warehouse.query(
        "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase()"
        " AND active AND table = {table:String} AND startsWith(partition, {prefix:String})",
        {"table": table.stored, "prefix": prefix},
    )["partition"].to_pylist()
    return found

"""The lock of a job and period: a view whose name is the lock, held while its run lives.

Creating a view is the only thing ClickHouse does for exactly one of two clients. A dead owner's
lock is passed over by creating the next number.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.batch.engine.run_states import (
    FAILED,
    RUNNING,
    STATES,
    SUCCEEDED,
    RunState,
    database_time,
)
from schemas.errors import BatchError, BusyError, WarehouseError

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

#: A run counts as dead after so long without a heartbeat.
DEAD_AFTER = timedelta(seconds=60)

#: Runs alive in this process; another process is looked up by its id.
alive_here: set[str] = set()


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str
    run_id: str
    host: str
    pid: int
    silent: timedelta


def _lock_prefix(job: str, period: str) -> str:
    return "batch_lock_" + re.sub(r"[^A-Za-z0-9]", "_", f"{job}_{period}") + "__"


def take_lock(warehouse: Warehouse, state: RunState) -> str:
    prefix = _lock_prefix(state.job, state.period)
    dead = _owners(warehouse, prefix)
    _refuse_if_alive(dead, state)
    number = 1 + max((int(owner.name[len(prefix) :]) for owner in dead), default=0)
    name = f"{prefix}{number}"
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    now = database_time(warehouse)
    try:
        warehouse.execute(
            f"CREATE VIEW {name} AS SELECT '{plain(state.run_id)}' AS run_id, '{host}' AS host,"
            f" {os.getpid()} AS pid, toDateTime64('{now:%F %T}', 3, 'UTC') AS taken_at"
        )
    except WarehouseError as error:
        if exists(warehouse, name):
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


def plain(run_id: str) -> str:
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
            return owner.run_id in alive_here
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


def exists(warehouse: Warehouse, name: str) -> bool:
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
    return database_time(warehouse) - seen


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
            ended = pa.Table.from_pylist([row | end], schema=STATES)
            warehouse.insert("batch_run_states", ended)
    warehouse.execute(f"DROP VIEW IF EXISTS {owner.name}")

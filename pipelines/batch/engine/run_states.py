"""What is known of a batch run, and how it is recorded: a row of batch_runs, revised as it goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.batch.engine.tables import COUNT, TEXT, TIME

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"

STATES = pa.schema(
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


def record(warehouse: Warehouse, state: RunState, revision: int) -> None:
    row = {
        "run_id": state.run_id,
        "revision": revision,
        "job": state.job,
        "period": state.period,
        "started_at": state.started_at,
        "beat_at": database_time(warehouse),
        "finished_at": state.finished_at,
        "rows_read": state.rows_read,
        "rows_rejected": state.rows_rejected,
        "rows_written": state.rows_written,
        "status": state.status,
        "error": state.error,
        "version": state.version,
        "inputs": json.dumps(dict(state.inputs), ensure_ascii=False, sort_keys=True),
    }
    warehouse.insert("batch_run_states", pa.Table.from_pylist([row], schema=STATES))


def database_time(warehouse: Warehouse) -> datetime:
    """The database's clock, the only one that all runs share."""
    now: datetime = warehouse.query("SELECT now64(3, 'UTC') AS now")["now"][0].as_py()
    return now

"""What is known of a batch run, and how it is recorded: a row of batch_runs, revised as it goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.batch.engine.tables import schema_of

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"

STATES = schema_of("batch_run_states")


@dataclass(frozen=True, slots=True)
class RunState:
    """A row of batch_runs; `inputs` is file → checksum.

    The run looked at days up to `as_of` in `zone`, and what it found reaches from `data_from` until
    `data_until`.
    """

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
    zone: str = ""
    as_of: date | None = None
    data_from: datetime | None = None
    data_until: datetime | None = None


def record(warehouse: Warehouse, state: RunState, revision: int) -> None:
    row = asdict(state) | {
        "revision": revision,
        "beat_at": database_time(warehouse),
        "inputs": json.dumps(dict(state.inputs), ensure_ascii=False, sort_keys=True),
    }
    warehouse.insert("batch_run_states", pa.Table.from_pylist([row], schema=STATES))


def database_time(warehouse: Warehouse) -> datetime:
    """The database's clock, the only one that all runs share."""
    now: datetime = warehouse.query("SELECT now64(3, 'UTC') AS now")["now"][0].as_py()
    return now

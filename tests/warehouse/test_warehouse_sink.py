"""The warehouse sink: what it does while the warehouse is down, and that it loses no row.

Waiting is the tests' own: nothing here takes time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stream import metrics
from pipelines.stream.warehouse_worker import WarehouseSink
from schemas.envelope import SCHEMAS
from schemas.errors import WarehouseDown, WarehouseError


class Recorder:
    """A warehouse that remembers inserts and can be down, or refuse."""

    def __init__(self, *failures: WarehouseError) -> None:
        self.inserts: list[tuple[str, list[str]]] = []
        self.failures = list(failures)

    def insert(self, table: str, rows: pa.Table) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.inserts.append((table, rows["event_id"].to_pylist()))

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        raise NotImplementedError

    def query_bytes(self, sql: str, format: str) -> bytes:
        raise NotImplementedError

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def anomalies(*ids: str) -> pa.RecordBatch:
    """Rows of the kind `anomalies`."""
    rows = [
        {"event_id": i, "iccid": "1", "kind": "late", "at": 1_767_225_600_000, "detail": ""}
        for i in ids
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMAS["anomalies"])


def write(warehouse: Recorder, *batches: pa.RecordBatch) -> list[float]:
    """Write as the worker does; how long each wait was to be, in seconds."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    asyncio.run(WarehouseSink(warehouse, sleep).write({"anomalies": list(batches)}))
    return waits


def test_it_waits_longer_and_longer_for_a_warehouse_that_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    retries = metrics.INSERT_RETRIES.labels("anomalies_rows")
    before = retries._value.get()
    warehouse = Recorder(*(WarehouseDown("nobody there") for _ in range(10)))
    with caplog.at_level(logging.WARNING, logger="pipelines.stream.warehouse_worker"):
        waits = write(warehouse, anomalies("a", "b"))
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    assert retries._value.get() - before == 10
    assert caplog.messages[0] == "nobody there; rows for anomalies_rows wait, next attempt in 0.2 s"
    assert warehouse.inserts == [("anomalies_rows", ["a", "b"])]


def test_a_refusal_is_raised_at_once() -> None:
    warehouse = Recorder(WarehouseError("no such table"))
    with pytest.raises(WarehouseError, match="no such table"):
        write(warehouse, anomalies("a"))
    assert warehouse.inserts == []


@given(
    batches=st.lists(st.lists(st.sampled_from("abc"), min_size=1), min_size=1),
    down=st.integers(0, 5),
)
def test_rows_arrive_once_in_order_and_in_one_insert(batches: list[list[str]], down: int) -> None:
    warehouse = Recorder(*(WarehouseDown("down") for _ in range(down)))
    assert len(write(warehouse, *(anomalies(*ids) for ids in batches))) == down
    assert warehouse.inserts == [("anomalies_rows", [i for ids in batches for i in ids])]

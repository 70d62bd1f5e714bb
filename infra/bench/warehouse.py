"""Rows a second into ClickHouse, in columns: the embedded engine, and a server if one is named.

The rows are stock movements as the warehouse worker writes them. A server gets a table of its own
of plain types, which old servers know too; the limit there is clickhouse-driver fed with the same
columns as numpy arrays made beforehand.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from clickhouse_driver import Client

from infra.bench.common.report import Measurement, of_runs
from infra.bench.common.seeded_state import START
from infra.bench.common.traffic import call_ids
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.envelope import MOVEMENTS

#: Rows the warehouse worker gathers before it writes.
_BATCH = 50_000

_PLAIN = """
CREATE TABLE {name} (event_id String, outlet_id String, at DateTime, imsi Int64, delta Int8)
ENGINE = MergeTree ORDER BY (outlet_id, imsi)
"""


def run(*, rows: int = 1_000_000, runs: int = 3, url: str | None = None) -> Iterator[Measurement]:
    """The lines of the benchmark; `url` is a ClickHouse server's."""
    movements = _movements(rows)
    with tempfile.TemporaryDirectory(prefix="zerostock-bench-") as folder:
        embedded = open_warehouse(data=Path(folder))
        migrate(embedded)
        table, found = to_rows("movements", movements)
        speeds = [_speed(lambda: _insert(embedded, table, found), rows) for _ in range(runs)]
        embedded.close()
    yield Measurement("warehouse", "embedded, movements", "rows/s", *of_runs(speeds))
    if url is None:
        return
    plain = pa.table(
        {
            "event_id": found["event_id"],
            "outlet_id": found["outlet_id"],
            "at": found["at"].cast(pa.timestamp("s", tz="UTC"), safe=False),
            "imsi": found["imsi"],
            "delta": found["delta"],
        }
    )
    native = open_warehouse(url=url)
    name = f"zerostock_bench_{time.time_ns()}"
    native.execute(_PLAIN.format(name=name))
    try:
        speeds = [_speed(lambda: _insert(native, name, plain), rows) for _ in range(runs)]
        limits = [_driver_alone(url, name, plain) for _ in range(runs)]
    finally:
        native.execute(f"DROP TABLE {name}")
        native.close()
    limit, _ = of_runs(limits)
    yield Measurement("warehouse", "native driver, 5 columns", "rows/s", *of_runs(speeds), limit)


def _movements(count: int) -> pa.RecordBatch:
    numbers = np.arange(count, dtype=np.int64)
    ids = call_ids(numbers)
    text = {
        "outlet_id": call_ids(numbers % 13_500),
        "wholesaler_id": call_ids(numbers % 135),
        "sku": pa.repeat("prepaid", count),
        "cause": pa.repeat("first_use", count),
    }
    plain = {
        "at": START + numbers,
        "known_at": START + numbers,
        "imsi": 460_000_100_000_000 + numbers,
        "delta": np.full(count, -1, np.int8),
        "withdrawn": np.zeros(count, bool),
    }
    return pa.record_batch(
        [pa.array(plain[n]) if n in plain else text.get(n, ids) for n in MOVEMENTS.names],
        schema=MOVEMENTS,
    )


def _insert(warehouse: Warehouse, table: str, rows: pa.Table) -> None:
    for start in range(0, rows.num_rows, _BATCH):
        warehouse.insert(table, rows.slice(start, _BATCH))


def _driver_alone(url: str, table: str, rows: pa.Table) -> float:
    """Rows a second of the driver with columns that are what it wants."""
    client = Client.from_url(f"{url}{'&' if '?' in url else '?'}use_numpy=true")
    columns = [
        rows["event_id"].to_numpy(zero_copy_only=False),
        rows["outlet_id"].to_numpy(zero_copy_only=False),
        rows["at"].to_numpy().astype("datetime64[s]"),
        rows["imsi"].to_numpy(),
        rows["delta"].to_numpy(),
    ]
    names = ", ".join(rows.column_names)

    def write() -> None:
        for start in range(0, rows.num_rows, _BATCH):
            some = [column[start : start + _BATCH] for column in columns]
            client.execute(f"INSERT INTO {table} ({names}) VALUES", some, columnar=True)

    try:
        return _speed(write, rows.num_rows)
    finally:
        client.disconnect()


def _speed(action: Callable[[], None], rows: int) -> float:
    started = time.perf_counter()
    action()
    return rows / (time.perf_counter() - started)

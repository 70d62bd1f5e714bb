"""Batch jobs beside Polars and ClickHouse doing the sums alone, on the same Parquet files.

The peers group and add: no check of a row, no repeated or overlapping reading found, no rejects, no
balance, nothing written. Interpreter start and imports are left out on all sides.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from infra.bench.report import Line, of_runs
from pipelines.batch import run_job
from pipelines.warehouse.migrations import migrate
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.port import Warehouse

_START = datetime(2026, 1, 1, tzinfo=UTC)
_AS_OF = date(2026, 3, 31)
_DAYS = 30
_METERS_A_UNIT = 200
_ROWS_A_GROUP = 1 << 20
_SEED = 7
_QUALITIES = ("measured", "estimated", "missing")


def run(*, rows: int = 1_000_000, runs: int = 3) -> Iterator[Line]:
    """Line loss over `rows` readings and arrears over about as many bills and payments."""
    with tempfile.TemporaryDirectory(prefix="zerostock-bench-") as work:
        folder = Path(work)
        warehouse = open_warehouse(data=folder / "data")
        try:
            migrate(warehouse)
            _write_readings(folder / "grid", rows)
            _write_books(folder / "books", rows)
            yield from _line_loss(warehouse, folder / "grid", rows, runs)
            yield from _arrears(warehouse, folder / "books", rows, runs)
        finally:
            warehouse.close()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield Line("batch", f"peak memory of all, {rows:,} rows", "MB", round(peak))


def _line_loss(warehouse: Warehouse, root: Path, rows: int, runs: int) -> Iterator[Line]:
    file = root / "customer_readings.parquet"

    def ours() -> None:
        run_job("line-loss", period="2026-01", input=root, warehouse=warehouse)

    def polars() -> None:
        read = pl.scan_parquet(file).filter(pl.col("quality") != "missing")
        read.group_by("unit_id").agg(pl.col("kwh").sum()).collect()

    sums = f"""
        SELECT unit_id, toInt64(sum(kwh))
        FROM file('{file}')
        WHERE quality != 'missing'
        GROUP BY unit_id"""  # noqa: S608
    yield from _beside(warehouse, "line loss", rows, ours, polars, sums, runs)


def _arrears(warehouse: Warehouse, root: Path, rows: int, runs: int) -> Iterator[Line]:
    bills, payments = root / "bills.parquet", root / "payments.parquet"

    def ours() -> None:
        run_job("arrears", as_of=_AS_OF, input=root, warehouse=warehouse)

    def polars() -> None:
        paid = pl.scan_parquet(payments).group_by("bill_id").agg(pl.col("amount_fen").sum())
        left = pl.col("amount_fen") - pl.col("amount_fen_right").fill_null(0)
        days = (pl.lit(_AS_OF) - pl.col("due_on")).dt.total_days()
        owed = pl.scan_parquet(bills).join(paid, on="bill_id", how="left")
        owed.group_by(days // 30).agg(left.clip(0).sum()).collect()

    sums = f"""
        SELECT toString(intDiv(dateDiff('day', due_on, toDate('{_AS_OF}')), 30)) AS age,
               sum(greatest(b.amount_fen - p.paid, 0))
        FROM file('{bills}') AS b
        LEFT JOIN (SELECT bill_id, sum(amount_fen) AS paid FROM file('{payments}') GROUP BY bill_id)
            AS p ON p.bill_id = b.bill_id
        GROUP BY age"""  # noqa: S608
    yield from _beside(warehouse, "arrears", rows, ours, polars, sums, runs)


def _beside(
    warehouse: Warehouse,
    job: str,
    rows: int,
    ours: Callable[[], None],
    polars: Callable[[], object],
    sums: str,
    runs: int,
) -> Iterator[Line]:
    """The three side by side, taking turns, so that a busy machine is busy for all."""
    clickhouse = partial(
        warehouse.execute, f"INSERT INTO FUNCTION null('k String, v Int64') {sums}"
    )
    polars()
    ours()
    times: dict[str, list[float]] = {"ours": [], "Polars": [], "ClickHouse": []}
    for _ in range(runs):
        for name, do in (("ours", ours), ("Polars", polars), ("ClickHouse", clickhouse)):
            began = time.perf_counter()
            do()
            times[name].append(time.perf_counter() - began)
    seconds, spread = of_runs(times["ours"])
    for name in ("Polars", "ClickHouse"):
        peer, _ = of_runs(times[name])
        yield Line("batch", f"{job}, {rows:,} rows", "s", round(seconds, 2), round(spread, 2),
                   None, round(peer, 2), f"{name}, sums alone")  # fmt: skip
    yield Line("batch", f"{job}, {rows:,} rows", "rows/s", round(rows / seconds))


def _write_readings(root: Path, rows: int) -> None:
    """A daily reading a meter, by day; a region, feeders, transformer areas."""
    root.mkdir()
    meters = max(1, rows // _DAYS)
    rng = np.random.default_rng(_SEED)
    meter = np.tile(np.arange(meters), _DAYS)
    start = pl.lit(_START).dt.cast_time_unit("ms") + pl.duration(days=pl.col("day"))
    pl.DataFrame(
        {
            "meter": meter,
            "day": np.repeat(np.arange(_DAYS), meters),
            "kwh": np.round(rng.gamma(2, 5, len(meter)), 2),
            "quality": rng.choice(_QUALITIES, len(meter), p=[0.95, 0.04, 0.01]),
        }
    ).select(
        meter_id=pl.format("M{}", "meter"),
        customer_id=pl.format("C{}", "meter"),
        unit_id=pl.format("T{}", pl.col("meter") // _METERS_A_UNIT),
        start=start,
        end=start + pl.duration(days=1),
        kwh="kwh",
        quality="quality",
    ).write_parquet(root / "customer_readings.parquet", row_group_size=_ROWS_A_GROUP)  # fmt: skip
    areas = -(-meters // _METERS_A_UNIT)
    feeders = -(-areas // 20)
    units = [("R", "region", "")]
    units += [(f"F{n}", "feeder", "R") for n in range(feeders)]
    units += [(f"T{n}", "transformer_area", f"F{n // 20}") for n in range(areas)]
    grid = pl.DataFrame(units, schema=["unit_id", "level", "parent_id"], orient="row")
    grid.write_csv(root / "grid_units.csv")
    grid.select(
        "unit_id",
        meter_id=pl.col("unit_id"),
        direction=pl.lit("in"),
        start=pl.lit("2026-01-01T00:00:00Z"),
        end=pl.lit("2026-02-01T00:00:00Z"),
        kwh=pl.lit(1e6),
        quality=pl.lit("measured"),
    ).write_csv(root / "boundary_readings.csv")


def _write_books(root: Path, rows: int) -> None:
    """Six bills a customer; nine of ten paid, most by name; together about `rows` rows."""
    root.mkdir()
    bills = max(6, rows // 2)
    rng = np.random.default_rng(_SEED)
    people = max(1, bills // 6)
    of = np.arange(bills) % people
    issued = _AS_OF - timedelta(days=180)
    frame = pl.DataFrame(
        {"n": np.arange(bills), "of": of, "age": rng.integers(0, 170, bills),
         "amount_fen": rng.integers(1_000, 90_000, bills)}
    )  # fmt: skip
    day = pl.lit(issued) + pl.duration(days=pl.col("age"))
    made = frame.select(
        bill_id=pl.format("B{}", "n"),
        customer_id=pl.format("C{}", "of"),
        billing_period=day.dt.strftime("%Y-%m"),
        issued_on=day,
        due_on=day + pl.duration(days=20),
        amount_fen="amount_fen",
    )
    made.write_parquet(root / "bills.parquet", row_group_size=_ROWS_A_GROUP)
    paid = made.filter(pl.Series(rng.random(bills) < 0.9))
    named = pl.Series(rng.random(paid.height) < 0.85)
    paid.select(
        payment_id=pl.col("bill_id").str.replace("B", "P"),
        customer_id="customer_id",
        bill_id=pl.when(named).then("bill_id"),
        paid_on=pl.col("issued_on") + pl.duration(days=9),
        amount_fen="amount_fen",
        channel=pl.lit("bank"),
    ).write_parquet(root / "payments.parquet", row_group_size=_ROWS_A_GROUP)
    pl.DataFrame({"customer_id": np.arange(people)}).select(
        customer_id=pl.format("C{}", "customer_id"),
        segment=pl.format("S{}", pl.col("customer_id") % 5),
        hall_id=pl.format("H{}", pl.col("customer_id") % 30),
    ).write_parquet(root / "customers.parquet")

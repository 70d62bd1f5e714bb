"""Batch jobs beside Polars and ClickHouse doing the sums alone, on the same Parquet files.

The peers group and add: no check of a row, no repeated or overlapping reading found, no rejects, no
balance, nothing written. Their totals must be the job's. Interpreter start and imports are left out
on all sides. Months and days are those of UTC, for jobs and peers alike.
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

from infra.bench.common.report import Measurement, of_runs
from pipelines.batch import run_job
from pipelines.warehouse.migrations import migrate
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.port import Warehouse
from schemas.errors import UsageError, ZerostockError

_START = datetime(2026, 1, 1, tzinfo=UTC)
_AS_OF = date(2026, 3, 31)
_DAYS = 30
_METERS_A_UNIT = 200
_CALLS_A_SIM = 20
_SIMS_A_SHOP = 50
_FIRST_IMSI = 460_000_000_000_000
_ROWS_A_GROUP = 1 << 20
_SEED = 7
_UTC = ["--time-zone", "UTC"]
_QUALITIES = ("measured", "estimated", "missing")


def run(
    *,
    rows: str = "1000000,10000000",
    jobs: str = "line-loss,arrears,subscriber-loss,channel",
    runs: int = 3,
) -> Iterator[Measurement]:
    """Each job over so many readings, bills and payments, or call records; lists have commas."""
    benches = {
        "line-loss": (_write_readings, _line_loss),
        "arrears": (_write_books, _arrears),
        "subscriber-loss": (_write_calls, _subscriber_loss),
        "channel": (_write_channel, _channel),
    }
    for count in (int(part) for part in str(rows).split(",")):
        for job in jobs.split(","):
            if job not in benches:
                raise UsageError(f"there is no job {job!r} here: use {', '.join(benches)}")
            write, measure = benches[job]
            with tempfile.TemporaryDirectory(prefix="zerostock-bench-") as work:
                warehouse = open_warehouse(data=Path(work) / "data")
                try:
                    migrate(warehouse)
                    write(Path(work) / "input", count)
                    yield from measure(warehouse, Path(work) / "input", count, runs)
                finally:
                    warehouse.close()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            yield Measurement(
                "batch", f"{job}, {count:,} rows, peak memory so far", "MB", round(peak)
            )


def _line_loss(warehouse: Warehouse, root: Path, rows: int, runs: int) -> Iterator[Measurement]:
    file = root / "customer_readings.parquet"

    def ours() -> None:
        run_job("line-loss", period="2026-01", input=root, warehouse=warehouse, beam_args=_UTC)

    def polars() -> float:
        read = pl.scan_parquet(file).filter(pl.col("quality") != "missing")
        return float(read.group_by("unit_id").agg(pl.col("kwh").sum()).collect()["kwh"].sum())

    sums = f"""
        SELECT unit_id, toInt64(sum(kwh))
        FROM file('{file}')
        WHERE quality != 'missing'
        GROUP BY unit_id"""  # noqa: S608
    answer = "SELECT sum(sold_kwh) FROM line_loss"
    yield from _beside(warehouse, "line-loss", rows, ours, polars, sums, answer, runs)


def _arrears(warehouse: Warehouse, root: Path, rows: int, runs: int) -> Iterator[Measurement]:
    bills, payments = root / "bills.parquet", root / "payments.parquet"

    def ours() -> None:
        run_job("arrears", as_of=_AS_OF, input=root, warehouse=warehouse, beam_args=_UTC)

    def polars() -> float:
        paid = pl.scan_parquet(payments).group_by("bill_id").agg(pl.col("amount_fen").sum())
        left = pl.col("amount_fen") - pl.col("amount_fen_right").fill_null(0)
        days = (pl.lit(_AS_OF) - pl.col("due_on")).dt.total_days()
        owed = pl.scan_parquet(bills).join(paid, on="bill_id", how="left")
        found = owed.group_by(days // 30).agg(left.clip(0).sum()).collect()
        # Payments that name no bill pay the oldest: of all that is open, not of any one bill.
        unnamed = pl.scan_parquet(payments).filter(pl.col("bill_id").is_null())
        return float(
            found["amount_fen"].sum() - unnamed.select("amount_fen").sum().collect().item()
        )

    sums = f"""
        SELECT toString(intDiv(dateDiff('day', due_on, toDate('{_AS_OF}')), 30)) AS age,
               sum(greatest(b.amount_fen - p.paid, 0))
        FROM file('{bills}') AS b
        LEFT JOIN (SELECT bill_id, sum(amount_fen) AS paid FROM file('{payments}') GROUP BY bill_id)
            AS p ON p.bill_id = b.bill_id
        GROUP BY age"""  # noqa: S608
    answer = "SELECT sum(amount_fen) FROM arrears_ageing WHERE dimension = 'all'"
    yield from _beside(warehouse, "arrears", rows, ours, polars, sums, answer, runs)


def _subscriber_loss(
    warehouse: Warehouse, root: Path, rows: int, runs: int
) -> Iterator[Measurement]:
    file = root / "cdr" / "switch-a" / "calls.parquet"
    start, end = _START + timedelta(days=31), _START + timedelta(days=59)

    def ours() -> None:
        run_job(
            "subscriber-loss", period="2026-02", input=root, warehouse=warehouse, beam_args=_UTC
        )

    def polars() -> float:
        # Any call is a use, and a SIM a subscriber: no record names a number.
        at, month = pl.col("start_time"), timedelta(days=30)
        before = at.filter(at < start)
        used = pl.scan_parquet(file).filter(at < end).group_by("imsi")
        seen = used.agg(first=at.min(), before=before.max(), last=at.max())
        base = (pl.col("first") < start) & (pl.col("before") > start - month)
        # Silence is known to the end of the last day with data.
        until = pl.col("last").max().dt.truncate("1d") + timedelta(days=1)
        lost = base & (pl.col("last") <= until - month)
        return float(seen.select(lost.sum()).collect().item())

    sums = f"""
        SELECT imsi, toInt64(max(start_time))
        FROM file('{file}')
        WHERE start_time < toDateTime64('{end:%Y-%m-%d} 00:00:00', 3, 'UTC')
        GROUP BY imsi"""  # noqa: S608
    answer = "SELECT lost FROM subscriber_loss WHERE dimension = 'all'"
    yield from _beside(warehouse, "subscriber-loss", rows, ours, polars, sums, answer, runs)


def _channel(warehouse: Warehouse, root: Path, rows: int, runs: int) -> Iterator[Measurement]:
    file = root / "cdr" / "switch-a" / "calls.parquet"
    until = _START + timedelta(days=7)
    _sell(warehouse, max(10, rows // _CALLS_A_SIM))

    def ours() -> None:
        run_job("channel", period="2026-01", input=root, warehouse=warehouse, beam_args=_UTC)

    def polars() -> float:
        seconds = pl.col("duration_s")
        first = pl.scan_parquet(file).filter(pl.col("start_time") < until).group_by("imsi")
        seen = first.agg(all=seconds.sum(), away=seconds.filter(pl.col("cell_id") == "away").sum())
        return float(seen.select((pl.col("away") >= 0.7 * pl.col("all")).sum()).collect().item())

    sums = f"""
        SELECT imsi, toInt64(sumIf(duration_s, cell_id = 'away'))
        FROM file('{file}')
        WHERE start_time < toDateTime64('{until:%Y-%m-%d} 00:00:00', 3, 'UTC')
        GROUP BY imsi"""  # noqa: S608
    answer = "SELECT sum(away) FROM diversion_cases"
    yield from _beside(warehouse, "channel", rows, ours, polars, sums, answer, runs)


def _sell(warehouse: Warehouse, people: int) -> None:
    """Every SIM came to its shop before the month and was sold as it began."""
    imsi = pl.Series("imsi", np.arange(people)) + _FIRST_IMSI
    moves = pl.DataFrame({"imsi": imsi}).with_columns(
        outlet_id=pl.format("o{}", pl.int_range(people) // _SIMS_A_SHOP),
        sku=pl.lit("s"),
        iccid=pl.format("{}", "imsi"),
        wholesaler_id=pl.lit("w"),
    )
    for cause, delta, at in (
        ("delivery", 1, _START - timedelta(days=1)),
        ("first_use", -1, _START),
    ):
        time_of = pl.lit(at).dt.cast_time_unit("ms")
        warehouse.insert(
            "stock_movements_rows",
            moves.with_columns(
                movement_id=pl.format("{}/{}", "imsi", pl.lit(cause)),
                at=time_of,
                known_at=time_of,
                delta=pl.lit(delta, pl.Int8),
                cause=pl.lit(cause),
                event_id=pl.format("{}/{}", "outlet_id", pl.lit(cause)),
            ).to_arrow(compat_level=pl.CompatLevel.oldest()),
        )


def _beside(
    warehouse: Warehouse,
    job: str,
    rows: int,
    ours: Callable[[], None],
    polars: Callable[[], float],
    sums: str,
    answer: str,
    runs: int,
) -> Iterator[Measurement]:
    """The three side by side, taking turns, so that a busy machine is busy for all.

    Raises `ZerostockError` when the job's total, which `answer` asks for, is not the peer's.
    """
    clickhouse = partial(
        warehouse.execute, f"INSERT INTO FUNCTION null('k String, v Int64') {sums}"
    )
    wanted = polars()
    ours()
    found = float(warehouse.query(answer).column(0)[0].as_py())
    if abs(found - wanted) > 1e-9 * abs(wanted):
        raise ZerostockError(f"{job} came to {found}, the sums alone to {wanted}")
    times: dict[str, list[float]] = {"ours": [], "Polars": [], "ClickHouse": []}
    for _ in range(runs):
        for name, do in (("ours", ours), ("Polars", polars), ("ClickHouse", clickhouse)):
            began = time.perf_counter()
            do()
            times[name].append(time.perf_counter() - began)
    seconds, spread = of_runs(times["ours"])
    for name in ("Polars", "ClickHouse"):
        peer, _ = of_runs(times[name])
        yield Measurement("batch", f"{job}, {rows:,} rows", "s", round(seconds, 2),
                   round(spread, 2),
                   None, round(peer, 2), f"{name}, sums alone")  # fmt: skip
    yield Measurement("batch", f"{job}, {rows:,} rows", "rows/s", round(rows / seconds))


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


def _write_calls(root: Path, rows: int) -> None:
    """Two months of call records, twenty a subscriber; one in ten falls silent on the way, and
    those of every tenth shop call from away."""
    folder = root / "cdr" / "switch-a"
    folder.mkdir(parents=True)
    people = max(10, rows // _CALLS_A_SIM)
    rng = np.random.default_rng(_SEED)
    who = rng.integers(0, people, rows)
    silent_from = np.where(rng.random(people) < 0.1, rng.integers(1, 59, people), 59)
    at = (rng.random(rows) * silent_from[who] * 86_400_000).astype(np.int64)
    order = np.argsort(at, kind="stable")
    calls = pl.DataFrame({"n": np.arange(rows), "who": who[order], "at": at[order]})
    calls.select(
        call_id=pl.format("c{}", "n"),
        start_time=pl.lit(_START).dt.cast_time_unit("ms") + pl.duration(milliseconds="at"),
        imsi=pl.format("{}", _FIRST_IMSI + pl.col("who")),
        msisdn=pl.lit(""),
        duration_s=pl.lit(60),
        cell_id=pl.when(pl.col("who") // _SIMS_A_SHOP % 10 == 0)
        .then(pl.lit("away"))
        .otherwise(pl.lit("cell")),
        charge_fen=pl.lit(10),
    ).write_parquet(folder / "calls.parquet", row_group_size=_ROWS_A_GROUP)
    tables = {
        "territories": "territory_id,name,parent_id\nc,C,\nt,T,c\nu,U,c\n",
        "cells": "cell_id,territory_id\ncell,t\naway,u\n",
        "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nw,W,,,\n",
        "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\no,O,kiosk,t,,\n",
        "assignments": "outlet_id,wholesaler_id,valid_from\no,w,2025-01-01T00:00:00Z\n",
        "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
        f"b,s,8986000000000000000,460000000000000,{people}\n",
    }
    (root / "reference").mkdir()
    for name, text in tables.items():
        (root / "reference" / f"{name}.csv").write_text(text)
    (root / "events").mkdir()
    delivery = (
        '{"type":"delivery","event_id":"d","at":"2025-12-31T00:00:00Z","outlet_id":"o",'
        f'"wholesaler_id":"w","first_iccid":"8986000000000000000","count":{people}}}\n'
    )
    (root / "events" / "deliveries.ndjson").write_text(delivery)


def _write_channel(root: Path, rows: int) -> None:
    """Calls as above, of SIMs that shops of fifty sold under a plan."""
    _write_calls(root, rows)
    shops = range(-(-max(10, rows // _CALLS_A_SIM) // _SIMS_A_SHOP))
    tables = {
        "outlets": ("outlet_id,name,kind,territory_id,opened_on,closed_on", "o{0},O,kiosk,t,,"),
        "assignments": ("outlet_id,wholesaler_id,valid_from", "o{0},w,2025-01-01T00:00:00Z"),
    }
    for name, (header, row) in tables.items():
        lines = [header, *(row.format(shop) for shop in shops), ""]
        (root / "reference" / f"{name}.csv").write_text("\n".join(lines))
    (root / "channel").mkdir()
    (root / "channel" / "channel.toml").write_text(
        '[[plan]]\nfrom = "2025-12"\nsteps = [{from = 46, to = 66, pays = 5}]\nfees = {s = 58}\n'
    )

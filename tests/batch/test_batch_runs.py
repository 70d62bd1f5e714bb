"""A run from start to end: what it records, what a death at any step leaves, who may run."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
import pytest
from batch_harness import write_csv

from pipelines.batch import JOBS
from pipelines.batch import run_job as run_in_zone
from pipelines.batch.engine import run_lock
from pipelines.batch.engine.columns import REJECTS, ROW, SOURCE
from pipelines.batch.engine.job import Plan
from pipelines.batch.engine.report import Changes, RunReport
from pipelines.batch.engine.runner import run
from pipelines.batch.engine.sources import read
from pipelines.batch.line_loss.job import CUSTOMER, JOB
from pipelines.core.energy import line_loss as loss
from pipelines.warehouse.port import Warehouse
from schemas.errors import (
    BatchError,
    BusyError,
    InputError,
    UsageError,
    WarehouseError,
)


def run_job(name: str, *, beam_args: Sequence[str] = (), **how: Any) -> RunReport:
    return run_in_zone(name, beam_args=["--time-zone=UTC", *beam_args], **how)


UNIT_ROWS = "unit_id,level,parent_id,name\nT,feeder,,t\n"
BOUNDARY_HEADER = "meter_id,unit_id,direction,start,end,kwh,quality\n"
CUSTOMER_HEADER = "meter_id,customer_id,unit_id,start,end,kwh,quality\n"
MONTH = "2026-01-01T00:00:00Z,2026-02-01T00:00:00Z"


def write(root: Path, sold: float, bad: int = 0) -> Path:
    root.mkdir(exist_ok=True)
    (root / "grid_units.csv").write_text(UNIT_ROWS)
    (root / "boundary_readings.csv").write_text(f"{BOUNDARY_HEADER}b,T,in,{MONTH},100,measured\n")
    wrong = "".join(f"x{i},c,T,{MONTH},many,measured\n" for i in range(bad))
    (root / "customer_readings.csv").write_text(
        f"{CUSTOMER_HEADER}m,c,T,{MONTH},{sold},measured\n{wrong}"
    )
    return root


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Line loss of one customer and no overlaps, without the half second that Beam's steps take."""
    chunk = plan.chunks["customer_readings"][0]
    sold, refused = 0.0, 0
    for raw, _, _ in read(chunk, CUSTOMER):
        kwh = raw["kwh"].cast(pl.Float64, strict=False)
        sold += kwh.sum() if plan.period == "2026-01" else 0
        refused += kwh.null_count()
    row = pl.DataFrame(
        loss.to_columns([loss.Loss(loss.GridNode("T", "feeder", ""), 0, 0)])
    ).with_columns(sold_kwh=pl.lit(sold))
    kinds = {name: pl.Float64 for name in row.columns if name.endswith(("kwh", "rate", "share"))}
    plan.results.put("line_loss", "all", row.cast(kinds))
    plan.results.count("all", "f", 3 + refused)
    rejects = {SOURCE: ["f"] * refused, ROW: list(range(refused)), "reason": ["bad"] * refused}
    plan.results.refuse("all", pl.DataFrame(rejects, schema=REJECTS))
    _ = pipeline | beam.Create([])


LIGHT = replace(JOB, build=_build)


def line_loss(warehouse: Warehouse, root: Path, period: str = "2026-01", **how: Any) -> RunReport:
    more = {"dry_run": False, "progress": lambda line: None} | how
    more["beam_args"] = ["--time-zone=UTC", "--most-refused=1", *how.get("beam_args", ())]
    return run(LIGHT, period=period, as_of=None, input=root, warehouse=warehouse, **more)


def shown(warehouse: Warehouse) -> list[tuple[str, float]]:
    rows = warehouse.query("SELECT period, sold_kwh FROM line_loss ORDER BY period").to_pylist()
    return [(row["period"], row["sold_kwh"]) for row in rows]


def runs(warehouse: Warehouse) -> list[dict[str, Any]]:
    return warehouse.query("SELECT * FROM batch_runs ORDER BY started_at").to_pylist()


class Dying:
    """A warehouse that dies at its n-th statement that changes something, or of one kind."""

    def __init__(self, inner: Warehouse, after: int, error: BaseException) -> None:
        self._inner, self._left, self._error = inner, after, error
        self.dead = False

    def _step(self) -> None:
        if self.dead or self._left == 0:
            self.dead = True
            raise self._error
        self._left -= 1

    def insert(self, table: str, rows: pa.Table) -> None:
        self._step()
        self._inner.insert(table, rows)

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        self._step()
        self._inner.execute(sql, parameters)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        if self.dead:
            raise self._error
        return self._inner.query(sql, parameters)

    def query_bytes(self, sql: str, format: str) -> bytes:
        return self._inner.query_bytes(sql, format)

    def close(self) -> None: ...


def test_a_run_is_recorded_and_another_replaces_it(warehouse: Warehouse, tmp_path: Path) -> None:
    told: list[str] = []
    report = line_loss(warehouse, write(tmp_path, 90, bad=2), progress=told.append)
    assert (report.status, report.rows_read, report.rows_rejected) == ("succeeded", 5, 2)
    assert report.rows_written == {
        "line_loss": 1,
        "unread_meters": 0,
        "line_loss_readings": 0,
        "line_loss_uncounted": 0,
    }
    assert told[-1] == "line-loss 2026-01: 5 rows read, 2 rejected"
    line_loss(warehouse, write(tmp_path, 95))
    line_loss(warehouse, tmp_path, "2026-02")
    assert shown(warehouse) == [("2026-01", 95), ("2026-02", 0)]
    assert warehouse.query("SELECT * FROM batch_rejects").num_rows == 0
    first, *_ = runs(warehouse)
    assert (first["job"], first["period"], first["status"]) == ("line-loss", "2026-01", "succeeded")
    assert (first["rows_read"], first["rows_rejected"], first["rows_written"]) == (5, 2, 1)
    assert first["finished_at"] >= first["started_at"]
    assert first["version"]
    assert json.loads(first["inputs"])["grid_units.csv"].startswith("sha256:")
    assert len(runs(warehouse)) == 3


def test_only_the_newest_runs_keep_their_rows(warehouse: Warehouse, tmp_path: Path) -> None:
    for sold in range(4):
        last = line_loss(warehouse, write(tmp_path, sold))
    other = line_loss(warehouse, tmp_path, "2026-02")
    kept = warehouse.query("SELECT DISTINCT run_id FROM line_loss_rows")["run_id"].to_pylist()
    assert len(kept) == 3
    assert {last.run_id, other.run_id} < set(kept)


@pytest.mark.parametrize("step", range(12))
def test_a_death_at_any_step_leaves_what_was_shown(
    warehouse: Warehouse, tmp_path: Path, step: int
) -> None:
    line_loss(warehouse, write(tmp_path, 90))
    dying = Dying(warehouse, step, KeyboardInterrupt())
    try:
        line_loss(dying, write(tmp_path, 80))
    except KeyboardInterrupt:
        # Dead before the row that publishes it, or after: all of the one run or of the other.
        assert shown(warehouse) in ([("2026-01", 90)], [("2026-01", 80)])
        assert dying.dead
    else:
        assert shown(warehouse) == [("2026-01", 80)]
    run_lock.alive_here.clear()
    line_loss(warehouse, write(tmp_path, 70))
    assert shown(warehouse) == [("2026-01", 70)]
    assert {r["status"] for r in runs(warehouse)} <= {"succeeded", "failed"}
    locks = warehouse.query("SELECT name FROM system.tables WHERE name LIKE 'batch_lock%'")
    assert locks.num_rows == 0
    assert warehouse.query("SELECT uniq(run_id) AS n FROM line_loss_rows")["n"][0].as_py() <= 2


def test_a_failure_is_recorded_with_its_reason(warehouse: Warehouse, tmp_path: Path) -> None:
    line_loss(warehouse, write(tmp_path, 90))

    class Refusing(Dying):
        def insert(self, table: str, rows: pa.Table) -> None:
            if table == "line_loss_rows":
                raise WarehouseError("disk full")
            self._inner.insert(table, rows)

    with pytest.raises(WarehouseError, match="disk full"):
        line_loss(Refusing(warehouse, 99, WarehouseError()), write(tmp_path, 80))
    assert shown(warehouse) == [("2026-01", 90)]
    last = runs(warehouse)[-1]
    assert (last["status"], last["error"]) == ("failed", "WarehouseError: disk full")


def _stopped_in_a_step(pipeline: beam.Pipeline, plan: Plan) -> None:
    def stop(element: int) -> int:
        raise KeyboardInterrupt

    _ = pipeline | beam.Create([1]) | beam.Map(stop)


def test_ctrl_c_within_a_step_is_no_error_of_the_job(warehouse: Warehouse, tmp_path: Path) -> None:
    line_loss(warehouse, write(tmp_path, 90))
    with pytest.raises(KeyboardInterrupt):
        run(
            replace(JOB, build=_stopped_in_a_step), period="2026-01", as_of=None, input=tmp_path,
            warehouse=warehouse, beam_args=[], dry_run=False, progress=lambda line: None,
        )  # fmt: skip
    assert runs(warehouse)[-1]["status"] == "failed"
    assert shown(warehouse) == [("2026-01", 90)]


def test_rows_lost_on_the_way_are_noticed(warehouse: Warehouse, tmp_path: Path) -> None:
    class Losing(Dying):
        def insert(self, table: str, rows: pa.Table) -> None:
            self._inner.insert(table, rows.slice(1) if table == "line_loss_rows" else rows)

    with pytest.raises(BatchError, match="_rows 0 instead of 1"):
        line_loss(Losing(warehouse, 99, WarehouseError()), write(tmp_path, 80))
    assert shown(warehouse) == []
    assert warehouse.query("SELECT * FROM line_loss_rows").num_rows == 0


def test_an_insert_repeated_after_a_lost_connection_shows_once(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    class Repeating(Dying):
        def insert(self, table: str, rows: pa.Table) -> None:
            self._inner.insert(table, rows)
            self._inner.insert(table, rows)

    line_loss(Repeating(warehouse, 99, WarehouseError()), write(tmp_path, 80, bad=3))
    assert shown(warehouse) == [("2026-01", 80)]
    assert warehouse.query("SELECT * FROM batch_rejects").num_rows == 3


def test_of_two_runs_at_once_exactly_one_refuses(warehouse: Warehouse, tmp_path: Path) -> None:
    write(tmp_path, 90)
    meet = threading.Barrier(2)
    outcomes: list[str] = []

    def go() -> None:
        try:
            meet.wait()
            outcomes.append(line_loss(waiting, tmp_path).status)
        except BusyError as error:
            outcomes.append("busy" if "2026-01 is being run already" in str(error) else str(error))

    class Holding(Dying):
        """Holds a run in the middle until the other has been refused."""

        def insert(self, table: str, rows: pa.Table) -> None:
            self._inner.insert(table, rows)
            if table == "line_loss_rows":
                while "busy" not in outcomes:
                    other.join(0.01)

    waiting = Holding(warehouse, 10**6, WarehouseError())
    other = threading.Thread(target=go)
    one = threading.Thread(target=go)
    other.start()
    one.start()
    other.join()
    one.join()
    assert sorted(outcomes) == ["busy", "succeeded"]
    assert shown(warehouse) == [("2026-01", 90)]


def test_another_period_may_run_meanwhile(warehouse: Warehouse, tmp_path: Path) -> None:
    write(tmp_path, 90)

    class Nesting(Dying):
        def insert(self, table: str, rows: pa.Table) -> None:
            self._inner.insert(table, rows)
            if table == "line_loss_rows":
                line_loss(self._inner, tmp_path, "2026-02")
                with pytest.raises(BusyError):
                    line_loss(self._inner, tmp_path, "2026-01")

    line_loss(Nesting(warehouse, 99, WarehouseError()), tmp_path)
    assert shown(warehouse) == [("2026-01", 90), ("2026-02", 0)]


def test_a_run_taken_for_dead_does_not_show_its_rows(warehouse: Warehouse, tmp_path: Path) -> None:
    line_loss(warehouse, write(tmp_path, 90))

    def stall(line: str) -> None:
        if "batch_rejects" in line:
            alive = run_lock.alive_here.copy()
            run_lock.alive_here.clear()
            line_loss(warehouse, write(tmp_path, 70))
            run_lock.alive_here.update(alive)

    with pytest.raises(BatchError, match="counted as dead"):
        line_loss(warehouse, write(tmp_path, 80), progress=stall)
    assert shown(warehouse) == [("2026-01", 70)]


def test_a_dry_run_tells_what_would_change_and_writes_nothing(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    report = line_loss(warehouse, write(tmp_path, 90, bad=1), dry_run=True)
    assert report.changes["line_loss"] == Changes(added=1, removed=0, changed=0, same=0)
    assert (report.status, report.rows_rejected) == ("dry_run", 1)
    assert runs(warehouse) == []
    line_loss(warehouse, tmp_path)
    report = line_loss(warehouse, tmp_path, dry_run=True)
    assert report.changes["line_loss"] == Changes(added=0, removed=0, changed=0, same=1)
    report = line_loss(warehouse, write(tmp_path, 91), dry_run=True)
    assert report.changes["line_loss"] == Changes(added=0, removed=0, changed=1, same=0)
    assert report.changes["batch_rejects"] == Changes(added=0, removed=1, changed=0, same=0)
    assert shown(warehouse) == [("2026-01", 90)]


def test_bad_calls_and_missing_input_are_told_before_anything_is_recorded(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    write(tmp_path, 90)
    for wrong in (
        {"name": "line-los", "period": "2026-01"},
        {"name": "line-loss"},
        {"name": "line-loss", "as_of": date(2026, 1, 1)},
        {"name": "line-loss", "period": "2026-13"},
        {"name": "line-loss", "period": "2026-1"},
        {"name": "line-loss", "period": "9999-12"},
        {"name": "arrears", "period": "2026-01"},
    ):
        with pytest.raises(UsageError):
            run_job(input=tmp_path, warehouse=warehouse, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="time zone"):
        line_loss(warehouse, tmp_path, beam_args=["--time-zone=Mars"])
    for args in (["--silent-dys=7"], ["--loud"]):
        with pytest.raises(UsageError, match=f"no option {args[0].split('=')[0]}"):
            line_loss(warehouse, tmp_path, beam_args=args)
    for days in ("x", "-1", "0"):
        with pytest.raises(UsageError, match="number of days"):
            line_loss(warehouse, tmp_path, beam_args=[f"--silent-days={days}"])
    with pytest.raises(InputError, match=r"no customers \(.csv"):
        run_job("arrears", as_of=date(2026, 1, 1), input=tmp_path, warehouse=warehouse)
    (tmp_path / "customer_readings.csv").write_text("meter_id,unit_id\n")
    with pytest.raises(InputError, match=r"customer_readings.csv has no column start, end, kwh"):
        line_loss(warehouse, tmp_path)
    (tmp_path / "customer_readings.csv").unlink()
    (tmp_path / "customer_readings.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"customer_readings.parquet is not a Parquet file"):
        line_loss(warehouse, tmp_path)
    assert runs(warehouse) == []


def test_tables_are_as_the_jobs_write_them(warehouse: Warehouse) -> None:
    from importlib import import_module

    from pipelines.batch.engine.tables import REJECTS_TABLE

    tables = [table for module in JOBS.values() for table in import_module(module).JOB.tables]
    for table in (*tables, REJECTS_TABLE):
        stored = warehouse.query(f"SELECT * FROM {table.stored}")
        assert stored.column_names == table.schema.names, table.name
        for column in table.schema:
            assert stored.schema.field(column.name).type == column.type, (table.name, column.name)
        view = warehouse.query(f"SELECT * FROM {table.name}")
        decided = {"status", "decided_by", "decided_at", "why"}  # people add these to cases
        added = decided if table.name == "diversion_cases" else set()
        added |= {"data_from", "data_until", "as_of", "zone"}  # the run's
        assert set(view.column_names) <= set(table.columns) | added, table.name


def test_a_whole_day_of_books_into_the_warehouse(warehouse: Warehouse, tmp_path: Path) -> None:
    write_csv(tmp_path / "customers.csv", ("customer_id", "segment", "hall_id"),
              [{"customer_id": "c", "segment": "home", "hall_id": "X"}])  # fmt: skip
    (tmp_path / "bills.csv").write_text(
        "bill_id,customer_id,billing_period,issued_on,due_on,amount_fen\n"
        "b1,c,2026-01,2026-01-05,2026-01-25,1000\nb2,c,2026-02,2026-02-05,,500\n"
    )
    (tmp_path / "payments.csv").write_text(
        "payment_id,customer_id,bill_id,paid_on,amount_fen,channel\n"
        "p1,c,b1,2026-02-20,400,bank\np2,c,,2026-03-02,300,bank\n"
    )
    (tmp_path / "channel_statements.csv").write_text(
        "day,channel,amount_fen,payments\n2026-02-20,bank,400,1\n2026-03-02,bank,200,1\n"
    )
    for day in (date(2026, 2, 28), date(2026, 3, 31)):
        run_job("arrears", as_of=day, input=tmp_path, warehouse=warehouse)
    roll = warehouse.query(
        "SELECT from_bucket, to_bucket, was_fen, still_open_fen FROM arrears_roll"
        " WHERE dimension = 'all' ORDER BY 1"
    )
    assert roll.to_pylist() == [
        {"from_bucket": "1-30", "to_bucket": "31-60", "was_fen": 500, "still_open_fen": 500},
        {"from_bucket": "31-60", "to_bucket": "61-90", "was_fen": 600, "still_open_fen": 300},
    ]
    days = warehouse.query("SELECT day, status FROM payment_reconciliation ORDER BY day")
    assert days.to_pylist() == [
        {"day": date(2026, 2, 20), "status": "ok"},
        {"day": date(2026, 3, 2), "status": "different"},
    ]


def test_bills_roll_from_month_to_month_however_often_arrears_run(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    homes = {"c1": ("home", "X"), "c2": ("home", "Y"), "c3": ("shop", "Y")}
    write_csv(tmp_path / "customers.csv", ("customer_id", "segment", "hall_id"),
              [{"customer_id": c, "segment": s, "hall_id": h}
               for c, (s, h) in homes.items()])  # fmt: skip
    (tmp_path / "bills.csv").write_text(
        "bill_id,customer_id,billing_period,issued_on,due_on,amount_fen\n"
        + "".join(
            f"b{n}{c},{c},2026-0{n},2026-0{n}-02,2026-0{n}-20,{100 * n}\n"
            for n in (1, 2, 3)
            for c in homes
        )
    )
    (tmp_path / "payments.csv").write_text(
        "payment_id,customer_id,bill_id,paid_on,amount_fen,channel\n"
        "p1,c1,b1c1,2026-03-01,100,bank\np2,c3,b2c3,2026-03-12,50,bank\n"
    )
    (tmp_path / "channel_statements.csv").write_text("day,channel,amount_fen,payments\n")
    for day in (date(2026, 2, 10), date(2026, 2, 28), date(2026, 3, 15), date(2026, 3, 31)):
        run_job("arrears", as_of=day, input=tmp_path, warehouse=warehouse)
    sums = (
        "SELECT as_of, before, dimension, sum(was_fen) AS was, sum(still_open_fen) AS left"
        " FROM arrears_roll GROUP BY as_of, before, dimension ORDER BY as_of, dimension"
    )
    found = warehouse.query(sums).to_pylist()
    months = [(date(2026, 3, 15), date(2026, 2, 10)), (date(2026, 3, 31), date(2026, 2, 28))]
    assert [(r["as_of"], r["before"], r["dimension"]) for r in found] == [
        (*pair, dimension) for pair in months for dimension in ("all", "hall", "segment")
    ]
    # Whatever stood open then is somewhere now, whichever way it is split up.
    open_then = {date(2026, 2, 10): 900, date(2026, 2, 28): 900}
    assert all(row["was"] == open_then[row["before"]] for row in found)
    assert all(row["left"] == 900 - 150 for row in found)
    home = warehouse.query(
        "SELECT from_bucket, to_bucket, was_fen FROM arrears_roll WHERE as_of = '2026-03-31'"
        " AND dimension = 'segment' AND key = 'home' ORDER BY from_bucket, to_bucket"
    )
    assert home.to_pylist() == [
        {"from_bucket": "1-30", "to_bucket": "31-60", "was_fen": 400},
        {"from_bucket": "31-60", "to_bucket": "61-90", "was_fen": 100},
        {"from_bucket": "31-60", "to_bucket": "paid", "was_fen": 100},
    ]


def test_the_whole_job_into_the_warehouse(warehouse: Warehouse, tmp_path: Path) -> None:
    report = run_job(
        "line-loss",
        period="2026-01",
        input=write(tmp_path, 90, bad=1),
        warehouse=warehouse,
        beam_args=["--most-refused=50%"],
    )
    assert (report.rows_read, report.rows_rejected) == (4, 1)
    (row,) = warehouse.query("SELECT * FROM line_loss").to_pylist()
    assert (row["loss_kwh"], row["loss_rate"], row["status"]) == (10, 0.1, "high")
    (reject,) = warehouse.query("SELECT * FROM batch_rejects").to_pylist()
    assert reject == {
        "job": "line-loss", "period": "2026-01", "source": "customer_readings.csv", "row": 2,
        "reason": "invalid_field: kwh: 'many' is not a number up to 9e+09",
    }  # fmt: skip


def test_a_units_figures_open_down_to_the_readings_that_count(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    (tmp_path / "grid_units.csv").write_text(
        "unit_id,level,parent_id,name\nF,feeder,,f\nT,transformer_area,F,t\n"
    )
    (tmp_path / "boundary_readings.csv").write_text(
        "meter_id,unit_id,direction,start,end,kwh,quality\n"
        f"b,T,in,{MONTH},100,measured\nb,T,out,{MONTH},7.5,measured\nf,F,in,{MONTH},140,measured\n"
    )
    first, half, end = "2026-01-01T00:00:00Z", "2026-01-16T00:00:00Z", "2026-02-01T00:00:00Z"
    (tmp_path / "customer_readings.csv").write_text(
        "meter_id,customer_id,unit_id,start,end,kwh,quality\n"
        f"m1,c1,T,{first},{half},10,measured\n"
        f"m1,c1,T,{half},{end},11,estimated\n"
        f"m1,c1,T,2026-01-20T00:00:00Z,{end},5,measured\n"  # the estimate gives way to it
        f"m2,c2,T,2025-12-31T00:00:00Z,2026-01-02T00:00:00Z,2,measured\n"  # half is last year's
        f"m2,c2,T,2025-12-31T00:00:00Z,2026-01-02T00:00:00Z,2,measured\n"  # the same row again
        f"m3,c3,F,{first},{end},3,missing\n"
        f"m4,c4,X,{first},{end},3,measured\n"
    )
    for _ in range(2):
        run_job(
            "line-loss", period="2026-01", input=tmp_path, warehouse=warehouse,
            beam_args=["--readings", "--most-refused=1"],
        )  # fmt: skip
    units = warehouse.query("SELECT unit_id, supplied_kwh, sold_kwh FROM line_loss").to_pylist()
    opened = warehouse.query(
        "SELECT unit_id, sumIf(kwh_in_period, side = 'in') - sumIf(kwh_in_period, side = 'out')"
        " AS supplied_kwh, sumIf(kwh_in_period, side = 'customer') AS sold_kwh"
        " FROM line_loss_readings GROUP BY unit_id"
    ).to_pylist()
    by_unit = {row["unit_id"]: row for row in opened}
    assert units == [by_unit[row["unit_id"]] for row in units]
    assert by_unit["T"] == {"unit_id": "T", "supplied_kwh": 92.5, "sold_kwh": 16.0}
    rows = warehouse.query(
        "SELECT source, row, meter_id, quality FROM line_loss_readings"
        " WHERE side = 'customer' ORDER BY row"
    ).to_pylist()
    assert [(row["row"], row["meter_id"], row["quality"]) for row in rows] == [
        (1, "m1", "measured"), (3, "m1", "measured"), (4, "m2", "measured")
    ]  # fmt: skip
    run_job(
        "line-loss",
        period="2026-01",
        input=tmp_path,
        warehouse=warehouse,
        beam_args=["--most-refused=1"],
    )
    assert warehouse.query("SELECT * FROM line_loss_readings").num_rows == 0


def test_high_for_three_months_and_jumps_are_flagged(warehouse: Warehouse, tmp_path: Path) -> None:
    root = write(tmp_path, 0)
    months = {"2025-11": 95, "2025-12": 88, "2026-01": 87, "2026-02": 86, "2026-03": 95}
    for month, sold in months.items():
        after = "2026-01" if month == "2025-12" else f"{month[:5]}{int(month[5:]) + 1:02d}"
        span = f"{month}-01T00:00:00Z,{after}-01T00:00:00Z"
        (root / "boundary_readings.csv").write_text(
            f"{BOUNDARY_HEADER}b,T,in,{span},100,measured\n"
        )
        (root / "customer_readings.csv").write_text(
            f"{CUSTOMER_HEADER}m,c,T,{span},{sold},measured\n"
        )
        run_job("line-loss", period=month, input=root, warehouse=warehouse)
    flags = warehouse.query(
        "SELECT period, high_three_months, jumped FROM line_loss_flags ORDER BY period"
    ).to_pylist()
    assert [(f["period"], bool(f["high_three_months"]), bool(f["jumped"])) for f in flags] == [
        ("2025-12", False, True),
        ("2026-02", True, False),
    ]

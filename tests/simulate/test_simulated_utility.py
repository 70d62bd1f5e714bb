"""The power company's files: columns as said, sums that a grid and a till can have."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.simulate import CityPlan
from pipelines.simulate.utility import write_utility


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("power") / "utility"
    write_utility(CityPlan(seed=2, outlets=1_500), path)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


COLUMNS = {
    "grid_units": "unit_id,level,parent_id,name",
    "boundary_readings": "meter_id,unit_id,direction,start,end,kwh,quality",
    "customers": "customer_id,segment,hall_id",
    "bills": "bill_id,customer_id,billing_period,issued_on,due_on,amount_fen",
    "payments": "payment_id,customer_id,bill_id,paid_on,amount_fen,channel",
    "channel_statements": "day,channel,amount_fen,payments",
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_those_of_the_contract(folder: Path, name: str) -> None:
    assert (folder / f"{name}.csv").read_text(encoding="utf-8").split("\n")[0] == COLUMNS[name]


def test_customer_readings_are_columnar(folder: Path) -> None:
    frame = pl.read_parquet(folder / "customer_readings.parquet")
    columns = ["meter_id", "customer_id", "unit_id", "start", "end", "kwh", "quality"]
    assert frame.columns == [*columns, "register", "direction"]
    assert frame.schema["kwh"] == pl.Float64
    missing = frame.filter(pl.col("quality") == "missing")
    assert missing.height == missing["kwh"].null_count() > 0
    assert frame.unique().height < frame.height


def test_every_unit_hangs_on_one_above_it(folder: Path) -> None:
    units = {row["unit_id"]: row for row in rows(folder / "grid_units.csv")}
    levels = ["", "region", "voltage", "feeder", "transformer_area"]
    for unit in units.values():
        above = units[unit["parent_id"]]["level"] if unit["parent_id"] else ""
        assert levels.index(unit["level"]) == levels.index(above) + 1


def test_areas_lose_what_was_planted(folder: Path) -> None:
    planted = defaultdict(set)
    for row in rows(folder.parent / "truth" / "utility.csv"):
        planted[row["planted"]].add(row["id"])
    supplied = Counter[str]()
    seen = set()
    month = datetime.fromisoformat("2026-03-01T00:00+08:00")
    for row in rows(folder / "boundary_readings.csv"):
        if row["kwh"] == "n/a" or (row["meter_id"], row["start"]) in seen:
            continue
        seen.add((row["meter_id"], row["start"]))
        start, end = (datetime.fromisoformat(row[name]) for name in ("start", "end"))
        inside = min(end, month.replace(month=4)) - max(start, month)
        sign = 1 if row["direction"] == "in" else -1
        supplied[row["unit_id"]] += sign * float(row["kwh"]) * (inside / (end - start))
    every = pl.read_parquet(folder / "customer_readings.parquet").unique()
    readings = every.filter(pl.col("start") >= month.isoformat())
    of_month, before = set(readings["customer_id"]), set(every["customer_id"])
    assert before - of_month == planted["unread"] != set()
    holes = planted["missing_reading"] | planted["unread"]
    kwh = every.group_by("unit_id", "direction").agg(pl.col("kwh").sum())
    assert set(kwh["direction"]) == {"use", "feed_in"}
    used = readings.filter(direction="use")
    sold = dict(used.group_by("unit_id").agg(pl.col("kwh").sum()).iter_rows())
    for unit, fed_in in (
        readings.filter(direction="feed_in").group_by("unit_id").agg(pl.sum("kwh")).iter_rows()
    ):
        if unit in supplied:
            supplied[unit] += fed_in
    full = {
        unit
        for (unit, ids) in every.group_by("unit_id").agg("customer_id").iter_rows()
        if not holes & set(ids)
    }
    assert planted["no_supply_reading"] == sold.keys() - supplied.keys()
    assert planted["theft"]
    assert planted["negative_loss"]
    assert len(full & supplied.keys()) > 5
    for unit in full & supplied.keys():
        rate = 1 - sold[unit] / supplied[unit]
        expected = (-0.05, -0.03) if unit in planted["negative_loss"] else (0.02, 0.07)
        low, high = (0.14, 0.31) if unit in planted["theft"] else expected
        assert low < rate < high, unit


def test_statements_differ_where_planted_and_nowhere_else(folder: Path) -> None:
    received = Counter[tuple[str, str]]()
    by_id = {row["payment_id"]: row for row in rows(folder / "payments.csv")}
    for row in by_id.values():
        if row["amount_fen"].isdigit():
            received[row["paid_on"], row["channel"]] += int(row["amount_fen"])
    stated = {
        (row["day"], row["channel"]): int(row["amount_fen"])
        for row in rows(folder / "channel_statements.csv")
    }
    wrong = {f"{d}/{c}" for (d, c), fen in received.items() if stated.get((d, c)) != fen}
    planted = rows(folder.parent / "truth" / "utility.csv")
    assert wrong == {row["id"] for row in planted if row["planted"].startswith("statement")}
    assert wrong


def test_bills_are_whole_fen_of_known_customers(folder: Path) -> None:
    known = {row["customer_id"] for row in rows(folder / "customers.csv")}
    bills = rows(folder / "bills.csv")
    assert {row["customer_id"] for row in bills} == known
    assert all(int(row["amount_fen"]) > 0 for row in bills)
    assert len({row["billing_period"] for row in bills}) == 6
    assert any(not row["due_on"] for row in bills)
    paid = {row["payment_id"]: row for row in rows(folder / "payments.csv")}
    assert {row["bill_id"] for row in paid.values()} - {""} < {row["bill_id"] for row in bills}

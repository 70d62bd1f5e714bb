"""Over whole simulated cities the job says what the plain implementation says, row by row."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from oracle import plain_channel as plain

from pipelines.batch import run_job
from pipelines.simulate import CityPlan, simulate
from pipelines.warehouse import open_warehouse

SHANGHAI = ZoneInfo("Asia/Shanghai")
PLAN = """
promised_hours = 6
[[plan]]
from = "2025-01"
steps = [{from = 15, to = 30, pays = 5}, {from = 31, to = 66, pays = 7.5}]
dead_days = 3
silent_days = 2
[plan.fees]
CARD-20 = 20
CARD-50 = 50
"""
RULES = plain.Rules(
    promised=timedelta(hours=6),
    fees={"CARD-20": 20, "CARD-50": 50},
    steps=[(15, 30, 5), (31, 66, 7.5)],
    seller=[(1.2, 1.2), (1.4, 1.4)],
    lead=[(0.8, 0.8), (1.0, 1.0), (1.2, 1.2), (1.4, 1.4)],
    dead=3,
    silent=2,
)


@dataclass
class Done:
    """A city after the job: what the job wrote, and what is plainly so."""

    tables: dict[str, list[dict[str, Any]]]
    city: plain.City
    start: datetime
    end: datetime
    known: datetime
    planted: set[str]
    #: What the rows are filed under: the month, or the day of a run as of one.
    period: str


#: Shape of a city, which period and until when. The second spans two months.
CITIES = {
    "a month": (
        CityPlan(seed=5, outlets=60, days=8, cdrs=12_000),
        {"period": "2026-03"},
        SHANGHAI,
    ),
    "two months": (
        CityPlan(seed=11, outlets=80, days=7, cdrs=9_000, start=date(2026, 2, 26)),
        {"period": "2026-03"},
        ZoneInfo("UTC"),
    ),
    "a running month": (
        CityPlan(
            seed=6,
            outlets=90,
            days=12,
            cdrs=20_000,
            bad_lines=200,
            duplicates=0.2,
            start=date(2026, 2, 24),
        ),
        {"as_of": date(2026, 3, 6)},
        SHANGHAI,
    ),
}
WRITTEN = (
    "outlet_ranking", "wholesaler_scorecard", "diversion_cases", "diversion_evidence", "commission",
    "commission_lines", "hall_assessment", "outlet_daily", "stock_on_hand",
)  # fmt: skip


@pytest.fixture(scope="module", params=list(CITIES))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    shape, when, zone = CITIES[request.param]
    folder = tmp_path_factory.mktemp("city")
    root, data = folder / "city", folder / "data"
    simulate(shape, root)
    write_channel(root)
    command = [sys.executable, "-m", "infra.cli", "run", "--input", str(root)]
    command += ["--data", str(data), "--sms", f"file:{folder / 'sms'}"]
    env = os.environ | {"ZEROSTOCK_TIME_ZONE": str(zone)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert ran.returncode == 0, ran.stderr
    with closing(open_warehouse(data=data)) as warehouse:
        run_job("channel", input=root, warehouse=warehouse,
                beam_args=["--time-zone", str(zone)], **when)  # fmt: skip
        tables = {
            name: warehouse.query(f"SELECT * FROM {name}").to_pylist()
            for name in (*WRITTEN, "stock_movements", "stock_incidents", "registrations")
        }
    city = plain.City(root, tables, zone)
    start = datetime(2026, 3, 1, tzinfo=zone)
    end = datetime(2026, 4, 1, tzinfo=zone)
    until = when.get("as_of")
    if until is not None:
        end = datetime(until.year, until.month, until.day, tzinfo=zone) + timedelta(days=1)
    # As of a day nothing counts that came later.
    known = datetime(2300, 1, 1, tzinfo=UTC) if until is None else end
    with (root / "truth/diversion.csv").open() as file:
        planted = {row["outlet_id"] for row in csv.DictReader(file)}
    period = "2026-03" if until is None else until.isoformat()
    return Done(tables, city, start, end, known, planted, period)


def write_channel(root: Path) -> None:
    """A plan, and marks of some outlets, with targets that some reach and others do not."""
    (root / "channel").mkdir(exist_ok=True)
    (root / "channel/channel.toml").write_text(PLAN)
    outlets = [row["outlet_id"] for row in plain.read(root / "reference/outlets.csv")]
    marks = ["period,outlet_id,target,inspection,satisfaction,complaints"]
    marks += [f"2026-03,{one},{5 + 9 * n},{90 - n},{80 + n},{70.5}" for n, one in
              enumerate(outlets[:12])]  # fmt: skip
    (root / "channel/hall_marks.csv").write_text("\n".join(marks) + "\n")


def same(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    """The same keys, and of each the same values; shares to twelve digits."""
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            told = found[key][name]
            expects = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
            assert told == expects, (key, name)


def by(rows: list[dict[str, Any]], *names: str) -> dict[Any, dict[str, Any]]:
    keyed = {tuple(row[name] for name in names): row for row in rows}
    assert len(keyed) == len(rows)  # nothing twice
    return {key[0] if len(names) == 1 else key: row for key, row in keyed.items()}


def test_daily_stock_has_no_gaps_and_ends_with_what_the_stream_says(done: Done) -> None:
    key = ("outlet_id", "sku", "day")
    same(by(done.tables["outlet_daily"], *key), by(plain.daily(done.city), *key))
    last = max(row["day"] for row in done.tables["outlet_daily"])
    closing = {(row["outlet_id"], row["sku"]): row["closing"]
               for row in done.tables["outlet_daily"] if row["day"] == last}  # fmt: skip
    live = {(row["outlet_id"], row["sku"]): row["on_hand"] for row in done.tables["stock_on_hand"]}
    assert closing == live


def test_ranking(done: Done) -> None:
    expected = plain.ranking(done.city, done.start, done.end)
    assert len({row["status"] for row in expected.values()}) > 2
    same(by(done.tables["outlet_ranking"], "outlet_id"), expected)


def test_scorecards(done: Done) -> None:
    expected = plain.scorecard(done.city, done.start, done.end, done.known, RULES)
    assert any(row["on_time"] for row in expected.values())
    same(by(done.tables["wholesaler_scorecard"], "wholesaler_id"), expected)


def test_diversion_and_its_evidence(done: Done) -> None:
    expected = plain.cases(done.city, done.start, done.end, done.known)
    found = by(done.tables["diversion_cases"], "outlet_id", "wholesaler_id")
    same(found, {key: {n: v for n, v in case.items() if n != "imsis"}
                 for key, case in expected.items()})  # fmt: skip
    for key, case in expected.items():
        evidence = [row for row in done.tables["diversion_evidence"]
                    if row["case_id"] == found[key]["case_id"]]  # fmt: skip
        assert sorted(row["imsi"] for row in evidence) == case["imsis"]
    # Who carries nothing off is never accused; small samples may hide one who does.
    assert {outlet for outlet, _ in expected} <= done.planted


def test_commission_and_the_lines_behind_it(done: Done) -> None:
    expected = plain.commission_lines(done.city, done.start, done.end, RULES)
    same(by(done.tables["commission_lines"], "kind", "imsi"), expected)
    assert {kind for kind, _ in expected} == {"activation", "dead"}
    totals = plain.commission(done.city, done.start, done.end, RULES, "2026-03")
    same(by(done.tables["commission"], "role", "outlet_id"), totals)
    assert len({row["factor"] for row in totals.values()}) > 2


def test_halls(done: Done) -> None:
    expected = plain.halls(done.city, done.start, done.end, "2026-03")
    same(by(done.tables["hall_assessment"], "outlet_id"), expected)
    assert {row["period"] for row in done.tables["hall_assessment"]} == {done.period}


def test_times_are_whole(done: Done) -> None:
    """Guards the comparison itself: the tables' times carry their zone."""
    assert all(move["at"].tzinfo is not None for move in done.city.moves)
    assert done.known.tzinfo is not None

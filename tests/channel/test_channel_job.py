"""The channel job on an embedded warehouse: attribution, diversion, decisions, running again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from pipelines.batch import run_job as run_in_zone
from pipelines.batch.channel.calls import sums_of
from pipelines.batch.engine import run_lock
from pipelines.batch.engine.transforms import JoinedRows
from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.port import Warehouse
from schemas.errors import ZerostockError

run_job = partial(run_in_zone, beam_args=["--time-zone=UTC", "--most-refused=1"])
FIRST = 460_001_000_000_000
DAY = 86_400_000
START = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)

REFERENCE = {
    "territories": "territory_id,name,parent_id\nCITY,c,\nN,north,CITY\nS,south,CITY\n",
    "cells": "cell_id,territory_id\nn1,N\ns1,S\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nA,a,,,en\nB,b,,,en\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\n"
    "good,g,kiosk,N,,\nbad,b,kiosk,N,,\nsouth,s,kiosk,S,,\n",
    # B takes the bad outlet over after its SIMs were sold: they stay A's.
    "assignments": "outlet_id,wholesaler_id,valid_from\ngood,A,2026-01-01T00:00:00Z\n"
    "bad,A,2026-01-01T00:00:00Z\nbad,B,2026-03-20T00:00:00Z\nsouth,B,2026-01-01T00:00:00Z\n",
    "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
    f"b,X,8986000000000000000,{FIRST},1000\n",
}
PLAN = """
[[plan]]
from = "2026-01"
steps = [{from = 46, to = 66, pays = 5}]
dead_days = 10
silent_days = 5
[plan.fees]
X = 58
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    opened = open_warehouse(data=tmp_path_factory.mktemp("data"))
    stocked(opened)
    yield opened
    opened.close()


def stocked(opened: Warehouse) -> None:
    """What a stream would have written of two shops and three stock-outs."""
    migrate(opened)
    rows = []
    for place, outlet in enumerate(("good", "bad")):
        for n in range(20):
            imsi = FIRST + place * 100 + n
            at = START + (1 + n % 3) * DAY
            for delta, cause, when in ((1, "delivery", START - DAY), (-1, "first_use", at)):
                rows.append(
                    {
                        "movement_id": f"{imsi}{cause}", "at": when, "known_at": when,
                        "outlet_id": outlet, "sku": "X", "imsi": imsi, "iccid": str(imsi),
                        "delta": delta, "cause": cause, "event_id": f"{outlet}{cause}",
                        "wholesaler_id": "A",
                    }
                )  # fmt: skip
    time = pa.timestamp("ms", tz="UTC")
    table = pa.Table.from_pylist(rows)
    kinds = {"at": time, "known_at": time, "delta": pa.int8()}
    opened.insert(
        "stock_movements_rows",
        table.cast(pa.schema([(f.name, kinds.get(f.name, f.type)) for f in table.schema])),
    )
    incidents = [("on-time", 2, 3), ("late", 2, 8), ("open", 2, None)]
    opened.insert(
        "stock_incidents_rows",
        pa.table(
            {
                "incident_id": [name for name, _, _ in incidents],
                "outlet_id": ["good"] * 3,
                "sku": ["X"] * 3,
                "wholesaler_id": ["A"] * 3,
                "opened_at": pa.array([START - DAY - 3_600_000, START, START + DAY], time),
                "closed_at": pa.array([START - DAY, None, None], time),
                "version": pa.array([1] * 3, pa.uint8()),
            }
        ),
    )


@pytest.fixture(autouse=True)
def nothing_shown(warehouse: Warehouse) -> None:
    """No test sees what another published or decided."""
    for table in ("batch_publications", "diversion_decisions"):
        warehouse.execute(f"TRUNCATE TABLE {table}")


def city(root: Path, kind: str, covered: int = 31) -> None:
    """Files of a month; of the days from the `covered`th on there are no call records."""
    (root / "reference").mkdir(parents=True)
    (root / "cdr").mkdir()
    (root / "channel").mkdir()
    for name, text in REFERENCE.items():
        (root / "reference" / f"{name}.csv").write_text(text)
    (root / "channel" / "channel.toml").write_text(PLAN)
    (root / "channel" / "hall_marks.csv").write_text(
        "period,outlet_id,target,inspection,satisfaction,complaints\n2026-03,good,25,90,90,90\n"
    )
    calls = []
    for place, cell in enumerate(("n1", "s1")):
        for n in range(20):
            at = START + (1 + n % 3) * DAY
            # Every fourth SIM is not heard of again: it is dead by its tenth day.
            ages = (0, 2) if n % 4 == 0 else (0, 2, 6)
            calls += [(place, n, age, at + age * DAY, cell) for age in ages]
    others = [
        {
            "call_id": f"other-{day}",
            "start_time": datetime.fromtimestamp((START + day * DAY) / 1000, UTC).isoformat(),
            "imsi": str(FIRST + 999),
            "duration_s": 60,
            "cell_id": "n1",
        }
        for day in range(covered)
    ]
    frame = pl.DataFrame(
        others
        + [
            {
                "call_id": f"c{place}-{n}-{age}",
                "start_time": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
                "imsi": str(FIRST + place * 100 + n),
                "duration_s": 60,
                "cell_id": cell,
            }
            for place, n, age, at, cell in [*calls, *calls[:5]]
        ]
    )
    path = root / "cdr" / f"calls.{kind}"
    frame.write_parquet(path) if kind == "parquet" else frame.write_csv(path)


def rows(warehouse: Warehouse, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = warehouse.query(sql).to_pylist()
    return found


def decide(warehouse: Warehouse, decision: str, at: int) -> None:
    """Decide the one case there is."""
    case = rows(warehouse, "SELECT * FROM diversion_cases")[0]
    warehouse.insert(
        "diversion_decisions",
        pa.table(
            {
                "decision_id": [f"{at}"],
                "case_key": [case["case_key"]],
                "evidence_hash": [case["evidence_hash"]],
                "decision": [decision],
                "decided_by": ["li"],
                "decided_at": pa.array([at], pa.timestamp("ms", tz="UTC")),
                "why": ["a market day"],
            }
        ),
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_month_of_the_channel(warehouse: Warehouse, tmp_path: Path, kind: str) -> None:
    city(tmp_path, kind)
    for _ in range(2):  # again: it replaces
        run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    cases = rows(warehouse, "SELECT * FROM diversion_cases")
    assert [(c["outlet_id"], c["wholesaler_id"], c["sims"], c["away"]) for c in cases] == [
        ("bad", "A", 20, 20)
    ]
    assert cases[0]["status"] == "suspected"
    evidence = rows(warehouse, "SELECT calls, seconds, seconds_away FROM diversion_evidence")
    assert len(evidence) == 20
    assert {(e["calls"], e["seconds"]) for e in evidence} == {(2, 120), (3, 180)}
    ranking = {r["outlet_id"]: r for r in rows(warehouse, "SELECT * FROM outlet_ranking")}
    assert (ranking["good"]["sales"], ranking["good"]["status"]) == (20, "out")
    assert (ranking["south"]["sales"], ranking["south"]["status"]) == (0, "unknown")
    assert ranking["bad"]["wholesaler_id"] == "B"
    cards = {r["wholesaler_id"]: r for r in rows(warehouse, "SELECT * FROM wholesaler_scorecard")}
    # Two stock-outs opened in the month; both windows ended, and neither was closed.
    assert (cards["A"]["incidents"], cards["A"]["due"], cards["A"]["on_time"]) == (2, 2, 0)
    assert (cards["A"]["activations"], cards["B"]["activations"]) == (40, 0)
    assert (cards["A"]["diversion_cases"], cards["B"]["diversion_cases"]) == (1, 0)
    lines = rows(warehouse, "SELECT kind, amount_fen FROM commission_lines")
    assert sum(line["amount_fen"] for line in lines) == 500 * (40 - 10)
    assert sorted({line["kind"] for line in lines}) == ["activation", "dead"]
    halls = rows(warehouse, "SELECT score FROM hall_assessment")
    assert halls == [{"score": pytest.approx(0.6 * 80 + 0.4 * 90)}]
    seller = rows(
        warehouse,
        "SELECT sum(amount_fen) AS fen FROM commission WHERE role = 'seller'",
    )
    assert seller == [{"fen": 500 * 30}]


def test_a_day_without_call_records_is_no_silence(warehouse: Warehouse, tmp_path: Path) -> None:
    city(tmp_path, "csv", covered=10)  # trials end on days 11 to 13
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    kinds = rows(warehouse, "SELECT DISTINCT kind FROM commission_lines")
    assert kinds == [{"kind": "activation"}]
    told = rows(warehouse, "SELECT reason FROM batch_rejects WHERE reason LIKE 'missing: call%'")
    assert [row["reason"].split(";")[0] for row in told] == [
        "missing: call records of days on which 10 silent SIMs are to be judged"
    ]


def test_a_dismissed_case_stays_dismissed_until_there_is_new_evidence(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv")
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    for number, decision in enumerate(("confirmed", "dismissed")):
        decide(warehouse, decision, START + number * DAY)
        run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
        assert rows(warehouse, "SELECT status FROM diversion_cases") == [{"status": decision}]
        kinds = rows(warehouse, "SELECT count() AS n FROM commission_lines WHERE kind = 'diverted'")
        assert kinds == [{"n": 20 if decision == "confirmed" else 0}]
    calls = (tmp_path / "cdr" / "calls.csv").read_text().splitlines()
    (tmp_path / "cdr" / "calls.csv").write_text(
        "\n".join(line for line in calls if f"{FIRST + 100}," not in line)
    )
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    assert rows(warehouse, "SELECT status FROM diversion_cases") == [{"status": "suspected"}]


def test_a_sim_is_taken_back_in_one_month_and_given_back_when_its_case_is_dismissed(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    def lines(period: str) -> dict[str, int]:
        run_job("channel", period=period, input=tmp_path, warehouse=warehouse)
        found = rows(
            warehouse,
            "SELECT kind, count() AS n FROM commission_lines"
            f" WHERE period = '{period}' GROUP BY kind",
        )
        return {row["kind"]: row["n"] for row in found}

    city(tmp_path, "csv")
    assert lines("2026-03") == {"activation": 40, "dead": 10}
    decide(warehouse, "confirmed", START + 65 * DAY)  # in May, long after they were sold
    for _ in range(2):
        assert lines("2026-04") == {}
        assert lines("2026-05") == {"diverted": 15}  # five of the twenty were dead already
    decide(warehouse, "confirmed", START + 95 * DAY)
    assert lines("2026-06") == {}
    assert lines("2026-03") == {"activation": 40, "dead": 10}
    decide(warehouse, "dismissed", START + 125 * DAY)
    for _ in range(2):
        assert lines("2026-05") == {"diverted": 15}  # a month that is over stays as it was
        assert lines("2026-07") == {"dismissed": 15}
    paid = "SELECT clawback_fen, amount_fen, explanation FROM commission WHERE period = '2026-07'"
    assert rows(warehouse, paid) == [
        {
            "clawback_fen": 7500,
            "amount_fen": 7500,
            "explanation": "lines: 0.00 × 1; 75.00 given back",
        }
    ]


def test_evidence_that_grows_takes_back_only_what_was_not_taken(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv")
    calls = tmp_path / "cdr" / "calls.csv"
    whole = calls.read_text()
    calls.write_text("".join(line for line in whole.splitlines(True) if "c1-1-" not in line))
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    decide(warehouse, "confirmed", START + 20 * DAY)
    calls.write_text(whole)  # the records of one more SIM come late
    for month in ("2026-03", "2026-04"):
        run_job("channel", period=month, input=tmp_path, warehouse=warehouse)
        # The case is suspected anew, and confirmed anew.
        decide(warehouse, "confirmed", START + 40 * DAY)
    found = rows(
        warehouse,
        "SELECT period, count() AS n, uniqExact(imsi) AS sims FROM commission_lines"
        " WHERE kind = 'diverted' GROUP BY period ORDER BY period",
    )
    assert found == [
        {"period": "2026-03", "n": 19, "sims": 19},
        {"period": "2026-04", "n": 1, "sims": 1},
    ]


def test_a_sim_is_under_the_plan_of_the_month_in_which_it_was_sold(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv", covered=45)
    march = PLAN.replace("dead_days = 10", "dead_days = 35")
    april = PLAN.replace("2026-01", "2026-04").replace("pays = 5", "pays = 8")
    (tmp_path / "channel" / "channel.toml").write_text(march + april)
    run_job("channel", period="2026-04", input=tmp_path, warehouse=warehouse)
    found = rows(warehouse, "SELECT DISTINCT kind, amount_fen, explanation FROM commission_lines")
    assert found == [
        {
            "kind": "dead",
            "amount_fen": -500,
            "explanation": "taken back: silent for 5 days by day 35; "
            "fee 58.00 yuan earns 5.00 yuan",
        }
    ]


def test_a_call_of_no_known_length_or_place_shows_that_its_sim_lives(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv")
    heard = [
        f"x{place}-{n},{datetime.fromtimestamp((START + (7 + n % 3) * DAY) / 1000, UTC)},"
        f"{FIRST + place * 100 + n},,".replace(" 00:", "T00:")
        for place in (0, 1)
        for n in range(0, 20, 4)
    ]
    wrong = f"y,2026-03-09T00:00:00Z,{FIRST},-60,n1"
    with (tmp_path / "cdr" / "calls.csv").open("a") as calls:
        calls.write("\n".join([*heard, wrong]) + "\n")
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    assert rows(warehouse, "SELECT DISTINCT kind FROM commission_lines") == [{"kind": "activation"}]
    assert [row["reason"] for row in rows(warehouse, "SELECT reason FROM batch_rejects")] == [
        "invalid_field: duration_s: Input should be greater than or equal to 0"
    ]


def test_marks_that_cannot_be_are_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    city(tmp_path, "csv")
    (tmp_path / "channel" / "hall_marks.csv").write_text(
        "period,outlet_id,target,inspection,satisfaction,complaints\n2026-03,good,0,90,90,90\n"
        "2026-03,bad,25,-1,90,90\n2026-03,nowhere,25,90,90,90\n2026-03,south,25,90,90,90\n"
    )
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    assert rows(warehouse, "SELECT outlet_id FROM hall_assessment") == [{"outlet_id": "south"}]
    assert rows(warehouse, "SELECT row, reason FROM batch_rejects ORDER BY row") == [
        {"row": 1, "reason": "invalid_field: target: '0' is not a whole number of 1 or more"},
        {"row": 2, "reason": "invalid_field: inspection: '-1' is not a number from 0 to 100"},
        {"row": 3, "reason": "unknown_outlet: nowhere"},
    ]


@pytest.mark.parametrize(
    ("file", "was", "now"),
    [("outlets", ",kiosk,N,", ",kiosk,,"), ("outlets", ",kiosk,N,", ",kiosk,CITY,"),
     ("cells", "s1,S", "s1,CITY")],
)  # fmt: skip
def test_where_a_territory_is_not_known_nobody_is_accused(
    warehouse: Warehouse, tmp_path: Path, file: str, was: str, now: str
) -> None:
    city(tmp_path, "csv")
    table = tmp_path / "reference" / f"{file}.csv"
    table.write_text(table.read_text().replace(was, now))
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    assert rows(warehouse, "SELECT * FROM diversion_cases") == []


def test_of_copies_that_differ_one_counts_whatever_their_order() -> None:
    calls = pl.DataFrame(
        {"imsi": [1, 1], "call": [7, 7], "seconds": [60, 30], "seconds_away": [0, 30],
         "calls": [1, 1], "late": [0, 0]}
    )  # fmt: skip
    for copies in (calls, calls.reverse()):
        [sums] = sums_of(JoinedRows("part", {"calls": copies}))
        assert sums.row(0) == (1, 30, 30, 1, 0)


def test_a_closed_shop_is_not_out_and_one_closed_before_the_month_is_not_ranked(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv")
    table = tmp_path / "reference" / "outlets.csv"
    closed = table.read_text().replace("good,g,kiosk,N,,", "good,g,kiosk,N,,2026-03-04")
    table.write_text(closed.replace("south,s,kiosk,S,,", "south,s,kiosk,S,,2026-03-01"))
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    found = rows(
        warehouse,
        "SELECT outlet_id, sales, sales_rank, on_hand, shelf_days, shelf_days_out, status"
        " FROM outlet_ranking ORDER BY outlet_id",
    )
    # The last ones sold on the fourth, when the books end.
    assert [tuple(row.values()) for row in found] == [
        ("bad", 20, 1, 0, 4, 1, "out"),
        ("good", 20, 1, 0, 3, 0, "unknown"),
    ]


_CLOCK = itertools.count(step=2)


@contextmanager
def a_card_comes(warehouse: Warehouse, at: int, outlet: str = "bad") -> Iterator[None]:
    """To an outlet then, and afterwards it never did."""

    def put(known_at: int, withdrawn: int) -> None:
        row = {
            "movement_id": "later", "at": at, "known_at": known_at, "outlet_id": outlet, "sku": "Y",
            "imsi": FIRST + 900, "iccid": str(FIRST + 900), "delta": 1, "cause": "delivery",
            "event_id": "later", "wholesaler_id": "B", "withdrawn": withdrawn,
        }  # fmt: skip
        schema = warehouse.query("SELECT * FROM stock_movements_rows LIMIT 0").schema
        warehouse.insert("stock_movements_rows", pa.Table.from_pylist([row]).cast(schema))

    known_at = at + next(_CLOCK)
    put(known_at, 0)
    yield
    put(known_at + 1, 1)


@pytest.mark.parametrize(
    ("day", "until", "before"),
    # What the data do not reach does not count, whether the run is of the month or as of a day.
    [(2, 2, 7), (3, 3, 14), (30, 30, 20), (None, 2, 7), (None, 3, 14), (30, 3, 14), (None, 30, 20)],
)
def test_growth_of_a_month_under_way_compares_as_many_days(
    warehouse: Warehouse, tmp_path: Path, day: int | None, until: int, before: int
) -> None:
    city(tmp_path, "csv")
    april = START + 31 * DAY
    how: dict[str, Any] = {"as_of": date(2026, 4, day)} if day else {"period": "2026-04"}
    with a_card_comes(warehouse, april + until * DAY - 3_600_000):
        run_job("channel", **how, input=tmp_path, warehouse=warehouse)
    found = "SELECT sales, sales_before, growth FROM outlet_ranking WHERE outlet_id = 'good'"
    assert rows(warehouse, found) == [{"sales": 0, "sales_before": before, "growth": -1.0}]


@pytest.mark.parametrize(("began", "before"), [(0, 0), (1, None), (24, None)])
def test_a_month_known_in_part_is_no_month_before(
    warehouse: Warehouse, tmp_path: Path, began: int, before: int | None
) -> None:
    """A feed that began in the last days of February would have March grow by hundreds of %."""
    city(tmp_path, "csv")
    february = START - 28 * DAY
    with a_card_comes(warehouse, february + began * DAY + 3_600_000, "good"):
        run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    found = "SELECT sales_before, growth FROM outlet_ranking WHERE outlet_id = 'good'"
    assert rows(warehouse, found) == [{"sales_before": before, "growth": None}]


def test_of_a_month_without_data_nothing_is_said(warehouse: Warehouse, tmp_path: Path) -> None:
    city(tmp_path, "csv")
    lines: list[str] = []
    run_job("channel", period="2026-04", input=tmp_path, warehouse=warehouse, progress=lines.append)
    found = "SELECT status, growth, promote, data_until FROM outlet_ranking"
    unknown = {"status": "unknown", "growth": None, "promote": 0, "data_until": None}
    assert rows(warehouse, found) == [unknown] * 3
    assert "warning: the input has nothing of 2026-04" in lines


@pytest.mark.parametrize("covered", [4, 20, 31])
def test_who_is_promoted_is_decided_when_the_month_is_known(
    warehouse: Warehouse, tmp_path: Path, covered: int
) -> None:
    city(tmp_path, "csv", covered=31)
    with a_card_comes(warehouse, START + covered * DAY - 3_600_000):
        run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    found = rows(warehouse, "SELECT promote, reasons, shelf_days_out FROM outlet_ranking")
    assert not any(row["promote"] for row in found if covered < 31)
    waits = [row for row in found if row["reasons"].startswith("not decided: known until 2026-03")]
    decided = [row for row in found if row["promote"]]
    # As far as four days go, the shops that sell most were hardly ever empty.
    assert bool(waits) == (covered == 4)
    assert not decided


@pytest.mark.parametrize("hours", [-8, -1, 0, 1, 8])
def test_a_trial_is_judged_when_it_is_over_by_the_records(
    warehouse: Warehouse, tmp_path: Path, hours: int
) -> None:
    """The trials of the silent end at midnight, after days 10 to 12."""
    city(tmp_path, "csv", covered=40)
    path = tmp_path / "cdr" / "calls.csv"
    calls = pl.read_csv(path, schema_overrides={"imsi": pl.String})
    end = START + 13 * DAY + hours * 3_600_000
    # A call a day in the month before, so that a day's one call is as much as there usually is.
    often = [START - day * DAY for day in range(1, 40)]
    others = [
        {"call_id": f"o{at}", "start_time": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
         "imsi": str(FIRST + 999), "duration_s": 60, "cell_id": "n1"}
        for at in (*often, end)
    ]  # fmt: skip
    times = pl.col("start_time").str.to_datetime(time_zone="UTC").dt.epoch("ms")
    pl.concat([calls.filter(times < end), pl.DataFrame(others)]).write_csv(path)
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    dead = rows(warehouse, "SELECT activated_at FROM commission_lines WHERE kind = 'dead'")
    ends = [row["activated_at"].timestamp() * 1000 + 10 * DAY for row in dead]
    assert ends
    assert all(trial_end <= end + 900_000 for trial_end in ends)
    assert (max(ends) == START + 13 * DAY) == (hours >= 0)


def test_rows_say_how_far_their_data_reach_and_those_of_a_day_stand_beside_the_months(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv")
    with a_card_comes(warehouse, START + 9 * DAY):
        run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
        run_job("channel", as_of=date(2026, 3, 7), input=tmp_path, warehouse=warehouse)
    for table in ("outlet_ranking", "wholesaler_scorecard", "commission_lines", "commission"):
        found = rows(
            warehouse,
            f"SELECT DISTINCT period, data_from, data_until, as_of, zone FROM {table}"
            " ORDER BY period",
        )
        start = datetime(2026, 3, 1, tzinfo=UTC)
        assert found == [
            {"period": "2026-03", "data_from": start, "data_until": start + timedelta(days=9),
             "as_of": date(2026, 3, 31), "zone": "UTC"},
            {"period": "2026-03-07", "data_from": start, "data_until": start + timedelta(days=7),
             "as_of": date(2026, 3, 7), "zone": "UTC"},
        ]  # fmt: skip


def test_a_run_that_fails_leaves_what_was_there(warehouse: Warehouse, tmp_path: Path) -> None:
    city(tmp_path, "csv")
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    before = rows(warehouse, "SELECT * FROM commission_lines ORDER BY imsi, kind")
    (tmp_path / "channel" / "channel.toml").write_text("[[plan]]\nfrom = 3\n")
    with pytest.raises(ZerostockError, match=r"channel\.toml, line 2"):
        run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    assert rows(warehouse, "SELECT * FROM commission_lines ORDER BY imsi, kind") == before


def test_names_that_rules_have_wrong_are_told(warehouse: Warehouse, tmp_path: Path) -> None:
    city(tmp_path, "csv")
    rules = '[diversion]\nignored_cells = ["nowhere"]\n[diversion.neighbours]\nlost = ["found"]\n'
    (tmp_path / "channel" / "channel.toml").write_text(PLAN + rules)
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    told = rows(
        warehouse,
        "SELECT reason FROM batch_rejects WHERE source = 'channel/channel.toml' ORDER BY reason",
    )
    assert [row["reason"] for row in told] == [
        "invalid_field: diversion.ignored_cells: 'nowhere' is no cell",
        "invalid_field: diversion.neighbours: 'found' is no part of the city just below its root",
        "invalid_field: diversion.neighbours: 'lost' is no part of the city just below its root",
    ]


class Dying:
    """A warehouse whose process dies when it has written half of what it writes to a table."""

    def __init__(self, real: Warehouse, table: str) -> None:
        self._real, self._table = real, table
        self.dead = False

    def insert(self, table: str, rows: pa.Table) -> None:
        self._live()
        self.dead = table == self._table
        self._real.insert(table, rows.slice(0, rows.num_rows // 2) if self.dead else rows)
        self._live()

    def execute(self, sql: str, parameters: Any = None) -> None:
        self._live()
        self._real.execute(sql, parameters)

    def query(self, sql: str, parameters: Any = None) -> pa.Table:
        self._live()
        return self._real.query(sql, parameters)

    def _live(self) -> None:
        if self.dead:
            raise KeyboardInterrupt


FIGURES = (
    "outlet_ranking", "wholesaler_scorecard", "diversion_cases", "diversion_evidence",
    "commission", "commission_lines", "hall_assessment",
)  # fmt: skip


@pytest.mark.parametrize("table", [*(f"{name}_rows" for name in FIGURES), "batch_publications"])
def test_a_death_while_writing_shows_the_old_figures(
    warehouse: Warehouse, tmp_path: Path, table: str
) -> None:
    def shown() -> dict[str, list[dict[str, Any]]]:
        return {name: rows(warehouse, f"SELECT * FROM {name} ORDER BY ALL") for name in FIGURES}

    city(tmp_path, "csv")
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    before = shown()
    assert all(before.values())
    (tmp_path / "channel" / "channel.toml").write_text(PLAN.replace("pays = 5", "pays = 7"))
    with pytest.raises(KeyboardInterrupt):
        run_job("channel", period="2026-03", input=tmp_path, warehouse=Dying(warehouse, table))  # type: ignore[arg-type]
    assert shown() == before
    run_lock.alive_here.clear()
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    after = shown()
    assert after["commission"] != before["commission"]
    assert {name: after[name] for name in FIGURES if "commission" not in name} == {
        name: before[name] for name in FIGURES if "commission" not in name
    }


def test_without_any_call_records_nobody_is_accused_and_nothing_taken_back(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    city(tmp_path, "csv")
    (tmp_path / "cdr" / "calls.csv").unlink()
    run_job("channel", period="2026-03", input=tmp_path, warehouse=warehouse)
    assert rows(warehouse, "SELECT * FROM diversion_cases") == []
    assert rows(warehouse, "SELECT DISTINCT kind FROM commission_lines") == [{"kind": "activation"}]
    assert len(rows(warehouse, "SELECT * FROM outlet_ranking")) == 3

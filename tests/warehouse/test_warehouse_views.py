"""The views against plain Python: each row once, the newest of each, days that add up.

Rows are written in any order, twice and in pieces, merged by ClickHouse or not.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS

Row = dict[str, Any]

DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01, a new year, so that months change in the tests

#: Cause → (column of outlet_daily, sign of its movements).
CAUSES = {
    "delivery": ("received", 1),
    "first_use": ("activated", -1),
    "return": ("returned", -1),
    "transfer_in": ("transferred_in", 1),
    "transfer_out": ("transferred_out", -1),
    "moved_out": ("transferred_out", -1),
    "write_off": ("written_off", -1),
}
COLUMNS = ("received", "activated", "returned", "transferred_in", "transferred_out", "written_off")

examples = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """An embedded warehouse with the real schema."""
    opened = open_warehouse(data=tmp_path_factory.mktemp("views"))
    migrate(opened)
    yield opened
    opened.close()


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _today() -> int:
    return time.time_ns() // 1_000_000 // DAY * DAY


def _write(warehouse: Warehouse, kind: str, batches: list[list[Row]], *, merged: bool) -> None:
    """Write the batches of rows into an emptied table, one insert each."""
    table, _ = to_rows(kind, pa.RecordBatch.from_pylist([], schema=SCHEMAS[kind]))
    warehouse.execute(f"TRUNCATE TABLE {table}")
    for batch in batches:
        target, rows = to_rows(kind, pa.RecordBatch.from_pylist(batch, schema=SCHEMAS[kind]))
        warehouse.insert(target, rows)
    if merged:
        warehouse.execute(f"OPTIMIZE TABLE {table} FINAL")


@st.composite
def movements(draw: st.DrawFn) -> list[Row]:
    """Movements of a few shelves over some months, in any order."""
    found: list[Row] = []
    for number in range(draw(st.integers(0, 25))):
        cause = draw(st.sampled_from(list(CAUSES)))
        at = START + draw(st.integers(-40 * DAY, 40 * DAY))
        found.append(
            {
                "movement_id": f"e-{number}/{number}/{cause}",
                "at": at,
                "known_at": at,
                "outlet_id": draw(st.sampled_from(["o-1", "o-2", "o-3"])),
                "sku": draw(st.sampled_from(["std", "micro"])),
                "imsi": number,
                "iccid": str(number),
                "delta": CAUSES[cause][1],
                "cause": cause,
                "event_id": f"e-{number}",
                "wholesaler_id": "w-1",
                "withdrawn": False,
            }
        )
    return found


@st.composite
def restated(draw: st.DrawFn) -> list[Row]:
    """The same with what late events did to some: known later, withdrawn, there again after all."""
    found: list[Row] = []
    for row in draw(movements()):
        known = row["at"] + draw(st.sampled_from([0, 0, 5, DAY // 2, 3 * DAY]))
        for withdrawn in [False, True, False][: draw(st.sampled_from([1, 1, 2, 3]))]:
            found.append(row | {"known_at": known, "withdrawn": withdrawn})
            known += draw(st.integers(1, 2 * DAY))
    return draw(st.permutations(found))


def _holding(rows: list[Row], *key: str) -> list[Row]:
    """Of the rows of one key the one known last, if it was not withdrawn."""
    newest: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda row: row["known_at"]):
        newest[tuple(row[name] for name in key)] = row
    return [row for row in newest.values() if not row["withdrawn"]]


@st.composite
def in_pieces(draw: st.DrawFn, rows: list[Row]) -> list[list[Row]]:
    """The rows in batches, some of them sent more than once."""
    batches: list[list[Row]] = []
    left = rows
    while left:
        size = draw(st.integers(1, len(left)))
        batches.append(left[:size])
        left = left[size:]
    again = draw(st.lists(st.sampled_from(batches), max_size=3)) if batches else []
    return batches + again


def _daily(rows: list[Row], zone: str = "UTC") -> dict[tuple[date, str, str], Row]:
    """outlet_daily as one would do it by hand."""

    def day_of(ms: int) -> date:
        return _moment(ms).astimezone(ZoneInfo(zone)).date()

    shelves: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        shelves[row["outlet_id"], row["sku"]].append(row)
    last = max((day_of(row["at"]) for row in rows), default=date.min)
    found: dict[tuple[date, str, str], Row] = {}
    for (outlet, sku), all_rows in shelves.items():
        moves = _holding(all_rows, "movement_id")
        if not moves:
            continue
        day, stock = min(day_of(move["at"]) for move in moves), 0
        while day <= last:
            line = dict.fromkeys(COLUMNS, 0) | {"opening": stock}
            for move in moves:
                if day_of(move["at"]) == day:
                    line[CAUSES[move["cause"]][0]] += 1
                    stock += move["delta"]
            found[day, outlet, sku] = line | {"closing": stock, "restated_at": None}
            since = [row["known_at"] for row in all_rows if day_of(row["at"]) <= day
                     and day_of(row["known_at"]) > day]  # fmt: skip
            if since:
                found[day, outlet, sku]["restated_at"] = _moment(max(since))
            day += timedelta(days=1)
    return found


@examples
@given(
    data=st.data(),
    rows=restated(),
    merged=st.booleans(),
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "America/St_Johns", "Australia/Lord_Howe"]),
)
def test_daily_lines_have_no_gaps_and_add_up(
    warehouse: Warehouse, data: st.DataObject, rows: list[Row], merged: bool, zone: str
) -> None:
    migrate(warehouse, zone=zone)
    _write(warehouse, "movements", data.draw(in_pieces(rows)), merged=merged)
    found = warehouse.query("SELECT * FROM outlet_daily").to_pylist()
    by_key = {(r.pop("day"), r.pop("outlet_id"), r.pop("sku")): r for r in found}
    assert len(by_key) == len(found)
    assert by_key == _daily(rows, zone)
    for line in found:
        came = line["received"] + line["transferred_in"]
        left = sum(line[c] for c in ("activated", "returned", "transferred_out", "written_off"))
        assert line["opening"] + came - left == line["closing"]
    some = warehouse.query(
        "SELECT * FROM outlet_daily WHERE outlet_id = {o:String} ORDER BY sku, day", {"o": "o-2"}
    )
    assert some.num_rows == sum(1 for _, outlet, _ in by_key if outlet == "o-2")


@examples
@given(rows=movements().filter(bool), years=st.integers(2, 270), shelf=st.sampled_from("aeo"))
def test_a_clock_that_is_years_ahead_makes_no_days(
    warehouse: Warehouse, rows: list[Row], years: int, shelf: str
) -> None:
    """Its movement, on a shelf of its own or of others, is one of the movements, and no more."""
    migrate(warehouse, zone="UTC")
    at = _today() + years * 366 * DAY
    stray = rows[0] | {"movement_id": "stray", "at": at, "known_at": at}
    stray["outlet_id"] = f"{shelf}-1"
    _write(warehouse, "movements", [[*rows, stray]], merged=False)
    found = warehouse.query("SELECT * FROM outlet_daily").to_pylist()
    assert {(r.pop("day"), r.pop("outlet_id"), r.pop("sku")): r for r in found} == _daily(rows)
    assert len(warehouse.query("SELECT 1 FROM stock_movements")) == len(rows) + 1


@examples
@given(rows=movements(), years=st.integers(2, 100))
def test_a_city_made_in_the_future_has_its_days(
    warehouse: Warehouse, rows: list[Row], years: int
) -> None:
    migrate(warehouse, zone="UTC")
    ahead = _today() - START + years * 366 * DAY
    later = [row | {"at": row["at"] + ahead, "known_at": row["at"] + ahead} for row in rows]
    _write(warehouse, "movements", [later] if later else [], merged=False)
    found = warehouse.query("SELECT * FROM outlet_daily").to_pylist()
    assert {(r.pop("day"), r.pop("outlet_id"), r.pop("sku")): r for r in found} == _daily(later)


@examples
@given(data=st.data(), rows=restated(), merged=st.booleans())
def test_each_movement_shows_once(
    warehouse: Warehouse, data: st.DataObject, rows: list[Row], merged: bool
) -> None:
    _write(warehouse, "movements", data.draw(in_pieces(rows)), merged=merged)
    found = warehouse.query("SELECT * FROM stock_movements").to_pylist()
    wanted = {}
    for row in _holding(rows, "movement_id"):
        known = _moment(row["known_at"])
        late = known if row["known_at"] > row["at"] else None
        shown = row | {"at": _moment(row["at"]), "known_at": known, "restated_at": late}
        del shown["withdrawn"]
        wanted[row["movement_id"]] = shown
    assert len(found) == len(wanted)
    assert {row["movement_id"]: row for row in found} == wanted


@examples
@given(
    data=st.data(),
    merged=st.booleans(),
    levels=st.lists(
        st.tuples(st.sampled_from(["o-1", "o-2"]), st.sampled_from(["std", "micro"]),
                  st.integers(0, 9), st.integers(0, 5)),
        max_size=20,
    ),
)  # fmt: skip
def test_on_hand_is_the_newest_level(
    warehouse: Warehouse,
    data: st.DataObject,
    merged: bool,
    levels: list[tuple[str, str, int, int]],
) -> None:
    rows = [
        {
            "outlet_id": o,
            "sku": s,
            "on_hand": n,
            "wholesaler_id": "w",
            "as_of": START + t,
            "withdrawn": n == 9,
        }
        for o, s, n, t in levels
    ]
    newest: dict[tuple[str, str], Row] = {}
    for row in rows:  # of levels of one time the one told last
        key = row["outlet_id"], row["sku"]
        if key not in newest or row["as_of"] >= newest[key]["as_of"]:
            newest[key] = row
    batches: list[list[Row]] = []
    left = rows
    while left:
        size = data.draw(st.integers(1, len(left)))
        batches.append(left[:size])
        left = left[size:]
    _write(warehouse, "levels", batches, merged=merged)
    found = warehouse.query("SELECT * FROM stock_on_hand").to_pylist()
    newest = {key: row for key, row in newest.items() if not row["withdrawn"]}
    assert {(r["outlet_id"], r["sku"]): (r["on_hand"], r["as_of"]) for r in found} == {
        key: (row["on_hand"], _moment(row["as_of"])) for key, row in newest.items()
    }
    assert len(found) == len(newest)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Openings, closings, restatements in any order, and messages about some of them."""
    incidents: list[Row] = []
    for number in range(draw(st.integers(0, 8))):
        outlet = draw(st.sampled_from(["o-1", "o-2"]))
        opened = START + draw(st.integers(0, 9))
        opening = {
            "incident_id": f"{outlet}/std/e-{number}",
            "outlet_id": outlet,
            "sku": "std",
            "wholesaler_id": "w-1",
            "opened_at": opened,
            "closed_at": None,
            "at": opened,
            "restated_at": None,
            "withdrawn": False,
        }
        incidents.append(opening)
        known = opened
        if draw(st.booleans()):
            closed = known = opened + draw(st.integers(0, 9))
            incidents.append(opening | {"closed_at": closed, "at": closed})
        for withdrawn in draw(st.lists(st.booleans(), max_size=2)):
            known += draw(st.integers(1, 9))
            closed_at = draw(st.sampled_from([None, opened + 1]))
            incidents.append(opening | {"opened_at": opened - 1, "closed_at": closed_at,
                                        "at": known, "restated_at": known,
                                        "withdrawn": withdrawn})  # fmt: skip
    ids = [row["incident_id"] for row in incidents] or ["o-9/std/e-9"]
    statuses = st.sampled_from(["sent", "delivered", "refused", "failed", "stale", "undeliverable"])
    messages: list[Row] = []
    for number in range(draw(st.integers(0, 6))):
        about = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True))
        created = START + draw(st.integers(0, 30))
        messages += [
            {
                "message_id": f"m-{number}",
                "wholesaler_id": "w-1",
                "incident_ids": about,
                "body": "out",
                "segments": 1,
                "created_at": created,
                "status": draw(statuses),
                "attempts": version,
                "provider_id": "",
                "error": "",
                "version": version,
            }
            for version in range(1, draw(st.integers(1, 3)) + 1)
        ]
    return draw(st.permutations(incidents)), draw(st.permutations(messages))


@examples
@given(data=st.data(), story=stories(), merged=st.booleans())
def test_incidents_close_and_say_when_somebody_was_told(
    warehouse: Warehouse, data: st.DataObject, story: tuple[list[Row], list[Row]], merged: bool
) -> None:
    incidents, messages = story
    _write(warehouse, "incidents", data.draw(in_pieces(incidents)), merged=merged)
    _write(warehouse, "messages", data.draw(in_pieces(messages)), merged=merged)

    last: dict[str, Row] = {}
    for message in messages:
        known = last.get(message["message_id"])
        if known is None or message["version"] > known["version"]:
            last[message["message_id"]] = message
    told: dict[str, int] = {}
    for message in last.values():
        if message["status"] in ("sent", "delivered"):
            for about in message["incident_ids"]:
                told[about] = min(told.get(about, 2**62), message["created_at"])
    wanted: dict[str, Row] = {}
    for row in sorted(incidents, key=lambda row: (row["at"], row["closed_at"] is not None)):
        wanted[row["incident_id"]] = row
    wanted = {name: row for name, row in wanted.items() if not row["withdrawn"]}

    found = warehouse.query("SELECT * FROM stock_incidents").to_pylist()
    assert len(found) == len(wanted)
    for row in found:
        one = wanted[row["incident_id"]]
        notified = told.get(row["incident_id"])
        assert row == {
            "incident_id": one["incident_id"],
            "outlet_id": one["outlet_id"],
            "sku": "std",
            "wholesaler_id": "w-1",
            "opened_at": _moment(one["opened_at"]),
            "closed_at": None if one["closed_at"] is None else _moment(one["closed_at"]),
            "restated_at": None if one["restated_at"] is None else _moment(one["restated_at"]),
            "notified_at": None if notified is None else _moment(notified),
        }
    shown = warehouse.query("SELECT message_id, status, attempts FROM sms_messages").to_pylist()
    assert len(shown) == len(last)
    assert {row["message_id"]: row["status"] for row in shown} == {
        name: row["status"] for name, row in last.items()
    }


def test_one_bad_line_is_one_dead_letter_however_often_it_is_read(warehouse: Warehouse) -> None:
    letter = {
        "source": "events/a.ndjson",
        "position": 7,
        "received_at": START,
        "reason": "malformed",
        "payload": b"{\xff",
    }
    other = letter | {"position": 8}
    _write(
        warehouse,
        "dead_letters",
        [[letter, other], [letter | {"received_at": START + DAY}], [letter]],
        merged=False,
    )
    found = warehouse.query("SELECT source, position, payload FROM dead_letters ORDER BY position")
    assert [(r["position"], r["payload"]) for r in found.to_pylist()] == [
        (7, b"{\xff"),
        (8, b"{\xff"),
    ]


def test_a_dead_letter_is_its_place_and_its_bytes(warehouse: Warehouse) -> None:
    """Another line at the same place of a file begun anew is another; a half one is taken back."""
    told = [
        ("malformed", b"a"),
        ("malformed", b"b"),
        ("malformed", b"a"),
        ("malformed", b"c,2026-"),
    ]
    told += [("", b"c,2026-"), ("invalid_field: imsi", b"c,2026-03-02,4")]
    rows = [
        {"source": "f.csv", "position": 2, "received_at": START + n, "reason": why, "payload": line}
        for n, (why, line) in enumerate(told)
    ]
    _write(warehouse, "dead_letters", [[row] for row in rows[:-2]] + [rows[-2:]], merged=False)
    found = warehouse.query(
        "SELECT payload FROM dead_letters WHERE source = 'f.csv' ORDER BY payload"
    )
    assert [r["payload"] for r in found.to_pylist()] == ["a", "b", "c,2026-03-02,4"]


def test_a_list_of_what_is_not_read_replaces_the_one_before_of_its_reader(
    warehouse: Warehouse,
) -> None:
    def listed(reader: str, at: int, *names: str) -> list[dict[str, object]]:
        return [
            {"reader": reader, "at": START + at, "n": n, "input": name, "reason": "x"}
            for n, name in enumerate(["", *names])
        ]

    lists = []
    for reader, at, names, shown in (
        ("a", 1, ["f", "g", "h"], ["f", "g", "h"]),
        ("b", 2, ["k"], ["f", "g", "h", "k"]),
        ("a", 3, ["g"], ["g", "k"]),
        ("a", 3, ["g"], ["g", "k"]),  # written once more
        ("b", 4, [], ["g"]),
    ):
        lists.append(listed(reader, at, *names))
        _write(warehouse, "unread_inputs", lists, merged=False)
        found = warehouse.query("SELECT input FROM unread_inputs ORDER BY input")
        assert found["input"].to_pylist() == shown


def test_one_anomaly_a_sim_event_and_kind(warehouse: Warehouse) -> None:
    row = {
        "event_id": "e-1", "iccid": "89", "kind": "late", "at": START, "detail": "",
        "known_at": START, "withdrawn": False,
    }  # fmt: skip
    rows = [
        row,
        row | {"kind": "delivered_twice"},
        row | {"iccid": "90"},
        row | {"event_id": "e-2"},
    ]
    _write(warehouse, "anomalies", [rows, rows, [row]], merged=False)
    assert warehouse.query("SELECT * FROM anomalies").num_rows == 4


@pytest.mark.parametrize("merged", [False, True])
def test_an_anomaly_that_late_events_explain_does_not_show(
    warehouse: Warehouse, merged: bool
) -> None:
    row = {
        "event_id": "e-1", "iccid": "89", "kind": "active_before_delivery", "at": START,
        "detail": "", "known_at": START, "withdrawn": False,
    }  # fmt: skip
    gone = row | {"known_at": START + 5, "withdrawn": True}
    other = row | {"iccid": "90"}
    back = gone | {"iccid": "90", "known_at": START + 9, "withdrawn": False}
    away = gone | {"iccid": "90"}
    _write(warehouse, "anomalies", [[gone, back], [row, other], [away]], merged=merged)
    assert warehouse.query("SELECT iccid FROM anomalies")["iccid"].to_pylist() == ["90"]


def test_the_columns_that_readers_were_promised(warehouse: Warehouse) -> None:
    promised = {
        "stock_on_hand": "outlet_id sku on_hand wholesaler_id as_of",
        "stock_movements": (
            "movement_id at outlet_id sku iccid delta cause event_id wholesaler_id known_at"
        ),
        "stock_incidents": (
            "incident_id outlet_id sku wholesaler_id opened_at closed_at notified_at"
        ),
        "sms_messages": (
            "message_id wholesaler_id incident_ids created_at status attempts provider_id error"
        ),
        "anomalies": "event_id iccid kind at detail",
        "dead_letters": "source position received_at reason payload",
        "outlet_daily": (
            "day outlet_id sku opening received activated returned transferred_in transferred_out"
            " written_off closing"
        ),
    }
    for table, columns in promised.items():
        found = warehouse.query(f"DESCRIBE TABLE {table}").to_pylist()
        types = {row["name"]: row["type"] for row in found}
        assert types.keys() >= set(columns.split()), table
    types = {
        row["name"]: row["type"]
        for row in warehouse.query("DESCRIBE TABLE stock_incidents").to_pylist()
    }
    assert types["opened_at"] == "DateTime64(3, 'UTC')"
    assert types["closed_at"] == types["notified_at"] == "Nullable(DateTime64(3, 'UTC'))"


def test_a_year_of_a_shelf_reads_only_that_shelf(warehouse: Warehouse) -> None:
    """A filter on the outlet reaches the key of the rows through all of outlet_daily."""
    rows = 200_000
    at = pa.array([START + i * 1000 for i in range(rows)], pa.timestamp("ms", tz="UTC"))
    warehouse.execute("TRUNCATE TABLE stock_movements_rows")
    warehouse.insert(
        "stock_movements_rows",
        pa.table(
            {
                "movement_id": [str(i) for i in range(rows)],
                "outlet_id": [f"o-{i % 5000:04}" for i in range(rows)],
                "sku": ["std"] * rows,
                "at": at,
                "delta": pa.array([1] * rows, pa.int8()),
                "cause": ["delivery"] * rows,
            }
        ),
    )
    plan = warehouse.query_bytes(
        "EXPLAIN indexes = 1 SELECT * FROM outlet_daily WHERE outlet_id = 'o-0042'", "TSVRaw"
    ).decode()
    lines = [line.split(": ")[1] for line in plan.splitlines() if "Granules: " in line]
    read = [int(line.split("/")[0]) for line in lines if "/" in line]
    assert read
    assert min(read) <= 3
    assert plan.count("outlet_id in ['o-0042', 'o-0042']") >= 2

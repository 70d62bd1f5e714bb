"""The evening's lists on a real warehouse: told once, replaced if made again, nobody forgotten."""

from __future__ import annotations

import json
import math
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from alerts.message.fill_levels import FillLevelsFile, write_fill_levels
from infra.operations.batch import _run_timed
from infra.operations.soon_empty import run_soon_empty
from infra.settings import Settings
from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.reference import REFERENCE, replace_reference
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS
from schemas.errors import InputError, SendError

START = 1_767_225_600_000  # 2026-01-01
DAY = 86_400_000


def movement(outlet: str, day: int, number: int, delta: int, cause: str) -> dict[str, Any]:
    return {
        "movement_id": f"{outlet}/{day}/{number}/{cause}",
        "at": START + day * DAY + number,
        "known_at": START + day * DAY + number,
        "outlet_id": outlet,
        "sku": "CARD-20",
        "imsi": 1,
        "iccid": "89",
        "delta": delta,
        "cause": cause,
        "event_id": f"{outlet}/{day}/{number}",
        "wholesaler_id": "w1",
    }


def shelf(outlet: str, sold: list[int], left: int) -> list[dict[str, Any]]:
    """All delivered on the first day, some sold on each day, some left on the last evening."""
    rows = [movement(outlet, 0, n, 1, "delivery") for n in range(sum(sold) + left)]
    for day, count in enumerate(sold):
        rows += [movement(outlet, day, 1_000 + n, -1, "first_use") for n in range(count)]
    return rows


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    warehouse = open_warehouse(data=tmp_path / "data")
    migrate(warehouse)
    rows = (
        shelf("low", [4] * 10, 2)
        + shelf("full", [4] * 10, 90)
        + shelf("silent", [4] * 7 + [0] * 3, 50)
        + shelf("nobodys", [4] * 10, 2)
    )
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMAS["movements"])
    warehouse.insert(*to_rows("movements", batch))
    tables: dict[str, list[dict[str, Any]]] = {
        "outlets": [
            {"outlet_id": o, "name": f"Shop {o}", "kind": "kiosk", "territory_id": "t1"}
            for o in ("low", "full", "silent", "nobodys")
        ],
        "territories": [{"territory_id": "t1", "name": "East"}],
        "wholesalers": [
            {
                "wholesaler_id": "w1",
                "name": "Li",
                "phone": "+8613800138000",
                "backup_phone": "+8613800138001",
                "language": "en",
            }
        ],
        "assignments": [
            {"outlet_id": o, "wholesaler_id": "w1", "valid_from": START}
            for o in ("low", "full", "silent")
        ],
    }
    for name, some in tables.items():
        filled = [{f.name: row.get(f.name, "" if f.type == pa.string() else None)
                   for f in REFERENCE[name]} for row in some]  # fmt: skip
        replace_reference(warehouse, name, pa.Table.from_pylist(filled, schema=REFERENCE[name]))
    warehouse.close()
    return Settings(data=tmp_path / "data", sms=f"file:{tmp_path / 'sms.ndjson'}", clock="event")


#: 4 cards a day for 14 days and a day of delivery, and a margin for one chance in twenty.
LOW = math.ceil(4 * 15 + 1.645 * math.sqrt(15 * 4))


def ask(settings: Settings, sql: str) -> list[dict[str, Any]]:
    warehouse = open_warehouse(data=settings.data)
    try:
        found: list[dict[str, Any]] = warehouse.query(sql).to_pylist()
        return found
    finally:
        warehouse.close()


def sent(settings: Settings) -> list[dict[str, Any]]:
    file = Path(settings.sms.removeprefix("file:"))
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_told_once_however_often_it_is_made(settings: Settings) -> None:
    for _ in range(3):
        said = run_soon_empty(settings, None, 0.3, dry_run=False).lines
        assert said[0] == (
            "2026-01-10: 2 shelves of 4 will soon be empty, the stock of 1 is doubted"
        )
        assert said[1] == "1 of 2 messages went out"
        assert said[2] == "nobody: nobody holds these shops, or no number of theirs is known"
        assert said[3].startswith("doubted stock was told to nobody")
    (message,) = sent(settings)
    assert message["to"] == "+8613800138000"
    assert message["body"] == f"Soon out of CARD-20 cards (to bring): East: Shop low ({LOW - 2})."
    listed = "SELECT outlet_id, on_hand, risk, bring FROM soon_empty ORDER BY outlet_id"
    found = ask(settings, listed)
    assert [(r["outlet_id"], r["on_hand"]) for r in found] == [("low", 2), ("nobodys", 2)]
    assert [r["bring"] for r in found] == [LOW - 2] * 2  # as the message says
    assert all(row["risk"] > 0.9 for row in found)
    assert [r["outlet_id"] for r in ask(settings, "SELECT outlet_id FROM phantom_stock")] == [
        "silent"
    ]
    statuses = ask(settings, "SELECT wholesaler_id, status FROM sms_messages ORDER BY status")
    assert [(r["wholesaler_id"], r["status"]) for r in statuses] == [
        ("w1", "sent"), ("", "undeliverable")
    ]  # fmt: skip


def test_a_number_that_takes_no_messages_has_a_second(settings: Settings) -> None:
    assert settings.data is not None
    (settings.data / "sms").mkdir()
    numbers = RefusedNumbers(settings.data / "sms" / "refused-numbers.log")
    numbers.remember(RefusedNumber("+8613800138000", "30005", "switched off for good", START))
    numbers.close()
    run_soon_empty(settings, None, 0.3, dry_run=False)
    assert [message["to"] for message in sent(settings)] == ["+8613800138001"]


def test_a_list_made_again_replaces_the_one_before(settings: Settings) -> None:
    run_soon_empty(settings, None, 0.3, dry_run=False)
    run_soon_empty(settings, None, 98.0, dry_run=False)
    runs = ask(settings, "SELECT worth, announced FROM soon_empty_runs ORDER BY run_at")
    assert [row["worth"] for row in runs] == [0.3, 98.0]
    (count,) = ask(settings, "SELECT count() AS c FROM soon_empty")
    assert count["c"] == runs[-1]["announced"]


def test_messages_of_the_next_day_know_how_many_cards_to_bring(settings: Settings) -> None:
    assert settings.data is not None
    levels = FillLevelsFile(settings.data / "sms")
    assert levels("low", "CARD-20") is None
    run_soon_empty(settings, None, 0.3, dry_run=False)
    assert levels("low", "CARD-20") == LOW
    assert (levels("silent", "CARD-20") or 0) < LOW
    assert levels("low", "CARD-50") is None
    write_fill_levels(settings.data / "sms", [("low", "CARD-20", 7)])
    assert levels("low", "CARD-20") == 7


def test_who_wants_it_earlier_is_told_earlier_and_once(settings: Settings) -> None:
    said = run_soon_empty(settings, None, 0.3, only=["w9"], dry_run=False).lines
    assert said[1:] == ["0 of 0 messages went out"]
    said = run_soon_empty(settings, None, 0.3, only=["w1"], dry_run=False).lines
    assert said[1:] == ["1 of 1 message went out"]
    run_soon_empty(settings, None, 0.3, dry_run=False)
    assert len(sent(settings)) == 1


def test_who_was_not_reached_is_said(settings: Settings) -> None:
    assert run_soon_empty(settings, None, 0.3, dry_run=False).unreached == ["nobody", "fallback"]
    assert run_soon_empty(settings, None, 0.3, only=["w1"], dry_run=False).unreached == []


def test_a_dry_run_tells_and_keeps_nothing(settings: Settings) -> None:
    said = run_soon_empty(settings, date(2026, 1, 10), 0.3, dry_run=True).lines
    assert f"w1: Soon out of CARD-20 cards (to bring): East: Shop low ({LOW - 2})." in said
    assert sent(settings) == []
    assert ask(settings, "SELECT * FROM soon_empty_runs") == []


def test_a_day_nobody_knows_is_refused(settings: Settings) -> None:
    with pytest.raises(InputError, match="knows of no day up to 2025-01-10"):
        run_soon_empty(settings, date(2025, 1, 10), 0.3, dry_run=False)


@pytest.mark.parametrize(("zone", "day"), [("Asia/Shanghai", 10), ("America/New_York", 9)])
def test_the_evening_is_the_local_one(settings: Settings, zone: str, day: int) -> None:
    """What moves in the first second of a day in London is of the evening before in New York."""
    local = settings.model_copy(update={"time_zone": zone})
    said = run_soon_empty(local, None, 0.3, dry_run=True).lines
    assert said[0].startswith(f"2026-01-{day:02}: 2 shelves of 4 will soon be empty")
    with pytest.raises(InputError):
        run_soon_empty(local, date(2026, 1, day) - timedelta(days=10), 0.3, dry_run=True)


def test_a_round_has_as_many_stops_as_the_policy_says(settings: Settings, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("round_stops = 1\nwholesalers = { w2 = { round_stops = 2 } }")
    local = settings.model_copy(update={"policy": policy})
    said = run_soon_empty(local, None, 0.0, dry_run=True).lines
    assert said[0].startswith("2026-01-10: 2 shelves of 4 will soon be empty")  # w1's, nobody's


def test_the_schedule_tells_of_an_evening_as_the_command_does(settings: Settings) -> None:
    said: list[str] = []
    warehouse = open_warehouse(data=settings.data)
    how = {"warehouse": warehouse, "as_of": None, "period": None, "progress": said.append}
    with closing(warehouse), pytest.raises(SendError, match="not reached: nobody"):
        _run_timed(settings, "soon-empty", **how)
    assert "1 of 2 messages went out" in said
    again = run_soon_empty(settings, None, 1.0, dry_run=False)
    assert "1 of 2 messages went out" in again.lines

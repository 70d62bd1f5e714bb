"""Who takes over gets what is open and unsent, and one hand-over message; answers still fit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from alert_harness import (
    PHONE,
    FakeClock,
    FakeDirectory,
    ScriptedSender,
    dispatched,
    group,
    incident,
    wholesaler,
)

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.receipts import FileReceipts
from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from infra.operations.hand_over import (
    add_hand_over,
    list_hand_overs,
    notify_successors,
    undo_hand_over,
)
from infra.settings import Settings
from infra.wiring import reference_of
from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS
from schemas.errors import SendError, UsageError

SUCCESSOR = "+8613900139000"
LEFT = "2026-03-01T08:00:00+08:00"
LEFT_MS = 1_772_323_200_000


def test_what_falls_due_after_he_left_goes_to_who_took_over(tmp_path: Path) -> None:
    sender = ScriptedSender()
    delivery = MessageDelivery(sender, FileReceipts(tmp_path / "receipts"), clock=FakeClock())
    directory = FakeDirectory({"w": wholesaler(), "v": wholesaler(phone=SUCCESSOR)})
    directory.successors = {("w", "o-b"): "v", ("w", "o-c"): "v"}
    dispatcher = Dispatcher(delivery, directory, timezone=ZoneInfo("Asia/Shanghai"))
    both = group(incident("a"), incident("b"), incident("c"))
    told = asyncio.run(dispatched(dispatcher, [both]))
    assert [(m.to, [i.outlet_id for i in m.incidents]) for m in sender.accepted] == [
        (PHONE, ["o-a"]),
        (SUCCESSOR, ["o-b", "o-c"]),
    ]
    # History: the stock-outs stay his, and an answer to either message finds them there.
    assert [record.wholesaler_id for record in told.records] == ["w", "w"]
    assert told.records[0].message_id == both.message_id
    again = asyncio.run(dispatched(dispatcher, [both]))
    assert len(sender.accepted) == 2
    assert [r.message_id for r in again.records] == [r.message_id for r in told.records]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "reference"
    folder.mkdir()
    for name, text in {
        "territories": "territory_id,name,parent_id\nt1,East,\nt2,West,\n",
        "cells": "cell_id,territory_id\nc1,t1\n",
        "wholesalers": "wholesaler_id,name,phone,backup_phone,language\n"
        f"w1,Li,{PHONE},,en\nw2,Wang,{SUCCESSOR},,en\n",
        "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\n"
        "o1,Shop 1,kiosk,t1,,\no2,Shop 2,kiosk,t1,,\no3,Shop 3,kiosk,t2,,\n",
        "assignments": "outlet_id,wholesaler_id,valid_from\n"
        + "".join(f"o{n},w1,2026-01-01T00:00:00Z\n" for n in (1, 2, 3)),
        "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
        "b1,std,8986000000000000001,460000000000001,100\n",
    }.items():
        (folder / f"{name}.csv").write_text(text)
    warehouse = open_warehouse(data=tmp_path / "data")
    migrate(warehouse)
    rows: list[dict[str, Any]] = [
        {
            "incident_id": f"i-{outlet}",
            "outlet_id": outlet,
            "sku": "std",
            "wholesaler_id": "w1",
            "opened_at": LEFT_MS - 3_600_000,
            "closed_at": None,
            "at": LEFT_MS - 3_600_000,
        }
        for outlet in ("o1", "o3")
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMAS["incidents"])
    warehouse.insert(*to_rows("incidents", batch))
    warehouse.close()
    return Settings(
        reference=folder,
        data=tmp_path / "data",
        sms=f"file:{tmp_path / 'sms.ndjson'}",
        clock="event",
    )


def messages(settings: Settings) -> list[dict[str, Any]]:
    file = Path(settings.sms.removeprefix("file:"))
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def notify(settings: Settings, at: str) -> list[str]:
    return list(notify_successors(settings, at))


def test_an_entry_is_written_once_and_undone_but_never_taken_away(settings: Settings) -> None:
    said = add_hand_over(settings, "w1", "w2", "t1", LEFT)
    name = said.partition(":")[0]
    assert "2 outlets of w1 go to w2 from 2026-03-01T00:00:00" in said
    assert "is there already" in add_hand_over(settings, "w1", "w2", "t1", LEFT)
    tables = reference_of(settings)
    assert [tables.holder(o, LEFT_MS) for o in ("o1", "o2", "o3")] == ["w2", "w2", "w1"]
    assert tables.holder("o1", LEFT_MS - 1) == "w1"
    assert "undone from 2026-03-02" in undo_hand_over(settings, name, "2026-03-02T00:00:00Z")
    assert "was undone at 2026-03-02" in undo_hand_over(settings, name, None)
    tables = reference_of(settings)
    assert tables.holder("o1", LEFT_MS) == "w2"
    assert tables.holder("o1", LEFT_MS + 86_400_000) == "w1"
    assert list_hand_overs(settings).startswith(f"{name}  w1 -> w2 in t1 from 2026-03-01")


def test_a_hand_over_that_moves_no_outlet_sends_nobody_a_message(settings: Settings) -> None:
    name = add_hand_over(settings, "w2", "w1", None, LEFT).partition(":")[0]
    (line,) = notify(settings, "2026-03-02T12:00:00Z")
    assert line == f"{name} to w1: moves no outlet, nothing to tell"
    assert messages(settings) == []


def test_one_hand_over_message_with_what_is_empty(settings: Settings) -> None:
    name = add_hand_over(settings, "w1", "w2", "t1", LEFT).partition(":")[0]
    assert notify(settings, "2026-02-28T00:00:00Z") == ["no hand-over is in force now"]
    assert notify(settings, "2026-03-01T12:00:00Z") == [f"{name} to w2: sent"]
    assert notify(settings, "2026-03-01T12:00:00Z") == [f"{name} to w2: notified before"]
    (message,) = messages(settings)
    assert (message["to"], message["incidents"]) == (SUCCESSOR, [])
    assert message["body"] == (
        "From now on you serve 2 shops of Li."
        " Out of std cards since 07:00. East: Shop 1. Please refill."
    )
    warehouse = open_warehouse(data=settings.data)
    try:
        told = warehouse.query("SELECT notified_at FROM stock_incidents")["notified_at"]
    finally:
        warehouse.close()
    assert told.to_pylist() == [None, None]


def test_the_second_number_is_tried_and_who_is_not_reached_is_an_error(
    settings: Settings,
) -> None:
    assert settings.reference is not None
    assert settings.data is not None
    add_hand_over(settings, "w1", "w2", "t1", LEFT)
    (settings.data / "sms").mkdir()
    numbers = RefusedNumbers(settings.data / "sms" / "refused-numbers.log")
    numbers.remember(RefusedNumber(SUCCESSOR, "30005", "switched off for good", LEFT_MS))
    lines = notify_successors(settings, "2026-03-02T12:00:00Z")
    assert "takes no messages: switched off for good" in next(lines)
    with pytest.raises(SendError, match="not reached: w2"):
        next(lines)
    file = settings.reference / "wholesalers.csv"
    file.write_text(file.read_text().replace(f"{SUCCESSOR},,", f"{SUCCESSOR},+8613700137000,"))
    (line,) = notify(settings, "2026-03-02T12:00:00Z")
    assert ": sent" in line
    assert [message["to"] for message in messages(settings)] == ["+8613700137000"]


@pytest.mark.parametrize(
    ("leaving", "to", "territory", "said"),
    [
        ("w9", "w2", None, "no wholesaler 'w9'"),
        ("w1", "w9", None, "no wholesaler 'w9'"),
        ("w1", "w1", None, "--to names the wholesaler who leaves"),
        ("w1", "w2", "t9", "no territory 't9'"),
    ],
)
def test_what_nobody_knows_is_refused(
    settings: Settings, leaving: str, to: str, territory: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        add_hand_over(settings, leaving, to, territory, LEFT)
    with pytest.raises(UsageError, match="no hand-over 's-1'; there are: none"):
        undo_hand_over(settings, "s-1", None)
    with pytest.raises(UsageError, match="the offset is needed"):
        add_hand_over(settings, "w1", "w2", None, "2026-03-01")

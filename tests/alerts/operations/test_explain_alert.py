"""`alerts explain`: from news in the warehouse to one screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lifecycle_harness import Day, at

from infra.cli import main
from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS


def row(kind: str, when: int, message_id: str = "", who: str = "policy", /, **detail: Any) -> dict:
    return {
        "incident_id": "i-1", "wholesaler_id": "w-1", "at": when, "kind": kind,
        "message_id": message_id, "detail": json.dumps(detail, ensure_ascii=False), "by": who,
        "slot": f"{kind}/{when}/{detail.get('to')}", "version": 0,
    }  # fmt: skip


def incident(name: str, closed_at: int | None) -> dict:
    return {
        "incident_id": name, "outlet_id": "o-1", "sku": "4G", "wholesaler_id": "w-1",
        "opened_at": at(1), "closed_at": closed_at, "at": at(1),
    }  # fmt: skip


def sms(name: str, body: str) -> dict:
    return {
        "message_id": name, "wholesaler_id": "w-1", "incident_ids": ["i-1"], "body": body,
        "segments": 1, "created_at": at(1), "status": "sent", "attempts": 1, "provider_id": "",
        "error": "", "version": 1,
    }  # fmt: skip


STORY = {
    "incidents": [incident("i-1", at(8)), incident("i-2", None), incident("i-3", None)],
    "messages": [sms("m1", "Out of 4G cards"), sms("m2", "Nobody answered")],
    "alert_events": [
        row("waiting", at(1, 1), why="quiet_hours", until=at(2)),
        row("notified", at(2), "m1", what="digest", to="phone"),
        row("status", at(2, 1), "m1", "provider", status="delivered"),
        row("escalated", at(2, 30), "m2", what="escalation", to="backup_phone"),
        row("failed", at(4), "m3", what="escalation", to="channel/north", why="no answer"),
        row("delivering", at(4, 10), "m1", "sms", by=at(7), text="15点到"),
        row("overdue", at(7, 15), by=at(7)),
        row("resolved", at(8), was="notified"),
        row("note", at(8, 5), "m4", what="resolved", to="phone"),
        {**row("acknowledged", at(9), "m2", "sms", text="1"), "incident_id": ""},
        {
            **row("waiting", at(1, 1), why="silenced", note="rebuilding"),
            "incident_id": "i-2",
            "by": "Li",
        },
    ],
}

TOLD = """\
i-1: 4G at o-1
held by (w-1); times are those of Asia/Shanghai

03-01 09:00:00  ran empty
09:01:00  not told now: quiet hours, until 10:00:00
10:00:00  told the wholesaler, in the digest
               “Out of 4G cards”
10:01:00  the provider says: delivered
10:30:00  escalated to the second phone
               “Nobody answered”
12:00:00  the channel north: failed: no answer
12:10:00  answered: on the way by 15:00:00
15:15:00  the delivery that was promised has not come
16:00:00  refilled
16:05:00  told the wholesaler that it is over
17:00:00  answered: got it (“1”)

Told after 1 h 0 min.
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    warehouse = open_warehouse(data=folder, url=None)
    migrate(warehouse)
    for kind, rows in STORY.items():
        warehouse.insert(*to_rows(kind, pa.RecordBatch.from_pylist(rows, schema=SCHEMAS[kind])))
    warehouse.close()
    return folder


def explained(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["zerostock", "alerts", "explain", name, "--data", str(data)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_one_screen_tells_why(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = explained(data, "i-1", monkeypatch, capsys)
    assert (status, out) == (0, TOLD)
    _, out, _ = explained(data, "i-2", monkeypatch, capsys)
    assert "09:01:00  not told now: silenced, as long as that lasts: rebuilding (Li)" in out
    assert out.endswith("\nNobody has been told yet: silenced.\n")
    _, out, _ = explained(data, "i-3", monkeypatch, capsys)
    assert out.endswith("or the alerts worker has not come to it.\n")


def test_an_outlet_shows_its_stock_outs_and_a_stranger_is_an_error(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = explained(data, "o-1", monkeypatch, capsys)
    assert [line.split()[-1] for line in out.splitlines()] == ["i-1", "i-2", "i-3"]
    status, _, err = explained(data, "i-9", monkeypatch, capsys)
    assert status == 2
    assert err == "zerostock: no stock-out and no outlet with one is called i-9\n"


def test_what_the_policy_decides_is_there_in_the_order_it_was_decided() -> None:
    """Every decision about a stock-out has a name of its own, so none replaces another."""
    day = Day()
    day.open("a", at(22))
    day.until(at(72))
    slots = [(n.incident_id, n.slot) for n in day.events]
    assert len(set(slots)) == len(slots)

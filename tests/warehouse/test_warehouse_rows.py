"""Rows as they flow on the topics become rows of the warehouse, and reference files its tables."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.ingest.reference import load_reference
from pipelines.warehouse import Warehouse, migrate
from pipelines.warehouse.reference import REFERENCE, replace_all
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS

AT = 1_767_225_600_123
THEN = datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC)

ROWS: dict[str, dict[str, object]] = {
    "movements": {
        "movement_id": "e-1/89860000000000000001/delivery",
        "at": AT,
        "known_at": AT + 5,
        "outlet_id": "o-1",
        "sku": "std",
        "imsi": 460_000_000_000_001,
        "iccid": "89860000000000000001",
        "delta": 1,
        "cause": "delivery",
        "event_id": "e-1",
        "wholesaler_id": None,
        "withdrawn": False,
    },
    "incidents": {
        "incident_id": "o-1/std/e-2",
        "outlet_id": "o-1",
        "sku": "std",
        "wholesaler_id": "w-1",
        "opened_at": AT,
        "closed_at": None,
        "at": AT,
        "restated_at": AT + 5,
        "withdrawn": False,
    },
    "levels": {
        "outlet_id": "o-1",
        "sku": "std",
        "on_hand": 7,
        "wholesaler_id": "w-1",
        "as_of": AT,
        "withdrawn": False,
    },
    "messages": {
        "message_id": "m-1",
        "wholesaler_id": "w-1",
        "incident_ids": ["o-1/std/e-2", "o-2/std/e-3"],
        "body": "请补货",
        "segments": 1,
        "created_at": AT,
        "status": "sent",
        "attempts": 2,
        "provider_id": None,
        "error": None,
        "version": AT,
    },
    "anomalies": {
        "event_id": "e-1",
        "iccid": "89860000000000000001",
        "kind": "delivered_twice",
        "at": AT,
        "detail": "",
        "known_at": AT + 5,
        "withdrawn": False,
    },
    "registrations": {"event_id": "e-9", "imsi": 460_000_000_000_001, "at": AT, "complete": True},
    "cases": {
        **{"case_id": "c1", "kind": "complaint", "unit_id": "u1", "severity": "high"},
        **{"green": True, "step": "accept", "customer_id": "k", "about": "bill"},
        **{"opened_at": AT, "due_at": AT + 5, "answered_at": AT, "closed_at": None},
        **{"paused_s": 1.5, "on_time": 0, "repeat_of": "c0", "reopened": 1, "satisfied": 1},
        **{"outcome": "solved", "version": AT},
    },
    "case_steps": {
        **{"case_id": "c1", "step": "accept", "n": 2, "unit_id": "u1", "started_at": AT},
        **{"due_at": AT + 5, "warn_at": AT, "finished_at": AT + 5, "paused_s": 0.5},
        **{"late_s": 0.25, "withdrawn": False, "version": AT},
    },
    "contacts": {
        **{"event_id": "e1", "at": AT, "unit_id": "u1", "agent_id": "a", "direction": "in"},
        **{"answered_after_s": 7.5, "duration_s": 60.0, "second": True},
    },
    "inspections": {
        **{"event_id": "e1", "at": AT, "unit_id": "u1", "form": "f", "item": "x", "points": 1.0},
        **{"of": 2.0, "inspector_id": "i", "note": "old"},
    },
    "ratings": {"event_id": "e1", "at": AT, "unit_id": "u1", "satisfied": True, "agent_id": "a"},
    "exams": {
        **{"event_id": "e1", "at": AT, "unit_id": "u1", "agent_id": "a", "kind": "test"},
        **{"score": 87.5, "attended": True},
    },
    "dead_letters": {
        "source": "events/a.ndjson",
        "position": 12,
        "received_at": AT,
        "reason": "malformed",
        "payload": b'{"x": \xff}',
    },
}


def _batch(kind: str, *rows: dict[str, object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=SCHEMAS[kind])


@pytest.mark.parametrize("kind", list(ROWS))
def test_every_kind_is_found_again_in_its_table(embedded: Warehouse, kind: str) -> None:
    migrate(embedded)
    table, rows = to_rows(kind, _batch(kind, ROWS[kind]).slice(0))
    for _ in range(2):
        embedded.insert(table, rows)
    view = {"levels": "stock_on_hand", "movements": "stock_movements"}.get(
        kind, table.removesuffix("_rows")
    )
    (found,) = embedded.query(f"SELECT * FROM {view}").to_pylist()
    for name, value in ROWS[kind].items():
        if name in ("version", "withdrawn") or (kind, name) == ("incidents", "at"):
            continue
        wanted = "" if value is None and name != "closed_at" else value
        if isinstance(value, int) and value in (AT, AT + 5):
            wanted = THEN.replace(microsecond=(value % 1000) * 1000)
        assert found[name] == wanted, name


def test_a_slice_of_a_batch_is_only_that_slice() -> None:
    rows = [ROWS["incidents"] | {"incident_id": str(i), "closed_at": AT + i} for i in range(5)]
    batch = _batch("incidents", *rows, ROWS["incidents"]).slice(3, 3)
    found = to_rows("incidents", batch).rows
    assert found["incident_id"].to_pylist() == ["3", "4", "o-1/std/e-2"]
    assert found["version"].to_pylist() == [2 * AT + 1, 2 * AT + 1, 2 * AT]


def test_no_rows_keep_their_columns() -> None:
    for kind in ROWS:
        table, rows = to_rows(kind, _batch(kind))
        assert table.endswith("_rows")
        assert rows.num_rows == 0


@pytest.mark.parametrize("kind", ["uses", "late_uses", "placements"])
def test_what_is_not_stored_is_refused(kind: str) -> None:
    with pytest.raises(KeyError):
        to_rows(kind, _batch(kind))


FILES = {
    "territories": "territory_id,name,parent_id\nt-1,North,\nt-2,Harbour,t-1\n",
    "cells": "cell_id,territory_id\nc-1,t-2\n",
    "wholesalers": ("wholesaler_id,name,phone,backup_phone,language\nw-1,Li,+8613800138000,,zh\n"),
    "outlets": (
        "outlet_id,name,kind,territory_id,opened_on,closed_on\n"
        'o-1,"Wang, Tea",kiosk,t-2,2019-05-01,\no-2,Zhou,shop,t-2,,2025-01-31\n'
    ),
    "assignments": "outlet_id,wholesaler_id,valid_from\no-1,w-1,2026-01-01T08:00:00.123+08:00\n",
    "sim_batches": (
        "batch_id,sku,first_iccid,first_imsi,count\n"
        "b-1,std,89860000000000000001,460000000000001,1000\nb-2,std,nonsense,1,x\n"
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small reference folder with one row that cannot be used."""
    folder = tmp_path / "reference"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_reference_files_become_tables_whole_each_time(embedded: Warehouse, folder: Path) -> None:
    migrate(embedded)
    tables = load_reference(folder).reference
    for _ in range(2):
        replace_all(embedded, tables)
        found = {name: embedded.query(f"SELECT count() AS c FROM {name}") for name in REFERENCE}
        assert {name: rows["c"][0].as_py() for name, rows in found.items()} == {
            "territories": 2,
            "cells": 1,
            "wholesalers": 1,
            "outlets": 2,
            "assignments": 1,
            "sim_batches": 1,
            "hand_overs": 0,
            "units": 0,
        }
    assert embedded.query("SELECT * FROM outlets").to_pylist() == [
        {
            "outlet_id": "o-1",
            "name": "Wang, Tea",
            "kind": "kiosk",
            "territory_id": "t-2",
            "opened_on": date(2019, 5, 1),
            "closed_on": None,
        },
        {
            "outlet_id": "o-2",
            "name": "Zhou",
            "kind": "shop",
            "territory_id": "t-2",
            "opened_on": None,
            "closed_on": date(2025, 1, 31),
        },
    ]
    assert embedded.query("SELECT valid_from FROM assignments")["valid_from"].to_pylist() == [THEN]
    assert embedded.query("SELECT * FROM sim_batches").to_pylist() == [
        {
            "batch_id": "b-1",
            "sku": "std",
            "first_iccid": "89860000000000000001",
            "first_imsi": 460_000_000_000_001,
            "count": 1000,
            "check_digit": "",
        }
    ]
    assert embedded.query("SELECT parent_id FROM territories ORDER BY territory_id")[
        "parent_id"
    ].to_pylist() == ["", "t-1"]
    (folder / "outlets.csv").write_text("\n".join(FILES["outlets"].splitlines()[:2]))
    replace_all(embedded, load_reference(folder).reference)
    assert embedded.query("SELECT outlet_id FROM outlets")["outlet_id"].to_pylist() == ["o-1"]

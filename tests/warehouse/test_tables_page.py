"""docs/tables.md: every query on it runs and finds something, every column on it is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.reference import REFERENCE, replace_reference
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
SECTIONS = {
    name: text
    for name, text in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    if name != "Reference"
}

START = 1_767_225_600_000
HOUR = 3_600_000


def _movement(number: int, hours: int, delta: int, cause: str) -> dict[str, Any]:
    return {
        "movement_id": f"e-{number}/{cause}",
        "at": START + hours * HOUR,
        "known_at": START + hours * HOUR,
        "outlet_id": "o-1",
        "sku": "std",
        "imsi": 460_000_000_000_001,
        "iccid": "89860000000000000001",
        "delta": delta,
        "cause": cause,
        "event_id": f"e-{number}",
        "wholesaler_id": "w-1",
    }


def _incident(number: int, hours: int, closed: int | None) -> dict[str, Any]:
    return {
        "incident_id": f"o-1/std/e-{number}",
        "outlet_id": "o-1",
        "sku": "std",
        "wholesaler_id": "w-1",
        "opened_at": START + hours * HOUR,
        "closed_at": None if closed is None else START + closed * HOUR,
        "at": START + hours * HOUR,
    }


#: A delivery, a first use that empties the shelf, and all that follows from it.
STORY: dict[str, list[dict[str, Any]]] = {
    "movements": [
        _movement(1, 0, 1, "delivery"),
        _movement(2, 30, -1, "first_use"),
        _movement(3, 90, 1, "delivery"),
    ],
    "incidents": [_incident(2, 30, 40), _incident(4, 60, None)],
    "levels": [
        {"outlet_id": "o-1", "sku": "std", "on_hand": 0, "wholesaler_id": "w-1", "as_of": START}
    ],
    "messages": [
        {
            "message_id": "m-1",
            "wholesaler_id": "w-1",
            "incident_ids": ["o-1/std/e-2"],
            "body": "o-1",
            "segments": 1,
            "created_at": START + 31 * HOUR,
            "status": "sent",
            "attempts": 1,
            "provider_id": "p",
            "error": "",
            "version": 1,
        }
    ],
    "anomalies": [{"event_id": "e-9", "iccid": "89", "kind": "late", "at": START, "detail": ""}],
    "registrations": [
        {"event_id": "e-8", "imsi": 460_000_000_000_001, "at": START, "complete": True}
    ],
    "dead_letters": [
        {
            "source": "events/a.ndjson",
            "position": 3,
            "received_at": START,
            "reason": "invalid_field: at",
            "payload": b"{}",
        }
    ],
}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """The schema, filled with the small story."""
    opened = open_warehouse(data=tmp_path_factory.mktemp("page"))
    migrate(opened)
    for kind, rows in STORY.items():
        opened.insert(*to_rows(kind, pa.RecordBatch.from_pylist(rows, schema=SCHEMAS[kind])))
    for name, row in {
        "outlets": {"outlet_id": "o-1", "name": "Wang", "kind": "kiosk", "territory_id": "t-1"},
        "wholesalers": {"wholesaler_id": "w-1", "name": "Li"},
        "assignments": {"outlet_id": "o-1", "wholesaler_id": "w-1", "valid_from": START},
    }.items():
        replace_reference(opened, name, pa.Table.from_pylist([row], schema=REFERENCE[name]))
    yield opened
    opened.close()


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_the_query_runs_and_finds_something(warehouse: Warehouse, sql: str) -> None:
    assert warehouse.query(sql).num_rows > 0


def test_every_section_has_a_worked_query() -> None:
    assert len(QUERIES) > len(SECTIONS)
    assert all("```sql" in text for text in SECTIONS.values())


@pytest.mark.parametrize("table", list(SECTIONS))
def test_the_page_names_the_tables_columns(warehouse: Warehouse, table: str) -> None:
    rows = re.findall(r"^\| ([\w, ]+) \|", SECTIONS[table], re.MULTILINE)
    said = {name for row in rows if row != "column" for name in row.split(", ")}
    there = warehouse.query(f"DESCRIBE TABLE {table}")["name"].to_pylist()
    assert said == set(there)


@pytest.mark.parametrize("table", list(REFERENCE))
def test_the_page_names_the_reference_tables_columns(warehouse: Warehouse, table: str) -> None:
    found = re.search(rf"^\| {table} \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert found
    said = re.sub(r" \([^)]*\)", "", found[1]).split(", ")
    assert said == warehouse.query(f"DESCRIBE TABLE {table}")["name"].to_pylist()

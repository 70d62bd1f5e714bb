"""docs/tables.md and questions.md are what the schema makes them; every query on them runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.analysts.meanings import tables
from infra.analysts.pages import questions_page, schema, tables_page
from infra.analysts.questions import SavedQuestion, questions
from infra.analysts.questions import question as question_named
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.reference import REFERENCE, replace_reference
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS
from schemas.errors import UsageError

DOCS = Path(__file__).parents[2] / "docs"
TABLES = tables()
WORKED = [(name, query.sql) for name, table in TABLES.items() for query in table.queries]

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
        "withdrawn": False,
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
        "restated_at": None,
        "withdrawn": False,
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
        {
            "outlet_id": "o-1",
            "sku": "std",
            "on_hand": 0,
            "wholesaler_id": "w-1",
            "as_of": START,
            "withdrawn": False,
        }
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
    "anomalies": [
        {
            "event_id": "e-9",
            "iccid": "89",
            "kind": "late",
            "at": START,
            "detail": "",
            "known_at": START,
            "withdrawn": False,
        }
    ],
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

#: Tables that the story fills.
FILLED = {
    "anomalies",
    "assignments",
    "dead_letters",
    "dead_letters_open",
    "outlet_daily",
    "outlets",
    "registrations",
    "sms_messages",
    "stock_incidents",
    "stock_movements",
    "stock_on_hand",
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


def test_the_pages_are_what_the_schema_and_the_meanings_make(warehouse: Warehouse) -> None:
    again = "run `python -m infra.analysts.pages` and commit what it writes"
    assert (DOCS / "tables.md").read_text() == tables_page(schema(warehouse)), again
    assert (DOCS / "questions.md").read_text() == questions_page(list(questions().values())), again


def test_every_table_and_column_is_explained(warehouse: Warehouse) -> None:
    there = {name: list(columns) for name, columns in schema(warehouse).items()}
    said = {name: table.names() for name, table in TABLES.items()}
    assert there.keys() - said.keys() == set(), "write infra/clickhouse/meanings/TABLE.toml"
    assert said.keys() - there.keys() == set(), "of no table that analysts see"
    for name, columns in there.items():
        assert sorted(columns) == sorted(said[name]), f"infra/clickhouse/meanings/{name}.toml"


def test_every_table_has_a_worked_query() -> None:
    assert [name for name, table in TABLES.items() if not table.queries] == []


@pytest.mark.parametrize(("table", "sql"), WORKED, ids=[name for name, _ in WORKED])
def test_the_query_runs(warehouse: Warehouse, table: str, sql: str) -> None:
    found = warehouse.query(sql)
    if table in FILLED:
        assert found.num_rows > 0


@pytest.mark.parametrize("question", questions().values(), ids=list(questions()))
def test_the_saved_question_runs(warehouse: Warehouse, question: SavedQuestion) -> None:
    warehouse.query(question.statement({}))
    assert question.question
    assert question.who


def test_a_question_takes_only_what_it_asks_for() -> None:
    asked = questions()["busiest-outlets"]
    assert "LIMIT 3" in asked.statement({"top": "3"})
    with pytest.raises(UsageError, match="no parameter 'bottom'; it has: days, top"):
        asked.statement({"bottom": "3"})
    with pytest.raises(UsageError, match="top must be a whole number, not 'all'"):
        asked.statement({"top": "all"})
    with pytest.raises(UsageError, match=r"no question is saved as 'x'; there are: empty-shelves"):
        question_named("x")


def test_what_is_given_is_never_taken_for_sql(warehouse: Warehouse) -> None:
    statement = questions()["van-round"].statement({"wholesaler": "' OR 1 = 1 --"})
    assert warehouse.query(statement).num_rows == 0

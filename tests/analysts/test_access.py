"""What analysts see through the masked views; the views run on the embedded ClickHouse.

It has no users, so of the role, the user and the quota only the grammar is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from infra.analysts.access import MASKS, rights, views
from infra.analysts.pages import schema
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.sql.lexer import statements

IMSI = 460_000_000_000_001


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    opened = open_warehouse(data=tmp_path_factory.mktemp("access"))
    migrate(opened)
    fill(opened)
    base = opened.query("SELECT currentDatabase() AS name").to_pylist()[0]["name"]
    for _ in range(2):
        for statement in views(schema(opened), base=base):
            opened.execute(statement)
    yield opened
    opened.close()


def fill(opened: Warehouse) -> None:
    rows: dict[str, dict[str, Any]] = {
        "wholesalers": {"wholesaler_id": "w-1", "name": "Li", "phone": "+8613800138000"},
        "registrations_rows": {"event_id": "e-1", "imsi": IMSI, "complete": 1},
        "stock_movements_rows": {"movement_id": "m-1", "imsi": IMSI, "iccid": "89", "delta": 1},
        "dead_letters_rows": {
            "source": "a",
            "position": 1,
            "reason": "malformed",
            "payload": f"imsi {IMSI}",
        },
        "sms_messages_rows": {
            "message_id": "s-1",
            "body": "Wang: empty. https://desk.example/a/token?x=1 or +8613800138000",
        },
    }
    for table, row in rows.items():
        opened.insert(table, pa.Table.from_pylist([row]))


def seen(warehouse: Warehouse, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = warehouse.query(sql).to_pylist()
    return rows


def test_each_table_has_a_view_with_the_same_columns_and_types(warehouse: Warehouse) -> None:
    there = schema(warehouse)
    assert "mask_key" not in there
    found: dict[str, dict[str, str]] = {}
    for row in seen(
        warehouse,
        "SELECT table, name, type FROM system.columns WHERE database = 'analysts'"
        " ORDER BY table, position",
    ):
        found.setdefault(row["table"], {})[row["name"]] = row["type"]
    assert found == there
    for table in found:
        seen(warehouse, f"SELECT * FROM analysts.{table} LIMIT 1")


def test_every_personal_column_is_masked(warehouse: Warehouse) -> None:
    personal = re.compile("imsi|msisdn|phone|payload|body")
    for table, columns in schema(warehouse).items():
        for name in columns:
            assert not personal.search(name) or name in MASKS, f"{table}.{name}"


def test_numbers_links_and_payloads_do_not_show(warehouse: Warehouse) -> None:
    [wholesaler] = seen(warehouse, "SELECT name, phone, backup_phone FROM analysts.wholesalers")
    assert wholesaler == {"name": "Li", "phone": "+86…00", "backup_phone": ""}
    [message] = seen(warehouse, "SELECT body FROM analysts.sms_messages")
    assert message == {"body": "Wang: empty. … or …"}
    [letter] = seen(warehouse, "SELECT source, payload FROM analysts.dead_letters")
    assert letter == {"source": "a", "payload": ""}


def test_pseudonyms_join_and_are_no_imsis(warehouse: Warehouse) -> None:
    [row] = seen(
        warehouse,
        "SELECT papers.imsi AS imsi FROM analysts.stock_movements AS moved"
        " INNER JOIN analysts.registrations AS papers ON papers.imsi = moved.imsi",
    )
    assert row["imsi"] > 0
    [plain] = seen(warehouse, f"SELECT toInt64(intDiv(sipHash64({IMSI}), 2)) AS imsi")
    assert row["imsi"] not in (IMSI, plain["imsi"])
    assert seen(warehouse, "SELECT count() AS n FROM mask_key") == [{"n": 1}]


def test_the_rights_are_clickhouse_grammar(warehouse: Warehouse) -> None:
    parts = list(statements(rights()))
    assert len(parts) == 6
    for part in parts:
        warehouse.execute(f"EXPLAIN AST {part}")


def test_the_role_reads_the_masked_database_only() -> None:
    granted = re.findall(r"^GRANT SELECT ON (\S+)", rights(), re.MULTILINE)
    assert granted == ["analysts.*"]
    assert "readonly = 1" in rights()

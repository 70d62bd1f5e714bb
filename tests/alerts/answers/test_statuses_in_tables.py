"""The status that tables show of a message is the one that `settle` comes to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import reduce

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.answers.statuses import FINAL, LOST, STATUSES, settle
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.envelope import SCHEMAS

NOW = 1_767_225_600_000

told = st.lists(st.sampled_from(sorted(STATUSES)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    opened = open_warehouse(data=tmp_path_factory.mktemp("statuses"))
    migrate(opened)
    yield opened
    opened.close()


def news(message: str, at: int, status: str) -> dict[str, object]:
    return {
        "answer_id": f"{message}/{status}",
        "at": NOW + at,
        "wholesaler_id": "w-1",
        "kind": "status",
        "message_id": message,
        "incident_id": "",
        "detail": json.dumps({"status": status, "reason": "gone" if status in LOST else ""}),
        "by": "provider",
    }


def write(warehouse: Warehouse, kind: str, rows: list[dict[str, object]]) -> None:
    warehouse.insert(*to_rows(kind, pa.RecordBatch.from_pylist(rows, schema=SCHEMAS[kind])))


def sent(message: str, status: str = "sent") -> dict[str, object]:
    return {
        "message_id": message,
        "wholesaler_id": "w-1",
        "incident_ids": [f"i-{message}"],
        "body": "o-1",
        "segments": 1,
        "created_at": NOW,
        "status": status,
        "attempts": 1,
        "provider_id": "SM1",
        "error": "",
        "version": 1,
    }


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.lists(told, min_size=20, max_size=40), st.randoms())
def test_whatever_is_told_in_whatever_order(
    warehouse: Warehouse, many: list[list[str]], random
) -> None:
    warehouse.execute("TRUNCATE TABLE answers_rows")
    warehouse.execute("TRUNCATE TABLE sms_messages_rows")
    # The same status told again is the same news, and keeps the time at which it came first.
    first = [list(dict.fromkeys(statuses)) for statuses in many]
    rows = [news(f"m{n}", at, s) for n, some in enumerate(first) for at, s in enumerate(some)]
    rows += random.sample(rows, len(rows) // 3)
    random.shuffle(rows)
    half = len(rows) // 2
    write(warehouse, "answers", rows[:half])
    write(warehouse, "answers", rows[half:])
    write(warehouse, "messages", [sent(f"m{n}") for n in range(len(first))])
    wanted = {}
    for n, statuses in enumerate(first):
        end = reduce(settle, statuses, "")
        wanted[f"m{n}"] = end if end in FINAL else "sent"
    found = warehouse.query("SELECT message_id, status, error FROM sms_messages").to_pylist()
    assert {row["message_id"]: row["status"] for row in found} == wanted
    assert {row["message_id"] for row in found if row["error"]} == {
        name for name, status in wanted.items() if status in LOST
    }


def test_what_never_went_out_stays_so(warehouse: Warehouse) -> None:
    warehouse.execute("TRUNCATE TABLE answers_rows")
    warehouse.execute("TRUNCATE TABLE sms_messages_rows")
    write(warehouse, "messages", [sent("m1", "undeliverable"), sent("m2")])
    write(warehouse, "answers", [news("m1", 0, "delivered")])
    found = warehouse.query("SELECT message_id, status FROM sms_messages ORDER BY message_id")
    assert found["status"].to_pylist() == ["undeliverable", "sent"]

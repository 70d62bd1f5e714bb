"""Accepted events of the service side into rows: cases by case and matter, the rest by unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa

from pipelines.core.effects import RowBuilder
from pipelines.core.service.case_rows import FIELDS, add_row
from pipelines.core.service.cases import Happened
from pipelines.core.service.repeat_stage import matter_key
from schemas import topics
from schemas.fields import ID_LENGTH
from schemas.service.events import CaseEvent, ServiceEvent

#: Characters of what was said that are kept.
_SAID: Final = ID_LENGTH

#: The kind of rows of events that go to their tables as they are.
_RECORDS: Final = {
    "contact": "contacts",
    "inspection": "inspections",
    "rating": "ratings",
    "exam": "exams",
}


def service_rows(
    events: Iterable[tuple[int, ServiceEvent, int]], file: str, partitions: int
) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    """(kind, partition, rows) of the events of a file, given as (line, event, known_at in ms)."""
    found: dict[tuple[str, int], RowBuilder] = {}

    def rows(kind: str, key: str) -> RowBuilder:
        partition = topics.partition_of_key(key, partitions)
        return found.setdefault((kind, partition), RowBuilder(kind))

    for line, event, known_at in events:
        if isinstance(event, CaseEvent):
            happened = as_happened(event, known_at, file, line)
            key = matter_key(happened) if happened.type == "case_opened" else None
            add_row(rows("case_events", key or event.case_id), event.case_id, happened)
            continue
        kind = _RECORDS[event.type]  # type: ignore[attr-defined]
        said = event.model_dump()
        for name in ("agent_id", "inspector_id", "note"):
            said[name] = (said.get(name) or "")[:_SAID]
        rows(kind, said["unit_id"]).add(**said)
    for (kind, partition), some in found.items():
        yield kind, partition, some.batch()


def as_happened(event: CaseEvent, known_at: int, file: str, line: int) -> Happened:
    """The event as the fold of cases takes it; `file` and `line` are where it stands."""
    kind: str = event.type  # type: ignore[attr-defined]
    detail = {
        name: value[:_SAID] if name in ("reason", "outcome") else value
        for name in FIELDS[kind].values()
        if (value := getattr(event, name, None)) is not None
    }
    return Happened(event.at, event.event_id, kind, known_at, detail, file, line)

"""Events of cases as rows of a topic, and back; and as the lines they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa

from pipelines.core.effects import RowBuilder
from pipelines.core.service.cases import Happened

#: What `subject`, `flag` and the texts of a row are called in a line, by the event's type.
FIELDS: Final[dict[str, dict[str, str]]] = {
    "case_opened": {
        "subject": "kind",
        "unit_id": "unit_id",
        "customer_id": "customer_id",
        "about": "about",
        "severity": "severity",
        "flag": "green",
        "repeat_of": "repeat_of",
    },
    "case_step": {"subject": "step", "unit_id": "unit_id"},
    "case_assigned": {"unit_id": "unit_id"},
    "case_paused": {"subject": "reason"},
    "case_resumed": {"subject": "reason"},
    "case_answered": {},
    "case_followed_up": {"flag": "satisfied"},
    "case_closed": {"subject": "outcome"},
    "case_reopened": {"subject": "reason"},
}

#: What an event means nothing without; a foreign program may leave it out.
_NEEDED: Final = {
    "case_opened": ("subject", "unit_id"),
    "case_step": ("subject",),
    "case_assigned": ("unit_id",),
}

_COLUMNS: Final = ("subject", "unit_id", "customer_id", "about", "severity", "flag", "repeat_of")


def add_row(rows: RowBuilder, case_id: str, event: Happened) -> None:
    """Append an event to rows of kind case_events."""
    names = FIELDS[event.type]
    said = {column: event.detail.get(names.get(column, "")) for column in _COLUMNS}
    rows.add(
        event_id=event.event_id,
        at=event.at,
        known_at=event.known_at,
        event_type=event.type,
        case_id=case_id,
        source=event.source,
        position=event.position,
        **{name: value or (False if name == "flag" else "") for name, value in said.items()},
    )


def read_rows(rows: pa.RecordBatch) -> Iterator[tuple[str, Happened]]:
    """The events of rows with their cases; what no event can be is passed over."""
    for row in rows.to_pylist():
        names = FIELDS.get(row["event_type"])
        if names is None or not all(row[c] for c in _NEEDED.get(row["event_type"], ())):
            continue
        detail: dict[str, Any] = {
            name: row[column]
            for column, name in names.items()
            if row[column] or name == "satisfied"
        }
        common = (row["at"], row["event_id"], row["event_type"], row["known_at"])
        yield row["case_id"], Happened(*common, detail, row["source"], row["position"])


def as_line(case_id: str, event: Happened) -> bytes:
    """The event as a line of an exchange directory."""
    at = datetime.fromtimestamp(event.at // 1_000, UTC)
    said = {name: value for name, value in event.detail.items() if name != "repeat_of"}
    return msgspec.json.encode(
        {
            "type": event.type,
            "event_id": event.event_id,
            "at": f"{at:%Y-%m-%dT%H:%M:%S}.{event.at % 1_000:03}Z",
            "case_id": case_id,
            **said,
        }
    )

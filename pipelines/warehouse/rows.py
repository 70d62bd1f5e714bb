"""What flows on the topics as rows of the warehouse: record batch in, (table, rows) out. Pure.

Times become timestamps in ms UTC. A missing text becomes '': tables hold NULL only where "not
yet" is an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_ms = pa.timestamp("ms", tz="UTC")

Columns = dict[str, pa.Array]


class TableRows(NamedTuple):
    """Rows ready for `Warehouse.insert(table, rows)`."""

    table: str
    rows: pa.Table


def to_rows(kind: str, batch: pa.RecordBatch) -> TableRows:
    """The rows of an envelope of `kind` (a key of `schemas.envelope.SCHEMAS`).

    Raises `KeyError` for a kind that has no table: uses and placements are not stored.
    """
    table, shape = _KINDS[kind]
    columns = {name: batch.column(name) for name in batch.schema.names}
    return TableRows(
        table, pa.table({name: _plain(column) for name, column in shape(columns).items()})
    )


def _movements(columns: Columns) -> Columns:
    return _flagged(_timed(columns, "at", "known_at"))


def _incidents(columns: Columns) -> Columns:
    """What became known later replaces what was known before; of one moment, an end its opening."""
    over = pc.or_(pc.is_valid(columns["closed_at"]), columns["withdrawn"])
    version = pc.add(pc.multiply(columns["at"], 2), pc.cast(over, pa.int64()))
    kept = {name: column for name, column in columns.items() if name != "at"}
    times = _timed(kept, "opened_at", "closed_at", "restated_at")
    return _flagged(times) | {"version": pc.cast(version, pa.uint64())}


def _levels(columns: Columns) -> Columns:
    return _flagged(_timed(columns, "as_of"))


def _messages(columns: Columns) -> Columns:
    return _timed(columns, "created_at") | {"version": pc.cast(columns["version"], pa.uint64())}


def _answers(columns: Columns) -> Columns:
    return _timed(columns, "at")


def _alert_events(columns: Columns) -> Columns:
    return _timed(columns, "at") | {"version": pc.cast(columns["version"], pa.uint64())}


def _anomalies(columns: Columns) -> Columns:
    return _flagged(_timed(columns, "at", "known_at"))


def _registrations(columns: Columns) -> Columns:
    return _timed(columns, "at") | {"complete": pc.cast(columns["complete"], pa.uint8())}


def _cases(columns: Columns) -> Columns:
    times = _timed(columns, "opened_at", "due_at", "answered_at", "closed_at")
    versioned = {"version": pc.cast(columns["version"], pa.uint64())}
    return times | versioned | {"green": pc.cast(columns["green"], pa.uint8())}


def _case_steps(columns: Columns) -> Columns:
    times = _timed(columns, "started_at", "due_at", "warn_at", "finished_at")
    return _flagged(times) | {"version": pc.cast(columns["version"], pa.uint64())}


def _record(*flags: str) -> Callable[[Columns], Columns]:
    """A record of the service side as it is; `flags` become 1 and 0."""

    def shape(columns: Columns) -> Columns:
        return _timed(columns, "at") | {name: pc.cast(columns[name], pa.uint8()) for name in flags}

    return shape


def _unread_inputs(columns: Columns) -> Columns:
    return _timed(columns, "at")


def _dead_letters(columns: Columns) -> Columns:
    return _timed(columns, "received_at")


_KINDS: Final[dict[str, tuple[str, Callable[[Columns], Columns]]]] = {
    "movements": ("stock_movements_rows", _movements),
    "incidents": ("stock_incidents_rows", _incidents),
    "levels": ("stock_levels_rows", _levels),
    "messages": ("sms_messages_rows", _messages),
    "answers": ("answers_rows", _answers),
    "alert_events": ("alert_news_rows", _alert_events),
    "anomalies": ("anomalies_rows", _anomalies),
    "registrations": ("registrations_rows", _registrations),
    "cases": ("cases_rows", _cases),
    "case_steps": ("case_steps_rows", _case_steps),
    "contacts": ("contacts_rows", _record("second")),
    "inspections": ("inspections_rows", _record()),
    "ratings": ("ratings_rows", _record("satisfied")),
    "exams": ("exams_rows", _record("attended")),
    "dead_letters": ("dead_letters_rows", _dead_letters),
    "unread_inputs": ("unread_inputs_rows", _unread_inputs),
}


def _timed(columns: Columns, *names: str) -> Columns:
    return columns | {name: columns[name].view(_ms) for name in names}


def _flagged(columns: Columns) -> Columns:
    return columns | {"withdrawn": pc.cast(columns["withdrawn"], pa.uint8())}


def _plain(column: pa.Array) -> pa.Array:
    if not column.null_count:
        return column
    if pa.types.is_string(column.type):
        return column.fill_null("")
    if pa.types.is_binary(column.type):
        return column.fill_null(b"")
    return column

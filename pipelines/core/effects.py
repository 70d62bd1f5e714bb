"""What a step of the stream emits: envelopes for topics, their rows gathered in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.envelope import SCHEMAS, Header

#: Rows an envelope carries at most: well below a broker's usual limit of 1 MB a message.
ENVELOPE_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Effect:
    """One envelope on its way to a partition of a topic."""

    topic: str
    partition: int
    header: Header
    rows: pa.RecordBatch | None = None


class RowBuilder:
    """Columns of one kind that grow row by row or run by run."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.columns: dict[str, list[Any]] = {name: [] for name in SCHEMAS[kind].names}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def add(self, **row: Any) -> None:
        """Append one row; every column must be given."""
        for name, column in self.columns.items():
            column.append(row[name])

    def extend(self, count: int, **run: Any) -> None:
        """Append `count` rows; a list gives each row's value, anything else is repeated."""
        for name, column in self.columns.items():
            value = run[name]
            column.extend(value if isinstance(value, list) else [value] * count)

    def batch(self) -> pa.RecordBatch:
        """The rows as one record batch of the kind's schema."""
        schema = SCHEMAS[self.kind]
        return pa.record_batch(
            [pa.array(self.columns[field.name], field.type) for field in schema], schema=schema
        )


class WatermarkUpdate(NamedTuple):
    """What every envelope of one step says besides its rows; see `Header`."""

    source: str
    watermark: int
    ended: bool
    peers: tuple[str, ...]


def envelopes(
    topic: str, partition: int, rows: RowBuilder | None, update: WatermarkUpdate, before: int
) -> list[Effect]:
    """The rows of one step for one partition, cut to size, the last with the new watermark.

    The earlier ones repeat `before`, the watermark that held when the step began: the new one is
    true only once all rows are there. Without rows the watermark travels alone.
    """
    if rows is None or len(rows) == 0:
        return [Effect(topic, partition, Header("none", *update))]
    batch = rows.batch()
    last = (batch.num_rows - 1) // ENVELOPE_ROWS
    early = Header(rows.kind, update.source, before, False, update.peers)
    return [
        Effect(
            topic,
            partition,
            Header(rows.kind, *update) if i == last else early,
            batch.slice(i * ENVELOPE_ROWS, ENVELOPE_ROWS),
        )
        for i in range(last + 1)
    ]

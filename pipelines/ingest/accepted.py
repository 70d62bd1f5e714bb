"""The rows of a file as batch jobs take them: those that the stream accepts, with all columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ingest.check import Checked, Format, check
from pipelines.ingest.mapping.mapping import Export, Mapping
from pipelines.ingest.reading.decoding import DAMAGE
from pipelines.ingest.reading.files import Chunk, SourceFile, why
from pipelines.ingest.reading.headers import Unfit, check_columns, needed_columns, plain_names
from pipelines.ingest.reading.opening import Unreadable, Vanished, open_file
from schemas.errors import InputError
from schemas.events import Event
from schemas.fields import TIME_END

_ROWS_AT_ONCE = 1 << 17


@dataclass
class AcceptedRows:
    """Some rows of a file, numbered from its first, 1.

    `uses` are calls and activations: row, event_id, at (ms), imsi and the columns of
    `check.DETAIL`. `others` are all other events, `refused` the rows with the reason; `count` is
    how many there are together, with the `skipped` ones that a mapping passes over.
    """

    uses: pa.Table
    others: list[tuple[int, Event]]
    refused: list[tuple[int, str]]
    count: int
    skipped: int


def rows_of(file: SourceFile, mapping: Mapping | None) -> Iterator[AcceptedRows]:
    """All rows of a file. Raises `InputError` for a file that cannot be read."""
    try:
        opened = open_file("", file, None, mapping, False)
    except (Unreadable, Vanished) as error:
        raise InputError(f"{file.name} cannot be read: {error}") from None
    above = opened.line - 1
    while found := opened.read():
        chunk, checked = opened.check(found, TIME_END, detail=True)
        if chunk.damage is not None:
            raise InputError(f"{file.name} cannot be read: {chunk.damage}")
        yield _accepted(checked, above)


def parquet_rows_of(
    name: str, source: Any, groups: Sequence[int], first_row: int, export: Export | None
) -> Iterator[AcceptedRows]:
    """The rows of some row groups of a Parquet file (a path or an open file), the first of which
    is number `first_row` + 1. Raises `InputError` for a file that cannot be read."""
    try:
        with pq.ParquetFile(source) as file:
            names = plain_names(file.schema_arrow.names, export)
            check_columns(names, export)
            needed = needed_columns(names, export)
            columns = [file.schema_arrow.names[names.index(name)] for name in needed]
            at, how = first_row + 1, Format("parquet", export=export)
            for rows in file.iter_batches(_ROWS_AT_ONCE, list(groups), columns):
                chunk = Chunk(at, rows.num_rows, rows=rows)
                yield _accepted(check(chunk, how, detail=True), 0)
                at += rows.num_rows
    except (*DAMAGE, Unfit) as error:
        raise InputError(f"{name} cannot be read: {why(error)}") from None


def _accepted(checked: Checked, above: int) -> AcceptedRows:
    assert checked.detail is not None
    uses = pa.table(
        {
            "row": checked.lines - above,
            "event_id": checked.ids,
            "at": checked.at,
            "imsi": checked.imsis,
        }
    )
    for name in checked.detail.column_names:
        uses = uses.append_column(name, checked.detail.column(name))
    refused = [(line - above, reason) for line, reason, _ in checked.refused]
    others = [(line - above, event) for line, event in checked.others]
    return AcceptedRows(uses, others, refused, checked.count, checked.skipped)

"""Arrow tables as ClickHouse gives them, put right for the rest of zerostock."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def plain(table: pa.Table) -> pa.Table:
    """The table without metadata, text columns that are not UTF-8 as binary.

    ClickHouse's String holds any bytes; Arrow's string must not.
    """
    columns = [_valid(column) for column in table.columns]
    fields = [
        pa.field(field.name, column.type, field.nullable)
        for field, column in zip(table.schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _valid(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return column.cast(pa.binary())
    elif pa.types.is_binary(column.type):
        try:
            return pc.cast(column, pa.string())
        except pa.ArrowInvalid:
            return column
    return column

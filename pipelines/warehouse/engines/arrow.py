"""Arrow tables as ClickHouse gives them, put right for the rest of zerostock."""

from __future__ import annotations

import pyarrow as pa


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
    """The column as text if it is valid, as binary if not; lists of texts alike."""
    for text, raw in ((pa.string(), pa.binary()), (pa.list_(pa.string()), pa.list_(pa.binary()))):
        if _like(column.type, text) or _like(column.type, raw):
            binary = column.cast(raw)
            try:
                return binary.cast(text)
            except pa.ArrowInvalid:
                return binary
    return column


def _like(type_: pa.DataType, other: pa.DataType) -> bool:
    """Whether the types differ at most in whether list items may be NULL."""
    if pa.types.is_list(type_) and pa.types.is_list(other):
        return bool(type_.value_type == other.value_type)
    return bool(type_ == other)

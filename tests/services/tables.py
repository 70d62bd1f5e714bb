"""Rows put into a warehouse's tables by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.warehouse.port import Warehouse


def put(warehouse: Warehouse, name: str, /, **columns: list[Any]) -> None:
    """Insert columns into a table; times are times of UTC."""
    table = pa.table(columns)
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            cast = table.column(place).cast(pa.timestamp("ms", tz="UTC"))
            table = table.set_column(place, field.name, cast)
    warehouse.insert(name, table)

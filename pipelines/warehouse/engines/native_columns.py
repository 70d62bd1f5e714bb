"""Arrow columns as clickhouse-driver writes them fastest: numpy integers wherever there are any.

Python's datetime and Decimal objects would make an insert a hundred times slower.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Column: TypeAlias = NDArray[Any]

_UNIT_OF_SCALE: Final = {0: "s", 3: "ms", 6: "us", 9: "ns"}


def driver_column(column: pa.ChunkedArray, clickhouse_type: str) -> Column:
    """The column as the driver's numpy columns take it for a ClickHouse type.

    NULLs in a column that is not Nullable become the type's default. Raises `ValueError` for types
    the driver cannot be given (`pa.ArrowInvalid` for values that do not fit).
    """
    nullable = clickhouse_type.startswith("Nullable(")
    inner = clickhouse_type[len("Nullable(") : -1] if nullable else clickhouse_type
    if column.null_count and not nullable:
        column = column.fill_null(_default(column.type))
    if inner.startswith("DateTime"):
        return _times(column, inner)
    if inner == "Date":
        return _numpy(column.cast(pa.date32()))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.binary())  # the driver is told to expect bytes
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        if not column.null_count:
            return _numpy(column)
        return _objects(column.to_pylist())
    if pa.types.is_list(column.type):
        value_type = column.type.value_type
        if pa.types.is_string(value_type):
            column = column.cast(pa.list_(pa.binary()))
    return _objects(column.to_pylist())


def _times(column: pa.ChunkedArray, inner: str) -> Column:
    """Whole units since the epoch; datetime64 only where there are NULLs to mark."""
    scale = int(inner[len("DateTime64(")]) if inner.startswith("DateTime64(") else 0
    if scale not in _UNIT_OF_SCALE:
        raise ValueError(f"cannot write times of scale {scale}")
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(_UNIT_OF_SCALE[scale], tz=column.type.tz), safe=False)
        if column.null_count:
            return _numpy(column.cast(pa.timestamp(_UNIT_OF_SCALE[scale])))
        column = column.cast(pa.int64())
    numbers = _numpy(column)
    return numbers if scale or not numbers.size else numbers.astype(np.uint32)


def _numpy(column: pa.ChunkedArray) -> Column:
    array: Column = column.to_numpy()
    return array


def _default(type_: pa.DataType) -> Any:
    if pa.types.is_list(type_):
        return pa.scalar([], type_)
    if pa.types.is_binary(type_):
        return pa.scalar(b"", type_)
    if pa.types.is_string(type_):
        return pa.scalar("", type_)
    return pc.cast(pa.scalar(0), type_)


def _objects(values: list[Any]) -> Column:
    """An array of Python objects, also where they are lists."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

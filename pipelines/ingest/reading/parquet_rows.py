"""Rows of a Parquet file as columns of text, as a CSV file would have them."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ingest.mapping.convert import Calls, plain_calls
from pipelines.ingest.times import UNSURE
from schemas.fields import EVENTS_START, OUT_OF_RANGE, TIME_END

_WRONG_TIME: Final = f"invalid_field: start_time: {OUT_OF_RANGE}"

#: Whole numbers up to here are exact in float64.
_EXACT: Final = 2.0**53
_EXACT_SINGLE: Final = 2.0**24


def parquet_texts(rows: pa.RecordBatch, names: list[str]) -> dict[str, pa.Array]:
    """The named columns as text. Raises `pa.ArrowException` for one that has no text."""
    return {name: _as_text(rows.column(name)) for name in names}


def parquet_calls(rows: pa.RecordBatch, names: list[str]) -> Calls:
    """The named columns of the contract; times of type timestamp are taken as they are."""
    times = rows.column("start_time")
    if not pa.types.is_timestamp(times.type) or times.type.tz is None:
        return plain_calls(parquet_texts(rows, names))
    unit = {"s": -1_000, "ms": 1, "us": 1_000, "ns": 1_000_000}[times.type.unit]
    ticks = pc.fill_null(times.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    good = (ticks >= 0) & (ticks < (TIME_END // -unit if unit < 0 else TIME_END * unit))
    ticks = np.where(good, ticks, 0)
    at = ticks * -unit if unit < 0 else ticks // unit
    good &= at >= EVENTS_START
    at = np.where(good, at, UNSURE)
    texts = parquet_texts(rows, [name for name in names if name != "start_time"])
    given = times.is_valid().to_numpy(zero_copy_only=False)
    wrong = dict.fromkeys(np.flatnonzero(~good & given).tolist(), _WRONG_TIME)
    return Calls(texts, at, wrong)


def plain_numbers(column: pa.Array) -> bool:
    """Whether all are whole numbers that a call may have, or null; judged without their texts."""
    whole = pa.types.is_integer(column.type) or (
        column.type == pa.float64() and pc.all(pc.equal(pc.floor(column), column)).as_py()
    )
    if not whole:
        return False
    inside = pc.and_(pc.greater_equal(column, 0), pc.less(column, 10**15))
    return pc.all(inside).as_py() is not False


def rows_not_utf8(rows: pa.RecordBatch, names: list[str]) -> set[int]:
    """The rows with a text among the named columns that is none: Arrow does not look as it reads.

    Raises `pa.ArrowException` for columns that are damaged beyond that.
    """
    odd: set[int] = set()
    for name in names:
        column = rows.column(name)
        if not _is_text(column.type):
            column.validate(full=True)
            continue
        raw = column.cast(pa.large_binary())
        raw.validate(full=True)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            odd.update(row for row, value in enumerate(raw.to_pylist()) if not _is_utf8(value))
    return odd


def as_line(rows: pa.RecordBatch, row: int) -> bytes:
    """A row as a line of JSON, for its dead letter."""
    found = {
        name: _shown(column.slice(row, 1))
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    }
    return json.dumps(found, default=str, ensure_ascii=False).encode(errors="backslashreplace")


def _shown(one: pa.Array) -> Any:
    """A value as Python has it, or as near as it can be shown."""
    try:
        return one[0].as_py()
    except UnicodeDecodeError:
        return one.cast(pa.large_binary())[0].as_py().decode(errors="backslashreplace")
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return f"not to be shown: {error}"


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _as_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _time_text(column)
    if pa.types.is_decimal(kind):
        return pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    if pa.types.is_floating(kind):
        wide = column.cast(pa.float64())
        exact = _EXACT if kind == pa.float64() else _EXACT_SINGLE
        whole = pc.and_(pc.equal(pc.floor(wide), wide), pc.less(pc.abs(wide), exact))
        short = pc.if_else(pc.fill_null(whole, False), wide, None).cast(pa.int64())
        return pc.coalesce(short.cast(pa.string()), wide.cast(pa.string()))
    return column.cast(pa.string())


def _time_text(column: pa.Array) -> pa.Array:
    """ISO 8601 to the millisecond, with an offset if the column has a zone."""
    utc = column.type.tz is not None
    plain = column.cast(pa.timestamp("ms", tz="UTC" if utc else None), safe=False)
    return pc.strftime(plain, format="%Y-%m-%dT%H:%M:%S" + ("Z" if utc else ""))

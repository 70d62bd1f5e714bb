"""Chunks into accepted columns and refused lines.

The models in `schemas.events` say what is accepted. Checking works in columns and vouches only
for rows that are plainly right; each row it is not sure of is put to the model, one by one, for
its value or for the reason to refuse it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pipelines.ingest.files import Chunk
from pipelines.ingest.times import UNSURE, Int64s, parse_times
from schemas.events import Activation, Call, Event, Refused, accept, accept_call

REQUIRED = ("call_id", "start_time", "imsi")
OPTIONAL = ("msisdn", "duration_s", "cell_id", "charge_fen")


@dataclass
class Checked:
    """What a chunk comes to.

    `lines`, `imsis`, `at` (ms) and `ids` are columns of the calls and activations; `others` are
    all other events with their lines, `raw_others` their bytes; `refused` holds (line, reason,
    bytes).
    """

    lines: Int64s
    imsis: Int64s
    at: Int64s
    ids: pa.Array
    others: list[tuple[int, Event]] = field(default_factory=list)
    raw_others: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, str, bytes]] = field(default_factory=list)


def check(chunk: Chunk, kind: str, names: list[str] | None) -> Checked:
    """The rows of a chunk of a csv (whose header is `names`), ndjson or parquet file."""
    if chunk.rows is not None:
        return _check_parquet(chunk)
    if kind == "ndjson":
        return _check_ndjson(chunk)
    assert names is not None
    return _check_csv(chunk, names)


def header_names(line: bytes) -> list[str] | None:
    """The column names of a CSV file's first line; None if it cannot be one."""
    fields = _csv_fields(line.removeprefix(b"\xef\xbb\xbf"))
    return [name.strip() for name in fields] if fields else None


def missing_columns(names: list[str] | None) -> list[str]:
    """The columns a file of calls cannot do without."""
    return [name for name in REQUIRED if name not in (names or [])]


# CSV


def _check_csv(chunk: Chunk, names: list[str]) -> Checked:
    assert chunk.data is not None
    bad: list[int] = []

    def skip(row: pacsv.InvalidRow) -> str:
        bad.append(row.number - 1)
        return "skip"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(chunk.data),
            pacsv.ReadOptions(
                column_names=names, use_threads=False, block_size=len(chunk.data) + 1
            ),
            pacsv.ParseOptions(invalid_row_handler=skip, ignore_empty_lines=False),
            pacsv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=[n for n in (*REQUIRED, *OPTIONAL) if n in names],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowException:
        table = None
    if table is None or table.num_rows + len(bad) != chunk.lines:
        return _check_csv_by_line(chunk, names)
    lines = np.delete(np.arange(chunk.lines), bad) if bad else np.arange(chunk.lines)
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    columns = {
        name: c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for name, c in columns.items()
    }
    raw: list[bytes] = []

    def line_of(index: int) -> bytes:
        if not raw:
            assert chunk.data is not None
            raw.extend(chunk.data.split(b"\n"))
        return raw[index].removesuffix(b"\r")

    def row(index: int) -> dict[str, Any]:
        return {name: column[index].as_py() for name, column in columns.items()}

    checked = _check_columns(columns, lines, row, line_of)
    for index in bad:
        if not line_of(index).strip():
            continue
        checked.refused.append((index, _malformed(len(names)), line_of(index)))
    return _numbered(checked, chunk.first_line)


def _malformed(expected: int) -> str:
    return f"malformed: {expected} fields expected"


def _check_csv_by_line(chunk: Chunk, names: list[str]) -> Checked:
    """For chunks with something the column reader stumbles over: each line by itself."""
    assert chunk.data is not None
    calls: list[tuple[int, Call]] = []
    refused: list[tuple[int, str, bytes]] = []
    for index, line in enumerate(_split(chunk.data)):
        if not line.strip():
            continue
        try:
            fields = _csv_fields(line)
            if fields is None or len(fields) != len(names):
                raise Refused(_malformed(len(names)))  # noqa: TRY301
            calls.append((index, accept_call(dict(zip(names, fields, strict=True)))))
        except Refused as reason:
            refused.append((index, str(reason), line))
    return _numbered(_from_events([*calls], refused, []), chunk.first_line)


def _csv_fields(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode().rstrip("\r\n")], strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None


def _split(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


# Columns of calls, wherever they come from


def _check_columns(
    columns: dict[str, pa.Array],
    lines: Int64s,
    row: Callable[[int], dict[str, Any]],
    line_of: Callable[[int], bytes],
) -> Checked:
    at = parse_times(columns["start_time"])
    imsis, good = _parse_imsis(columns["imsi"])
    good &= at != UNSURE
    good &= pc.fill_null(pc.greater(pc.binary_length(columns["call_id"]), 0), False).to_numpy(
        zero_copy_only=False
    )
    if "duration_s" in columns:
        good &= _plain_number(columns["duration_s"])
    if "charge_fen" in columns:
        good &= _plain_number(columns["charge_fen"])
    if good.all():
        return Checked(lines, imsis, at, columns["call_id"])
    calls: list[tuple[int, Event]] = []
    refused: list[tuple[int, str, bytes]] = []
    for index in np.flatnonzero(~good).tolist():
        line = int(lines[index])
        try:
            calls.append((line, accept_call(row(index))))
        except Refused as reason:
            refused.append((line, str(reason), line_of(line)))
    sure = Checked(lines[good], imsis[good], at[good], columns["call_id"].filter(pa.array(good)))
    sure.refused = refused
    return _merged(sure, _from_events(calls, [], [])) if calls else sure


def _parse_imsis(texts: pa.Array) -> tuple[Int64s, np.ndarray[Any, np.dtype[np.bool_]]]:
    """15-digit numbers as int64, and which are such."""
    good = pc.fill_null(pc.equal(pc.binary_length(texts), 15), False).to_numpy(zero_copy_only=False)
    some = texts.filter(pa.array(good)) if not good.all() else texts
    numbers = np.zeros(len(texts), np.int64)
    if not len(some):
        return numbers, good
    offsets = np.frombuffer(some.buffers()[1], np.int32, len(some) + 1, some.offset * 4)
    chars = np.frombuffer(some.buffers()[2], np.uint8, len(some) * 15, int(offsets[0]))
    digits = (chars.reshape(len(some), 15) - ord("0")).astype(np.uint8)
    digital = (digits <= 9).all(axis=1)
    # Exact in float64: 15 digits are below 2**53.
    numbers[good] = np.where(digital, digits @ 10.0 ** np.arange(14, -1, -1), 0).astype(np.int64)
    good[np.flatnonzero(good)[~digital]] = False
    return numbers, good


def _plain_number(texts: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which are empty or a plain non-negative whole number of at most 15 digits."""
    found = pc.match_substring_regex(texts, r"^[0-9]{0,15}$")
    result: np.ndarray[Any, np.dtype[np.bool_]] = pc.fill_null(found, True).to_numpy(
        zero_copy_only=False
    )
    return result


# Parquet


def _check_parquet(chunk: Chunk) -> Checked:
    assert chunk.rows is not None
    rows = chunk.rows
    lines = np.arange(rows.num_rows)
    columns = {
        name: _as_text(rows.column(name))
        for name in (*REQUIRED, *OPTIONAL)
        if name in rows.schema.names
    }

    def row(index: int) -> dict[str, Any]:
        return {name: column[index].as_py() for name, column in columns.items()}

    def line_of(index: int) -> bytes:
        return json.dumps(rows.slice(index, 1).to_pylist()[0], default=str).encode()

    return _numbered(_check_columns(columns, lines, row, line_of), chunk.first_line)


def _as_text(column: pa.Array) -> pa.Array:
    """A Parquet column as the text that a CSV file would have."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz is not None else ""
        plain = column.cast(pa.timestamp("ms", tz=kind.tz), safe=False)
        if kind.tz is not None:
            plain = plain.cast(pa.timestamp("ms", tz="UTC"))
        return pc.strftime(plain, format=f"%Y-%m-%dT%H:%M:%S{zone}")
    if pa.types.is_floating(kind):
        whole = pc.equal(pc.floor(column), column)
        return pc.if_else(
            whole, column.cast(pa.int64(), safe=False).cast(pa.string()), column.cast(pa.string())
        )
    return column.cast(pa.string())


# NDJSON


class _CallLine(msgspec.Struct, tag="call"):
    call_id: str
    start_time: str
    imsi: str
    duration_s: int | None = None
    charge_fen: int | None = None
    msisdn: str | None = None
    cell_id: str | None = None


_decode_calls = msgspec.json.Decoder(_CallLine)
_decode_any = msgspec.json.Decoder()


def _check_ndjson(chunk: Chunk) -> Checked:
    assert chunk.data is not None
    try:
        calls = _decode_calls.decode_lines(chunk.data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        calls = []
    if len(calls) != chunk.lines:
        return _check_ndjson_by_line(chunk)
    columns = {
        "call_id": pa.array([c.call_id for c in calls], pa.string()),
        "start_time": pa.array([c.start_time for c in calls], pa.string()),
        "imsi": pa.array([c.imsi for c in calls], pa.string()),
    }
    if any(
        (c.duration_s is not None and c.duration_s < 0)
        or (c.charge_fen is not None and not -(2**63) <= c.charge_fen < 2**63)
        for c in calls
    ):
        return _check_ndjson_by_line(chunk)
    raw: list[bytes] = []

    def line_of(index: int) -> bytes:
        if not raw:
            assert chunk.data is not None
            raw.extend(_split(chunk.data))
        return raw[index]

    def row(index: int) -> dict[str, Any]:
        found: dict[str, Any] = _decode_any.decode(line_of(index))
        return found

    lines = np.arange(chunk.lines)
    return _numbered(_check_columns(columns, lines, row, line_of), chunk.first_line)


def _check_ndjson_by_line(chunk: Chunk) -> Checked:
    assert chunk.data is not None
    events: list[tuple[int, Event]] = []
    refused: list[tuple[int, str, bytes]] = []
    lines = _split(chunk.data)
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            try:
                row = _decode_any.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Refused(f"malformed: {error}") from None
            events.append((index, accept(row)))
        except Refused as reason:
            refused.append((index, str(reason), line))
    return _numbered(_from_events(events, refused, lines), chunk.first_line)


# Putting together


def _from_events(
    events: list[tuple[int, Event]], refused: list[tuple[int, str, bytes]], lines: list[bytes]
) -> Checked:
    others: list[tuple[int, Event]] = [
        (line, e) for line, e in events if not isinstance(e, Call | Activation)
    ]
    uses = [(line, e) for line, e in events if isinstance(e, Call | Activation)]
    return Checked(
        np.array([line for line, _ in uses], np.int64),
        np.array([int(e.imsi) for _, e in uses], np.int64),
        np.array([e.at for _, e in uses], np.int64),
        pa.array([e.event_id for _, e in uses], pa.string()),
        others,
        [lines[line] for line, _ in others],
        refused,
    )


def _merged(one: Checked, other: Checked) -> Checked:
    """Both, in the order of lines."""
    lines = np.concatenate([one.lines, other.lines])
    order = np.argsort(lines, kind="stable")
    return Checked(
        lines[order],
        np.concatenate([one.imsis, other.imsis])[order],
        np.concatenate([one.at, other.at])[order],
        pa.concat_arrays([one.ids, other.ids]).take(pa.array(order)),
        one.others + other.others,
        one.raw_others + other.raw_others,
        one.refused + other.refused,
    )


def _numbered(checked: Checked, first_line: int) -> Checked:
    """Lines counted from the file's first instead of the chunk's."""
    checked.lines = checked.lines + first_line
    checked.others = [(line + first_line, event) for line, event in checked.others]
    checked.refused = [(line + first_line, why, raw) for line, why, raw in checked.refused]
    return checked

"""Messages of a topic as rows: JSON lines, CSV or Avro, through the acceptance of files.

A row's number is its message's offset. Events in our own JSON go to the reader of NDJSON as one
block; what a mapping describes becomes columns of text, as a file's would.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from pipelines.ingest.check import Checked, Format, RefusedLine, check, nothing
from pipelines.ingest.mapping.mapping import Export
from pipelines.ingest.reading.csv_rows import Dialect
from pipelines.ingest.reading.decoding import BOM, text_form
from pipelines.ingest.reading.files import LONGEST_LINE, Chunk
from pipelines.ingest.reading.lines import count_lines
from pipelines.ingest.times import Int64s
from schemas.errors import MappingError

#: A message of a compacted topic that says that its key is gone.
TOMBSTONE: Final = "malformed: a message without a value"

#: Avro: a file with its schema, an object by its schema's fingerprint, one of a schema registry.
_CONTAINER: Final = b"Obj\x01"
_SINGLE: Final = b"\xc3\x01"
_REGISTERED: Final = b"\x00"

#: What decoding foreign bytes as Avro may raise: anything that garbage is taken for.
_NO_AVRO: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, StopIteration),
    *(OverflowError, MemoryError, RecursionError, struct.error),
)


@dataclass(frozen=True)
class MessageFormat:
    """How to read the messages of a topic; `export` is what a mapping says of it."""

    kind: Literal["json", "csv", "avro"] = "json"
    export: Export | None = None


def format_of(topic: str, export: Export | None) -> MessageFormat:
    """The format of a topic, by its mapping. Raises `MappingError` for CSV without columns."""
    if export is None:
        return MessageFormat()
    kind = export.format or ("avro" if export.avro_schema else "csv" if export.columns else "json")
    if kind == "csv" and export.columns is None:
        raise MappingError(
            f"{topic}: messages have no header: the mapping has to name the columns of the CSV"
        )
    return MessageFormat(kind, export)


def check_messages(
    values: Sequence[bytes | None],
    offsets: Int64s,
    how: MessageFormat,
    before: int,
    *,
    detail: bool = False,
) -> tuple[int, Checked]:
    """How many rows some messages have, and what they come to; times end at `before` (ms).

    `detail` keeps all columns. Never raises for what a message holds.
    """
    absent = [number for number, value in enumerate(values) if value is None]
    if absent:
        kept = np.delete(np.arange(len(values)), absent)
        some = [value for value in values if value is not None]
        count, checked = check_messages(some, offsets[kept], how, before, detail=detail)
        gone: list[RefusedLine] = [(int(offsets[number]), TOMBSTONE, b"") for number in absent]
        checked.refused = sorted(checked.refused + gone, key=lambda refused: refused[0])
        return count + len(absent), checked
    present = [value for value in values if value is not None]
    if how.kind == "csv" or how.export is None:
        return _check_lines(present, offsets, how, before, detail)
    records, wrong = _avro(present, how.export) if how.kind == "avro" else _objects(present)
    return _check_records(records, wrong, present, offsets, how.export, before, detail)


#: Signs that a message may be more than a line, or none: a line's end of its own, a file of Avro, a
#: mark. The first byte of each is looked for first, which is ten times as fast.
_ODD: Final = ((b"\r", b"\r"), (b"\x01", _CONTAINER), (b"\xef", BOM))


def _check_lines(
    values: list[bytes], offsets: Int64s, how: MessageFormat, before: int, detail: bool
) -> tuple[int, Checked]:
    data = b"\n".join(values) + b"\n"
    if not _one_a_line(data, len(values)):
        parts = [_lines(value, how) for value in values]
        counts = [count_lines(part) for part in parts]
        data, offsets = b"".join(parts), np.repeat(offsets, counts)
    if not len(offsets):
        return 0, nothing()
    if how.kind == "csv":
        export = how.export
        assert export is not None
        assert export.columns is not None
        skip = tuple(text.encode() for text in export.skip_starting)
        dialect = Dialect(export.columns, export.delimiter or ",", skip)
        form = Format("csv", dialect, export)
    else:
        form = Format("ndjson")
    checked = check(Chunk(0, len(offsets), data=data), form, before, detail=detail)
    return len(offsets), _renumbered(checked, offsets)


def _one_a_line(data: bytes, count: int) -> bool:
    """Whether each message is plainly one line, and no list."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    if len(ends) != count or data[:1] == b"[" or (text[ends[:-1] + 1] == ord("[")).any():
        return False
    return not any(first in data and sign in data for first, sign in _ODD)


def _lines(value: bytes, how: MessageFormat) -> bytes:
    """A message that is more or less than a line, as lines."""
    export = how.export
    if export is not None and export.encoding not in (None, "utf-8"):
        value = value.decode(export.encoding, "replace").encode()
    if how.kind == "json" and value.startswith(_CONTAINER):
        try:
            return b"".join(_as_event(_flat(r)) + b"\n" for r in _decoded_avro(value, None))
        except _NO_AVRO:
            return value.replace(b"\n", b" ") + b"\n"
    if how.kind == "json" and (b"\n" in value.strip() or value.lstrip().startswith(b"[")):
        value = text_form(value, json=True).text(value)
    lines = value.removeprefix(BOM).rstrip(b"\r\n")
    return lines + b"\n" if lines else b""


def _renumbered(checked: Checked, offsets: Int64s) -> Checked:
    """Rows by their messages' offsets instead of their place in a block."""
    checked.lines = offsets[checked.lines]
    checked.others = [(int(offsets[line]), event) for line, event in checked.others]
    checked.refused = [(int(offsets[line]), why, raw) for line, why, raw in checked.refused]
    checked.spans = {}
    return checked


# Records: Avro, and JSON of somebody else's making

#: A record with the number of its message.
_Records = list[tuple[int, dict[str, Any]]]


def _objects(values: list[bytes]) -> tuple[_Records, dict[int, str]]:
    """The objects in some messages, and why others have none."""
    found: _Records = []
    wrong: dict[int, str] = {}
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, value in enumerate(values):
        lines = [value]
        if b"\n" in value.strip() or value.lstrip()[:1] == b"[":
            lines = text_form(value, json=True).text(value).splitlines()
        for line in lines:
            try:
                found.append((number, _flat(decode(line.removeprefix(BOM)))))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                wrong[number] = "malformed: not a JSON object"
    return found, wrong


def _avro(values: list[bytes], export: Export) -> tuple[_Records, dict[int, str]]:
    """The records in some messages, and why others have none."""
    schema = export.avro_schema
    found: _Records = []
    wrong: dict[int, str] = {}
    for number, value in enumerate(values):
        try:
            found += [(number, _flat(record)) for record in _decoded_avro(value, schema)]
        except _NO_AVRO as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            wrong[number] = f"malformed: not Avro of the schema: {why[:200]}"
    return found, wrong


def _decoded_avro(value: bytes, schema: Any) -> list[dict[str, Any]]:
    """Raises one of `_NO_AVRO`."""
    import fastavro

    if value.startswith(_CONTAINER):
        records = list(fastavro.reader(io.BytesIO(value)))
    elif schema is None:
        raise ValueError("the message has no schema with it: name one as avro_schema in a mapping")
    else:
        framed = 5 if value.startswith(_REGISTERED) else 10 if value.startswith(_SINGLE) else 0
        records = [_one_avro(value, sorted({framed, 0}, reverse=True), schema)]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("it holds no records")
    return records  # type: ignore[return-value]


def _one_avro(value: bytes, starts: list[int], schema: Any) -> Any:
    """The record behind what may be a frame: whatever takes all bytes is right."""
    import fastavro

    failure: Exception = ValueError("bytes are left over")
    for start in starts:
        stream = io.BytesIO(value[start:])
        try:
            record = fastavro.schemaless_reader(stream, schema, None)
        except _NO_AVRO as error:
            failure = error
            continue
        if not stream.read(1):
            return record
    raise failure


def _flat(record: dict[str, Any], above: str = "") -> dict[str, Any]:
    """A record with the fields of records within it under names like `call.imsi`."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[above + str(name)] = value
    return found


def _check_records(
    records: _Records,
    wrong: dict[int, str],
    values: list[bytes],
    offsets: Int64s,
    export: Export,
    before: int,
    detail: bool,
) -> tuple[int, Checked]:
    checked = nothing()
    if records:
        numbers = np.array([number for number, _ in records], np.int64)
        columns = {
            name: pa.array([_text(record.get(name)) for _, record in records], pa.string())
            for name in export.reads
        }
        chunk = Chunk(0, len(records), rows=pa.record_batch(columns))
        checked = _renumbered(
            check(chunk, Format("parquet", export=export), before, detail=detail),
            offsets[numbers],
        )
    # As it came, not as it was understood.
    checked.refused = [
        (line, why, values[int(np.searchsorted(offsets, line))][:LONGEST_LINE])
        for line, why, _ in checked.refused
    ]
    checked.refused += [
        (int(offsets[number]), why, values[number][:LONGEST_LINE]) for number, why in wrong.items()
    ]
    checked.refused.sort(key=lambda refused: refused[0])
    return len(records) + len(wrong), checked


def _as_event(record: dict[str, Any]) -> bytes:
    """A record as a line of NDJSON; one that does not say what it is, is a call."""
    texts = {
        name: _text(value) if name in ("imsi", "msisdn", "at", "start_time") else value
        for name, value in record.items()
        if value is not None
    }
    return json.dumps({"type": "call"} | texts, default=str).encode()


def _text(value: Any) -> str | None:
    """A value as a CSV file would have it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return json.dumps(value, default=str) if isinstance(value, list) else str(value)

"""Chunks into accepted columns and refused lines.

The models in `schemas.events` say what is accepted. Checking works in columns and vouches only
for rows that are plainly right; each row it is not sure of is put to the model, one by one, for
its value or for the reason to refuse it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ingest.mapping.convert import Calls, convert, plain_calls
from pipelines.ingest.mapping.mapping import Export
from pipelines.ingest.reading.csv_rows import TOO_LONG, Dialect, csv_rows, is_utf8
from pipelines.ingest.reading.decoding import BOM
from pipelines.ingest.reading.files import LONGEST_LINE, Chunk
from pipelines.ingest.reading.headers import needed_columns, plain_names
from pipelines.ingest.reading.lines import Lines
from pipelines.ingest.reading.parquet_rows import (
    as_line,
    parquet_calls,
    parquet_texts,
    plain_numbers,
    rows_not_utf8,
)
from pipelines.ingest.times import UNSURE, Bools, Int64s, by_length, parse_times
from schemas.events import Activation, Call, Event, Refused, accept_call, accept_line
from schemas.fields import ID_LENGTH, TIME_END

#: How far ahead of this machine's clock a live event's time may be, ms: clocks differ, not by days.
AHEAD: Final = 300_000
AHEAD_OF_CLOCK: Final = "invalid_field: at: too far ahead of the clock here"

#: (line, reason, bytes) of a line that is not accepted.
RefusedLine = tuple[int, str, bytes]


@dataclass
class Checked:
    """What a chunk comes to.

    `lines`, `imsis`, `at` (ms) and `ids` are columns of the calls and activations; `others` are
    all other events with their lines, `raw_others` their bytes. All are in the order of lines,
    which count from the file's first, 1.
    """

    lines: Int64s
    imsis: Int64s
    at: Int64s
    ids: pa.Array
    others: list[tuple[int, Event]] = field(default_factory=list)
    raw_others: list[bytes] = field(default_factory=list)
    refused: list[RefusedLine] = field(default_factory=list)
    #: How many lines a row takes, by its first, where that is more than one.
    spans: dict[int, int] = field(default_factory=dict)
    #: What else calls say, of `DETAIL`, a row each as `lines`; only where it was to be kept.
    detail: pa.Table | None = None
    #: Rows that a mapping passes over.
    skipped: int = 0

    @property
    def count(self) -> int:
        """How many rows there are together; what is taken back is none."""
        refused = sum(bool(reason) for _, reason, _ in self.refused)
        return len(self.lines) + len(self.others) + refused + self.skipped


#: `call` tells calls from activations; nulls and empty texts are what a row leaves out.
DETAIL: Final = pa.schema(
    [
        ("call", pa.bool_()),
        ("msisdn", pa.string()),
        ("duration_s", pa.float64()),
        ("cell_id", pa.string()),
        ("charge_fen", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Format:
    """How to read a file: its kind, for CSV its dialect, and the export it is, if it was mapped."""

    kind: str
    dialect: Dialect | None = None
    export: Export | None = None


def nothing() -> Checked:
    """No rows at all."""
    none = np.empty(0, np.int64)
    return Checked(none, none, none, pa.array([], pa.string()))


def believable(live: bool, ahead: int = AHEAD, now: int | None = None) -> int:
    """Where times end that an event may have, ms: `ahead` of the clock for a live feed.

    One exchange whose clock is years ahead would else make all that comes after it late, for ever.
    """
    if not live:
        return TIME_END
    return (time.time_ns() // 1_000_000 if now is None else now) + ahead


def check(chunk: Chunk, how: Format, before: int = TIME_END, *, detail: bool = False) -> Checked:
    """The rows of a chunk; those from `before` (ms) on are refused. `detail` keeps all columns.

    Raises one of `DAMAGE` when a Parquet column cannot be a call's, or is none.
    """
    if chunk.rows is not None:
        rows = chunk.rows
        checked = _in_time(
            _check_parquet(rows, how, detail), before, lambda row: as_line(rows, row)
        )
        return _numbered(checked, chunk.first_line)
    if chunk.data is None:
        return nothing()
    data = chunk.data.removeprefix(BOM) if chunk.first_line == 1 else chunk.data
    lines = Lines(data, chunk.lines)
    if how.kind == "ndjson":
        checked = _check_ndjson(lines, detail)
    else:
        assert how.dialect is not None
        checked = _check_csv(lines, how.dialect, how.export, detail)
    record = partial(_record, lines, checked.spans)
    return _numbered(_in_time(checked, before, record), chunk.first_line)


# Files of calls


def _check_csv(lines: Lines, dialect: Dialect, export: Export | None, detail: bool) -> Checked:
    rows = csv_rows(lines, dialect, needed_columns(dialect.names, export))
    calls = convert(export, rows.columns) if export is not None else plain_calls(rows.columns)
    kept = rows.lines if calls.rows is None else rows.lines[calls.rows]
    checked = _check_calls(calls, kept, partial(_record, lines, rows.spans), detail)
    checked.spans = rows.spans
    checked.skipped = len(rows.lines) - len(kept)
    checked.refused += [(line, reason, lines[line]) for line, reason in rows.malformed]
    checked.refused.sort(key=lambda refused: refused[0])
    return checked


def _record(lines: Lines, spans: dict[int, int], line: int) -> bytes:
    """The bytes of the record that begins with a line."""
    return b"\n".join(lines.all[line : line + spans.get(line, 1)])


def _check_parquet(rows: pa.RecordBatch, how: Format, detail: bool) -> Checked:
    rows = rows.rename_columns(plain_names(rows.schema.names, how.export))
    names = needed_columns(rows.schema.names, how.export)
    lines, some = np.arange(rows.num_rows), rows
    odd = sorted(rows_not_utf8(rows, names))
    if odd:
        lines = np.delete(lines, odd)
        some = rows.take(pa.array(lines))
    if how.export is not None:
        calls = convert(how.export, parquet_texts(some, names))
    else:
        if not detail:  # they are only looked at to be refused
            names = [n for n in names if n not in _PLAIN or not plain_numbers(some.column(n))]
        calls = parquet_calls(some, names)
    kept = lines if calls.rows is None else lines[calls.rows]
    checked = _check_calls(calls, kept, lambda row: as_line(rows, row), detail)
    checked.skipped = len(lines) - len(kept)
    checked.refused += [(row, "malformed: not UTF-8", as_line(rows, row)) for row in odd]
    checked.refused.sort(key=lambda refused: refused[0])
    return checked


def _check_calls(
    calls: Calls, lines: Int64s, line_of: Callable[[int], bytes], detail: bool
) -> Checked:
    imsis, good = _parse_imsis(calls.texts["imsi"])
    good &= calls.at != UNSURE
    good &= _fitting_ids(calls.texts["call_id"])
    for name, plain in _PLAIN.items():
        if name in calls.texts:
            good &= _matching(calls.texts[name], plain)
    if good.all():
        sure = Checked(lines, imsis, calls.at, calls.texts["call_id"])
        sure.detail = _detail_of(calls.texts, len(lines)) if detail else None
        return sure
    kept = pa.array(good)
    texts = {name: column.filter(kept) for name, column in calls.texts.items() if detail}
    sure = Checked(lines[good], imsis[good], calls.at[good], calls.texts["call_id"].filter(kept))
    sure.detail = _detail_of(texts, len(sure.lines)) if detail else None
    doubtful: list[tuple[int, Event]] = []
    for row in np.flatnonzero(~good).tolist():
        line = int(lines[row])
        try:
            doubtful.append((line, accept_call(_row(calls, row))))
        except Refused as reason:
            # Of a time that was converted in vain, the model only knows that it is not there.
            why = calls.wrong.get(row, str(reason)) if reason.field == "start_time" else str(reason)
            sure.refused.append((line, why, line_of(line)))
    return _with_uses(sure, doubtful)


def _row(calls: Calls, row: int) -> dict[str, Any]:
    found = {name: column[row].as_py() for name, column in calls.texts.items()}
    if calls.at[row] != UNSURE:
        moment = datetime.fromtimestamp(int(calls.at[row]) // 1_000, UTC)
        found["start_time"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{calls.at[row] % 1_000:03}Z"
    return found


def _detail_of(texts: dict[str, pa.Array], rows: int) -> pa.Table:
    """`DETAIL` of rows whose numbers are plainly right, or left out."""
    columns = {"call": pa.repeat(pa.scalar(True), rows)}
    for field_ in DETAIL:
        if field_.name == "call":
            continue
        text = texts.get(field_.name)
        if text is not None and field_.type != pa.string():
            text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        columns[field_.name] = pa.nulls(rows, field_.type) if text is None else text
    return pa.table(columns).cast(DETAIL)


# Columns


def _parse_imsis(texts: pa.Array) -> tuple[Int64s, Bools]:
    """Numbers of 14 or 15 digits as int64, and which are such."""
    numbers = np.zeros(len(texts), np.int64)
    good = np.zeros(len(texts), bool)
    for length, rows, chars in by_length(texts, {14, 15}):
        digits = chars - ord("0")
        digital = (digits <= 9).all(axis=0)
        # Exact in float64: 15 digits are below 2**53.
        parsed = (_POWERS[-length:] @ digits).astype(np.int64)
        numbers[rows] = np.where(digital, parsed, 0)
        good[rows] = digital
    return numbers, good


_POWERS: Final = 10.0 ** np.arange(14, -1, -1)


def _fitting_ids(texts: pa.Array) -> Bools:
    """Which are surely neither empty nor too long; a character is at least a byte."""
    length = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    fitting: Bools = (length > 0) & (length <= ID_LENGTH)
    return fitting


#: Numbers that are plainly right, or left out.
_PLAIN: Final = {
    "duration_s": r"^[0-9]{0,15}(\.[0-9]{1,9})?$",
    "charge_fen": r"^[0-9]{0,15}$",
}


def _matching(texts: pa.Array, pattern: str) -> Bools:
    found = pc.match_substring_regex(texts, pattern)
    result: Bools = pc.fill_null(found, True).to_numpy(zero_copy_only=False)
    return result


# Lines of JSON


class _CallLine(msgspec.Struct, tag="call", gc=False):
    """A call that is plainly right but for the texts of its id, time and IMSI."""

    call_id: str
    start_time: str
    imsi: str
    msisdn: str | None = None
    duration_s: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    cell_id: str | None = None
    charge_fen: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | None = None


class _ActivationLine(msgspec.Struct, tag="activation", gc=False):
    """An activation likewise, under the names that a call has."""

    call_id: str = msgspec.field(name="event_id")
    start_time: str = msgspec.field(name="at")
    imsi: str


_UNDECODED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_use = msgspec.json.Decoder(_CallLine | _ActivationLine).decode


def _check_ndjson(lines: Lines, detail: bool) -> Checked:
    uses, doubtful = _decoded(lines)
    kept = np.arange(lines.count)
    if doubtful:
        kept = np.delete(kept, doubtful)
    ids = pa.array([use.call_id for use in uses], pa.string())
    at = parse_times(pa.array([use.start_time for use in uses], pa.string()))
    imsis, good = _parse_imsis(pa.array([use.imsi for use in uses], pa.string()))
    good &= (at != UNSURE) & _fitting_ids(ids)
    more = pa.Table.from_pylist(list(map(_detail, uses)), DETAIL) if detail else None
    if good.all():
        sure = Checked(kept, imsis, at, ids, detail=more)
    else:
        more = more.filter(pa.array(good)) if more is not None else None
        sure = Checked(kept[good], imsis[good], at[good], ids.filter(pa.array(good)), detail=more)
        doubtful = sorted([*doubtful, *kept[~good].tolist()])
    return _looked_at(sure, doubtful, lines) if doubtful else sure


def _detail(use: object) -> dict[str, Any]:
    """A row of `DETAIL`, of a call or an activation however it was decoded."""
    found = {name: getattr(use, name, None) for name in DETAIL.names}
    return found | {"call": isinstance(use, Call | _CallLine)}


def _decoded(lines: Lines) -> tuple[list[_CallLine | _ActivationLine], list[int]]:
    """Calls and activations that may be right, and the lines of all else."""
    # The decoder does not look into fields that it does not need, nor mind their length.
    sound = is_utf8(lines.data) and max(map(len, lines.all), default=0) < LONGEST_LINE
    if sound:
        with contextlib.suppress(*_UNDECODED):
            return list(map(_use, lines.all)), []
    uses: list[_CallLine | _ActivationLine] = []
    doubtful: list[int] = []
    for number, line in enumerate(lines.all):
        try:
            use = _use(line)
        except _UNDECODED:
            doubtful.append(number)
            continue
        if sound or (is_utf8(line) and len(line) <= LONGEST_LINE):
            uses.append(use)
        else:
            doubtful.append(number)
    return uses, doubtful


def _looked_at(sure: Checked, doubtful: list[int], lines: Lines) -> Checked:
    """What the models say of each doubtful line, beside what is sure."""
    uses: list[tuple[int, Event]] = []
    for number in doubtful:
        line = lines[number]
        if not line.strip():
            continue
        try:
            if len(line) > LONGEST_LINE:
                raise Refused(TOO_LONG)  # noqa: TRY301
            event = accept_line(line)
        except Refused as reason:
            sure.refused.append((number, str(reason), line))
            continue
        if isinstance(event, Call | Activation):
            uses.append((number, event))
        else:
            sure.others.append((number, event))
            sure.raw_others.append(line)
    return _with_uses(sure, uses)


# Putting together


def _with_uses(sure: Checked, uses: list[tuple[int, Event]]) -> Checked:
    """With the calls and activations that were looked at one by one, in the order of lines."""
    if not uses:
        return sure
    some: list[tuple[int, Any]] = list(uses)
    lines = np.concatenate([sure.lines, np.array([line for line, _ in some], np.int64)])
    imsis = np.concatenate([sure.imsis, np.array([int(e.imsi) for _, e in some], np.int64)])
    at = np.concatenate([sure.at, np.array([e.at for _, e in some], np.int64)])
    ids = pa.concat_arrays([sure.ids, pa.array([e.event_id for _, e in some], pa.string())])
    order = np.argsort(lines, kind="stable")
    sure.lines, sure.imsis, sure.at = lines[order], imsis[order], at[order]
    sure.ids = ids.take(pa.array(order))
    if sure.detail is not None:
        more = pa.Table.from_pylist([_detail(event) for _, event in some], DETAIL)
        sure.detail = pa.concat_tables([sure.detail, more]).take(pa.array(order))
    return sure


def _in_time(checked: Checked, before: int, line_of: Callable[[int], bytes]) -> Checked:
    """Without the rows whose time is `before` or later; those are refused."""
    early, kept = checked.at < before, [event.at < before for _, event in checked.others]
    if early.all() and all(kept):
        return checked
    late = [line for (line, _), fits in zip(checked.others, kept, strict=True) if not fits]
    late += checked.lines[~early].tolist()
    checked.refused += [(line, AHEAD_OF_CLOCK, line_of(line)) for line in late]
    checked.refused.sort(key=lambda refused: refused[0])
    checked.others = list(compress(checked.others, kept))
    checked.raw_others = list(compress(checked.raw_others, kept))
    checked.lines, checked.imsis = checked.lines[early], checked.imsis[early]
    checked.at, checked.ids = checked.at[early], checked.ids.filter(pa.array(early))
    if checked.detail is not None:
        checked.detail = checked.detail.filter(pa.array(early))
    return checked


def _numbered(checked: Checked, first_line: int) -> Checked:
    """Lines counted from the file's first instead of the chunk's."""
    checked.lines = checked.lines + first_line
    checked.others = [(line + first_line, event) for line, event in checked.others]
    checked.refused = [
        (line + first_line, why, raw[:LONGEST_LINE]) for line, why, raw in checked.refused
    ]
    return checked

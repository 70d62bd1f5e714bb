"""An operator's own columns into those of a call record, as its mapping says; columns at a time.

What a value must be is not judged here: the models do, after this. Only a time that cannot be read
is refused at once, for no model would know its layout.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ingest.mapping.mapping import (
    EPOCHS,
    EXCEL,
    DurationField,
    Export,
    HashField,
    MoneyField,
    TextField,
    TimeField,
    parse_offset,
)
from pipelines.ingest.times import (
    UNSURE,
    Bools,
    Int64s,
    Layout,
    parse_epoch,
    parse_excel,
    parse_local,
    parse_times,
)
from schemas.fields import EVENTS_START, OUT_OF_RANGE, TIME_END, parse_time

#: Seconds or fen in one of the unit.
_FACTORS: Final = {
    "seconds": Decimal(1),
    "tenths": Decimal("0.1"),
    "milliseconds": Decimal("0.001"),
    "minutes": Decimal(60),
    "fen": Decimal(1),
    "jiao": Decimal(10),
    "yuan": Decimal(100),
}
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?")
_MAX_QUOTED: Final = 60
_QUARTER: Final = 900_000


@dataclass
class Calls:
    """Call records as columns of one length, of the rows (by number) that are not to be skipped.

    `texts` has the columns of `schemas.events.Call` that there are, as text, without start_time
    where that was converted; `at` is ms, `UNSURE` where the text is to be looked at by itself, or
    the row is in `wrong`, which gives the reason to refuse it.
    """

    texts: dict[str, pa.Array]
    at: Int64s
    wrong: dict[int, str]
    rows: Int64s | None = None


def plain_calls(columns: dict[str, pa.Array]) -> Calls:
    """Columns that have the names and units of the contract already."""
    return Calls(columns, parse_times(columns["start_time"]), {})


def convert(export: Export, columns: dict[str, pa.Array]) -> Calls:
    """Columns of text of an export's file as call records; spaces around values do not count."""
    trimmed = {name: pc.utf8_trim_whitespace(columns[name]) for name in export.reads}
    kept = _kept(export, trimmed)
    if kept is not None:
        trimmed = {name: column.filter(pa.array(kept)) for name, column in trimmed.items()}
    rows = len(next(iter(trimmed.values())))
    fields = export.fields
    at, wrong = _times(fields.start_time, trimmed)
    texts = {}
    for name in ("call_id", "imsi", "msisdn", "duration_s", "cell_id", "charge_fen"):
        part = getattr(fields, name)
        if isinstance(part, HashField):
            texts[name] = _hashed(part, trimmed)
        elif isinstance(part, TextField):
            texts[name] = _text(part, trimmed, rows)
        elif isinstance(part, DurationField | MoneyField):
            texts[name] = _number(part, trimmed, rows, export.decimal)
    return Calls(texts, at, wrong, np.flatnonzero(kept) if kept is not None else None)


def _kept(export: Export, columns: dict[str, pa.Array]) -> Bools | None:
    """Which rows are calls by the rules of the export; None for all."""
    skipped: Bools | None = None
    for rule in export.skip_rows:
        column = pc.fill_null(columns[rule.column], "")
        if rule.at_most is not None:
            most = rule.at_most

            def small(text: str | None, most: float = most) -> bool:
                number = (text or "").replace(",", ".") if export.decimal == "," else text or ""
                return bool(_NUMBER.fullmatch(number)) and float(number) <= most

            found = _each_once(column, small, pa.bool_())
        else:
            found = pc.is_in(column, pa.array(rule.is_ or rule.is_not or [], pa.string()))
        here: Bools = found.to_numpy(zero_copy_only=False)
        if rule.is_not is not None:
            here = ~here
        skipped = here if skipped is None else skipped | here
    return None if skipped is None or not skipped.any() else ~skipped


def _sourced(
    part: TextField | DurationField | MoneyField, columns: dict[str, pa.Array], rows: int
) -> pa.Array:
    if part.column is not None:
        return columns[part.column]
    return pa.repeat(pa.scalar(part.constant, pa.string()), rows)


def _text(part: TextField, columns: dict[str, pa.Array], rows: int) -> pa.Array:
    texts = _sourced(part, columns, rows)
    for prefix in part.strip_prefix:
        cut = pc.utf8_slice_codeunits(texts, len(prefix))
        texts = pc.if_else(pc.starts_with(texts, prefix), cut, texts)
    for suffix in part.strip_suffix:
        cut = pc.utf8_slice_codeunits(texts, 0, -len(suffix))
        texts = pc.if_else(pc.ends_with(texts, suffix), cut, texts)
    return texts


def _hashed(part: HashField, columns: dict[str, pa.Array]) -> pa.Array:
    """128 bits of BLAKE2b over the columns: the same on every machine, for ever."""
    # An ASCII unit separator keeps ("1", "23") and ("12", "3") apart; no export has one in a value.
    filled = [pc.fill_null(columns[name], "") for name in part.hash]
    joined = pc.binary_join_element_wise(*filled, "\x1f")
    hashed = hashlib.blake2b
    texts = joined.cast(pa.binary()).to_pylist()
    digests = b"".join([hashed(text, digest_size=16).digest() for text in texts])
    # In hexadecimal all at once: each id has 32 characters.
    ends = np.arange(0, 32 * len(texts) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(ends), pa.py_buffer(digests.hex().encode())
    )


def _number(
    part: DurationField | MoneyField, columns: dict[str, pa.Array], rows: int, decimal: str
) -> pa.Array:
    """Numbers in the unit of the contract; what is none stays as it is, for the model to refuse."""
    texts = _sourced(part, columns, rows)
    factor = _FACTORS[part.unit]
    if decimal == ",":
        texts = pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".")
    if factor == 1:
        return texts

    def scaled(text: str | None) -> str | None:
        if text is None or not _NUMBER.fullmatch(text):
            return text
        return format((Decimal(text) * factor).normalize(), "f")

    return _each_once(texts, scaled, pa.string())


def _each_once(
    texts: pa.Array, function: Callable[[str | None], object], kind: pa.DataType
) -> pa.Array:
    """A function of each text, called once for each different one."""
    coded = texts.dictionary_encode(null_encoding="encode")
    values = pa.array([function(text) for text in coded.dictionary.to_pylist()], kind)
    return values.take(coded.indices)


def _times(part: TimeField, columns: dict[str, pa.Array]) -> tuple[Int64s, dict[int, str]]:
    """ms since the epoch, and reasons for the rows that have no time."""
    texts = _put_together(part, columns)
    wrong: dict[int, str] = {}
    if part.format is None:
        if part.zone is None and part.offset is None and part.offset_column is None:
            return _iso_times(texts)
        local = parse_times(_with_z(texts))
        for row in np.flatnonzero(local == UNSURE).tolist():
            text = texts[row].as_py() or ""
            try:
                local[row] = parse_time(f"{text.replace(' ', 'T', 1)}Z")
            except ValueError:
                wrong[row] = f"{_quoted(text)} is not a time like 2026-03-01T08:15:30"
    elif part.format == EXCEL:
        local = parse_excel(pc.replace_substring(texts, ",", "."))
        for row in np.flatnonzero(local == UNSURE).tolist():
            wrong[row] = (
                f"{_quoted(texts[row].as_py() or '')} is not a spreadsheet's number of days"
            )
    elif part.format in EPOCHS:
        local = parse_epoch(texts, EPOCHS[part.format])
        for row in np.flatnonzero(local == UNSURE).tolist():
            wrong[row] = _no_epoch(texts[row].as_py() or "")
    else:
        layout = Layout.of(part.format)
        local = parse_local(texts, layout) if layout else np.full(len(texts), UNSURE, np.int64)
        for row in np.flatnonzero(local == UNSURE).tolist():
            text = texts[row].as_py() or ""
            try:
                local[row] = _local(text, part.format)
            except ValueError:
                wrong[row] = f"{_quoted(text)} is not like {part.format}"
    ahead = np.zeros(len(local), np.int64)
    if part.offset is not None:
        ahead[:] = parse_offset(part.offset) * 60_000
    elif part.offset_column is not None:
        minutes = _each_once(columns[part.offset_column], _minutes, pa.int64())
        for row in np.flatnonzero(minutes.is_null()).tolist():
            text = columns[part.offset_column][row].as_py() or ""
            wrong.setdefault(row, f"{_quoted(text)} is not an offset like +08:00")
        ahead = pc.fill_null(minutes, 0).to_numpy(zero_copy_only=False) * 60_000
    elif part.zone is not None:
        ahead = _ahead_in(ZoneInfo(part.zone), local)
    at = np.where(local == UNSURE, UNSURE, local - ahead)
    outside = (at < EVENTS_START) | (at >= TIME_END)
    for row in np.flatnonzero((at != UNSURE) & outside).tolist():
        wrong.setdefault(row, OUT_OF_RANGE)
    at[list(wrong)] = UNSURE
    return at, {row: f"invalid_field: start_time: {why}" for row, why in wrong.items()}


def _local(text: str, format: str) -> int:
    """ms since 1970 of local time, or with `%z` of UTC; 24:00 ends a day. Raises `ValueError`."""
    try:
        moment, more = datetime.strptime(text, format), timedelta()  # noqa: DTZ007
    except ValueError:
        midnight = _MIDNIGHT.sub("00", text, count=1)
        moment, more = datetime.strptime(midnight, format), timedelta(days=1)  # noqa: DTZ007
        if midnight == text or moment.time() != time():
            raise
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment + more - _EPOCH) // timedelta(milliseconds=1)


#: The hour that ends a day.
_MIDNIGHT: Final = re.compile(r"24(?=:?00(:?00)?(\D|$))")


def _with_z(texts: pa.Array) -> pa.Array:
    """Local times with a T between date and time, as if they were of UTC."""
    with_t = pc.replace_substring(texts, " ", "T", max_replacements=1)
    return pc.binary_join_element_wise(with_t, "Z", "")


def _no_epoch(text: str) -> str:
    if re.fullmatch(r"-?[0-9]{1,19}(\.[0-9]+)?", text):
        return OUT_OF_RANGE
    return f"{_quoted(text)} is not a number since 1970"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _put_together(part: TimeField, columns: dict[str, pa.Array]) -> pa.Array:
    if part.column is not None:
        return columns[part.column]
    assert part.date is not None
    assert part.time is not None
    return pc.binary_join_element_wise(
        pc.fill_null(columns[part.date], ""), pc.fill_null(columns[part.time], ""), " "
    )


def _iso_times(texts: pa.Array) -> tuple[Int64s, dict[int, str]]:
    at = parse_times(texts)
    wrong = {}
    for row in np.flatnonzero(at == UNSURE).tolist():
        try:
            at[row] = parse_time(texts[row].as_py() or "")
            if at[row] < EVENTS_START:
                raise ValueError(OUT_OF_RANGE)  # noqa: TRY301
        except ValueError as error:
            at[row] = UNSURE
            wrong[row] = f"invalid_field: start_time: {error}"
    return at, wrong


def _minutes(text: str | None) -> int | None:
    try:
        return parse_offset(text or "")
    except ValueError:
        return None


def _ahead_in(zone: ZoneInfo, local: Int64s) -> Int64s:
    """ms that local times are ahead of UTC in a zone; an hour that comes twice is its first.

    Zones change on quarters of an hour, and few of those are in one chunk.
    """
    known = np.clip(local, 0, TIME_END)
    quarters, index = np.unique(known // _QUARTER, return_inverse=True)
    ahead = []
    for quarter in quarters.tolist():
        moment = (_EPOCH + timedelta(milliseconds=quarter * _QUARTER)).replace(tzinfo=zone)
        offset = moment.utcoffset()
        assert offset is not None
        ahead.append(offset // timedelta(milliseconds=1))
    found: Int64s = np.array(ahead, np.int64)[index]
    return found


def _quoted(text: str) -> str:
    return repr(text[:_MAX_QUOTED])

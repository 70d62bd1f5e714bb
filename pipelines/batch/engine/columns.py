"""Columns as files write them → columns as jobs need them, and what is wrong with the rest.

Whole columns at a time; CSV gives strings, Parquet may give types of its own. No files here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.errors import InputError

#: Where a row came from: its file, and its number among the file's rows (the first is 1).
SOURCE, ROW = "_source", "_row"

ORIGIN: dict[str, Any] = {SOURCE: pl.Categorical(), ROW: pl.UInt64}

REJECTS: dict[str, Any] = {**ORIGIN, "reason": pl.String}

_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column a job reads. `parse` turns what it cannot use into null; empty cells are null.

    `kind` is the Polars type of what comes out of `parse`.

    `required` says that a row without a value is unusable, `present` that every file must have it,
    `instant` that the values are times, Int64 ms since the epoch. Where a file does not have it,
    `absent` is the value of its rows.
    """

    name: str
    kind: Any
    parse: Callable[[pl.Series], pl.Series]
    wanted: str
    required: bool = True
    present: bool = True
    instant: bool = False
    absent: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A kind of input file: its name, where it lies below the input folder, and its columns.

    A data set of `events` is NDJSON files, which have no columns. One of `calls` is call records
    as the stream reads them: it accepts what the stream does, whatever `columns` say of values.
    """

    name: str
    columns: tuple[FileColumn, ...]
    optional: bool = False
    folders: tuple[str, ...] = ("utility", "")
    events: bool = False
    calls: bool = False

    @property
    def names(self) -> list[str]:
        """The columns read; others in the file are left alone."""
        return [column.name for column in self.columns]

    @property
    def instants(self) -> list[str]:
        """The columns that hold times."""
        return [column.name for column in self.columns if column.instant]

    @property
    def values(self) -> dict[str, Any]:
        """Name → Polars type of the columns of usable rows."""
        return {column.name: column.kind for column in self.columns}

    @property
    def schema(self) -> dict[str, Any]:
        """Those of usable rows, with SOURCE and ROW."""
        return self.values | ORIGIN


def empty_rejects() -> pl.DataFrame:
    """No rejects."""
    return pl.DataFrame(schema=REJECTS)


def check_header(dataset: Dataset, names: Sequence[str], source: str) -> list[str]:
    """Which columns of a file to read, given all its `names`.

    Raises `InputError` where one is missing.
    """
    missing = [c.name for c in dataset.columns if c.present and c.name not in names]
    if missing:
        raise InputError(f"{source} has no column {', '.join(missing)} (a {dataset.name} file)")
    return [name for name in dataset.names if name in names]


def check(raw: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(usable rows with parsed columns and SOURCE, ROW; rejects with the first thing wrong)."""
    raw = raw.with_columns(
        _as_text(raw[name]) for name in dataset.names if _is_unknown_type(raw.schema.get(name))
    )
    parsed: dict[str, pl.Series] = {}
    bad: list[tuple[FileColumn, pl.Series]] = []
    for column in dataset.columns:
        if column.name not in raw.columns:
            values = pl.repeat(column.absent, raw.height, dtype=pl.String, eager=True)
        else:
            values = _blank_to_null(raw[column.name])
        result = column.parse(values).alias(column.name)
        parsed[column.name] = result
        if result.null_count():
            wrong = result.is_null() if column.required else result.is_null() & values.is_not_null()
            if wrong.any():
                bad.append((column, wrong))
    good = pl.DataFrame(parsed).with_columns(raw[SOURCE], raw[ROW])
    if not bad:
        return good, empty_rejects()
    return _split(raw, good, bad)


def _split(
    raw: pl.DataFrame, good: pl.DataFrame, bad: Sequence[tuple[FileColumn, pl.Series]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    unusable = bad[0][1]
    for _, wrong in bad[1:]:
        unusable = unusable | wrong
    first = pl.coalesce(pl.when(wrong).then(_reason(raw, column)) for column, wrong in bad)
    rejects = raw.select(SOURCE, ROW, first.alias("reason")).filter(unusable)
    return good.filter(~unusable), rejects


def _reason(raw: pl.DataFrame, column: FileColumn) -> pl.Expr:
    if column.name not in raw.columns:
        return pl.lit(f"invalid_field: {column.name}: missing")
    text = pl.col(column.name).cast(pl.String, strict=False)
    shown = pl.format("'{}'", text.str.slice(0, _LONGEST_VALUE))
    said = pl.format(
        "invalid_field: {}: {} is not {}", pl.lit(column.name), shown, pl.lit(column.wanted)
    )
    empty = text.is_null() | (text.str.strip_chars() == "")
    return pl.when(empty).then(pl.lit(f"invalid_field: {column.name}: missing")).otherwise(said)


def _is_unknown_type(kind: pl.DataType | None) -> bool:
    """Whether Parquet has a type here that no kind of column knows."""
    known = (pl.String, pl.Date, pl.Datetime, pl.Null)
    return kind is not None and not kind.is_numeric() and not isinstance(kind, known)


def _as_text(values: pl.Series) -> pl.Series:
    """As a CSV file would have them; bytes that are not UTF-8 become U+FFFD, as they do there."""
    if values.dtype in (pl.Categorical, pl.Enum, pl.Boolean):
        return values.cast(pl.String)
    words = [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in values.drop_nulls().to_list()
    ]
    nulls = _none(values, pl.String())
    return nulls.scatter(values.is_not_null().arg_true(), words) if words else nulls


def _blank_to_null(values: pl.Series) -> pl.Series:
    if values.dtype != pl.String:
        return values
    return _unless(values, values == "")


def _none(values: pl.Series, kind: pl.DataType) -> pl.Series:
    return pl.Series(values.name, [None], dtype=kind).new_from_index(0, len(values))


def _whole(values: pl.Series) -> pl.Series:
    """Int64 of numbers as Parquet has them; null where there is a fraction, or no number."""
    if values.dtype.is_temporal():
        return _none(values, pl.Int64())
    numbers = values.cast(pl.Int64, strict=False)
    if not values.dtype.is_float() and not values.dtype.is_decimal():
        return numbers
    return _unless(numbers, numbers.cast(values.dtype, strict=False).ne_missing(values))


def _unless(values: pl.Series, wrong: pl.Series) -> pl.Series:
    """Null where `wrong`; the very same column, not a copy, where nothing is."""
    return values.set(wrong, None) if wrong.any() else values


# --- kinds of columns ---------------------------------------------------------------------------


def text(
    name: str, *, required: bool = True, present: bool = True, absent: str | None = None
) -> FileColumn:
    """An opaque string; numbers are read as their digits, 12.0 of a Parquet column as 12."""

    def parse(values: pl.Series) -> pl.Series:
        words = values.cast(pl.String)
        if values.dtype.is_float() or values.dtype.is_decimal():
            words = words.zip_with(_whole(values).is_null(), _whole(values).cast(pl.String))
        return words

    return FileColumn(name, pl.String, parse, "a text", required, present, absent=absent)


def choice(
    name: str, options: Sequence[str], *, required: bool = True, present: bool = True
) -> FileColumn:
    """One of a few words."""

    def parse(values: pl.Series) -> pl.Series:
        words = values.cast(pl.String)
        return _unless(words, ~words.is_in(list(options)))

    wanted = f"one of {', '.join(options)}"
    return FileColumn(name, pl.String, parse, wanted, required, present)


def time(name: str) -> FileColumn:
    """An instant, as Int64 ms since the epoch: ISO 8601 with an offset, or a Parquet timestamp.

    A Parquet timestamp without a zone is UTC.
    """
    wanted = "an ISO 8601 time with an offset"
    return FileColumn(name, pl.Int64, parse_time, wanted, instant=True)


def offsets(raw: pl.DataFrame, dataset: Dataset) -> list[str]:
    """The offsets from UTC, like +08:00 or Z, that the times of raw rows are written with."""
    names = [c.name for c in dataset.columns if c.instant and raw.schema.get(c.name) == pl.String]
    found = [
        raw[name].unique().str.extract(r"\d(Z|[+-]\d{2}:?\d{2})$").drop_nulls() for name in names
    ]
    return sorted(set(pl.concat(found))) if found else []


def parse_time(values: pl.Series) -> pl.Series:
    """Int64 ms since the epoch, null where a value is no instant."""
    if values.dtype == pl.String:
        shape = values.str.slice(10, 1) == "T"
        parsed = values.str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="ms", strict=False
        ).dt.epoch("ms")
        if parsed.null_count() > values.null_count():
            short = values.str.to_datetime("%Y-%m-%dT%H:%M%#z", time_unit="ms", strict=False)
            parsed = parsed.zip_with(parsed.is_not_null(), short.dt.epoch("ms"))
        if parsed.null_count() > values.null_count():
            parsed = parsed.zip_with(parsed.is_not_null(), _end_of_day(values))
        return _unless(parsed, ~shape)
    if isinstance(values.dtype, pl.Datetime):
        return values.dt.epoch("ms")
    return _none(values, pl.Int64())


#: A calendar day as exports write it: 2026-02-01, 2026/2/1, 20260201, 2026年2月1日, with or without
#: a local time of that day.
_DAY = (
    r"^(\d{4})(?:[-/.](\d{1,2})[-/.](\d{1,2})|(\d{2})(\d{2})|年(\d{1,2})月(\d{1,2})日)"
    r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?$"
)
_MONTH = (
    r"^(\d{4})(?:[-/.]?(0[1-9]|1[0-2])|[-/.]([1-9])|年(\d{1,2})月)"
    r"(?:[-/.]0?1(?: 0{1,2}:00(?::00)?)?)?$"
)

#: 10000, 10000.00 and 10,000, of which each can only mean one whole number.
_GROUPED = r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.0*)?$"


def _end_of_day(values: pl.Series) -> pl.Series:
    """Int64 ms of times like 2026-03-31T24:00+08:00, which is the day's end; null for others."""
    midnight = values.str.replace(r"T24:00(?::00(?:\.0+)?)?", "T00:00")
    other = midnight == values
    times = midnight.str.to_datetime("%Y-%m-%dT%H:%M%#z", time_unit="ms", strict=False)
    return _unless(times.dt.epoch("ms") + 86_400_000, other)


def day(name: str, *, required: bool = True, present: bool = True) -> FileColumn:
    """A calendar day, in any of the shapes of `_DAY`, or a Parquet date or local time."""

    def parse(values: pl.Series) -> pl.Series:
        if values.dtype == pl.Date:
            return values
        if isinstance(values.dtype, pl.Datetime):
            days = values.dt.date()
            return _unless(days, values.dt.time() != dt.time()) if values.dtype.time_zone else days
        words = values.cast(pl.String)
        plain = words.str.len_bytes() == 10
        days = words.str.to_date("%Y-%m-%d", strict=False)
        days = _unless(days, ~plain)
        if days.null_count() == words.null_count():
            return days
        return days.zip_with(days.is_not_null(), _days_of_parts(words, _DAY))

    return FileColumn(name, pl.Date, parse, "a day (YYYY-MM-DD)", required, present)


def _days_of_parts(words: pl.Series, shape: str) -> pl.Series:
    """Days whose year, month and day the groups of `shape` find, in one of several places."""
    parts = words.to_frame("w").select(pl.col("w").str.extract_groups(shape)).unnest("w")
    numbers = parts.cast(pl.Int32)
    month, of_month = (pl.coalesce(numbers.columns[n::2]) for n in (1, 2))
    padded = pl.format("{}-{}-{}", pl.col(numbers.columns[0]), month, of_month)
    return numbers.select(padded.str.to_date("%Y-%m-%d", strict=False)).to_series()


def month(name: str) -> FileColumn:
    """A month: YYYY-MM, YYYYMM, YYYY/M, or its first day."""

    def parse(values: pl.Series) -> pl.Series:
        if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
            values = values.dt.strftime("%Y-%m-%d %H:%M:%S")
        words = values.cast(pl.String)
        plain = words.str.contains(r"^\d{4}-(0[1-9]|1[0-2])$")
        if plain.fill_null(value=True).all():
            return words
        parts = words.to_frame("w").select(pl.col("w").str.extract_groups(_MONTH)).unnest("w")
        year, *months = parts.columns
        number = pl.coalesce(months).str.zfill(2)
        found = parts.select(pl.concat_str(year, number, separator="-")).to_series()
        return _unless(found, ~found.str.contains(r"-(0[1-9]|1[0-2])$"))

    return FileColumn(name, pl.String, parse, "a month (YYYY-MM)")


def whole(
    name: str, *, least: int | None = None, required: bool = True, present: bool = True
) -> FileColumn:
    """A whole number of `least` or more, as Int64; 12.0, 12.00 and 1,200 are whole."""

    def parse(values: pl.Series) -> pl.Series:
        if values.dtype == pl.String:
            numbers = values.cast(pl.Int64, strict=False)
            if numbers.null_count() > values.null_count():
                grouped = values.str.contains(_GROUPED).fill_null(value=False)
                plain = values.str.replace_all(",", "", literal=True)
                plain = values.zip_with(~grouped, plain).str.replace(r"^\+", "")
                plain = plain.str.replace(r"^(-?\d+)\.0*$", "$1")
                numbers = plain.cast(pl.Int64, strict=False)
        else:
            numbers = _whole(values)
        return numbers if least is None else _unless(numbers, numbers < least)

    wanted = "a whole number" if least is None else f"a whole number of {least} or more"
    return FileColumn(name, pl.Int64, parse, wanted, required, present)


def imsi(name: str) -> FileColumn:
    """An IMSI, as Int64: 15 digits, or a Parquet whole number."""

    def parse(values: pl.Series) -> pl.Series:
        if values.dtype == pl.String:
            shape = values.str.contains("^[0-9]{15}$")
            return _unless(values.cast(pl.Int64, strict=False), ~shape)
        numbers = _whole(values)
        return _unless(numbers, (numbers < 0) | (numbers >= 10**15))

    return FileColumn(name, pl.Int64, parse, "an IMSI of 15 digits")


def number(
    name: str, *, most: float, least: float | None = None, required: bool = True
) -> FileColumn:
    """A finite number from `least`, or else from -`most`, to `most`, as Float64."""
    low = -most if least is None else least

    def parse(values: pl.Series) -> pl.Series:
        if values.dtype.is_temporal():
            return _none(values, pl.Float64())
        numbers = values.cast(pl.Float64, strict=False)
        return _unless(numbers, ~numbers.is_between(low, most))

    wanted = f"a number up to {most:g}" if least is None else f"a number from {low:g} to {most:g}"
    return FileColumn(name, pl.Float64, parse, wanted, required)

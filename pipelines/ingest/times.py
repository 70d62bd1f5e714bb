"""Times in columns, for texts of fixed layout, without a Python object a row.

What is laid out otherwise is left to those who look at one text at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.fields import EVENTS_START, TIME_END

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_Bytes = npt.NDArray[np.uint8]

#: Value of a time that this module does not vouch for.
UNSURE = -(2**63)

_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}


class Layout:
    """A `strptime` format whose every part has a fixed width; `None` from `of` if it has not."""

    def __init__(self, parts: dict[str, int], literals: dict[int, int], length: int) -> None:
        self.parts = parts
        self.literals = literals
        self.length = length

    @classmethod
    def of(cls, text: str) -> Layout | None:
        """The layout of a format, which may end in a fraction of three digits (`%f`)."""
        parts: dict[str, int] = {}
        literals: dict[int, int] = {}
        at = index = 0
        while index < len(text):
            if text[index] == "%":
                code = text[index + 1 : index + 2]
                width = 3 if code == "f" and index + 2 == len(text) else _WIDTHS.get(code)
                if width is None or code in parts:
                    return None
                parts[code] = at
                at += width
                index += 2
            else:
                if not text[index].isascii() or (text[index].isspace() and text[index] != " "):
                    return None
                literals[at] = ord(text[index])
                at += 1
                index += 1
        return cls(parts, literals, at) if set(_WIDTHS) <= set(parts) else None


_PLAIN = Layout.of("%Y-%m-%dT%H:%M:%S")
_FINE = Layout.of("%Y-%m-%dT%H:%M:%S.%f")
assert _PLAIN is not None
assert _FINE is not None
#: Layouts before the zone, by the length with the zone.
_ISO = {20: _PLAIN, 25: _PLAIN, 24: _FINE, 29: _FINE}


def parse_times(texts: pa.Array) -> Int64s:
    """ms since the epoch for each text, shape as given; `UNSURE` where it is laid out otherwise.

    Times of events only, so none before the year 2000. Layouts: `2026-03-01T08:15:30[.123]`
    followed by `Z` or `+08:00`. What it gives is what `schemas.fields.parse_time` would.
    """
    result = np.full(len(texts), UNSURE, np.int64)
    for length, rows, chars in by_length(texts, set(_ISO)):
        layout = _ISO[length]
        local, good = _local(chars, layout)
        shift, sure = _shift(chars[layout.length :])
        at = local - shift
        result[rows] = np.where(good & sure & (at >= EVENTS_START) & (at < TIME_END), at, UNSURE)
    return result


def parse_local(texts: pa.Array, layout: Layout) -> Int64s:
    """ms of local time since 1970 for each text; `UNSURE` where it does not fit the layout."""
    result = np.full(len(texts), UNSURE, np.int64)
    for _, rows, chars in by_length(texts, {layout.length}):
        local, good = _local(chars, layout)
        result[rows] = np.where(good, local, UNSURE)
    return result


def parse_epoch(texts: pa.Array, unit: str | None) -> Int64s:
    """ms since the epoch for each number since 1970, in `unit`; `UNSURE` where it is none.

    Without a unit (s, ms, us or ns) the size tells it: between 2000 and 2300 no two overlap.
    """
    found = pc.fill_null(pc.match_substring_regex(texts, r"^[0-9]{9,19}(\.[0-9]+)?$"), False)
    good: Bools = found.to_numpy(zero_copy_only=False)
    result = np.full(len(texts), UNSURE, np.int64)
    if not good.any():
        return result
    some = texts.filter(found)
    whole = pc.replace_substring_regex(some, r"\..*", "")
    numbers = whole.cast(pa.int64()).to_numpy(zero_copy_only=False)
    fraction = pc.replace_substring_regex(some, r"^[0-9]+\.?", "")
    ms = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 3, "0"), 0, 3).cast(pa.int64())
    at = np.full(len(some), UNSURE, np.int64)
    for name, per_ms in _PER_MS.items():
        if unit not in (None, name):
            continue
        scaled = numbers // per_ms if per_ms else numbers * 1_000 + ms.to_numpy()
        fits = (numbers < TIME_END * per_ms) if per_ms else (numbers < TIME_END // 1_000)
        fits &= np.where(fits, scaled, 0) >= EVENTS_START
        at[fits] = scaled[fits]
    result[good] = at
    return result


def parse_excel(texts: pa.Array) -> Int64s:
    """ms of local time since 1970 for each number of days since 1899-12-30; else `UNSURE`."""
    found = pc.fill_null(pc.match_substring_regex(texts, r"^[0-9]{5,6}(\.[0-9]{1,15})?$"), False)
    days = pc.if_else(found, texts, "0").cast(pa.float64()).to_numpy(zero_copy_only=False)
    ms: Int64s = np.rint((days - _DAYS_BEFORE_1970) * 86_400_000).astype(np.int64)
    return np.where(found.to_numpy(zero_copy_only=False), ms, UNSURE)


#: From 1899-12-30, where spreadsheets have their day 0, to 1970.
_DAYS_BEFORE_1970 = 25_569

#: How many of a unit are a ms; 0 for seconds, which are more than one.
_PER_MS = {"s": 0, "ms": 1, "us": 1_000, "ns": 1_000_000}


def by_length(texts: pa.Array, lengths: set[int]) -> Any:
    """(length, rows, characters by position and row) for the texts of each of these lengths."""
    found = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    for length in np.unique(found).tolist():
        if length not in lengths:
            continue
        rows = np.flatnonzero(found == length)
        some = texts if len(rows) == len(texts) else texts.take(pa.array(rows))
        offsets = np.frombuffer(some.buffers()[1], np.int32, 1, some.offset * 4)
        chars = np.frombuffer(some.buffers()[2], np.uint8, len(some) * length, int(offsets[0]))
        # By position first: each step then runs along memory.
        yield length, rows, np.ascontiguousarray(chars.reshape(len(some), length).T)


def _local(chars: _Bytes, layout: Layout) -> tuple[Int64s, Bools]:
    digits = chars - ord("0")  # Wraps around for what is below "0", so one comparison tells all.
    at = layout.parts
    wanted = [at[code] + i for code, width in _WIDTHS.items() for i in range(width)]
    if "f" in at:
        wanted += [at["f"], at["f"] + 1, at["f"] + 2]
    good: Bools = np.asarray((digits[wanted] <= 9).all(axis=0))
    for position, literal in layout.literals.items():
        good = good & (chars[position] == literal)
    year = _two(digits, at["Y"]) * 100 + _two(digits, at["Y"] + 2)
    month, day = _two(digits, at["m"]), _two(digits, at["d"])
    hour, minute, second = _two(digits, at["H"]), _two(digits, at["M"]), _two(digits, at["S"])
    good &= (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1900)
    good &= (hour < 24) & (minute < 60) & (second < 60) | (
        (hour == 24) & (minute == 0) & (second == 0)
    )
    good &= day <= _days_in_month(year, np.clip(month, 1, 12))
    seconds = (hour * 60 + minute) * 60 + second
    result = _days_since_epoch(year, month, day) * 86_400_000 + seconds.astype(np.int64) * 1_000
    if "f" in at:
        fraction = _two(digits, at["f"]) * 10 + digits[at["f"] + 2]
        result += fraction
        good &= (hour < 24) | (fraction == 0)
    return result, good


def _shift(zone: _Bytes) -> tuple[Int64s | int, Bools]:
    """ms that a zone is ahead of UTC, and where it is one."""
    if len(zone) == 1:
        return 0, np.asarray(zone[0] == ord("Z"))
    digits = zone - ord("0")
    good: Bools = (digits[[1, 2, 4, 5]] <= 9).all(axis=0) & (zone[3] == ord(":"))
    good &= (zone[0] == ord("+")) | (zone[0] == ord("-"))
    hours, minutes = _two(digits, 1), _two(digits, 4)
    good &= (hours < 24) & (minutes < 60)
    ahead = np.where(zone[0] == ord("-"), -60_000, 60_000) * (hours * 60 + minutes)
    return ahead.astype(np.int64), good


def _two(digits: _Bytes, at: int) -> npt.NDArray[np.int32]:
    found: npt.NDArray[np.int32] = digits[at] * np.int32(10) + digits[at + 1]
    return found


def _days_in_month(year: Any, month: Any) -> Any:
    days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int32)[month - 1]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return days + (leap & (month == 2))


def _days_since_epoch(year: Any, month: Any, day: Any) -> Int64s:
    """Days from 1970-01-01 in the Gregorian calendar, counting years from March.

    Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, days_from_civil.
    """
    year = year - (month <= 2)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    found: Int64s = days.astype(np.int64)
    return found

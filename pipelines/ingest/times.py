"""ISO 8601 times in columns: the two fixed layouts that exports use, without a Python object."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]

#: Value of a time that this module does not vouch for: ask `schemas.fields.parse_time`.
UNSURE = -(2**63)

_DIGITS = {
    "date_time": (0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18),
    "milliseconds": (20, 21, 22),
}


def parse_times(texts: pa.Array) -> Int64s:
    """ms since the epoch for each text, shape as given; `UNSURE` where it is laid out otherwise.

    Layouts: `2026-03-01T08:15:30[.123]` followed by `Z` or `+08:00`.
    """
    result = np.full(len(texts), UNSURE, np.int64)
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    for length in np.unique(lengths).tolist():
        if length in (20, 24, 25, 29):
            rows = np.flatnonzero(lengths == length)
            some = texts if len(rows) == len(texts) else texts.take(pa.array(rows))
            result[rows] = _parse_fixed(some, length)
    return result


def _parse_fixed(texts: pa.Array, length: int) -> Int64s:
    _, _, data = texts.buffers()
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4)
    chars = np.frombuffer(data, np.uint8, len(texts) * length, int(offsets[0]))
    table = chars.reshape(len(texts), length)
    fraction = length in (24, 29)
    zone = 23 if fraction else 19
    digit = (table - ord("0")).astype(np.int64)
    wanted = list(_DIGITS["date_time"]) + (list(_DIGITS["milliseconds"]) if fraction else [])
    good = (table[:, 4] == ord("-")) & (table[:, 7] == ord("-")) & (table[:, 10] == ord("T"))
    good &= (table[:, 13] == ord(":")) & (table[:, 16] == ord(":"))
    if fraction:
        good &= table[:, 19] == ord(".")
    if length in (20, 24):
        good &= table[:, zone] == ord("Z")
        shift: Int64s | int = 0
    else:
        wanted += [zone + 1, zone + 2, zone + 4, zone + 5]
        sign = table[:, zone]
        good &= ((sign == ord("+")) | (sign == ord("-"))) & (table[:, zone + 3] == ord(":"))
        hours, minutes = _two(digit, zone + 1), _two(digit, zone + 4)
        good &= (hours < 24) & (minutes < 60)
        shift = np.where(sign == ord("-"), -1, 1) * (hours * 60 + minutes)
    good &= ((digit[:, wanted] >= 0) & (digit[:, wanted] <= 9)).all(axis=1)
    year = _two(digit, 0) * 100 + _two(digit, 2)
    month, day = _two(digit, 5), _two(digit, 8)
    hour, minute, second = _two(digit, 11), _two(digit, 14), _two(digit, 17)
    good &= (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1970)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    good &= day <= _days_in_month(year, np.clip(month, 1, 12))
    minutes_since = (_days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - shift
    result = (minutes_since * 60 + second) * 1_000
    if fraction:
        result += _two(digit, 20) * 10 + digit[:, 22]
    return np.where(good, result, UNSURE)


def _two(digit: Int64s, at: int) -> Int64s:
    found: Int64s = digit[:, at] * 10 + digit[:, at + 1]
    return found


def _days_in_month(year: Int64s, month: Int64s) -> Int64s:
    days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month - 1]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    found: Int64s = days + (leap & (month == 2))
    return found


def _days_since_epoch(year: Int64s, month: Int64s, day: Int64s) -> Int64s:
    """Days from 1970-01-01 in the Gregorian calendar, counting years from March."""
    year = year - (month <= 2)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: Int64s = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days

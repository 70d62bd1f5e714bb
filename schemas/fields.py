"""Field types shared by all models: identifiers, numbers of SIMs and cards, times, phones."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, Field

#: Times from here on (the year 2300, ms) are no times of anything: the warehouse ends there too.
TIME_END: Final = 10_413_792_000_000

#: No event is from before the year 2000 (ms): that is a clock that was never set.
EVENTS_START: Final = 946_684_800_000

OUT_OF_RANGE: Final = "not a time between the years 2000 and 2300"

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_NO_TIME = "not a time like 2026-03-01T08:15:30.123+08:00"
_OFFSET = "the offset is needed"
_FRACTION = re.compile(r"\.(\d+)")
_END_OF_DAY = re.compile(r"T24:00:00(?!\.0*[1-9])")


def parse_time(text: str) -> int:
    """ISO 8601 with an offset as ms since the epoch; finer digits are cut off. 24:00 ends a day.

    Raises `ValueError` for anything else, times without an offset among them.
    """
    if not _TIME.fullmatch(text):
        hint = "a mapping can read a number: format = epoch" if text.isdigit() else _OFFSET
        raise ValueError(f"{_NO_TIME} ({hint})")
    milliseconds = 0
    if found := _END_OF_DAY.search(text):
        milliseconds = 86_400_000
        text = text.replace(found[0], "T00:00:00", 1)
    if found := _FRACTION.search(text):
        milliseconds += int(found[1][:3].ljust(3, "0"))
        text = text.replace(found[0], "", 1)
    try:
        at = int(datetime.fromisoformat(text).timestamp()) * 1_000 + milliseconds
    except OverflowError:
        at = -1
    if not 0 <= at < TIME_END:
        raise ValueError("not a time between the years 1970 and 2300")
    return at


def _time(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{_NO_TIME} as text")  # noqa: TRY004 (pydantic turns ValueErrors into reasons)
    return parse_time(value)


def _event_time(value: Any) -> int:
    at = _time(value)
    if at < EVENTS_START:
        raise ValueError(OUT_OF_RANGE)
    return at


def _phone(value: Any) -> Any:
    """A number in E.164 that a phone could have."""
    if not isinstance(value, str) or not value.startswith("+"):
        raise ValueError("not a phone number in E.164, like +8613800138000")
    try:
        parsed = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        raise ValueError("not a phone number in E.164, like +8613800138000") from None
    if not phonenumbers.is_possible_number(parsed):
        raise ValueError("no phone can have this number")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


def _no_truth(value: Any) -> Any:
    """Truth is no number, whatever Python says."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")  # noqa: TRY004
    return value


def _imsi(text: str) -> str:
    if not _IMSI.fullmatch(text):
        why = "not 14 or 15 digits"
        if _ROUNDED.fullmatch(text):
            why += "; a spreadsheet has cut digits off: export the column as text"
        elif _IMSI.search(re.sub(r"\D+", " ", text)) and not text.isdigit():
            why += "; a mapping can strip what stands around them"
        raise ValueError(why)
    return text


def _iccid(text: str) -> str:
    """In capitals and without the filler at the end."""
    if not _ICCID.fullmatch(text):
        raise ValueError("not an ICCID of 18 to 22 digits and letters A to F")
    return text.upper().removesuffix("F")


_IMSI = re.compile(r"[0-9]{14,15}", re.ASCII)
_ICCID = re.compile(r"[0-9A-Fa-f]{18,22}", re.ASCII)
_ROUNDED = re.compile(r"\s*[0-9][.,][0-9]*[eE][+-]?[0-9]+\s*", re.ASCII)


#: Longer ids would make messages that a broker refuses.
ID_LENGTH: Final = 256

Identifier = Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]
Imsi = Annotated[str, AfterValidator(_imsi)]
Iccid = Annotated[str, AfterValidator(_iccid)]
#: ms since the epoch; written as ISO 8601 with an offset.
Time = Annotated[int, BeforeValidator(_time)]
#: As `Time`, of something that happened.
EventTime = Annotated[int, BeforeValidator(_event_time)]
Phone = Annotated[str, BeforeValidator(_phone)]
Count = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=10_000_000)]
#: Money; files write it as text, JSON as a number.
Fen = Annotated[int, BeforeValidator(_no_truth), Field(ge=-(2**63), lt=2**63)]
Seconds = Annotated[float, BeforeValidator(_no_truth), Field(ge=0, allow_inf_nan=False)]
EmptyIsNone = BeforeValidator(_empty_is_none)


# Durations as people write them: 60s, 5m, 2h, 500ms, 1d.

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(text: str) -> int:
    """Milliseconds; a bare number means seconds. Raises `ValueError` with a line for the user."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write it like 60s, 5m, 2h or 500ms")
    return round(float(match[1]) * _UNITS[match[2] or "s"])


def format_duration(milliseconds: int) -> str:
    """The duration in one unit, rounded up, as `parse_duration` reads it: 0s, 250ms, 90s, 25m."""
    if milliseconds == 0:
        return "0s"
    units = sorted(_UNITS.items(), key=lambda unit: unit[1])
    name, size = "ms", 1
    for unit, length in units:
        # A larger unit where it is exact, or where two digits of it say enough.
        if milliseconds % length == 0 or milliseconds >= 100 * length:
            name, size = unit, length
    return f"{-(-milliseconds // size)}{name}"

"""Field types shared by all models: identifiers, numbers of SIMs and cards, times, phones."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import phonenumbers
from pydantic import BeforeValidator, Field

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_FRACTION = re.compile(r"\.(\d+)")


def parse_time(text: str) -> int:
    """ISO 8601 with an offset as ms since the epoch; finer digits are cut off.

    Raises `ValueError` for anything else, times without an offset among them.
    """
    if not _TIME.fullmatch(text):
        raise ValueError("not a time like 2026-03-01T08:15:30.123+08:00 (the offset is needed)")
    milliseconds = 0
    if found := _FRACTION.search(text):
        milliseconds = int(found[1][:3].ljust(3, "0"))
        text = text.replace(found[0], "", 1)
    return int(datetime.fromisoformat(text).timestamp()) * 1_000 + milliseconds


def _time(value: Any) -> Any:
    return parse_time(value) if isinstance(value, str) else value


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


Identifier = Annotated[str, Field(min_length=1)]
Imsi = Annotated[str, Field(pattern=r"^[0-9]{15}$")]
Iccid = Annotated[str, Field(pattern=r"^[0-9]{19,20}$")]
#: ms since the epoch; written as ISO 8601 with an offset.
Time = Annotated[int, BeforeValidator(_time)]
Phone = Annotated[str, BeforeValidator(_phone)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Fen = Annotated[int, Field(ge=-(2**63), lt=2**63)]
EmptyIsNone = BeforeValidator(_empty_is_none)

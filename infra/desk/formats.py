"""Values as a person reads them: grouped digits, per cent, yuan, the time of the city."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, tzinfo

from infra.desk.parts import Kind
from schemas.masking import masked

NOTHING = "–"
#: What could be a phone, a card or a subscriber within a text; days and amounts are shorter.
NUMBER_OF_A_PERSON = "[0-9]{11,}|1[0-9]{2}[ -][0-9]{4}[ -][0-9]{4}"


def shown(value: object, kind: Kind = "text", zone: tzinfo | None = None) -> str:
    """A value as text; nothing known is a dash."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, datetime):
        return value.astimezone(zone).strftime(
            "%Y-%m-%d %H:%M:%S" if kind == "second" else "%Y-%m-%d %H:%M"
        )
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (int, float)) and kind != "text":
        return _number(value, kind).replace("-", "−")
    return str(value)


def redacted(value: object, kind: Kind) -> object:
    """What is left of a value for those who may not see numbers of persons."""
    if kind == "secret":
        return masked(str(value or ""))
    if kind == "long":
        return re.sub(NUMBER_OF_A_PERSON, lambda found: masked(found[0]), str(value or ""))
    return value


def _number(value: float, kind: Kind) -> str:
    match kind:
        case "share":
            return f"{value:.1%}"
        case "fen":
            return f"{'-' if value < 0 else ''}¥{abs(value) / 100:,.2f}"
        case "kwh":
            return f"{value:,.1f}"
        case "decimal":
            return f"{value:,.2f}"
    return f"{value:,.0f}" if kind == "number" else str(value)

"""Values as a person reads them: grouped digits, per cent, yuan, the time of the city."""

from __future__ import annotations

import math
from datetime import date, datetime, tzinfo

from infra.desk.parts import Kind

NOTHING = "–"


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


def masked(value: object) -> str:
    """A number that names a person, but for its last four digits (of a short one, nothing)."""
    text = str(value or "")
    if not text:
        return ""
    return "…" + text[-4:] if len(text) >= 8 else "…"


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

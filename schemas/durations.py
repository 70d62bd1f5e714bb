"""Durations as people write them: 60s, 5m, 2h, 500ms, 1d."""

from __future__ import annotations

import re

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

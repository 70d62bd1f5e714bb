"""Numbers of persons as others may see them: enough to recognise, too little to call. Pure."""

from __future__ import annotations

import re

#: 14 digits that are a time to the second, as names of files have it, and no IMSI.
_TIME = r"20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d(?!\d)"
#: E.164 numbers, and runs of exactly 14 or 15 digits, which are IMSIs.
_PERSONAL = re.compile(rf"\+\d{{8,15}}(?!\d)|(?<!\d)(?!{_TIME})\d{{14,15}}(?!\d)")


def masked(number: str) -> str:
    """The number without its middle: the first 4 and last 3 characters of a long one."""
    shown = 4 if len(number) >= 10 else 1
    hidden = len(number) - shown - 3
    return number[:shown] + "*" * hidden + number[-3:] if hidden > 0 else number


def mask_text(text: str) -> str:
    """The text with phone numbers (E.164) and IMSIs masked."""
    return _PERSONAL.sub(lambda found: masked(found[0]), text)

"""Numbers of persons as others may see them: enough to recognise, too little to call. Pure."""

from __future__ import annotations

import re

#: E.164 numbers, and runs of exactly 15 digits, which are IMSIs.
_PERSONAL = re.compile(r"\+\d{8,15}(?!\d)|(?<!\d)\d{15}(?!\d)")


def masked(number: str) -> str:
    """The number without its middle: the first 4 and last 3 characters of a long one."""
    shown = 4 if len(number) >= 10 else 1
    hidden = len(number) - shown - 3
    return number[:shown] + "*" * hidden + number[-3:] if hidden > 0 else number


def mask_text(text: str) -> str:
    """The text with phone numbers (E.164) and IMSIs masked."""
    return _PERSONAL.sub(lambda found: masked(found[0]), text)

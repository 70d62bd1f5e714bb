"""Phone numbers: which can be written to, and whether they may be sent a link."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers


@lru_cache(maxsize=1 << 16)  # a tenth of the alerts worker's time, for a few thousand numbers
def usable(number: str) -> str:
    """The number in E.164, or '' when no phone can have it.

    Whether somebody does have it is for the provider to say: prefixes change faster than tables.
    """
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(parsed):
        return ""
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def contacts(*written: str | None) -> list[str]:
    """The usable numbers among those written down, the best first, each once."""
    return list(dict.fromkeys(number for text in written if (number := usable(text or ""))))


def takes_links(number: str) -> bool:
    """Whether an SMS to a number in E.164 may hold a link: mainland China's carriers drop it."""
    return not number.startswith("+86")

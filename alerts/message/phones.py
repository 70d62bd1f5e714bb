"""Phone numbers: which can be written to, and how they are shown where others may look."""

from __future__ import annotations

import phonenumbers


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


def takes_links(number: str) -> bool:
    """Whether an SMS to a number in E.164 may hold a link: mainland China's carriers drop it."""
    return not number.startswith("+86")


def masked(number: str) -> str:
    """The number with its middle hidden: enough to recognise, too little to call."""
    shown = 4 if len(number) >= 10 else 1
    return (
        number[:shown]
        + "*" * max(0, len(number) - shown - 3)
        + number[max(shown, len(number) - 3) :]
    )

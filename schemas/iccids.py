"""ICCIDs: the numbers printed on cards. What comes after a card is the next number of its series.

A number may have hexadecimal letters, as many in China have: what runs on are the digits behind the
last of them. It may end in a Luhn check digit, which takes no part in running on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TAIL = re.compile(r"[0-9]*\Z")


class IccidSeries(NamedTuple):
    """Cards whose numbers run on: with a check digit or without, all begin with the same letters
    and have as many digits behind them."""

    luhn: bool
    prefix: str
    digits: int


def luhn_digit(body: str) -> str:
    """The digit that completes a number of digits by Luhn's formula (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        double = int(digit) * (2 if place % 2 == 0 else 1)
        total += double - 9 * (double > 9)
    return str(-total % 10)


def series_of(iccid: str, *, luhn: bool = False) -> tuple[IccidSeries, int]:
    """The series of a card and its number there.

    Raises `ValueError` if a check digit is asked for that is not there or is wrong.
    """
    if luhn:
        if not iccid.isdigit():
            raise ValueError("a number with a check digit has no letters")
        if iccid[-1] != luhn_digit(iccid[:-1]):
            raise ValueError(f"the check digit should be {luhn_digit(iccid[:-1])}")
        iccid = iccid[:-1]
    found = _TAIL.search(iccid)
    tail = found[0] if found else ""
    return IccidSeries(luhn, iccid[: len(iccid) - len(tail)], len(tail)), int(tail or "0")


def iccid_in(series: IccidSeries, number: int) -> str:
    """The card with a number in a series. Raises `ValueError` if the series ends before it."""
    tail = str(number).zfill(series.digits) if series.digits else ""
    if len(tail) > series.digits or (number and not series.digits):
        raise ValueError("the numbers run out")
    body = series.prefix + tail
    return body + luhn_digit(body) if series.luhn else body

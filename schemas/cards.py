"""SIM cards: the numbers printed on them, and lists of cards whose numbers follow no rule.

What comes after a card is the next number of its series. A number may have hexadecimal letters, as
many in China have: what runs on are the digits behind the last of them. It may end in a Luhn check
digit, which takes no part in running on. Lists are arrays, no object a card: some 36 bytes each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
_Array = npt.NDArray[Any]

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


class CardList:
    """Cards by ICCID and by IMSI; no two have either in common, which the caller sees to."""

    def __init__(
        self, iccids: Sequence[str] = (), imsis: Sequence[int] = (), skus: Sequence[str] = ()
    ) -> None:
        names, sku = np.unique(np.array(skus, np.str_), return_inverse=True)
        self._hold(np.array(iccids, "S22"), np.array(imsis, np.int64), names, sku)

    def _hold(self, iccids: _Array, imsis: Int64s, names: _Array, sku: _Array) -> None:
        order = np.argsort(imsis)
        #: Ascending.
        self.imsis: Int64s = imsis[order]
        self._names = names
        self._sku = sku.astype(np.int16 if len(names) < 2**15 else np.int32)[order]
        self._iccid = iccids[order]
        self._by_iccid = np.argsort(self._iccid).astype(np.int32)

    def __len__(self) -> int:
        return len(self.imsis)

    @property
    def nbytes(self) -> int:
        """Bytes that the cards take."""
        arrays = (self.imsis, self._sku, self._iccid, self._by_iccid)
        return sum(array.nbytes for array in arrays)

    @property
    def iccids(self) -> list[str]:
        """The number printed on each card, in the order of `imsis`."""
        found: list[str] = self._iccid.astype(np.str_).tolist()
        return found

    @property
    def skus(self) -> list[str]:
        """Each card's SKU, likewise."""
        found: list[str] = self._names[self._sku].tolist()
        return found

    def filter(self, kept: npt.NDArray[np.bool_]) -> CardList:
        """Some of the cards; `kept` has an entry a card, in the order of `imsis`."""
        found = CardList()
        found._hold(self._iccid[kept], self.imsis[kept], self._names, self._sku[kept])
        return found

    def without(self, other: CardList) -> CardList:
        """Those that have neither number in common with a card of another list."""
        return self.filter(~(other.listed(self.imsis) | np.isin(self._iccid, other._iccid)))

    def joined(self, other: CardList) -> CardList:
        """Both lists in one."""
        names, codes = np.unique(np.concatenate([self._names, other._names]), return_inverse=True)
        ours, theirs = codes[: len(self._names)], codes[len(self._names) :]
        found = CardList()
        found._hold(
            np.concatenate([self._iccid, other._iccid]),
            np.concatenate([self.imsis, other.imsis]),
            names,
            np.concatenate([ours[self._sku], theirs[other._sku]]),
        )
        return found

    def fingerprint(self) -> str:
        """A hash of all of it."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.imsis, self._iccid, self._sku, self._names):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def imsi_of(self, iccid: str) -> int | None:
        """The IMSI of a card; None if it is not listed."""
        wanted = np.bytes_(iccid.encode())
        place = int(np.searchsorted(self._iccid, wanted, sorter=self._by_iccid))
        if place == len(self) or self._iccid[self._by_iccid[place]] != wanted:
            return None
        return int(self.imsis[self._by_iccid[place]])

    def card(self, imsi: int) -> tuple[str, str] | None:
        """The ICCID and the SKU of a listed IMSI; None for any other."""
        place = int(np.searchsorted(self.imsis, imsi))
        if place == len(self) or self.imsis[place] != imsi:
            return None
        return self._iccid[place].decode(), str(self._names[self._sku[place]])

    def listed(self, imsis: Int64s) -> npt.NDArray[np.bool_]:
        """Which IMSIs are listed; same shape."""
        if not len(self):
            return np.zeros(len(imsis), bool)
        places = np.minimum(np.searchsorted(self.imsis, imsis), len(self) - 1)
        found: npt.NDArray[np.bool_] = self.imsis[places] == imsis
        return found

"""What a reader remembers of uses of SIMs in no batch: enough not to send each of their calls."""

from __future__ import annotations

from typing import Final

import numpy as np

from pipelines.ingest.times import Bools, Int64s

#: SIMs remembered at most; a table of 16 bytes each, of which only what is used takes memory.
_SLOTS: Final = 1 << 22


class SentUses:
    """The earliest use (ms) sent of each of some SIMs; one that is forgotten is only sent again.

    A SIM has its slot by its number, so that consecutive SIMs do not drive each other out.
    """

    def __init__(self, slots: int = _SLOTS) -> None:
        self._imsis: Int64s = np.zeros(slots, np.int64)
        self._at: Int64s = np.zeros(slots, np.int64)

    def unsent(self, imsis: Int64s, at: Int64s) -> Bools:
        """Which uses may be their SIM's earliest, one a row; they count as sent from here on."""
        slots = imsis % len(self._imsis)
        fresh: Bools = (self._imsis[slots] != imsis) | (at <= self._at[slots])
        rows = np.flatnonzero(fresh)
        rows = rows[np.argsort(-at[rows], kind="stable")]  # of several in a slot the last holds
        self._imsis[slots[rows]], self._at[slots[rows]] = imsis[rows], at[rows]
        fresh &= (self._imsis[slots] != imsis) | (at <= self._at[slots])
        return fresh

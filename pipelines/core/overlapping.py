"""Readings of one meter that overlap: found by fingerprints, then settled one meter at a time.

Finding looks at two numbers a reading and never at its meter's name; settling says which of the
readings count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: Times in fingerprints are seconds (in ms): starts rounded down, ends up, so that none is missed.
TICK = 1000

#: Bits of a fingerprint that tell meters apart, and times (the seconds of a month fit 22 bits).
METER_BITS = 41

_TIME_BITS = 22

UInt64s = npt.NDArray[np.uint64]

Int64s = npt.NDArray[np.int64]


def fingerprints(meters: UInt64s, starts: Int64s, ends: Int64s) -> UInt64s:
    """Two numbers a reading, its start and its end.

    `meters` holds METER_BITS of a hash; times are ticks since the period's start, within it.
    Sorted, those of a meter without overlaps alternate start, end, start, end.
    """
    prints = np.empty(2 * len(meters), np.uint64)
    firsts, lasts = prints[: len(meters)], prints[len(meters) :]
    np.left_shift(meters, np.uint64(_TIME_BITS), out=firsts)
    np.bitwise_or(firsts, ends.view(np.uint64), out=lasts)
    np.bitwise_or(firsts, starts.view(np.uint64), out=firsts)
    np.left_shift(prints, np.uint64(1), out=prints)
    np.bitwise_or(firsts, np.uint64(1), out=firsts)
    return prints


def suspects(prints: UInt64s) -> UInt64s:
    """The meter hashes among sorted fingerprints that may have readings which overlap.

    Never misses one; names a few too many, as different meters can share a hash.
    """
    starts = (prints & np.uint64(1)).astype(np.bool_)
    second = np.flatnonzero(starts[1:] & starts[:-1]) + 1
    bits = np.uint64(_TIME_BITS + 1)
    meter, before = prints[second] >> bits, prints[second - 1] >> bits
    return np.unique(meter[meter == before])


def joined(prints: UInt64s) -> UInt64s:
    """Fewer fingerprints that show the same overlaps with others: where a reading ends at the very
    time at which the meter's next one starts, the two are as good as one long reading."""
    if not len(prints):
        return prints
    meets = prints[1:] == (prints[:-1] | np.uint64(1))
    meets &= prints[1:] != prints[:-1]
    keep = np.ones(len(prints), np.bool_)
    keep[:-1] &= ~meets
    keep[1:] &= ~meets
    return prints[keep]


class Reading(NamedTuple):
    """One reading of a suspect meter, as far as it decides which readings count; times in ms."""

    estimated: bool
    start: int
    end: int
    kwh: float
    owner: str
    source: str
    row: int
    place: int = 0


def settle(readings: Iterable[Reading]) -> tuple[list[Reading], list[tuple[Reading, Reading]]]:
    """(repeated, refused with the reading each clashes with) among one meter's readings.

    A reading said again word for word is repeated and simply does not count twice. Of readings that
    overlap the measured one stands before the estimated, then the one that starts (ends) earlier,
    then the smaller; the other is refused whole. The order of the rows decides nothing.
    """
    repeated: list[Reading] = []
    refused: list[tuple[Reading, Reading]] = []
    kept: list[Reading] = []  # disjoint, by start
    previous: Reading | None = None
    for reading in sorted(readings):
        if previous is not None and reading[:5] == previous[:5]:
            repeated.append(reading)
            continue
        previous = reading
        at = bisect_left(kept, reading.start, key=lambda other: other.start)
        clash = None
        if at > 0 and kept[at - 1].end > reading.start:
            clash = kept[at - 1]
        elif at < len(kept) and kept[at].start < reading.end:
            clash = kept[at]
        if clash is None:
            kept.insert(at, reading)
        else:
            refused.append((reading, clash))
    return repeated, refused

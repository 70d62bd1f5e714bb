"""Readings of one meter that overlap: found by fingerprints, then settled one meter at a time.

Finding looks at two numbers a reading and never at its meter's name; settling says which of the
readings count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

#: Ticks that times may be multiples of, in ms, the longest first: quarter hours, minutes, seconds.
TICKS = (900_000, 60_000, 1_000)

_MONTH = 32 * 86_400_000
#: Fingerprints compared at a time: few enough that all there is to do is done in the cache.
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class Prints:
    """How a reading becomes two numbers, one for its start and one for its end.

    Times are counted in ticks of `tick` ms, starts rounded down and ends up, so that no overlap is
    missed; where readings meet within a tick, a few too many are suspected. The bits that a long
    tick saves tell more meters apart.
    """

    tick: int = TICKS[-1]

    @property
    def time_bits(self) -> int:
        """Bits of a time in a month."""
        return (_MONTH // self.tick).bit_length()

    @property
    def meter_bits(self) -> int:
        """Bits of a meter's hash."""
        return 63 - self.time_bits

    def of(self, meters: UInt64s, starts: Int64s, ends: Int64s) -> UInt64s:
        """The fingerprints of readings, in order.

        `meters` holds `meter_bits` of a hash; times are ticks since the period's start, within it.
        Those of a meter without overlaps alternate start, end, start, end.
        """
        prints = np.empty(2 * len(meters), np.uint64)
        firsts, lasts = prints[: len(meters)], prints[len(meters) :]
        np.left_shift(meters, np.uint64(self.time_bits), out=firsts)
        np.bitwise_or(firsts, ends.view(np.uint64), out=lasts)
        np.bitwise_or(firsts, starts.view(np.uint64), out=firsts)
        np.left_shift(prints, np.uint64(1), out=prints)
        np.bitwise_or(firsts, np.uint64(1), out=firsts)
        prints.sort()
        return prints

    def compared(self, prints: UInt64s) -> tuple[UInt64s, UInt64s]:
        """(fewer fingerprints, hashes of meters that may have readings which overlap), of sorted
        ones.

        The fewer show the same overlaps with others: where a reading ends at the very time at which
        the meter's next one starts, the two are as good as one long reading. No overlap is missed;
        a few too many are named, as different meters can share a hash.
        """
        if not len(prints):
            return prints, prints
        meets = np.zeros(len(prints) + 1, np.bool_)  # at i: i - 1 and i are an end and a start
        twice = []
        one_bit, other_meter = np.uint64(1), np.uint64(1) << np.uint64(self.time_bits + 1)
        for first in range(0, len(prints) - 1, _BLOCK):
            block = prints[first : first + _BLOCK + 1]
            before, after = block[:-1], block[1:]
            apart = before ^ after
            np.equal(apart, one_bit, out=meets[first + 1 : first + len(block)])
            starts = (before & after & one_bit).view(np.int64).astype(np.bool_)
            found = before[starts & (apart < other_meter)]
            if len(found):
                twice.append(found >> np.uint64(self.time_bits + 1))
        fewer = prints[~(meets[1:] | meets[:-1])]
        return fewer, np.unique(np.concatenate([prints[:0], *twice]))


def tick_of(times: Iterable[Int64s]) -> int:
    """The longest tick that all `times` (ms) are multiples of, or the shortest there is."""
    arrays = list(times)
    return next(
        (tick for tick in TICKS if not any(np.any(some % tick) for some in arrays)), TICKS[-1]
    )


class MeterReading(NamedTuple):
    """One reading of a suspect meter, as far as it decides which readings count; times in ms."""

    estimated: bool
    start: int
    end: int
    kwh: float
    owner: str
    source: str
    row: int
    place: int = 0


def settle(
    readings: Iterable[MeterReading],
) -> tuple[list[MeterReading], list[tuple[MeterReading, MeterReading]]]:
    """(repeated, refused with the reading each clashes with) among one meter's readings.

    A reading repeated with the same values does not count twice. Of readings that
    overlap the measured one stands before the estimated, then the one that starts (ends) earlier,
    then the smaller; the other is refused whole. The order of the rows decides nothing.
    """
    repeated: list[MeterReading] = []
    refused: list[tuple[MeterReading, MeterReading]] = []
    kept: list[MeterReading] = []  # disjoint, by start
    previous: MeterReading | None = None
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

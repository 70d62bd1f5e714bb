"""A source's place in event time: its watermark, and how far out of order its rows come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from pipelines.ingest.times import Int64s
from schemas.envelope import NO_WATERMARK

#: Lower ends (ms) of the bins that lateness is counted in: 0, then about 9 % apart up to a year.
_BINS: Final = np.concatenate([[0], np.unique(np.round(2.0 ** np.arange(0, 35, 0.125)))]).astype(
    np.int64
)

#: Bounds that people would set, ms: 1 s … 35 days.
_SETTINGS: Final = tuple(
    n * unit
    for unit, numbers in (
        (1_000, (1, 5, 10, 30)),
        (60_000, (1, 2, 5, 10, 15, 20, 30, 45)),
        (3_600_000, (1, 2, 3, 4, 6, 8, 12, 18)),
        (86_400_000, (1, 2, 3, 5, 7, 14, 21, 35)),
    )
    for n in numbers
)


class Disorder(msgspec.Struct):
    """How far rows came behind the newest row before them, counted in bins; bounded memory.

    `rows` are all rows, `late` those beyond the bound that was set; `most` is in ms.
    """

    rows: int = 0
    late: int = 0
    most: int = 0
    bins: dict[int, int] = {}

    def add(self, behind: Int64s, late: int) -> None:
        """Count rows: how far behind (ms, 0 for those in order), and how many were late."""
        if not len(behind):
            return
        some = behind[behind > 0]  # few, of a switch that writes in order
        counts = np.bincount(np.searchsorted(_BINS, some, side="right") - 1, minlength=1)
        counts[0] = len(behind) - len(some)
        for number in np.flatnonzero(counts).tolist():
            self.bins[number] = self.bins.get(number, 0) + int(counts[number])
        self.rows += len(behind)
        self.late += late
        self.most = max(self.most, int(behind.max()))

    def quantile(self, share: float) -> int:
        """The lateness (ms) that a share of the rows does not exceed; at most 9 % too high."""
        wanted, seen = share * self.rows, 0
        for number in sorted(self.bins):
            seen += self.bins[number]
            if seen >= wanted:
                end = int(_BINS[number + 1]) - 1 if 0 < number < len(_BINS) - 1 else self.most
                return 0 if number == 0 else min(end, self.most)
        return self.most

    @property
    def excessive(self) -> bool:
        """Whether more than one row in a thousand was late."""
        return self.late * 1_000 > self.rows

    @property
    def fitting(self) -> int:
        """The least usual bound (ms) under which at most one row in a thousand would be late."""
        needed = self.quantile(0.999)
        return next((bound for bound in _SETTINGS if bound >= needed), needed)


#: No call counts for longer, ms: one, or a slip of the switch, would hold back every message that
#: long from then on. What began before that is late, and history comes right.
LONGEST_CALL: Final = 4 * 3_600_000


@dataclass
class SourceClock:
    """How far a source's events have come.

    `newest` is its newest accepted time, `floor` a watermark that holds whatever the rows say: one
    on record from an earlier reader, or one that followed from silence. All in ms.

    Rows that come `by_end` are written when calls end: `newest` is the newest end, and what is
    still to come began up to the `longest` call that was seen before that.
    """

    disorder: int
    newest: int = NO_WATERMARK
    floor: int = NO_WATERMARK
    measured: Disorder = field(default_factory=Disorder)
    by_end: bool = False
    longest: int = 0

    @property
    def watermark(self) -> int:
        """Nothing in time is to come from below this."""
        if self.newest == NO_WATERMARK:
            return self.floor
        return max(self.newest - self.disorder - self.longest, self.floor)

    def known_at(self, at: Int64s, lasted: Int64s | None = None) -> Int64s:
        """When rows in this order count: at their time, or at the watermark they came too late for.

        Moves the clock on; shapes as `at`, ms. `lasted` is how long calls were, of rows `by_end`.
        The longest of these rows counts from their first on, so that it is not late itself.
        """
        written = at
        if self.by_end and lasted is not None and len(at):
            lasted = np.clip(lasted, 0, LONGEST_CALL)
            written = at + lasted
            self.floor = self.watermark  # which a longer call must not take back
            self.longest = max(self.longest, int(lasted.max()))
        before = np.maximum.accumulate(np.concatenate([[self.newest], written]))
        self.newest = int(before[-1])
        bound = self.disorder + self.longest
        marks = np.where(before == NO_WATERMARK, NO_WATERMARK, before - bound)
        known: Int64s = np.maximum(at, np.maximum(marks, self.floor)[:-1])
        behind = np.where(before[:-1] == NO_WATERMARK, 0, np.maximum(before[:-1] - written, 0))
        self.measured.add(behind, int((known > at).sum()))
        return known

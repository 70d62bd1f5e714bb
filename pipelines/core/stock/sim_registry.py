"""Which SIMs exist and when each was first used: one flat array over all registered blocks.

The registry answers the one question asked of every call record: may this be a SIM's first use?
Eight bytes a SIM; no object a row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.cards import CardList, iccid_in, series_of
from schemas.topics import SIM_BLOCK, block_of, partition_of_block

Int64s = npt.NDArray[np.int64]

#: In `SimRegistry.first_use`: not used yet. No accepted event has a time this old.
UNUSED = 0


@dataclass(frozen=True, slots=True)
class SimRange:
    """A registered batch: the i-th SIM has `first_imsi + i` and the i-th ICCID on.

    With `luhn`, ICCIDs end in a check digit.
    """

    first_imsi: int
    count: int
    sku: str
    first_iccid: str
    luhn: bool = False

    def iccids(self, imsis: Sequence[int]) -> list[str]:
        """The numbers printed on the cards of some of its SIMs."""
        series, first = series_of(self.first_iccid, luhn=self.luhn)
        return [iccid_in(series, first + imsi - self.first_imsi) for imsi in imsis]


class SimRegistry:
    """All registered SIMs, in whole blocks, as `first_use`: int64 ms, `UNUSED` where there is none.

    Consecutive blocks form a run, so that a look-up is a search among a few runs. Slot 0 stands for
    all SIMs that are not registered; it reads as used since ever, hence never as a candidate.
    """

    def __init__(self, ranges: Iterable[SimRange] = ()) -> None:
        self._ranges: list[SimRange] = []
        self._range_starts: list[int] = []
        self._blocks: Int64s = np.empty(0, np.int64)  # in the order of their slots
        self.first_use: Int64s = np.ones(1, np.int64)
        #: Each less than half as long as the one before, so that adding stays cheap.
        self._cards: list[CardList] = []
        self._find_runs()
        self.extend(ranges)

    def extend(self, ranges: Iterable[SimRange]) -> None:
        """Register more SIMs; what is registered already stays as it is.

        Of two ranges with an IMSI in common the first one registered holds.
        """
        wanted = [np.empty(0, np.int64)]
        for some in sorted(ranges, key=lambda r: r.first_imsi):
            index = bisect_right(self._range_starts, some.first_imsi)
            before, after = self._ranges[max(index - 1, 0) : index], self._ranges[index : index + 1]
            if any(r.first_imsi + r.count > some.first_imsi for r in before) or any(
                some.first_imsi + some.count > r.first_imsi for r in after
            ):
                continue
            self._ranges.insert(index, some)
            self._range_starts.insert(index, some.first_imsi)
            last = block_of(some.first_imsi + some.count - 1)
            wanted.append(np.arange(block_of(some.first_imsi), last + 1))
        self._make_room(np.concatenate(wanted))

    def add_cards(self, cards: CardList) -> CardList:
        """Register single cards; the new ones among them. Of one IMSI the card named first holds.

        An IMSI in a range is that range's.
        """
        new = cards.filter(~self._listed(cards.imsis))
        if not len(new):
            return new
        self._make_room(np.unique(block_of(new.imsis)))
        some = new
        while self._cards and len(self._cards[-1]) <= 2 * len(some):
            some = self._cards.pop().joined(some)
        self._cards.append(some)
        return new

    def _listed(self, imsis: Int64s) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(imsis), np.bool_)
        for cards in self._cards:
            found |= cards.listed(imsis)
        return found

    def reserve(self, imsis: Int64s, counts: Int64s) -> None:
        """Give slots to ranges of SIMs at once, that may be registered: growing later is dear."""
        ends = block_of(imsis + counts - 1) + 1
        blocks = [np.arange(a, b) for a, b in zip(block_of(imsis), ends, strict=True)]
        self._make_room(np.unique(np.concatenate([np.empty(0, np.int64), *blocks])))

    def _make_room(self, blocks: Int64s) -> None:
        """Give slots to blocks that have none; `first_use` becomes another array."""
        new = np.setdiff1d(blocks, self._blocks)
        if not len(new):
            return
        self._blocks = np.concatenate([self._blocks, new])
        self.first_use = np.concatenate([self.first_use, np.zeros(len(new) * SIM_BLOCK, np.int64)])
        self._find_runs()

    def _find_runs(self) -> None:
        slots = np.argsort(self._blocks)
        numbers = self._blocks[slots]
        breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(slots) != 1)) + 1
        starts = np.concatenate([np.zeros(min(len(numbers), 1), np.int64), breaks])
        ends = np.concatenate([starts[1:], np.full(min(len(numbers), 1), len(numbers))])
        nobody = np.array([np.iinfo(np.int64).min])
        first = numbers[starts] * SIM_BLOCK
        self._run_first = np.concatenate([nobody, first])
        self._run_end = np.concatenate([nobody, first + (ends - starts) * SIM_BLOCK])
        # Slot of an IMSI = IMSI + shift of its run; the first slot belongs to nobody.
        self._run_shift = np.concatenate([[0], 1 + slots[starts] * SIM_BLOCK - first])

    def __len__(self) -> int:
        """How many SIMs the registered blocks have room for."""
        return len(self.first_use) - 1

    def reset(self, partition: int, partitions: int) -> None:
        """Take all SIMs of a partition for unused: what is known of them will be read again.

        So will its listed cards, which are ours from their place in the log on.
        """
        mine = partition_of_block(self._blocks, partitions) == partition
        self.first_use[1:].reshape(-1, SIM_BLOCK)[mine] = UNUSED
        others = [
            cards.filter(partition_of_block(block_of(cards.imsis), partitions) != partition)
            for cards in self._cards
        ]
        self._cards = []
        for cards in others:
            self.add_cards(cards)

    def slots(self, imsis: Int64s) -> Int64s:
        """The slot of each IMSI in `first_use`, shape as `imsis`; 0 outside all blocks."""
        run = np.searchsorted(self._run_first, imsis, side="right") - 1
        slot: Int64s = imsis + self._run_shift[run]
        slot[imsis >= self._run_end[run]] = 0
        return slot

    def candidates(self, imsis: Int64s, at: Int64s) -> Int64s:
        """The rows that may be a first use: the SIM is unused, or was used later than `at`.

        Both arrays have one entry a row, times in ms; the result holds row numbers, ascending.
        """
        # Unsigned, UNUSED - 1 is later than any time, so one comparison asks both questions.
        used_until = self.first_use[self.slots(imsis)] - 1
        return np.flatnonzero(used_until.view(np.uint64) >= at.view(np.uint64))

    def block_view(self, block: int) -> Int64s:
        """The `SIM_BLOCK` entries of a block, as a view that writes through to `first_use`.

        A block of which no SIM is registered gets its entries, too: its batch may have been known
        once, or be known soon.
        """
        first = np.array([block * SIM_BLOCK])
        start = int(self.slots(first)[0])
        if start == 0:
            self._make_room(np.array([block]))
            start = int(self.slots(first)[0])
        return self.first_use[start : start + SIM_BLOCK]

    def range_of(self, imsi: int) -> SimRange | None:
        """The batch that holds a SIM; a listed card is one by itself."""
        index = bisect_right(self._range_starts, imsi) - 1
        if index >= 0 and imsi < self._ranges[index].first_imsi + self._ranges[index].count:
            return self._ranges[index]
        for cards in self._cards:
            if (card := cards.card(imsi)) is not None:
                return SimRange(imsi, 1, card[1], card[0])
        return None

    def iccid(self, imsi: int) -> str:
        """The number printed on a registered SIM's card; `KeyError` for any other."""
        found = self.range_of(imsi)
        if found is None:
            raise KeyError(imsi)
        return found.iccids([imsi])[0]

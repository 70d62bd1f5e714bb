"""Call records of a made city as the envelopes that ingest would send, and what must come of them.

A few SIMs on shelves are used for the first time; some shops sell their last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.bench.common.seeded_state import SOURCE, START, SeededState
from pipelines.core.stock.sim_registry import Int64s
from schemas.envelope import USES, Header, pack
from schemas.topics import block_of, partition_of_block

#: Rows ingest puts into an envelope, and how late they may come (ms).
ENVELOPE_USES = 16_384
DISORDER = 60_000


@dataclass(frozen=True)
class Traffic:
    """CDRs in arrival order: IMSIs, times in ms, ids of 16 digits numbered from 0."""

    state: SeededState
    imsis: Int64s
    at: Int64s

    def __len__(self) -> int:
        return len(self.imsis)

    def first(self, count: int) -> Traffic:
        """The first so many."""
        return Traffic(self.state, self.imsis[:count], self.at[:count])

    def first_uses(self) -> dict[int, int]:
        """When each SIM that was on a shelf is first used, ms."""
        rows = np.flatnonzero(np.isin(self.imsis, self.state.on_shelf, kind="sort"))
        found: dict[int, int] = {}
        for imsi, at in zip(self.imsis[rows].tolist(), self.at[rows].tolist(), strict=True):
            found[imsi] = min(at, found.get(imsi, at))
        return found

    def stock_outs(self) -> dict[str, int]:
        """The outlets that sell their last SIM, and when."""
        uses = self.first_uses()
        sold = np.array(sorted(uses), np.int64)
        left = np.bincount(
            self.state.outlet_of(self.state.on_shelf), minlength=self.state.outlets
        ) - np.bincount(self.state.outlet_of(sold), minlength=self.state.outlets)
        outs: dict[str, int] = {}
        for imsi, number in zip(sold.tolist(), self.state.outlet_of(sold).tolist(), strict=True):
            if left[number] == 0:
                name = self.state.outlet_id(number)
                outs[name] = max(uses[imsi], outs.get(name, 0))
        return outs

    def chunks(self) -> Iterator[tuple[int, bytes, int, int]]:
        """Partition, envelope, watermark it bears, and rows it holds, in the order of sending."""
        size = ENVELOPE_USES * self.state.partitions
        newest = START
        for start in range(0, len(self), size):
            imsis, at = self.imsis[start : start + size], self.at[start : start + size]
            newest = max(newest, int(at.max()))
            partition_of = partition_of_block(block_of(imsis), self.state.partitions)
            for partition in range(self.state.partitions):
                rows = np.flatnonzero(partition_of == partition)
                batch = pa.record_batch(
                    [imsis[rows], at[rows], call_ids(rows + start)], schema=USES
                )
                mark = newest - DISORDER
                yield partition, pack(Header("uses", SOURCE, mark), batch), mark, len(rows)
        for partition in range(self.state.partitions):
            mark = newest + 1
            yield partition, pack(Header("none", SOURCE, mark, ended=True)), mark, 0


def call_ids(numbers: Int64s) -> pa.Array:
    """Numbers as strings of 16 digits, without a Python object each."""
    powers = 10 ** np.arange(15, -1, -1, dtype=np.int64)
    digits = (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(
        len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes())
    )


def make_traffic(state: SeededState, cdrs: int, *, seed: int = 1, span: int = 3_600_000) -> Traffic:
    """`cdrs` call records over `span` ms, one in a thousand a first use.

    Half of the first uses are chance; the other half sell some shops out.
    """
    random = np.random.default_rng(seed)
    imsis = state.users(random, cdrs)
    sales = min(cdrs // 1_000, len(state.on_shelf))
    shelf_of = state.outlet_of(state.on_shelf)
    per_outlet = max(1, len(state.on_shelf) // state.outlets)
    emptied = random.permutation(state.outlets)[: sales // 2 // per_outlet]
    last_ones = state.on_shelf[np.isin(shelf_of, emptied)]
    chance = random.choice(state.on_shelf, sales - min(len(last_ones), sales), replace=False)
    sold = np.unique(np.concatenate([last_ones, chance]))
    imsis[random.choice(cdrs, len(sold), replace=False)] = random.permutation(sold)
    at = START + np.arange(cdrs, dtype=np.int64) * span // cdrs
    return Traffic(state, imsis, at + random.integers(0, DISORDER // 2, cdrs))

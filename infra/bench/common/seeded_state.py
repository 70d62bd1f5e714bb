"""A made city at a moment: who exists, which SIMs are on whose shelf, and the state that says so.

Deliveries are lots of 50 consecutive SIMs, dealt out to the outlets in turn; of each two SIMs
delivered one is sold and used. All other registered SIMs have been in use for long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from pipelines.core.stage import WATERMARKS_KEY
from pipelines.core.stock.block import Block
from pipelines.core.stock.outlet_stage import OutletShelves
from pipelines.core.stock.placement import Placement, PlacementType
from pipelines.core.stock.sim_registry import UNUSED, Int64s, SimRange, SimRegistry
from pipelines.core.stock.sim_stage import RANGES_KEY
from pipelines.core.watermarks import Watermarks
from schemas.topics import SIM_BLOCK, partition_of_block, partition_of_key

#: When the benchmarks' traffic begins, ms: 2026-03-01T00:00:00Z.
START = 1_772_323_200_000

SOURCE = "cdr/made"
SKU = "prepaid"
LOT = 50

_FIRST_IMSI = 460_000_100_000_000
_FIRST_ICCID = 89_860_010_000_000_000_000
_BATCH = 1_000_000
_DAY = 86_400_000


@dataclass(frozen=True)
class SeededState:
    """`sims` registered, `shelved` of them on the shelves of `outlets` shops.

    The first `spare` of them were never delivered. `partitions` is how the topics
    are cut.
    """

    sims: int = 10_000_000
    shelved: int = 1_000_000
    outlets: int = 13_500
    partitions: int = 2
    spare: int = 0

    @cached_property
    def ranges(self) -> list[SimRange]:
        """The registered batches."""
        return [
            SimRange(
                _FIRST_IMSI + start, min(_BATCH, self.sims - start), SKU, str(_FIRST_ICCID + start)
            )
            for start in range(0, self.sims, _BATCH)
        ]

    @property
    def delivered(self) -> int:
        """The last so many SIMs were delivered; every other one of them is still on its shelf."""
        return min(2 * self.shelved, self.sims) // SIM_BLOCK * SIM_BLOCK

    @cached_property
    def on_shelf(self) -> Int64s:
        """The IMSIs on shelves, ascending."""
        end = _FIRST_IMSI + self.sims
        return np.arange(end - self.delivered, end, 2, dtype=np.int64)

    @property
    def spares(self) -> Int64s:
        """The IMSIs that were never delivered."""
        return np.arange(_FIRST_IMSI, _FIRST_IMSI + self.spare, dtype=np.int64)

    def outlet_of(self, imsis: Int64s) -> Int64s:
        """The number of the outlet each delivered SIM was brought to."""
        lots: Int64s = (imsis - _FIRST_IMSI) // LOT
        return lots % self.outlets

    def outlet_id(self, number: int) -> str:
        """The name of an outlet."""
        return f"o{number:06}"

    def wholesaler_id(self, number: int) -> str:
        """Who refills an outlet; a hundred outlets each."""
        return f"w{number // 100:05}"

    def holder(self, outlet_id: str, at: int) -> str:
        """The same as the stream asks it."""
        del at
        return self.wholesaler_id(int(outlet_id[1:]))

    def users(self, random: np.random.Generator, count: int) -> Int64s:
        """IMSIs of SIMs in use, drawn with replacement."""
        drawn = random.integers(self.spare, self.sims, count)
        first_delivered = self.sims - self.delivered
        drawn += (drawn >= first_delivered) & ((drawn - first_delivered) % 2 == 0)
        return drawn + _FIRST_IMSI

    # As files and as state

    def write_reference(self, folder: Path) -> None:
        """The reference tables as `load_reference` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers = range(self.outlets)
        sellers = sorted({self.wholesaler_id(n) for n in numbers})
        for name, header, rows in (
            ("territories", "territory_id,name,parent_id", ["t,City,"]),
            ("cells", "cell_id,territory_id", ["c,t"]),
            (
                "wholesalers",
                "wholesaler_id,name,phone,backup_phone,language",
                [f"{w},Wholesaler {w},+86138001{w[1:]},,zh" for w in sellers],
            ),
            (
                "outlets",
                "outlet_id,name,kind,territory_id,opened_on,closed_on",
                [f"{self.outlet_id(n)},Shop {n},kiosk,t,2020-01-01," for n in numbers],
            ),
            (
                "assignments",
                "outlet_id,wholesaler_id,valid_from",
                [
                    f"{self.outlet_id(n)},{self.wholesaler_id(n)},2020-01-01T00:00:00Z"
                    for n in numbers
                ],
            ),
            (
                "sim_batches",
                "batch_id,sku,first_iccid,first_imsi,count",
                [
                    f"b{i},{r.sku},{r.first_iccid},{r.first_imsi},{r.count}"
                    for i, r in enumerate(self.ranges)
                ],
            ),
        ):
            (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")

    def register(self) -> SimRegistry:
        """All SIMs with their first uses."""
        register = SimRegistry(self.ranges)
        register.first_use[1:] = START - 30 * _DAY
        register.first_use[register.slots(self.on_shelf)] = UNUSED
        register.first_use[register.slots(self.spares)] = UNUSED
        return register

    def sim_state(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Partition, key and value of each entry of the SIM side's table."""
        register = self.register()
        first_delivered = _FIRST_IMSI + self.sims - self.delivered
        for number in range(_FIRST_IMSI // SIM_BLOCK, -(-(_FIRST_IMSI + self.sims) // SIM_BLOCK)):
            block = Block(number, register)
            if block.first_imsi >= first_delivered:
                for lot in range(0, SIM_BLOCK, LOT):
                    block.remember(self._delivery(block.first_imsi + lot))
            block.folded = START
            partition = partition_of_block(number, self.partitions)
            yield partition, str(number).encode(), block.encode()
        ranges = msgspec.msgpack.encode(self.ranges)
        yield from ((partition, RANGES_KEY, ranges) for partition in range(self.partitions))
        yield from self._watermarks({SOURCE: START})

    def _delivery(self, imsi: int) -> Placement:
        outlet = self.outlet_id(int(self.outlet_of(np.array([imsi]))[0]))
        at = START - 60 * _DAY
        return Placement(at, f"d{imsi}", at, PlacementType.DELIVERY, outlet, "", imsi, LOT, at)

    def outlet_state(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Partition, key and value of each entry of the outlet side's table."""
        numbers = self.outlet_of(self.on_shelf)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(self.outlets + 1))
        for number in range(self.outlets):
            outlet = OutletShelves(self.outlet_id(number))
            outlet.folded = START
            outlet.shelf(SKU).stock = self.on_shelf[order[bounds[number] : bounds[number + 1]]]
            partition = partition_of_key(outlet.outlet_id, self.partitions)
            yield partition, b"o/" + outlet.outlet_id.encode(), outlet.encode()
        yield from self._watermarks({f"sims/{p}": START for p in range(self.partitions)})

    def _watermarks(self, marks: dict[str, int]) -> Iterator[tuple[int, bytes, bytes]]:
        encoded = msgspec.msgpack.encode(Watermarks(marks, reached=START))
        for partition in range(self.partitions):
            yield partition, WATERMARKS_KEY, encoded

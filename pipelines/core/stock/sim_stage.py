"""The SIM stage: what each SIM's calls and placements do, folded in event time.

Order: facts are folded by the time they became known (`known_at`; for all but late ones that is
`at`), then by (`at`, id). A late fact corrects the stock as if it had come in time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import astuple
from heapq import heappop, heappush

import msgspec
import numpy as np
import pyarrow as pa

from pipelines.core.effects import Effect, RowBuilder, envelopes
from pipelines.core.stage import Stage
from pipelines.core.stock import placement as rules
from pipelines.core.stock.block import Block, Use, block_number
from pipelines.core.stock.placement import Placement, PlacementType, replay, step
from pipelines.core.stock.sim_registry import UNUSED, Int64s, SimRange, SimRegistry
from pipelines.core.watermarks import source_watermark
from schemas import topics
from schemas.topics import block_of, partition_of_key

#: The part of the state that says which SIMs are ours; it is written before all blocks.
_RANGES = -1
_RANGES_KEY = b"ranges"

#: wholesaler who holds an outlet at a time (ms); "" when nobody does.
Holder = Callable[[str, int], str]


class SimStage(Stage[int]):
    """One partition of the SIM stage: movements to the outlets' partitions, and anomalies."""

    watermark_rule = staticmethod(source_watermark)

    def __init__(
        self, partition: int, partitions: int, registry: SimRegistry, holder: Holder
    ) -> None:
        super().__init__("sims", partition, partitions)
        self.registry = registry
        self.holder = holder
        registry.reset(partition, partitions)
        self.blocks: dict[int, Block] = {}
        self.ranges: set[SimRange] = set()
        self._due: list[tuple[int, int]] = []

    # Taking facts in

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind in ("uses", "late_uses"):
            self._hold_uses(rows)
        elif kind == "placements":
            self._hold_placements(rows)
        elif kind == "sim_ranges":
            self._register(rows)

    def _register(self, rows: pa.RecordBatch) -> None:
        """Take SIMs for ours from here on in the log, whatever the reference tables say later."""
        ranges = {SimRange(*row.values()) for row in rows.to_pylist()} - self.ranges
        if ranges:
            self.ranges |= ranges
            self.registry.extend(ranges)
            self._dirty.add(_RANGES)

    def _hold_uses(self, rows: pa.RecordBatch) -> None:
        imsis = rows.column(0).to_numpy()
        at = rows.column(1).to_numpy()
        for row in self.registry.candidates(imsis, at).tolist():
            imsi, time = int(imsis[row]), int(at[row])
            if self.registry.range_of(imsi) is None:
                continue
            known = int(rows.column(3)[row].as_py()) if rows.num_columns > 3 else time
            block = self._block(block_of(imsi))
            known = max(known, self.watermarks.reached)
            if block.hold_use(Use(time, rows.column(2)[row].as_py(), known, imsi)):
                self._wait_for(block, known)

    def _hold_placements(self, rows: pa.RecordBatch) -> None:
        for row in rows.to_pylist():
            if self.registry.range_of(row["first_imsi"]) is None:
                continue
            block = self._block(block_of(row["first_imsi"]))
            row["known_at"] = max(row["known_at"], self.watermarks.reached)
            row["to_outlet_id"] = row["to_outlet_id"] or rules.NOWHERE
            fact = Placement(**row)
            if block.hold_placement(fact):
                self._wait_for(block, fact.known_at)

    def _block(self, number: int) -> Block:
        block = self.blocks.get(number)
        if block is None:
            block = self.blocks[number] = Block(number, self.registry)
        return block

    def _wait_for(self, block: Block, known: int) -> None:
        heappush(self._due, (known, block.number))
        self._dirty.add(block.number)

    # Folding

    def advance(self) -> list[Effect]:
        """Fold all that the watermark has passed; the envelopes that say so, in order."""
        before = self.emitted
        if (update := self._update()) is None:
            return []
        out = _Emitted(self.registry, self.holder, self.partitions)
        numbers = set()
        while self._due and self._due[0][0] < update.watermark:
            numbers.add(heappop(self._due)[1])
        for number in sorted(numbers):
            self._fold(self.blocks[number], update.watermark, out)
        effects: list[Effect] = []
        if len(out.anomalies):
            effects += envelopes(topics.ANOMALIES, self.partition, out.anomalies, update, before)
        for target in range(self.partitions):
            effects += envelopes(
                topics.STOCK_MOVEMENTS, target, out.movements.get(target), update, before
            )
        return effects

    def _fold(self, block: Block, watermark: int, out: _Emitted) -> None:
        for fact in block.due(watermark):
            if isinstance(fact, Use):
                self._fold_use(block, fact, out)
            else:
                self._fold_placement(block, fact, out)
        block.folded = watermark
        self._dirty.add(block.number)
        known = block.next_known()
        if known is not None:
            heappush(self._due, (known, block.number))

    def _fold_use(self, block: Block, use: Use, out: _Emitted) -> None:
        offset = use.imsi - block.first_imsi
        first = int(block.first_use[offset])
        if first != UNUSED and first <= use.at:
            return
        if use.known_at > use.at:
            out.anomaly(use.event_id, use.imsi, rules.LATE, use.at)
        block.use(offset, use.at)
        if first != UNUSED:
            return
        place = block.place(use.imsi)
        if place == rules.NOWHERE:
            out.anomaly(use.event_id, use.imsi, rules.ACTIVE_BEFORE_DELIVERY, use.at)
        else:
            out.move([use.imsi], place, -1, rules.FIRST_USE, use)
            block.put(slice(offset, offset + 1), rules.NOWHERE)

    def _fold_placement(self, block: Block, fact: Placement, out: _Emitted) -> None:
        in_order = not any(
            f.order > fact.order
            and f.first_imsi < fact.first_imsi + fact.count
            and fact.first_imsi < f.first_imsi + f.count
            for f in reversed(block.history)
        )
        block.remember(fact)
        covered, _ = block.places(fact)
        first_use = block.first_use[covered]
        if in_order and not ((first_use != UNUSED) & (first_use > fact.at)).any():
            self._fold_in_order(block, fact, out)
        else:
            for imsi in range(fact.first_imsi, fact.first_imsi + fact.count):
                self._fold_out_of_order(block, fact, imsi, out)

    def _fold_in_order(self, block: Block, fact: Placement, out: _Emitted) -> None:
        """`step` on all SIMs of a placement at once: none has a later event."""
        covered, places = block.places(fact)
        imsis = np.arange(fact.first_imsi, fact.first_imsi + fact.count)
        used = block.first_use[covered] != UNUSED
        here = block.outlet_index(fact.outlet_id)
        if fact.known_at > fact.at:
            out.anomalies_of(fact, imsis, rules.LATE)
        if fact.type == PlacementType.DELIVERY:
            out.anomalies_of(fact, imsis[used], rules.DELIVERED_AFTER_USE)
            out.anomalies_of(fact, imsis[~used & (places == here)], rules.DELIVERED_TWICE)
            moved = ~used & (places != here) & (places != 0)
            out.anomalies_of(fact, imsis[moved], rules.MOVED_WITHOUT_TRANSFER)
            for index in np.unique(places[moved]).tolist():
                left = imsis[moved & (places == index)].tolist()
                out.move(left, block.outlet(index), -1, rules.MOVED_OUT, fact)
            come = ~used & (places != here)
            out.move(imsis[come].tolist(), fact.outlet_id, +1, rules.DELIVERED, fact)
            target = fact.outlet_id
        else:
            come = ~used & (places == here)
            out.anomalies_of(fact, imsis[used], rules.LEFT_AFTER_USE)
            out.anomalies_of(fact, imsis[~used & ~come], rules.NOT_AT_OUTLET)
            cause = rules.TAKEN[PlacementType(fact.type)]
            out.move(imsis[come].tolist(), fact.outlet_id, -1, cause, fact)
            target = rules.NOWHERE
            if fact.type == PlacementType.TRANSFER:
                target = fact.to_outlet_id
                out.move(imsis[come].tolist(), target, +1, rules.TRANSFERRED_IN, fact)
        block.put(imsis[come] - block.first_imsi, target)

    def _fold_out_of_order(self, block: Block, fact: Placement, imsi: int, out: _Emitted) -> None:
        """One SIM of a late placement: what would be had it come in time, against what is."""
        offset = imsi - block.first_imsi
        if fact.known_at > fact.at:
            out.anomaly(fact.event_id, imsi, rules.LATE, fact.at)
        first = int(block.first_use[offset])
        delivery = fact.type == PlacementType.DELIVERY
        if first != UNUSED and first <= fact.at:
            kind = rules.DELIVERED_AFTER_USE if delivery else rules.LEFT_AFTER_USE
            out.anomaly(fact.event_id, imsi, kind, fact.at)
            return
        earlier = replay((f for f in block.history if f.order < fact.order), imsi)
        _, anomaly = step(earlier, fact)
        if anomaly is not None:
            out.anomaly(fact.event_id, imsi, anomaly, fact.at)
        if first != UNUSED:
            return  # Active since: whatever it passed through, it is on no shelf now.
        before, after = block.place(imsi), replay(block.history, imsi)
        if before == after:
            return
        if before != rules.NOWHERE:
            taken = rules.MOVED_OUT if delivery else rules.TAKEN[PlacementType(fact.type)]
            out.move([imsi], before, -1, taken, fact)
        if after != rules.NOWHERE:
            cause = rules.DELIVERED if delivery else rules.TRANSFERRED_IN
            out.move([imsi], after, +1, cause, fact)
        block.put(slice(offset, offset + 1), after)

    # Keeping state

    def _entries(self, part: int) -> Iterator[tuple[bytes, bytes]]:
        if part == _RANGES:
            yield _RANGES_KEY, msgspec.msgpack.encode(sorted(self.ranges, key=astuple))
        else:
            yield from self.blocks[part].entries()

    def _restore(self, key: bytes, value: bytes) -> None:
        if key == _RANGES_KEY:
            self.ranges = set(msgspec.msgpack.decode(value, type=list[SimRange]))
            self.registry.extend(self.ranges)
            return
        block = self._block(block_number(key))
        block.restore(key, value)
        known = block.next_known()
        if known is not None:
            heappush(self._due, (known, block.number))


class _Emitted:
    """Movements by target partition, and anomalies, as a fold produces them."""

    def __init__(self, registry: SimRegistry, holder: Holder, partitions: int) -> None:
        self.registry = registry
        self.holder = holder
        self.partitions = partitions
        self.movements: dict[int, RowBuilder] = defaultdict(lambda: RowBuilder("movements"))
        self.anomalies = RowBuilder("anomalies")

    def move(
        self, imsis: list[int], outlet_id: str, delta: int, cause: str, fact: Placement | Use
    ) -> None:
        if not imsis:
            return
        batch = self.registry.range_of(imsis[0])
        assert batch is not None, "facts about unregistered SIMs are not taken"
        iccids = batch.iccids(imsis)
        self.movements[partition_of_key(outlet_id, self.partitions)].extend(
            len(imsis),
            movement_id=[f"{fact.event_id}/{iccid}/{cause}" for iccid in iccids],
            at=fact.at,
            known_at=fact.known_at,
            outlet_id=outlet_id,
            sku=batch.sku,
            imsi=imsis,
            iccid=iccids,
            delta=delta,
            cause=cause,
            event_id=fact.event_id,
            wholesaler_id=self.holder(outlet_id, fact.at),
        )

    def anomaly(self, event_id: str, imsi: int, kind: str, at: int) -> None:
        self.anomalies.add(
            event_id=event_id, iccid=self.registry.iccid(imsi), kind=kind, at=at, detail=""
        )

    def anomalies_of(self, fact: Placement, imsis: Int64s, kind: str) -> None:
        for imsi in imsis.tolist():
            self.anomaly(fact.event_id, imsi, kind, fact.at)

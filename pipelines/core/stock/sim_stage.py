"""The SIM stage: what each SIM's calls and placements do, folded in event time.

Order: facts are folded by the time they became known (`known_at`; for all but late ones that is
`at`), then by (`at`, id). Each SIM's history is a function of all facts about it. A fact that comes
late changes it: what it would have been in time is compared with what was said, and movements and
anomalies are withdrawn and added. All late facts of a block that met the same watermark are one
such change, so `known_at` serves as the version of each row, however the log is cut into steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple
from heapq import heappop, heappush

import msgspec
import numpy as np
import pyarrow as pa

from pipelines.core.effects import Effect, RowBuilder, envelopes
from pipelines.core.stage import RESTATE_WITHIN, Stage
from pipelines.core.stock import placement as rules
from pipelines.core.stock.block import Block, block_number
from pipelines.core.stock.placement import (
    Anomaly,
    History,
    Movement,
    Placement,
    PlacementType,
    Use,
)
from pipelines.core.stock.shelf import Holder
from pipelines.core.stock.sim_registry import UNUSED, Int64s, SimRange, SimRegistry
from pipelines.core.stock.unregistered import UNREGISTERED_KEY, UnregisteredUses
from pipelines.core.watermarks import source_watermark
from schemas import topics
from schemas.cards import CardList
from schemas.envelope import NO_WATERMARK
from schemas.topics import block_of, partition_of_key

#: The part of the state that says which SIMs are ours; it is written before all blocks.
_RANGES = -1
RANGES_KEY = b"ranges"

#: The part that has the cards of lists that are ours; it is written before all blocks, too.
_CARDS = -2
CARDS_KEY = b"cards/"

#: Cards that an entry of the state table holds at most.
_ENTRY_CARDS = 2_000

#: The part that has the uses of SIMs in no batch; it is written after all blocks, so that a use is
#: in the block that took it before it is gone from here.
_UNREGISTERED = 2**62

#: IMSIs, ICCIDs and SKUs.
_StoredCards = tuple[list[int], list[str], list[str]]


class SimStage(Stage[int]):
    """One partition of the SIM stage: movements to the outlets' partitions, and anomalies."""

    watermark_rule = staticmethod(source_watermark)

    def __init__(
        self,
        partition: int,
        partitions: int,
        registry: SimRegistry,
        holder: Holder,
        restate_within: int = RESTATE_WITHIN,
    ) -> None:
        super().__init__("sims", partition, partitions)
        self.registry = registry
        self.holder = holder
        self.restate_within = restate_within
        registry.reset(partition, partitions)
        self.blocks: dict[int, Block] = {}
        #: In the order in which they were named: of two with a SIM in common the first holds.
        self.ranges: dict[SimRange, None] = {}
        self.unregistered = UnregisteredUses()
        self._new_cards: list[CardList] = []
        self._card_entries = 0
        self._due: list[tuple[int, int]] = []

    # Taking facts in

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind in ("uses", "late_uses"):
            self._hold_uses(rows)
        elif kind == "unregistered_uses":
            self._hold_unregistered(rows)
        elif kind == "placements":
            self._hold_placements(rows)
        elif kind == "sim_ranges":
            self._register(rows)
        elif kind == "sim_cards":
            self._register_cards(rows)

    def _register_cards(self, rows: pa.RecordBatch) -> None:
        """Take listed cards for ours from here on in the log, likewise."""
        imsis = rows["imsi"].to_numpy()
        cards = CardList(rows["iccid"].to_pylist(), imsis, rows["sku"].to_pylist())
        if len(new := self.registry.add_cards(cards)):
            self._new_cards.append(new)
            self._dirty.add(_CARDS)
        self._recall(imsis, imsis + 1)

    def _register(self, rows: pa.RecordBatch) -> None:
        """Take SIMs for ours from here on in the log, whatever the reference tables say later."""
        named = dict.fromkeys(SimRange(*row.values()) for row in rows.to_pylist())
        new = sorted((r for r in named if r not in self.ranges), key=astuple)
        if new:
            self.registry.extend(new)
            self.ranges |= dict.fromkeys(new)
            self._dirty.add(_RANGES)
        # Also of those known already: their part of the state may have been written by itself.
        first = rows["range_start"].to_numpy()
        self._recall(first, first + rows["sims"].to_numpy())

    def _recall(self, first: Int64s, end: Int64s) -> None:
        """Hold the uses that SIMs in ranges had before they were ours, as known now."""
        uses = self.unregistered.take(first, end)
        if not uses:
            return
        self._dirty.add(_UNREGISTERED)
        imsis, at = (np.array([use[i] for use in uses], np.int64) for i in (0, 1))
        for row in self.registry.candidates(imsis, at).tolist():
            imsi, time, event_id = uses[row]
            if self.registry.range_of(imsi) is None:  # another range holds: a fault in the tables
                continue
            known = max(time, self.watermarks.reached)
            counts = rules.counts_at(time, known, self.restate_within)
            name = event_id if counts == time else f"first-use/{imsi}"
            self._hold_use(Use(time, name, known, imsi, counts, kept=True))

    def _hold_unregistered(self, rows: pa.RecordBatch) -> None:
        """Keep uses of SIMs in no batch; those that are ours here count like any other."""
        imsis = rows["imsi"].to_numpy()
        ours = self.registry.slots(imsis) != 0
        for row in np.flatnonzero(ours).tolist():
            ours[row] = self.registry.range_of(int(imsis[row])) is not None
        if ours.any():
            self._hold_uses(rows.filter(pa.array(ours)))
            rows = rows.filter(pa.array(~ours))
        if self.watermarks.reached != NO_WATERMARK:
            self.unregistered.since = self.watermarks.reached - self.restate_within
        imsis, at = (rows[name].to_numpy() for name in ("imsi", "at"))
        if self.unregistered.keep(imsis, at, rows["event_id"]):
            self._dirty.add(_UNREGISTERED)

    def _hold_uses(self, rows: pa.RecordBatch) -> None:
        imsis = rows.column(0).to_numpy()
        at = rows.column(1).to_numpy()
        for row in self.registry.candidates(imsis, at).tolist():
            imsi, time = int(imsis[row]), int(at[row])
            if self.registry.range_of(imsi) is None:
                continue
            known = int(rows.column(3)[row].as_py()) if rows.num_columns > 3 else time
            known = max(known, self.watermarks.reached)
            counts = rules.counts_at(time, known, self.restate_within)
            self._hold_use(Use(time, rows.column(2)[row].as_py(), known, imsi, counts))

    def _hold_use(self, use: Use) -> None:
        block = self._block(block_of(use.imsi))
        if block.hold_use(use):
            self._wait_for(block, use.known_at)

    def _hold_placements(self, rows: pa.RecordBatch) -> None:
        for row in rows.to_pylist():
            if self.registry.range_of(row["first_imsi"]) is None:
                continue
            block = self._block(block_of(row["first_imsi"]))
            row["known_at"] = max(row["known_at"], self.watermarks.reached)
            row["to_outlet_id"] = row["to_outlet_id"] or rules.NOWHERE
            counts = rules.counts_at(row["at"], row["known_at"], self.restate_within)
            fact = Placement(**row, counts_at=counts)
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
        late: list[Placement | Use] = []
        for fact in block.due(watermark):
            if late and fact.known_at != late[0].known_at:
                self._restate(block, late, out)
                late = []
            if fact.counts_at < fact.known_at:
                late.append(fact)
                continue
            if late:  # Of what became known at the same time, late facts come first.
                self._restate(block, late, out)
                late = []
            if isinstance(fact, Use):
                self._fold_use(block, fact, out)
            else:
                self._fold_placement(block, fact, out)
        if late:
            self._restate(block, late, out)
        block.folded = watermark
        self._dirty.add(block.number)
        known = block.next_known()
        if known is not None:
            heappush(self._due, (known, block.number))

    def _fold_use(self, block: Block, use: Use, out: _Emitted) -> None:
        """A first use in order."""
        offset = use.imsi - block.first_imsi
        if block.first_use[offset] != UNUSED:
            return
        block.use(use)
        place = block.place(use.imsi)
        if place == rules.NOWHERE:
            out.anomaly(use, use.imsi, rules.ACTIVE_BEFORE_DELIVERY)
        else:
            out.move([use.imsi], place, -1, rules.FIRST_USE, use)
            block.put(slice(offset, offset + 1), rules.NOWHERE)

    def _fold_placement(self, block: Block, fact: Placement, out: _Emitted) -> None:
        """`rules.step` on all SIMs of a placement at once: none has a later fact."""
        block.remember(fact)
        covered, places = block.places(fact)
        imsis = np.arange(fact.first_imsi, fact.first_imsi + fact.count)
        used = block.first_use[covered] != UNUSED
        here = block.outlet_index(fact.outlet_id)
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

    def _restate(self, block: Block, late: list[Placement | Use], out: _Emitted) -> None:
        """Late facts that met the same watermark: what is, with them, against what was said."""
        known_at = late[0].known_at
        placements = [fact for fact in late if isinstance(fact, Placement)]
        uses = {}
        for fact in late:
            if isinstance(fact, Use):
                first = block.first_use[fact.imsi - block.first_imsi]
                if first == UNUSED or fact.counts_at < first:
                    uses[fact.imsi] = fact
        for fact in placements:
            out.anomalies_of(
                fact, np.arange(fact.first_imsi, fact.first_imsi + fact.count), rules.LATE
            )
        for use in uses.values():
            if not use.kept:  # else it came in time, and its batch was late
                out.anomaly(use, use.imsi, rules.LATE)
        covered = {imsi for f in placements for imsi in range(f.first_imsi, f.first_imsi + f.count)}
        for imsi in sorted(covered | uses.keys()):
            about = [fact for fact in block.history if fact.covers(imsi)]
            first_use = block.first_use_of(imsi)
            before = rules.history(about, first_use, imsi)
            about += [fact for fact in placements if fact.covers(imsi)]
            after = rules.history(about, uses.get(imsi, first_use), imsi)
            out.restate(imsi, known_at, before, after)
            offset = imsi - block.first_imsi
            block.put(slice(offset, offset + 1), after.place)
        for fact in placements:
            block.remember(fact)
        for use in uses.values():
            block.use(use)

    # Keeping state

    def _entries(self, part: int) -> Iterator[tuple[bytes, bytes]]:
        if part == _RANGES:
            yield RANGES_KEY, msgspec.msgpack.encode(list(self.ranges))
        elif part == _CARDS:
            yield from self._entries_of_cards()
        elif part == _UNREGISTERED:
            yield from self.unregistered.snapshot()
        else:
            yield from self.blocks[part].entries(self.restate_within)

    def _entries_of_cards(self) -> Iterator[tuple[bytes, bytes]]:
        """Each card is written once: entries are added, and none is written again."""
        new, self._new_cards = self._new_cards, []
        for cards in new:
            columns = cards.imsis.tolist(), cards.iccids, cards.skus
            for start in range(0, len(cards), _ENTRY_CARDS):
                some = [column[start : start + _ENTRY_CARDS] for column in columns]
                yield CARDS_KEY + b"%d" % self._card_entries, msgspec.msgpack.encode(some)
                self._card_entries += 1

    def _restore(self, key: bytes, value: bytes) -> None:
        if key == RANGES_KEY:
            ranges = msgspec.msgpack.decode(value, type=list[SimRange])
            self.ranges = dict.fromkeys(ranges)
            first, count = np.array([(r.first_imsi, r.count) for r in ranges], np.int64).T
            self.registry.reserve(first, count)
            for some in ranges:
                self.registry.extend([some])
            return
        if key.startswith(CARDS_KEY):
            imsis, iccids, skus = msgspec.msgpack.decode(value, type=_StoredCards)
            self.registry.add_cards(CardList(iccids, imsis, skus))
            self._card_entries = max(self._card_entries, int(key.removeprefix(CARDS_KEY)) + 1)
            return
        if key.startswith(UNREGISTERED_KEY):
            self.unregistered.restore(key, value)
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
        if imsis:
            what = Movement(fact.counts_at, fact.event_id, outlet_id, delta, cause)
            self._movement(imsis, what, fact.known_at, withdrawn=False)

    def _movement(
        self, imsis: list[int], what: Movement, known_at: int, *, withdrawn: bool
    ) -> None:
        batch = self.registry.range_of(imsis[0])
        assert batch is not None, "facts about unregistered SIMs are not taken"
        iccids = batch.iccids(imsis)
        self.movements[partition_of_key(what.outlet_id, self.partitions)].extend(
            len(imsis),
            movement_id=[f"{what.event_id}/{iccid}/{what.cause}" for iccid in iccids],
            known_at=known_at,
            sku=batch.sku,
            imsi=imsis,
            iccid=iccids,
            wholesaler_id=self.holder(what.outlet_id, what.at),
            withdrawn=withdrawn,
            **what._asdict(),
        )

    def anomaly(self, fact: Placement | Use, imsi: int, kind: str) -> None:
        self._anomaly(imsi, Anomaly(fact.at, fact.event_id, kind), fact.known_at, withdrawn=False)

    def _anomaly(self, imsi: int, what: Anomaly, known_at: int, *, withdrawn: bool) -> None:
        self.anomalies.add(
            iccid=self.registry.iccid(imsi),
            detail="",
            known_at=known_at,
            withdrawn=withdrawn,
            **what._asdict(),
        )

    def anomalies_of(self, fact: Placement, imsis: Int64s, kind: str) -> None:
        for imsi in imsis.tolist():
            self.anomaly(fact, imsi, kind)

    def restate(self, imsi: int, known_at: int, before: History, after: History) -> None:
        """Withdraw what was said of a SIM and no longer holds; say what was not and does."""
        for old, new, withdrawn in ((before, after, True), (after, before, False)):
            for what in old.movements:
                if what not in new.movements:
                    self._movement([imsi], what, known_at, withdrawn=withdrawn)
            for odd in old.anomalies:
                if odd not in new.anomalies:
                    self._anomaly(imsi, odd, known_at, withdrawn=withdrawn)

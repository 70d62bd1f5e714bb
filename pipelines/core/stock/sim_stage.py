"""The SIM stage: what each SIM's calls and placements do, folded in event time.

State is facts. A block keeps the first use of each SIM, the placements that spoke of it, and what
is held until the watermark passes; a SIM's place follows from them. Facts only grow, and adding one
twice changes nothing, so repeating work after a crash is harmless. What a step tells others is a
function of the facts between two watermarks: repeated, it says the same again.

Order: facts are folded by the time they became known (`known_at`; for all but late ones that is
`at`), then by (`at`, id). A late fact corrects the stock as if it had come in time.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.effects import Effect, RowBuilder, WatermarkUpdate, envelopes
from pipelines.core.stock import placement as rules
from pipelines.core.stock.placement import Placement, PlacementType, replay, step
from pipelines.core.stock.sim_registry import UNUSED, Int64s, SimRegistry
from pipelines.core.watermarks import Watermarks, source_watermark
from schemas import topics
from schemas.envelope import Header
from schemas.topics import SIM_BLOCK, block_of, partition_of_key

#: wholesaler who holds an outlet at a time (ms); "" when nobody does.
Holder = Callable[[str, int], str]


class Use(msgspec.Struct, array_like=True, frozen=True):
    """A call or activation that may be its SIM's first use; times in ms."""

    at: int
    event_id: str
    known_at: int
    imsi: int


class _StoredBlock(msgspec.Struct, array_like=True):
    """The bulk of a block: offsets (u16) and first uses (i64 ms) of its used SIMs, and placements.

    It is written seldom; what came since is in the block's `_StoredNews`.
    """

    folded: int
    used: bytes
    first_use: bytes
    history: list[Placement]


class _StoredNews(msgspec.Struct, array_like=True):
    """First uses since the bulk was written, by offset, and what is held."""

    folded: int
    used: dict[int, int]
    held_placements: list[Placement]
    held_uses: list[Use]


#: First uses of a block that are written again and again before they go into its bulk.
_MOST_NEWS = 50

#: Ends the key of a block's news; the number alone is the key of its bulk.
_NEWS = b"+"


class Block:
    """The facts about `SIM_BLOCK` consecutive SIMs."""

    def __init__(self, number: int, first_use: Int64s) -> None:
        self.number = number
        self.first_imsi = number * SIM_BLOCK
        self.first_use = first_use
        self.folded = 0
        self.history: list[Placement] = []
        self.held_placements: dict[tuple[str, int], Placement] = {}
        self.held_uses: dict[int, list[Use]] = {}
        self._news: dict[int, int] = {}
        self._bulk_is_old = False
        self._seen: set[tuple[str, int]] = set()
        # Where each SIM is, as an index into `_outlets`; follows from the history.
        self._outlets: list[str] = [rules.NOWHERE]
        self._place = np.zeros(SIM_BLOCK, np.int16)

    def hold_placement(self, fact: Placement) -> bool:
        """Keep a placement until its time; False if it is known already, and not later.

        A copy from a source that was too late with it may come before the punctual one.
        """
        held = self.held_placements.get(fact.key)
        if fact.key in self._seen and (held is None or held.known_at <= fact.known_at):
            return False
        self._seen.add(fact.key)
        self.held_placements[fact.key] = fact
        return True

    def hold_use(self, fact: Use) -> bool:
        """Keep a use until its time; False if an earlier one known no later makes it needless."""
        held = self.held_uses.setdefault(fact.imsi, [])
        order = (fact.at, fact.event_id)
        if any((u.at, u.event_id) <= order and u.known_at <= fact.known_at for u in held):
            return False
        held[:] = [
            u for u in held if not (order <= (u.at, u.event_id) and fact.known_at <= u.known_at)
        ]
        held.append(fact)
        return True

    def due(self, watermark: int) -> list[Placement | Use]:
        """Take out all held facts known before the watermark, in the order of folding."""
        facts: list[Placement | Use] = []
        for key, fact in list(self.held_placements.items()):
            if fact.known_at < watermark:
                facts.append(self.held_placements.pop(key))
        for imsi, uses in list(self.held_uses.items()):
            facts.extend(u for u in uses if u.known_at < watermark)
            uses[:] = [u for u in uses if u.known_at >= watermark]
            if not uses:
                del self.held_uses[imsi]
        facts.sort(key=lambda f: (f.known_at, f.at, f.event_id))
        return facts

    def next_known(self) -> int | None:
        """When the earliest held fact became known."""
        times = [f.known_at for f in self.held_placements.values()]
        times += [u.known_at for uses in self.held_uses.values() for u in uses]
        return min(times, default=None)

    def place(self, imsi: int) -> str:
        """Where a SIM is that is not active."""
        return self.outlet(int(self._place[imsi - self.first_imsi]))

    def places(self, fact: Placement) -> tuple[slice, Int64s]:
        """The offsets a placement covers, and the outlet index of each."""
        start = fact.first_imsi - self.first_imsi
        covered = slice(start, start + fact.count)
        return covered, self._place[covered].astype(np.int64)

    def outlet_index(self, outlet_id: str) -> int:
        """The index that stands for an outlet in this block."""
        try:
            return self._outlets.index(outlet_id)
        except ValueError:
            self._outlets.append(outlet_id)
            return len(self._outlets) - 1

    def outlet(self, index: int) -> str:
        """The outlet behind an index."""
        return self._outlets[index]

    def put(self, offsets: slice | Int64s, outlet_id: str) -> None:
        """Note where SIMs are now."""
        self._place[offsets] = self.outlet_index(outlet_id)

    def remember(self, fact: Placement) -> None:
        """Add a folded placement to the history."""
        insort(self.history, fact, key=lambda f: f.order)
        self._bulk_is_old = True

    def use(self, offset: int, at: int) -> None:
        """Note a SIM's first use, or an earlier one than was known."""
        self.first_use[offset] = self._news[offset] = max(at, UNUSED + 1)

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """What has to be written to the state table: the bulk only if it must, then the news."""
        key = str(self.number).encode()
        if self._bulk_is_old or len(self._news) > _MOST_NEWS:
            self._bulk_is_old = False
            self._news.clear()
            yield key, self.encode()
        held = sorted(self.held_placements.values(), key=lambda f: f.order)
        uses = [u for _, uses in sorted(self.held_uses.items()) for u in uses]
        yield key + _NEWS, msgspec.msgpack.encode(_StoredNews(self.folded, self._news, held, uses))

    def encode(self) -> bytes:
        """The bulk as it is kept in the state table."""
        used = np.flatnonzero(self.first_use != UNUSED)
        return msgspec.msgpack.encode(
            _StoredBlock(
                self.folded,
                used.astype(np.uint16).tobytes(),
                self.first_use[used].tobytes(),
                self.history,
            )
        )

    def decode(self, data: bytes) -> None:
        """Take back what `encode` wrote, newer bulks after older ones."""
        stored = msgspec.msgpack.decode(data, type=_StoredBlock)
        used = np.frombuffer(stored.used, np.uint16)
        self._first_used(used, np.frombuffer(stored.first_use, np.int64))
        self.history = stored.history
        self._outlets = [rules.NOWHERE]
        self._place[:] = 0
        for fact in self.history:
            self._replay(fact)
        self._settle(stored.folded)

    def decode_news(self, data: bytes) -> None:
        """Take back the news; their bulk may come before or after them, or be newer than they."""
        stored = msgspec.msgpack.decode(data, type=_StoredNews)
        self._news = stored.used
        self._first_used(
            np.fromiter(stored.used.keys(), np.uint16), np.fromiter(stored.used.values(), np.int64)
        )
        self.held_placements = {f.key: f for f in stored.held_placements}
        self.held_uses = {}
        for use in stored.held_uses:
            self.held_uses.setdefault(use.imsi, []).append(use)
        self._settle(stored.folded)

    def _first_used(self, offsets: npt.NDArray[np.uint16], at: Int64s) -> None:
        """First uses only ever move back, so the earliest of all that was written holds."""
        known = self.first_use[offsets]
        self.first_use[offsets] = np.where(known == UNUSED, at, np.minimum(known, at))

    def _settle(self, folded: int) -> None:
        """What was known before the newest mark has been folded, whatever an older entry holds."""
        self.folded = max(self.folded, folded)
        done = {f.key for f in self.history}
        self.held_placements = {
            key: f
            for key, f in self.held_placements.items()
            if f.known_at >= self.folded and key not in done  # an older entry has a later copy
        }
        kept = {
            imsi: [u for u in uses if u.known_at >= self.folded]
            for imsi, uses in self.held_uses.items()
        }
        self.held_uses = {imsi: uses for imsi, uses in kept.items() if uses}
        self._seen = done | set(self.held_placements)

    def _replay(self, fact: Placement) -> None:
        """Move the SIMs of a folded placement, given in event order, without a word to anybody."""
        covered, places = self.places(fact)
        here = self.outlet_index(fact.outlet_id)
        if fact.type == PlacementType.DELIVERY:
            self._place[covered] = here
            return
        _, target = fact.outlet_id, rules.NOWHERE
        if fact.type == PlacementType.TRANSFER:
            target = fact.to_outlet_id
        self._place[covered] = np.where(places == here, self.outlet_index(target), places)


class SimStage:
    """One partition of the SIM stage: take envelopes, advance, and say what follows.

    `process` and `advance` change the state; `snapshot` hands out what has to be kept, the watermarks
    last, so that a torn write never has the watermarks ahead of the facts.
    """

    _WATERMARKS = b"watermarks"

    def __init__(
        self,
        partition: int,
        partitions: int,
        registry: SimRegistry,
        holder: Holder,
        *,
        idle_after: int | None = None,
        disorder: int = 0,
    ) -> None:
        self.name = f"sims/{partition}"
        self.peers = tuple(f"sims/{p}" for p in range(partitions))
        self.partition = partition
        self.partitions = partitions
        self.registry = registry
        self.holder = holder
        self.idle_after = idle_after
        self.disorder = disorder
        registry.reset(partition, partitions)
        self.watermarks = Watermarks()
        self.blocks: dict[int, Block] = {}
        self._due: list[tuple[int, int]] = []
        self._dirty: set[int] = set()
        self._last_emitted: tuple[int, bool] | None = None

    # Taking facts in

    def process(self, header: Header, rows: pa.RecordBatch | None, now: int) -> None:
        """Hold what an envelope of sim-events says; `now` is wall time in ms."""
        if rows is not None:
            if header.kind in ("uses", "late_uses"):
                self._take_uses(rows)
            elif header.kind == "placements":
                self._take_placements(rows)
        self.watermarks.observe(header, now)

    def _take_uses(self, rows: pa.RecordBatch) -> None:
        imsis = rows.column(0).to_numpy()
        at = rows.column(1).to_numpy()
        for row in self.registry.candidates(imsis, at).tolist():
            imsi, time = int(imsis[row]), int(at[row])
            if self.registry.range_of(imsi) is None:
                continue
            known = int(rows.column(3)[row].as_py()) if rows.num_columns > 3 else time
            block = self._block(block_of(imsi))
            known = max(known, self.watermarks.reached, block.folded)
            if block.hold_use(Use(time, rows.column(2)[row].as_py(), known, imsi)):
                self._held(block, known)

    def _take_placements(self, rows: pa.RecordBatch) -> None:
        for row in rows.to_pylist():
            if self.registry.range_of(row["first_imsi"]) is None:
                continue
            block = self._block(block_of(row["first_imsi"]))
            row["known_at"] = max(row["known_at"], self.watermarks.reached, block.folded)
            row["to_outlet_id"] = row["to_outlet_id"] or rules.NOWHERE
            fact = Placement(**row)
            if block.hold_placement(fact):
                self._held(block, fact.known_at)

    def _block(self, number: int) -> Block:
        block = self.blocks.get(number)
        if block is None:
            block = self.blocks[number] = Block(number, self.registry.block_view(number))
        return block

    def _held(self, block: Block, known: int) -> None:
        heappush(self._due, (known, block.number))
        self._dirty.add(block.number)

    # Folding

    def advance(self, now: int) -> list[Effect]:
        """Fold all that the watermark has passed; the envelopes that tell others, in order."""
        wall = now if self.idle_after is not None else None
        watermark, ended = source_watermark(
            self.watermarks, now=wall, idle_after=self.idle_after or 0, disorder=self.disorder
        )
        if (watermark, ended) == self._last_emitted or not self.watermarks.marks:
            return []
        out = _Emitted(self.registry, self.holder, self.partitions)
        numbers = set()
        while self._due and self._due[0][0] < watermark:
            numbers.add(heappop(self._due)[1])
        for number in sorted(numbers):
            self._fold(self.blocks[number], watermark, out)
        before = self.watermarks.reached
        self.watermarks.reached = watermark
        self._last_emitted = (watermark, ended)
        update = WatermarkUpdate(self.name, watermark, ended, self.peers)
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

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        """Entries to write to the state table, in this order; none is handed out twice."""
        if not self._dirty and self._last_emitted is None:
            return
        for number in sorted(self._dirty):
            yield from self.blocks[number].entries()
        self._dirty.clear()
        yield self._WATERMARKS, msgspec.msgpack.encode(self.watermarks)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one entry that `snapshot` handed out; the newest of each key must come last."""
        if key == self._WATERMARKS:
            self.watermarks = msgspec.msgpack.decode(value, type=Watermarks)
            self.watermarks.heard.clear()
            return
        block = self._block(int(key.removesuffix(_NEWS)))
        if key.endswith(_NEWS):
            block.decode_news(value)
        else:
            block.decode(value)
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

"""The outlet stage: each outlet's shelves and their stock-outs, in event time.

Movements arrive from all SIM partitions in any order and possibly twice; they are held until the
watermark says that none known earlier is missing, then folded event by event; those that restate
history are folded together, by the moment at which they became known. A movement known before the
outlet's own `folded` mark was folded already: it is the echo of a crash and is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.effects import Effect, RowBuilder, envelopes
from pipelines.core.stage import RESTATE_WITHIN, Stage
from pipelines.core.stock.shelf import (
    NO_SIMS,
    Holder,
    Incident,
    Shelf,
    StoredRecentShelf,
    StoredShelf,
    with_sims,
)
from pipelines.core.stock.sim_registry import Int64s
from pipelines.core.watermarks import partition_watermark
from schemas import topics
from schemas.topics import partition_of_key

#: What the keys of an outlet's entries in the state table begin with.
_BULK = b"o/"
_RECENT = b"r/"

#: When a movement counts: known_at, at (ms) and event id. Movements of one event share it.
_Moment = tuple[int, int, str]

#: What came to an outlet's shelf (+1) and what left it (-1), by SKU and direction.
_Moved = dict[tuple[str, int], Int64s]


class _StoredOutlet(msgspec.Struct, array_like=True):
    """The bulk of an outlet, up to the watermark to which it was folded."""

    folded: int
    shelves: dict[str, StoredShelf]


class _StoredRecentChanges(msgspec.Struct, array_like=True):
    """What came since the bulk was written, and held movements as packed int64 arrays."""

    folded: int
    shelves: dict[str, StoredRecentShelf]
    held: list[tuple[_Moment, str, int, bytes]]


class OutletShelves:
    """One outlet: its shelves by SKU, and movements to come."""

    def __init__(self, outlet_id: str) -> None:
        self.outlet_id = outlet_id
        self.folded = 0
        self.shelves: dict[str, Shelf] = {}
        self.held: dict[_Moment, _Moved] = {}
        self._read_bulk: _StoredOutlet | None = None
        self._read_recent: _StoredRecentChanges | None = None

    def hold(self, moment: _Moment, sku: str, delta: int, imsis: Int64s) -> bool:
        """Keep the movements of some SIMs until their time; False if nothing about them is new.

        One that is withdrawn is one the other way.
        """
        if moment[0] < self.folded:
            return False
        event = self.held.setdefault(moment, {})
        known = event.get((sku, delta), NO_SIMS)
        event[sku, delta] = merged = with_sims(known, np.unique(imsis))
        return len(merged) > len(known)

    def fold(
        self, watermark: int, holder: Holder, restate_within: int
    ) -> Iterator[tuple[int, str, Incident | None, bool]]:
        """Apply all events known before the watermark.

        Yields, in order, each SKU that changed, as (known_at, sku, incident, withdrawn): an
        incident that the change opened, closed, restated or withdrew, or None.
        """
        due = sorted(moment for moment in self.held if moment[0] < watermark)
        for known_at, moments in groupby(due, key=lambda moment: moment[0]):
            late: dict[str, list[tuple[_Moment, _Moved]]] = defaultdict(list)
            skus = set()
            for moment in moments:
                event = self.held.pop(moment)
                for sku in sorted({sku for sku, _ in event}):
                    skus.add(sku)
                    if moment[1] < known_at:
                        late[sku].append((moment, event))
                        continue
                    yield from self._restate(known_at, late, holder)
                    come, gone = event.get((sku, +1), NO_SIMS), event.get((sku, -1), NO_SIMS)
                    shelf = self.shelf(sku)
                    yield known_at, sku, shelf.change(*moment[1:], come, gone, holder), False
            yield from self._restate(known_at, late, holder)
            for sku in skus:
                self.shelf(sku).forget(known_at - restate_within)
        self.folded = max(self.folded, watermark)

    def _restate(
        self, known_at: int, late: dict[str, list[tuple[_Moment, _Moved]]], holder: Holder
    ) -> Iterator[tuple[int, str, Incident | None, bool]]:
        """All late events known at one time, shelf by shelf."""
        for sku in sorted(late):
            changes, sims, signs = [], [], []
            for (_, at, event_id), event in late[sku]:
                net = 0
                for sign in (-1, +1):
                    moved = event.get((sku, sign), NO_SIMS)
                    net += sign * len(moved)
                    sims.append(moved)
                    signs.append(np.full(len(moved), sign))
                changes.append((at, event_id, net))
            imsis, which = np.unique(np.concatenate(sims), return_inverse=True)
            total = np.bincount(which, np.concatenate(signs), len(imsis))
            yield known_at, sku, None, False
            for incident, withdrawn in self.shelf(sku).restate(
                known_at, changes, imsis[total > 0], imsis[total < 0], holder
            ):
                yield known_at, sku, incident, withdrawn
        late.clear()

    def shelf(self, sku: str) -> Shelf:
        """The shelf of a SKU; a new one is empty and has always been."""
        shelf = self.shelves.get(sku)
        if shelf is None:
            shelf = self.shelves[sku] = Shelf(self.outlet_id, sku)
        return shelf

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """What has to be written to the state table: the bulk only if it must, then the rest."""
        self._read_bulk = self._read_recent = None
        name = self.outlet_id.encode()
        if any(shelf.bulk_is_old for shelf in self.shelves.values()):
            yield _BULK + name, self.encode()
        recent = {sku: shelf.recent() for sku, shelf in self.shelves.items()}
        held = [
            (moment, sku, delta, imsis.tobytes())
            for moment, event in self.held.items()
            for (sku, delta), imsis in event.items()
        ]
        yield (
            _RECENT + name,
            msgspec.msgpack.encode(_StoredRecentChanges(self.folded, recent, held)),
        )

    def encode(self) -> bytes:
        """The bulk as it is kept in the state table."""
        bulk = {sku: shelf.bulk() for sku, shelf in self.shelves.items()}
        return msgspec.msgpack.encode(_StoredOutlet(self.folded, bulk))

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back an entry of `entries`; of the two kinds either may come first, or be newer.

        What is recent belongs to the bulk unless a newer bulk was written, and it was not.
        """
        if key.startswith(_BULK):
            self._read_bulk = msgspec.msgpack.decode(value, type=_StoredOutlet)
        else:
            self._read_recent = msgspec.msgpack.decode(value, type=_StoredRecentChanges)
        bulk = self._read_bulk or _StoredOutlet(0, {})
        recent = self._read_recent or _StoredRecentChanges(0, {}, [])
        self.folded = max(bulk.folded, recent.folded)
        newer = recent.shelves if recent.folded >= bulk.folded else {}
        self.shelves = {
            sku: Shelf(self.outlet_id, sku, bulk.shelves.get(sku), newer.get(sku))
            for sku in sorted(bulk.shelves.keys() | newer.keys())
        }
        self.held = {}
        for moment, sku, delta, packed in recent.held:
            if moment[0] >= self.folded:
                sims = np.frombuffer(packed, np.int64)
                self.held.setdefault(moment, {})[sku, delta] = sims


class OutletStage(Stage[str]):
    """One partition of the outlet stage: stock-outs to the wholesalers' partitions, and levels."""

    watermark_rule = staticmethod(partition_watermark)

    def __init__(
        self,
        partition: int,
        partitions: int,
        holder: Holder,
        restate_within: int = RESTATE_WITHIN,
    ) -> None:
        super().__init__("outlets", partition, partitions)
        self.holder = holder
        self.restate_within = restate_within
        self.outlets: dict[str, OutletShelves] = {}
        self._due: list[tuple[int, str]] = []

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind != "movements" or not rows.num_rows:
            return
        for outlet_id, moment, sku, delta, imsis in _runs(rows):
            outlet = self._outlet(outlet_id)
            if outlet.hold(moment, sku, delta, imsis):
                heappush(self._due, (moment[0], outlet_id))
                self._dirty.add(outlet_id)

    def _outlet(self, outlet_id: str) -> OutletShelves:
        outlet = self.outlets.get(outlet_id)
        if outlet is None:
            outlet = self.outlets[outlet_id] = OutletShelves(outlet_id)
        return outlet

    def advance(self) -> list[Effect]:
        """Fold all that the watermark has passed; the envelopes that say so, in order."""
        before = self.emitted
        if (update := self._update()) is None:
            return []
        incidents: dict[int, RowBuilder] = defaultdict(lambda: RowBuilder("incidents"))
        levels: dict[tuple[str, str], int] = {}
        due = set()
        while self._due and self._due[0][0] < update.watermark:
            due.add(heappop(self._due)[1])
        for outlet_id in sorted(due):
            outlet = self.outlets[outlet_id]
            for known_at, sku, incident, withdrawn in outlet.fold(
                update.watermark, self.holder, self.restate_within
            ):
                levels[outlet_id, sku] = known_at
                if incident is not None:
                    target = partition_of_key(incident.wholesaler_id, self.partitions)
                    row = msgspec.structs.asdict(incident)
                    incidents[target].add(at=known_at, withdrawn=withdrawn, **row)
            self._dirty.add(outlet_id)
            if outlet.held:
                heappush(self._due, (min(m[0] for m in outlet.held), outlet_id))
        effects: list[Effect] = []
        if levels:
            rows = self._levels(levels)
            effects += envelopes(topics.STOCK_LEVELS, self.partition, rows, update, before)
        for target in range(self.partitions):
            effects += envelopes(
                topics.STOCK_INCIDENTS, target, incidents.get(target), update, before
            )
        return effects

    def _levels(self, touched: dict[tuple[str, str], int]) -> RowBuilder:
        rows = RowBuilder("levels")
        for (outlet_id, sku), as_of in touched.items():
            shelf = self.outlets[outlet_id].shelf(sku)
            rows.add(
                outlet_id=outlet_id,
                sku=sku,
                on_hand=len(shelf.stock),
                withdrawn=shelf.never_was,
                wholesaler_id=self.holder(outlet_id, as_of),
                as_of=as_of,
            )
        return rows

    def _entries(self, part: str) -> Iterator[tuple[bytes, bytes]]:
        return self.outlets[part].entries()

    def _restore(self, key: bytes, value: bytes) -> None:
        outlet = self._outlet(key[len(_BULK) :].decode())
        outlet.restore(key, value)
        if outlet.held:
            heappush(self._due, (min(m[0] for m in outlet.held), outlet.outlet_id))


def _runs(rows: pa.RecordBatch) -> Iterator[tuple[str, _Moment, str, int, Int64s]]:
    """Movements as runs of neighbouring rows that differ only in the SIM; at least one row."""
    changed = np.zeros(rows.num_rows - 1, bool)
    for name in ("outlet_id", "sku", "event_id"):
        column = rows[name]
        changed |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    withdrawn = rows["withdrawn"].to_numpy(zero_copy_only=False)
    delta = np.where(withdrawn, -1, 1) * rows["delta"].to_numpy()
    for numbers in (rows["known_at"].to_numpy(), rows["at"].to_numpy(), delta):
        changed |= numbers[1:] != numbers[:-1]
    starts = np.append(0, np.flatnonzero(changed) + 1)
    names = ("outlet_id", "known_at", "at", "event_id", "sku")
    first = (rows[name].take(pa.array(starts)).to_pylist() for name in names)
    imsis = np.split(rows["imsi"].to_numpy(), starts[1:])
    for outlet_id, known_at, at, event_id, sku, sign, run in zip(
        *first, delta[starts].tolist(), imsis, strict=True
    ):
        yield outlet_id, (known_at, at, event_id), sku, sign, run

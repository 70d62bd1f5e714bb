"""The outlet stage: each outlet's stock as a set of SIMs, and its stock-outs, in event time.

Movements arrive from all SIM partitions in any order and possibly twice; they are held until the
watermark says that none earlier is missing, then folded event by event. A movement known before
the outlet's own `folded` mark was folded already: it is the echo of a crash and is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import heappop, heappush

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.effects import Effect, RowBuilder, envelopes
from pipelines.core.stage import Stage
from pipelines.core.stock.sim_registry import Int64s
from pipelines.core.stock.sim_stage import Holder
from pipelines.core.watermarks import partition_watermark
from schemas import topics
from schemas.topics import partition_of_key

#: Begins the key of an outlet's entry in the state table.
_OUTLET = b"o/"

_EMPTY: Int64s = np.empty(0, np.int64)

#: When a movement counts: known_at, at (ms) and event id. Movements of one event share it.
_Moment = tuple[int, int, str]


class Incident(msgspec.Struct, array_like=True, frozen=True):
    """A stock-out: one SKU of one outlet at zero after having been above; times in ms."""

    incident_id: str
    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None = None


class _StoredOutlet(msgspec.Struct, array_like=True):
    """An outlet as bytes: SIM sets and held movements as packed int64 arrays."""

    folded: int
    stock: dict[str, bytes]
    open: dict[str, Incident]
    held: list[tuple[_Moment, str, int, bytes]]


class OutletShelves:
    """One outlet: sorted IMSIs on hand by SKU, open incidents by SKU, movements to come."""

    def __init__(self, outlet_id: str) -> None:
        self.outlet_id = outlet_id
        self.folded = 0
        self.stock: dict[str, Int64s] = {}
        self.open: dict[str, Incident] = {}
        self.held: dict[_Moment, dict[tuple[str, int], Int64s]] = {}

    def hold(self, moment: _Moment, sku: str, delta: int, imsis: Int64s) -> bool:
        """Keep the movements of some SIMs until their time; False if nothing about them is new."""
        if moment[0] < self.folded:
            return False
        event = self.held.setdefault(moment, {})
        known = event.get((sku, delta), _EMPTY)
        event[sku, delta] = merged = _with(known, np.unique(imsis))
        return len(merged) > len(known)

    def fold(self, watermark: int, holder: Holder) -> Iterator[tuple[int, str, Incident | None]]:
        """Apply all events known before the watermark.

        Yields, in order, each SKU that an event touched, as (known_at, sku, incident): the incident
        that the event opened or closed, or None.
        """
        for moment in sorted(m for m in self.held if m[0] < watermark):
            event = self.held.pop(moment)
            had = {sku: len(self.stock.get(sku, _EMPTY)) for sku, _ in event}
            # What leaves goes first: a transfer to itself ends with the SIM here.
            for (sku, delta), imsis in sorted(event.items(), key=lambda change: change[0][1]):
                change = _without if delta < 0 else _with
                self.stock[sku] = change(self.stock.get(sku, _EMPTY), imsis)
            for sku in sorted(had):
                yield moment[0], sku, self._crossing(moment, sku, had[sku], holder)
        self.folded = max(self.folded, watermark)

    def _crossing(self, moment: _Moment, sku: str, had: int, holder: Holder) -> Incident | None:
        at, has = moment[0], len(self.stock[sku])
        if had > 0 and has == 0:
            incident = Incident(
                f"{self.outlet_id}/{sku}/{moment[2]}",
                self.outlet_id,
                sku,
                holder(self.outlet_id, at),
                at,
            )
            self.open[sku] = incident
            return incident
        if has > 0 and sku in self.open:
            return msgspec.structs.replace(self.open.pop(sku), closed_at=at)
        return None

    def encode(self) -> bytes:
        """The outlet as it is kept in the state table."""
        return msgspec.msgpack.encode(
            _StoredOutlet(
                self.folded,
                {sku: imsis.tobytes() for sku, imsis in self.stock.items()},
                self.open,
                [
                    (moment, sku, delta, imsis.tobytes())
                    for moment, event in self.held.items()
                    for (sku, delta), imsis in event.items()
                ],
            )
        )

    def decode(self, data: bytes) -> None:
        """Become what `encode` wrote."""
        stored = msgspec.msgpack.decode(data, type=_StoredOutlet)
        self.folded = stored.folded
        self.stock = {s: np.frombuffer(d, np.int64).copy() for s, d in stored.stock.items()}
        self.open = stored.open
        self.held = {}
        for moment, sku, delta, packed in stored.held:
            self.held.setdefault(moment, {})[sku, delta] = np.frombuffer(packed, np.int64).copy()


def _with(some: Int64s, others: Int64s) -> Int64s:
    """The union of two sets, each ascending; a fraction of the cost of numpy's own on few SIMs."""
    if not len(some):
        return others
    merged = np.concatenate([some, others])
    merged.sort()
    union: Int64s = merged[np.concatenate([[True], merged[1:] != merged[:-1]])]
    return union


def _without(some: Int64s, others: Int64s) -> Int64s:
    """The set `some` less `others`, each ascending."""
    before, after = some.searchsorted(others), some.searchsorted(others, side="right")
    kept = np.ones(len(some), bool)
    kept[before[before < after]] = False
    rest: Int64s = some[kept]
    return rest


class OutletStage(Stage[str]):
    """One partition of the outlet stage: stock-outs to the wholesalers' partitions, and levels."""

    watermark_rule = staticmethod(partition_watermark)

    def __init__(self, partition: int, partitions: int, holder: Holder) -> None:
        super().__init__("outlets", partition, partitions)
        self.holder = holder
        self.outlets: dict[str, OutletShelves] = {}
        self._due: list[tuple[int, str]] = []

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind != "movements":
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
            for at, sku, incident in outlet.fold(update.watermark, self.holder):
                levels[outlet_id, sku] = at
                if incident is not None:
                    target = partition_of_key(incident.wholesaler_id, self.partitions)
                    incidents[target].add(at=at, **msgspec.structs.asdict(incident))
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
            rows.add(
                outlet_id=outlet_id,
                sku=sku,
                on_hand=len(self.outlets[outlet_id].stock[sku]),
                wholesaler_id=self.holder(outlet_id, as_of),
                as_of=as_of,
            )
        return rows

    def _entries(self, part: str) -> Iterator[tuple[bytes, bytes]]:
        yield _OUTLET + part.encode(), self.outlets[part].encode()

    def _restore(self, key: bytes, value: bytes) -> None:
        outlet = self._outlet(key.removeprefix(_OUTLET).decode())
        outlet.decode(value)
        if outlet.held:
            heappush(self._due, (min(m[0] for m in outlet.held), outlet.outlet_id))


def _runs(rows: pa.RecordBatch) -> Iterator[tuple[str, _Moment, str, int, Int64s]]:
    """Movements as runs of neighbouring rows that differ only in the SIM."""
    columns = {name: rows.column(name) for name in rows.schema.names}
    breaks = np.zeros(rows.num_rows, bool)
    breaks[:1] = True
    for name in ("outlet_id", "sku", "event_id"):
        codes = pc.dictionary_encode(columns[name]).indices.to_numpy()
        breaks[1:] |= np.diff(codes) != 0
    for name in ("known_at", "at", "delta"):
        breaks[1:] |= np.diff(columns[name].to_numpy()) != 0
    starts = np.flatnonzero(breaks)
    picked = rows.take(pa.array(starts))
    imsis = np.split(columns["imsi"].to_numpy(), starts[1:])
    for row, run in zip(
        picked.select(["outlet_id", "known_at", "at", "event_id", "sku", "delta"]).to_pylist(),
        imsis,
        strict=True,
    ):
        moment = (row["known_at"], row["at"], row["event_id"])
        yield row["outlet_id"], moment, row["sku"], row["delta"], run

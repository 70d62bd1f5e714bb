"""A shelf: the SIMs of one SKU at one outlet, what moved there lately, and its stock-outs.

How many SIMs a shelf had at any moment follows from how many it has now and what moved since. So a
late movement is put in its place, the spans of zero stock are counted again, and what differs from
the stock-outs said before is said: some are added, some are other than they were, some never were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.core.stock.sim_registry import Int64s

#: Wholesaler who holds an outlet at a time (ms); "" when nobody does.
Holder = Callable[[str, int], str]

#: A change of stock by one event: time (ms), event, SIMs that came less SIMs that left.
Change = tuple[int, str, int]

NO_SIMS: Int64s = np.empty(0, np.int64)


class Incident(msgspec.Struct, array_like=True, frozen=True):
    """A stock-out: one SKU of one outlet at zero after having been above; times in ms.

    `restated_at` is when late events last made it another than it had been.
    """

    incident_id: str
    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None = None
    restated_at: int | None = None

    def overlaps(self, opened_at: int, closed_at: int | None) -> bool:
        """Whether it has a moment in common with a span."""
        return (closed_at is None or self.opened_at <= closed_at) and (
            self.closed_at is None or opened_at <= self.closed_at
        )


#: Changes of a shelf that are rewritten at each commit before they go into its bulk.
_MOST_RECENT = 32


class StoredShelf(msgspec.Struct, array_like=True):
    """The bulk of a shelf: int64 arrays, int32 deltas, and event ids of `width` bytes each.

    It is written seldom; what came since is in `StoredRecentShelf`.
    """

    stock: bytes
    incidents: list[Incident]
    at: bytes
    delta: bytes
    events: bytes
    width: int
    since: int


class StoredRecentShelf(msgspec.Struct, array_like=True):
    """What is on hand, and changes and incidents since the bulk was written."""

    stock: bytes
    incidents: list[Incident]
    changes: list[Change]
    since: int


class Shelf:
    """The sorted IMSIs on hand, the changes since `since`, and the incidents that reach into it."""

    def __init__(
        self,
        outlet_id: str,
        sku: str,
        bulk: StoredShelf | None = None,
        recent: StoredRecentShelf | None = None,
    ) -> None:
        self.outlet_id = outlet_id
        self.sku = sku
        self.stock, self.incidents, self.since = NO_SIMS, list[Incident](), 0
        self._at: Int64s = np.empty(0, np.int64)
        self._delta: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self._events: npt.NDArray[np.bytes_] = np.empty(0, "S1")
        # What the bulk does not have yet.
        self._recent: list[Change] = []
        self._recent_incidents: dict[str, Incident] = {}
        self._bulk_is_old = False
        if bulk is not None:
            self.stock = np.frombuffer(bulk.stock, np.int64)
            self.incidents, self.since = list(bulk.incidents), bulk.since
            self._at = np.frombuffer(bulk.at, np.int64)
            self._delta = np.frombuffer(bulk.delta, np.int32)
            self._events = np.frombuffer(bulk.events, f"S{bulk.width}")
        if recent is not None:
            self.stock = np.frombuffer(recent.stock, np.int64)
            self._recent = list(recent.changes)
            self._recent_incidents = {some.incident_id: some for some in recent.incidents}
            kept = [i for i in self.incidents if i.incident_id not in self._recent_incidents]
            self.incidents = kept + recent.incidents
            self.forget(recent.since)

    @property
    def bulk_is_old(self) -> bool:
        """Whether the bulk has to be written before the rest can be."""
        return self._bulk_is_old or len(self._recent) > _MOST_RECENT

    def bulk(self) -> StoredShelf:
        """All of the shelf, to be written."""
        self._pack()
        self._bulk_is_old = False
        self._recent_incidents = {}
        return StoredShelf(
            self.stock.tobytes(),
            self.incidents,
            self._at.tobytes(),
            self._delta.tobytes(),
            self._events.tobytes(),
            self._events.itemsize,
            self.since,
        )

    def recent(self) -> StoredRecentShelf:
        """What is to be written besides the bulk."""
        incidents = list(self._recent_incidents.values())
        return StoredRecentShelf(self.stock.tobytes(), incidents, self._recent, self.since)

    @property
    def never_was(self) -> bool:
        """Whether nothing was ever here, for all that is known now."""
        moved = len(self.stock) or self.incidents or self._recent or len(self._at)
        return not moved and not self.since

    def change(
        self, at: int, event_id: str, come: Int64s, gone: Int64s, holder: Holder
    ) -> Incident | None:
        """What an event in order does; the incident that it opened or closed, if any."""
        had = len(self.stock)
        # What leaves goes first: a transfer to itself ends with the SIM here.
        self.stock = with_sims(without_sims(self.stock, gone), come)
        has = len(self.stock)
        if has != had:
            self._recent.append((at, event_id, has - had))
        opened = self.incidents and self.incidents[-1].closed_at is None
        if had > 0 and has == 0:
            self.incidents.append(self._incident(at, event_id, holder))
        elif has > 0 and opened:
            self.incidents[-1] = msgspec.structs.replace(self.incidents[-1], closed_at=at)
        else:
            return None
        incident = self._recent_incidents[self.incidents[-1].incident_id] = self.incidents[-1]
        return incident

    def restate(
        self, known_at: int, changes: list[Change], come: Int64s, gone: Int64s, holder: Holder
    ) -> Iterator[tuple[Incident, bool]]:
        """Put late changes in their place, and SIMs where they are now.

        Yields each incident that is not as it was said before; the flag is set if it never was.
        """
        self._pack()
        self.forget(self.since)
        self._bulk_is_old = True
        self.stock = with_sims(without_sims(self.stock, gone), come)
        for at, event_id, delta in changes:
            if not delta:
                continue
            self._insert(at, event_id.encode(), delta)
        before = {incident.incident_id: incident for incident in self.incidents}
        spans = list(self._spans())
        paired = self._pair(spans, before, holder)
        self.incidents = []
        for (opened_at, event_id, closed_at), old in zip(spans, paired, strict=True):
            if old is None:
                new = self._incident(opened_at, event_id, holder)
                if new.incident_id in before:
                    new_id = f"{new.incident_id}/{known_at}"
                    new = msgspec.structs.replace(new, incident_id=new_id)
            else:
                new = msgspec.structs.replace(old, opened_at=opened_at)
            new = msgspec.structs.replace(new, closed_at=closed_at)
            if new != old:
                new = msgspec.structs.replace(new, restated_at=known_at)
            self.incidents.append(new)
        now = {incident.incident_id: incident for incident in self.incidents}
        for name, old in before.items():
            if name not in now:
                yield msgspec.structs.replace(old, restated_at=known_at), True
        for name, new in now.items():
            if before.get(name) != new:
                yield new, False

    def forget(self, since: int) -> None:
        """Drop what nothing can restate any more: what was before a time in ms.

        Recent changes stay until they are put to the others.
        """
        if not len(self._at) or self._at[0] >= since:
            return
        kept = slice(int(self._at.searchsorted(since)), None)
        self._at, self._delta = self._at[kept].copy(), self._delta[kept].copy()
        self._events = self._events[kept].copy()
        self.since = since
        self.incidents = [
            incident
            for incident in self.incidents
            if incident.closed_at is None or incident.closed_at >= since
        ]

    def _incident(self, at: int, event_id: str, holder: Holder) -> Incident:
        name = f"{self.outlet_id}/{self.sku}/{event_id}"
        return Incident(name, self.outlet_id, self.sku, holder(self.outlet_id, at), at)

    def _pack(self) -> None:
        if self._recent:
            at, events, delta = zip(*self._recent, strict=True)
            self._recent = []
            self._at = np.concatenate([self._at, np.array(at, np.int64)])
            self._delta = np.concatenate([self._delta, np.array(delta, np.int32)])
            names = np.array([event.encode() for event in events], np.bytes_)
            self._events = np.concatenate([self._events, names])

    def _insert(self, at: int, event: bytes, delta: int) -> None:
        start, end = self._at.searchsorted(at), self._at.searchsorted(at, side="right")
        place = int(start) + bisect_left(self._events[start:end].tolist(), event)
        if place < end and self._events[place] == event:
            self._delta = self._delta.copy()
            self._delta[place] += delta
            if not self._delta[place]:
                self._at, self._delta = np.delete(self._at, place), np.delete(self._delta, place)
                self._events = np.delete(self._events, place)
            return
        self._at = np.insert(self._at, place, at)
        self._delta = np.insert(self._delta, place, delta)
        wide = max(self._events.itemsize, len(event))
        self._events = np.insert(self._events.astype(f"S{wide}"), place, event)

    def _spans(self) -> Iterator[tuple[int, str, int | None]]:
        """The spans of zero stock after having been above: opened at, by which event, closed at."""
        on_hand = len(self.stock) - int(self._delta.sum()) + np.cumsum(self._delta)
        had = on_hand - self._delta
        # The first incident may have begun before all that is remembered.
        begun = self.incidents[0] if self.incidents else None
        opened: tuple[int, str] | None = None
        if begun is not None and begun.opened_at < self.since:
            opened = begun.opened_at, ""
        for place in np.flatnonzero((had > 0) != (on_hand > 0)).tolist():
            at = int(self._at[place])
            if on_hand[place] <= 0:
                opened = at, self._events[place].decode()
            elif opened is not None:
                yield *opened, at
                opened = None
        if opened is not None:
            yield *opened, None

    def _pair(
        self,
        spans: list[tuple[int, str, int | None]],
        before: dict[str, Incident],
        holder: Holder,
    ) -> list[Incident | None]:
        """Which incident each span was said as: by the event that began it, else by overlap.

        One begun under another wholesaler is another incident.
        """
        paired: list[Incident | None] = [None] * len(spans)
        left = dict(before)
        for by_event in (True, False):
            for i, (opened_at, event_id, closed_at) in enumerate(spans):
                if paired[i] is not None:
                    continue
                name = f"{self.outlet_id}/{self.sku}/{event_id}"
                if not event_id:  # It began before all that is remembered, as the first incident.
                    name = self.incidents[0].incident_id
                for old in [left.get(name)] if by_event else list(left.values()):
                    if old is None:
                        continue
                    same = old.opened_at == opened_at
                    if not same and old.wholesaler_id != holder(self.outlet_id, opened_at):
                        continue
                    if by_event or old.overlaps(opened_at, closed_at):
                        paired[i] = left.pop(old.incident_id)
                        break
        return paired


def with_sims(some: Int64s, others: Int64s) -> Int64s:
    """The union of two sets, each ascending; a fraction of the cost of numpy's own on few SIMs."""
    if not len(some):
        return others
    if not len(others):
        return some
    merged = np.concatenate([some, others])
    merged.sort()
    union: Int64s = merged[np.concatenate([[True], merged[1:] != merged[:-1]])]
    return union


def without_sims(some: Int64s, others: Int64s) -> Int64s:
    """The set `some` less `others`, each ascending."""
    if not len(others):
        return some
    before, after = some.searchsorted(others), some.searchsorted(others, side="right")
    kept = np.ones(len(some), bool)
    kept[before[before < after]] = False
    rest: Int64s = some[kept]
    return rest

"""The city's own books, kept while its day goes by: where each SIM is, which shelves are empty.

They see events one at a time in the order they happen, so there is no sorting, no watermark and no
duplicate here. Nothing is drawn at random and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from pipelines.simulate.city import City
from pipelines.simulate.demand import SKUS
from pipelines.simulate.truth import TrueAnomaly, TrueIncident, TrueMessage, Truth, incident_order

NOWHERE: Final = -1
ACTIVE: Final = -2

Shelf = tuple[int, int]  # outlet number, SKU number
Departure = Literal["return", "transfer", "write_off"]


class Books:
    """`shelves` holds the SIMs of each outlet and SKU in the order they came."""

    def __init__(self, city: City) -> None:
        self.shelves: dict[Shelf, dict[int, None]] = {}
        self.anomalies: list[TrueAnomaly] = []
        self.incidents: list[TrueIncident] = []
        self.first_uses = 0
        #: Shelves that events have emptied since the last `take_emptied`.
        self._emptied: list[Shelf] = []
        self._city = city
        self._place = [NOWHERE] * city.sims
        self._out_since: dict[Shelf, int] = {}

    def place(self, sim: int) -> int:
        """An outlet's number, NOWHERE or ACTIVE."""
        return self._place[sim]

    def on_hand(self, shelf: Shelf) -> int:
        return len(self.shelves.get(shelf, ()))

    def deliver(self, at: int, event_id: str, outlet: int, sims: range) -> None:
        """The SIMs are now at the outlet, whatever the papers said before."""
        with self._step(at, sims, outlet):
            for sim in sims:
                here = self._place[sim]
                if here == ACTIVE:
                    self._note(event_id, sim, "delivered_after_use", at)
                elif here == outlet:
                    self._note(event_id, sim, "delivered_twice", at)
                else:
                    if here != NOWHERE:
                        self._note(event_id, sim, "moved_without_transfer", at)
                    self._put(sim, outlet)

    def leave(self, at: int, event_id: str, outlet: int, sims: range, to: int = NOWHERE) -> None:
        """A return, a write-off, or with `to` a transfer."""
        with self._step(at, sims, outlet, to):
            for sim in sims:
                here = self._place[sim]
                if here == ACTIVE:
                    self._note(event_id, sim, "left_after_use", at)
                elif here != outlet:
                    self._note(event_id, sim, "not_at_outlet", at)
                else:
                    self._put(sim, to)

    def use(self, at: int, event_id: str, sim: int) -> None:
        """The SIM's first call or activation."""
        with self._step(at, (sim,)):
            if self._place[sim] == NOWHERE:
                self._note(event_id, sim, "active_before_delivery", at)
            self._put(sim, ACTIVE)
            self.first_uses += 1

    def take_emptied(self) -> list[Shelf]:
        emptied, self._emptied = self._emptied, []
        return emptied

    def truth(self, group_wait_ms: int) -> Truth:
        """Everything as it stands now, without dead letters."""
        names = self._city.outlets
        still = [self._incident(shelf, at, None) for shelf, at in self._out_since.items()]
        incidents = sorted(self.incidents + still, key=incident_order)
        return Truth(
            stock={(names[o].id, SKUS[s]): len(held) for (o, s), held in self.shelves.items()},
            incidents=incidents,
            messages=_messages(incidents, group_wait_ms),
            anomalies=sorted(self.anomalies),
            dead_letters=[],
        )

    def _put(self, sim: int, place: int) -> None:
        sku = self._city.batch_of(sim).sku
        before = self._place[sim]
        if before >= 0:
            del self.shelves[before, sku][sim]
        if place >= 0:
            self.shelves.setdefault((place, sku), {})[sim] = None
        self._place[sim] = place

    def _note(self, event_id: str, sim: int, kind: str, at: int) -> None:
        self.anomalies.append(TrueAnomaly(event_id, self._city.iccid(sim), kind, at))

    @contextmanager
    def _step(self, at: int, sims: Iterable[int], *outlets: int) -> Iterator[None]:
        """Compare the shelves an event can touch before and after it."""
        skus = {self._city.batch_of(sim).sku for sim in sims}
        places = {*outlets, *(self._place[sim] for sim in sims)}
        before = {(o, s): self.on_hand((o, s)) for o in places if o >= 0 for s in skus}
        yield
        for shelf, had in sorted(before.items()):
            has = self.on_hand(shelf)
            if had and not has:
                self._out_since[shelf] = at
                self._emptied.append(shelf)
            elif has and shelf in self._out_since:
                opened_at = self._out_since.pop(shelf)
                self.incidents.append(self._incident(shelf, opened_at, at))

    def _incident(self, shelf: Shelf, opened_at: int, closed_at: int | None) -> TrueIncident:
        outlet, sku = shelf
        holder = self._city.holder(outlet, opened_at)
        held_by = "" if holder is None else self._city.wholesalers[holder].id
        return TrueIncident(self._city.outlets[outlet].id, SKUS[sku], held_by, opened_at, closed_at)


def _messages(incidents: list[TrueIncident], group_wait_ms: int) -> list[TrueMessage]:
    """One SMS for all that opened within the wait after the first, less what closed meanwhile."""
    waiting: dict[str, list[TrueIncident]] = {}
    messages: list[TrueMessage] = []

    def send(group: list[TrueIncident]) -> None:
        at = group[0].opened_at + group_wait_ms
        still = [i for i in group if i.closed_at is None or i.closed_at > at]
        if still:
            listed = tuple((i.outlet_id, i.sku, i.opened_at) for i in still)
            messages.append(TrueMessage(group[0].wholesaler_id, at, listed))

    for incident in incidents:
        if not incident.wholesaler_id:
            continue
        group = waiting.setdefault(incident.wholesaler_id, [])
        if group and incident.opened_at > group[0].opened_at + group_wait_ms:
            send(group)
            group.clear()
        group.append(incident)
    for group in waiting.values():
        send(group)
    return sorted(messages)

"""The city's day: customers come, wholesalers deliver on their routes and after stock-outs, papers
come back, and things go wrong by design. Everything of consequence happens here, one event after
another, each at a millisecond of its own, so that the order of no two is in doubt.

Out of it come the events, the first calls of SIMs and, in `Books`, the truth. The calls of people
whose SIMs left the shelf long ago are made elsewhere, in columns.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from pipelines.simulate.books import NOWHERE, Books, Shelf
from pipelines.simulate.city import City
from pipelines.simulate.demand import KINDS, WEEKDAYS
from pipelines.simulate.plan import DAY_MS, HOUR_MS, CityPlan, iso, seeded

MINUTE_MS = 60_000


class FirstCall(NamedTuple):
    """A call whose SIM may be on a shelf: written among the others, but with an id of its own."""

    at: int
    call_id: str
    sim: int
    cell: int


class Used(NamedTuple):
    """A SIM in use since `at`, mostly in cells around `cell`, sold by `outlet` (or NOWHERE)."""

    at: int
    sim: int
    cell: int
    outlet: int


class Trade:
    """Runs the city up to a time at a time; what it emitted since is in the lists."""

    def __init__(self, plan: CityPlan, city: City) -> None:
        self.plan = plan
        self.city = city
        self.books = Books(city)
        self.rng = seeded(plan.seed, "trade")
        self.used: list[Used] = []
        #: (at, event) and calls since the caller last emptied the lists; `at` may lie ahead.
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.first_calls: list[FirstCall] = []
        self.turned_away = 0
        self._customers = np.random.default_rng([plan.seed, 1])
        self._numbers = count(1)
        self._agenda: list[tuple[int, int, Callable[[int], None]]] = []
        self._entries = count()
        self._now = 0
        self._stores = _Stores(city)
        self._restocking: set[Shelf] = set()
        self._open_city()
        for day in range(plan.days):
            self._plan_routes(plan.start_ms + day * DAY_MS)

    def run(self, start: int, end: int) -> None:
        """Let everything happen that falls into [start, end)."""
        self._send_customers(start, end)
        while self._agenda and self._agenda[0][0] < end:
            due, _, action = heappop(self._agenda)
            self._now = max(due, self._now + 1)
            if self._now < self.plan.end_ms:
                action(self._now)

    def at(self, due: int, action: Callable[[int], None]) -> None:
        """Have `action` called when its time has come; it gets its own millisecond."""
        heappush(self._agenda, (due, next(self._entries), action))

    # What happens, each with its event and its entry in the books.

    def deliver(self, at: int, outlet: int, sims: range) -> None:
        holder = self.city.holder(outlet, at)
        if holder is None:  # Nobody's outlet: whoever is near brings the cards.
            county = self.city.outlets[outlet].county
            holder = next(i for i, w in enumerate(self.city.wholesalers) if w.county == county)
        wholesaler = self.city.wholesalers[holder].id
        place = {"outlet_id": self.city.outlets[outlet].id, "wholesaler_id": wholesaler}
        event_id = self._report("delivery", at, place | self._range(sims))
        self.books.deliver(at, event_id, outlet, sims)
        self._react(at)

    def take(self, kind: str, at: int, outlet: int, sims: range) -> None:
        """A return or a write-off."""
        reasons = ("unsold", "recalled") if kind == "return" else ("damaged", "lost", "stolen")
        fields = {"outlet_id": self.city.outlets[outlet].id, **self._range(sims)}
        event_id = self._report(kind, at, fields | {"reason": self.rng.choice(reasons)})
        self.books.leave(at, event_id, outlet, sims)
        self._react(at)

    def transfer(self, at: int, outlet: int, to: int, sims: range) -> None:
        names = self.city.outlets
        fields = {"from_outlet_id": names[outlet].id, "to_outlet_id": names[to].id}
        event_id = self._report("transfer", at, fields | self._range(sims))
        self.books.leave(at, event_id, outlet, sims, to)
        self._react(at)

    def use(self, at: int, sim: int) -> None:
        """A SIM's first use: by a call record, by the network's activation, or by a JSON call."""
        outlet = self.books.place(sim)
        cell = self._home_cell(outlet)
        self.used.append(Used(at, sim, cell, outlet))
        imsi = str(self.city.imsi(sim))
        way = self.rng.random()
        if way < 0.55:
            event_id = f"F{next(self._numbers):09d}"
            self.first_calls.append(FirstCall(at, event_id, sim, cell))
            if way < 0.10:  # The network's own report comes after the call.
                self._report("activation", at + self._between(0.05, 2), {"imsi": imsi})
        elif way < 0.97:
            event_id = self._report("activation", at, {"imsi": imsi})
            call_at = at + (1 + self.rng.randrange(20) if way < 0.60 else self._between(0.2, 10))
            if call_at < self.plan.end_ms:
                call_id = f"F{next(self._numbers):09d}"
                self.first_calls.append(FirstCall(call_at, call_id, sim, cell))
        else:
            event_id = self._report_call(at, imsi, cell)
        self.books.use(at, event_id, sim)
        if self.rng.random() < 0.8:
            papers = {"imsi": imsi, "complete": self.rng.random() < 0.9}
            self._report("registration", at + self._between(10, 400), papers)
        self._react(at)

    def outsider(self, at: int) -> None:
        """The network switches on a SIM that no batch registers."""
        imsi = f"46001{self.rng.randrange(10**10):010d}"
        if self.rng.random() < 0.5:
            self._report("activation", at, {"imsi": imsi})
        else:
            self._report_call(at, imsi, self.rng.randrange(len(self.city.cells)))

    def fresh(self, sku: int, wanted: int) -> range:
        """The next undelivered SIMs of a SKU; fewer, or none, as its batches run out."""
        return self._stores.take(sku, wanted)

    def spare(self, sku: int, ahead: int) -> int | None:
        """An undelivered SIM: `ahead` places before its turn; if negative, from the far end."""
        return self._stores.peek(sku, ahead)

    @property
    def seam(self) -> range:
        """Undelivered SIMs of two batches and SKUs whose ICCIDs run on from one to the other."""
        return self._stores.seam

    def _report(self, kind: str, at: int, fields: dict[str, Any]) -> str:
        event_id = f"E{next(self._numbers):09d}"
        if at < self.plan.end_ms:
            head = {"type": kind, "event_id": event_id, "at": iso(at)}
            self.events.append((at, head | fields))
        return event_id

    def _report_call(self, at: int, imsi: str, cell: int) -> str:
        """A call record as JSON; it carries the names of a CDR beside those of an event."""
        call_id = f"J{next(self._numbers):09d}"
        call = {
            "type": "call",
            "event_id": call_id,
            "at": iso(at),
            "call_id": call_id,
            "start_time": iso(at),
            "imsi": imsi,
            "msisdn": f"86{13_000_000_000 + int(imsi[-9:])}",
            "duration_s": 1 + self.rng.randrange(300),
            "cell_id": self.city.cells[cell],
            "charge_fen": self.rng.randrange(100),
        }
        self.events.append((at, call))
        return call_id

    def _range(self, sims: range) -> dict[str, Any]:
        return {"first_iccid": self.city.iccid(sims[0]), "count": len(sims)}

    def _between(self, least: float, most: float) -> int:
        return int(self.rng.uniform(least, most) * MINUTE_MS)

    def _home_cell(self, outlet: int) -> int:
        rng, city = self.rng, self.city
        if outlet == NOWHERE:
            return rng.randrange(len(city.cells))
        away = 0.85 if outlet in city.diverting else 0.06
        local = city.county(city.outlets[outlet].county)
        others = len(city.districts) - len(local)
        if others and rng.random() < away:
            district = (local.stop + rng.randrange(others)) % len(city.districts)
        else:
            district = city.outlets[outlet].district if rng.random() < 0.7 else rng.choice(local)
        return rng.choice(city.cells_of(district))

    # How the city behaves.

    def _open_city(self) -> None:
        """Between 5:00 and 7:00 of the first day every shelf gets its opening stock."""
        for number, outlet in enumerate(self.city.outlets):
            for sku, demand in outlet.demand.items():
                wanted = _full(demand, self.rng.uniform(0.2, 1.15))
                due = self.plan.start_ms + 5 * HOUR_MS + self._between(0, 120)
                self.at(due, self._bring(number, sku, wanted))

    def _bring(self, outlet: int, sku: int, wanted: int) -> Callable[[int], None]:
        def action(at: int) -> None:
            sims = self.fresh(sku, wanted)
            if sims:
                self.deliver(at, outlet, sims)

        return action

    def _plan_routes(self, midnight: int) -> None:
        """A wholesaler looks in at a quarter of the shops, in working hours."""
        for number in range(len(self.city.outlets)):
            if self.rng.random() < 0.25:
                self.at(midnight + 9 * HOUR_MS + self._between(0, 540), self._visit(number))

    def _visit(self, outlet: int) -> Callable[[int], None]:
        def action(at: int) -> None:
            for sku, demand in self.city.outlets[outlet].demand.items():
                have, full = self.books.on_hand((outlet, sku)), _full(demand, 1)
                if have < 0.4 * full:
                    # A stop of its own each, some minutes apart.
                    self.at(at + self._between(0, 3), self._bring(outlet, sku, full - have))

        return action

    def _react(self, at: int) -> None:
        """A wholesaler comes half an hour to five hours after most stock-outs, not at night."""
        for outlet, sku in self.books.take_emptied():
            shelf = (outlet, sku)
            if shelf in self._restocking or self.rng.random() > 0.75:
                continue
            due = at + self._between(30, 300)
            hour = (due - self.plan.start_ms) % DAY_MS // HOUR_MS
            if not 8 <= hour < 21:
                shut = due - (due - self.plan.start_ms) % DAY_MS + (DAY_MS if hour >= 21 else 0)
                due = shut + 8 * HOUR_MS + self._between(0, 180)
            self._restocking.add(shelf)
            self.at(due, self._restock(shelf))

    def _restock(self, shelf: Shelf) -> Callable[[int], None]:
        outlet, sku = shelf
        demand = self.city.outlets[outlet].demand.get(sku, 1.0)

        def action(at: int) -> None:
            self._restocking.discard(shelf)
            if not self.books.on_hand(shelf):
                self._bring(outlet, sku, _full(demand, self.rng.uniform(0.7, 1.2)))(at)

        return action

    def _send_customers(self, start: int, end: int) -> None:
        """Poisson arrivals at every shelf, at the rate of this hour and this day of the week."""
        hour = (start - self.plan.start_ms) % DAY_MS // HOUR_MS
        day = (self.plan.start.weekday() + (start - self.plan.start_ms) // DAY_MS) % 7
        share = (end - start) / HOUR_MS * WEEKDAYS[day]
        weights = np.array([kind.hours[hour] / sum(kind.hours) for kind in KINDS])
        rates = self._stores.daily * weights[self._stores.kind] * share
        shelves = np.repeat(np.arange(len(rates)), self._customers.poisson(rates))
        times = self._customers.integers(start, end, len(shelves))
        for shelf, due in zip(shelves.tolist(), times.tolist(), strict=True):
            self.at(due, self._serve(self._stores.shelves[shelf]))

    def _serve(self, shelf: Shelf) -> Callable[[int], None]:
        def action(at: int) -> None:
            held = self.books.shelves.get(shelf)
            if held:
                self.use(at, next(iter(held)))
            else:
                self.turned_away += 1

        return action


#: How many SIMs on either side.
SEAM = 4


class _Stores:
    """Undelivered SIMs by SKU, and the shelves with their mean daily customers as arrays."""

    def __init__(self, city: City) -> None:
        self.shelves = [(o, sku) for o, out in enumerate(city.outlets) for sku in out.demand]
        self.daily = np.array([city.outlets[o].demand[sku] for o, sku in self.shelves])
        number = {kind.name: i for i, kind in enumerate(KINDS)}
        self.kind = np.array([number[city.outlets[o].kind.name] for o, _ in self.shelves], int)
        self._left: dict[int, list[range]] = {}
        for batch, before in zip(city.batches, [None, *city.batches], strict=False):
            lanes = self._left.setdefault(batch.sku, [])
            sims = range(batch.first, batch.first + batch.count)
            if before and before.lane == batch.lane and before.sku == batch.sku:
                sims = range(lanes.pop().start, sims.stop)
            elif before and before.lane == batch.lane:
                # The seam of two SKUs is kept for the delivery that spans it.
                mine, theirs = self._left[before.sku], sims
                mine[-1] = mine[-1][:-SEAM]
                sims = theirs[SEAM:]
                self.seam = range(theirs.start - SEAM, theirs.start + SEAM)
            lanes.append(sims)

    def take(self, sku: int, wanted: int) -> range:
        lanes = self._left[sku]
        while lanes and not lanes[0]:
            lanes.pop(0)
        if not lanes:
            return range(0)
        taken, lanes[0] = lanes[0][:wanted], lanes[0][wanted:]
        return taken

    def peek(self, sku: int, ahead: int) -> int | None:
        lanes = [lane for lane in self._left[sku] if lane]
        if not lanes:
            return None
        lane = lanes[0] if ahead >= 0 else lanes[-1]
        return lane[min(ahead, len(lane) - 1) if ahead >= 0 else max(ahead, -len(lane))]


def _full(demand: float, share: float) -> int:
    """SIMs that fill a shelf: some two and a half days of what it sells."""
    return max(1, round((2.5 * demand + 1.5) * share))

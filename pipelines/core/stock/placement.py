"""Where a SIM may be put, taken from and counted: the rules of deliveries and their kin.

A SIM is nowhere, at one outlet, or active. `history` is the whole rule book: all movements and
anomalies of one SIM, from all facts about it. `sim_stage` applies it to ranges at once as long as
facts come in order, and must agree with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import msgspec

NOWHERE = ""


class PlacementType(IntEnum):
    """What an outlet or wholesaler reports."""

    DELIVERY = 1
    RETURN = 2
    TRANSFER = 3
    WRITE_OFF = 4


class Use(msgspec.Struct, array_like=True, frozen=True):
    """A call or activation that may be its SIM's first use; times in ms, as in `Placement`.

    One that was `kept` came in time, when no batch held its SIM.
    """

    at: int
    event_id: str
    known_at: int
    imsi: int
    counts_at: int
    kept: bool = False

    @property
    def order(self) -> tuple[int, str]:
        """Order of history: by time, then id."""
        return self.counts_at, self.event_id


class Placement(msgspec.Struct, array_like=True, frozen=True):
    """One reported event on consecutive SIMs of one block; times in ms.

    `known_at` is `at`, or the watermark that the event came too late for. `counts_at` is its place
    in history: see `counts_at`.
    """

    at: int
    event_id: str
    known_at: int
    type: int
    outlet_id: str
    to_outlet_id: str
    first_imsi: int
    count: int
    counts_at: int

    @property
    def order(self) -> tuple[int, str]:
        """Event order: by time, then id."""
        return self.at, self.event_id

    @property
    def counts(self) -> tuple[int, str]:
        """Order of history; another than the event's only if it came too late to change that."""
        return self.counts_at, self.event_id

    @property
    def key(self) -> tuple[str, int]:
        """What makes a piece of an event the same piece, however often it comes."""
        return self.event_id, self.first_imsi

    def covers(self, imsi: int) -> bool:
        """Whether this event speaks of the SIM."""
        return self.first_imsi <= imsi < self.first_imsi + self.count


#: Causes of stock movements.
DELIVERED = "delivery"
FIRST_USE = "first_use"
RETURNED = "return"
TRANSFERRED_IN = "transfer_in"
TRANSFERRED_OUT = "transfer_out"
WRITTEN_OFF = "write_off"
MOVED_OUT = "moved_out"

#: What a removal is called in the log, by type.
TAKEN = {
    PlacementType.RETURN: RETURNED,
    PlacementType.TRANSFER: TRANSFERRED_OUT,
    PlacementType.WRITE_OFF: WRITTEN_OFF,
}

#: Kinds of anomalies.
ACTIVE_BEFORE_DELIVERY = "active_before_delivery"
DELIVERED_AFTER_USE = "delivered_after_use"
MOVED_WITHOUT_TRANSFER = "moved_without_transfer"
DELIVERED_TWICE = "delivered_twice"
LEFT_AFTER_USE = "left_after_use"
NOT_AT_OUTLET = "not_at_outlet"
LATE = "late"


def counts_at(at: int, known_at: int, restate_within: int) -> int:
    """Where in history a fact has its place, ms: at its time, if that may still be restated.

    What came even later counts from the last moment before the watermark that it met.
    """
    return at if known_at - at <= restate_within else known_at - 1


def step(place: str, event: Placement) -> tuple[str, str | None]:
    """The place of a SIM that is not active after `event`, and the anomaly it shows, if any."""
    if event.type == PlacementType.DELIVERY:
        if place == event.outlet_id:
            return place, DELIVERED_TWICE
        return event.outlet_id, None if place == NOWHERE else MOVED_WITHOUT_TRANSFER
    if place != event.outlet_id:
        return place, NOT_AT_OUTLET
    return event.to_outlet_id if event.type == PlacementType.TRANSFER else NOWHERE, None


def replay(events: Iterable[Placement], imsi: int) -> str:
    """The place of one SIM that is not active after `events`, given in event order."""
    place = NOWHERE
    for event in events:
        if event.covers(imsi):
            place, _ = step(place, event)
    return place


class Movement(NamedTuple):
    """A SIM comes to an outlet (`delta` +1) or leaves it (-1); `at` in ms."""

    at: int
    event_id: str
    outlet_id: str
    delta: int
    cause: str


class Anomaly(NamedTuple):
    """An event that contradicts what else is known of a SIM; `at` in ms."""

    at: int
    event_id: str
    kind: str


class History(NamedTuple):
    """What one SIM did, in order, and where that left it (`NOWHERE` once it is active)."""

    movements: list[Movement]
    anomalies: list[Anomaly]
    place: str


def history(placements: Iterable[Placement], use: Use | None, imsi: int) -> History:
    """The whole history of one SIM, from all placements and its first use if it is active.

    A placement too late to be restated in its place moves the SIM, at the moment from which it
    counts, to where it would be had the placement come in time.
    """
    facts = sorted((f for f in placements if f.covers(imsi)), key=lambda f: f.counts)
    found = History([], [], NOWHERE)
    place, active, seen = NOWHERE, False, list[Placement]()
    for fact in facts:
        if use is not None and not active and use.order < fact.counts:
            _first_use(found, place, use)
            place, active = NOWHERE, True
        seen.append(fact)
        delivery = fact.type == PlacementType.DELIVERY
        if use is not None and active and use.order < fact.order:
            kind = DELIVERED_AFTER_USE if delivery else LEFT_AFTER_USE
            found.anomalies.append(Anomaly(fact.at, fact.event_id, kind))
            continue
        before, after = place, place
        if fact.counts_at == fact.at:
            after, anomaly = step(place, fact)
            in_place = not delivery and anomaly is None
        else:
            in_order = sorted(seen, key=lambda f: f.order)
            _, anomaly = step(replay((f for f in in_order if f.order < fact.order), imsi), fact)
            in_place = False
            if not active:
                after = replay(in_order, imsi)
        if anomaly is not None:
            found.anomalies.append(Anomaly(fact.at, fact.event_id, anomaly))
        if before != after or in_place:
            _move(found, fact, before, after)
        place = after
    if use is not None and not active:
        _first_use(found, place, use)
        place = NOWHERE
    return found._replace(place=place)


def _first_use(found: History, place: str, use: Use) -> None:
    if place == NOWHERE:
        found.anomalies.append(Anomaly(use.counts_at, use.event_id, ACTIVE_BEFORE_DELIVERY))
    else:
        found.movements.append(Movement(use.counts_at, use.event_id, place, -1, FIRST_USE))


def _move(found: History, fact: Placement, before: str, after: str) -> None:
    delivery = fact.type == PlacementType.DELIVERY
    for place, delta, cause in (
        (before, -1, MOVED_OUT if delivery else TAKEN[PlacementType(fact.type)]),
        (after, +1, DELIVERED if delivery else TRANSFERRED_IN),
    ):
        if place != NOWHERE:
            found.movements.append(Movement(fact.counts_at, fact.event_id, place, delta, cause))

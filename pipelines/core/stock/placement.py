"""Where a SIM may be put, taken from and counted: the rules of deliveries and their kin.

A SIM is nowhere, at one outlet, or active. `step` is the whole rule book for one SIM that is not
active; `sim_stage` applies it to ranges at once and must agree with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import msgspec

NOWHERE = ""


class PlacementType(IntEnum):
    """What an outlet or wholesaler reports."""

    DELIVERY = 1
    RETURN = 2
    TRANSFER = 3
    WRITE_OFF = 4


class Placement(msgspec.Struct, array_like=True, frozen=True):
    """One reported event on consecutive SIMs of one block; times in ms.

    `known_at` is `at`, or the watermark that the event came too late for.
    """

    at: int
    event_id: str
    known_at: int
    type: int
    outlet_id: str
    to_outlet_id: str
    first_imsi: int
    count: int

    @property
    def order(self) -> tuple[int, str]:
        """Event order: by time, then id."""
        return self.at, self.event_id

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

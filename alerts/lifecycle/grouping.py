"""Which stock-outs of a wholesaler go into one message, and when it is due. Pure: no clock, no I/O.

A group starts with the first incident not yet gathered, at time t, and takes every incident that
opens within [t, t + group_wait]. It is due once everything up to t + group_wait is known, and lists
what is still out of stock at that moment. The loop that gathers, and what a policy makes of it, is
`alerts.lifecycle.lifecycle`.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from schemas.messages import ListedIncident


class Change(msgspec.Struct, array_like=True, frozen=True):
    """An incident opened (`closed_at` None) or closed; `at` is when that became known, in ms.

    Late events may change one that was known (`restated_at`, ms), or show that it never was.
    """

    incident_id: str
    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None
    at: int
    restated_at: int | None = None
    withdrawn: bool = False


class Gathering(msgspec.Struct, array_like=True):
    """A group that is not due yet: when and with which incident it began, and which are open."""

    started_at: int
    first_id: str
    open: dict[str, ListedIncident]


class AlertGroup(msgspec.Struct, frozen=True):
    """Stock-outs of one wholesaler that one message shall tell of, in the order they opened.

    `kind` is stock_out (a group's first), delayed, digest, reminder, escalation, lost or resolved;
    `to` an address of `alerts.policy.rules`. A note of an end is for those who heard of the
    beginning: `after` has the messages, by incident, of which one must have gone out. Late events
    have shown that those `withdrawn` never were: what was not sent of them need not be.
    """

    message_id: str
    wholesaler_id: str
    started_at: int
    due_at: int
    incidents: tuple[ListedIncident, ...]
    kind: str = "stock_out"
    to: str = "phone"
    after: dict[str, tuple[str, ...]] = {}
    withdrawn: tuple[str, ...] = ()


def message_id(wholesaler_id: str, started_at: int, first_id: str) -> str:
    """The id of the message of the group that starts at `started_at` (ms) with an incident."""
    return _named((wholesaler_id, started_at, first_id))


def later_id(wholesaler_id: str, due_at: int, kind: str, to: str) -> str:
    """The id of a message that falls due at `due_at` (ms) and is no group's first."""
    return _named((wholesaler_id, due_at, kind, to))


def _named(parts: tuple[str | int, ...]) -> str:
    # Packed, because ids may hold any character that could serve to join them.
    return blake2b(msgspec.msgpack.encode(parts), digest_size=12).hexdigest()


def in_order(change: Change) -> tuple[int | str, ...]:
    """The key by which changes are folded, whatever order they came in."""
    closed_at = change.closed_at
    return (
        change.at,
        change.incident_id,
        change.withdrawn,
        closed_at is not None,
        closed_at or 0,
        change.restated_at or 0,
        change.opened_at,
        change.outlet_id,
        change.sku,
    )

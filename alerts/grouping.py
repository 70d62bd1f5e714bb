"""Which stock-outs of a wholesaler go into one message, and when it is due. Pure: no clock, no I/O.

A group starts with the first incident not yet gathered, at time t, and takes every incident that
opens within [t, t + group_wait]. It is due once everything up to t + group_wait is known, and lists
what is still out of stock at that moment. All of it is decided in event time, in one order, so
arrival order, repetition, batching and restarts cannot change a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from schemas.envelope import NO_WATERMARK
from schemas.errors import EnvelopeError
from schemas.messages import ListedIncident

_VERSION: Final = 1


class Change(msgspec.Struct, array_like=True, frozen=True):
    """An incident opened (`closed_at` None) or closed. `at` is when that counts, in ms."""

    incident_id: str
    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None
    at: int


class Gathering(msgspec.Struct, array_like=True):
    """A group that is not due yet: when and with which incident it began, and which are open."""

    started_at: int
    first_id: str
    open: dict[str, ListedIncident]


class Group(msgspec.Struct, frozen=True):
    """Stock-outs of one wholesaler that one message shall tell of, in the order they opened."""

    message_id: str
    wholesaler_id: str
    started_at: int
    due_at: int
    incidents: tuple[ListedIncident, ...]


class WholesalerState(msgspec.Struct):
    """What is known of one wholesaler's incidents.

    Everything before `folded` is decided; `held` waits for its time; `gathering` is the group
    being filled.
    """

    wholesaler_id: str
    folded: int = NO_WATERMARK
    held: set[Change] = msgspec.field(default_factory=set)
    gathering: Gathering | None = None

    @property
    def idle(self) -> bool:
        """Whether `advance` would find nothing to do; such a state need not be advanced."""
        return not self.held and self.gathering is None


class _Stored(msgspec.Struct, array_like=True):
    version: int
    wholesaler_id: str
    folded: int
    held: list[Change]
    gathering: Gathering | None


def encode(state: WholesalerState) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    held = sorted(state.held, key=_order)
    stored = _Stored(_VERSION, state.wholesaler_id, state.folded, held, state.gathering)
    return msgspec.msgpack.encode(stored)


def decode(data: bytes) -> WholesalerState:
    """What `encode` wrote. Raises `EnvelopeError` for anything else."""
    try:
        (version, *_) = msgspec.msgpack.decode(data)
        if version != _VERSION:
            raise EnvelopeError(f"alert state of version {version}, expected {_VERSION}")
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise EnvelopeError(f"not an alert state: {error}") from None
    return WholesalerState(stored.wholesaler_id, stored.folded, set(stored.held), stored.gathering)


def hold(state: WholesalerState, change: Change) -> bool:
    """Keep a change until its time; False if it is a replay or already held."""
    if change.at < state.folded or change in state.held:
        return False
    state.held.add(change)
    return True


def advance(
    state: WholesalerState, watermark: int, group_wait: int, *, final: bool = False
) -> list[Group]:
    """Decide all that a watermark allows; the groups that are due now, in order.

    The watermark promises that every change with `at` below it is held. `final` says that the
    input has ended: everything held is decided and every group is due.
    """
    reached = max(watermark, state.folded)
    known = sorted((c for c in state.held if final or c.at < reached), key=_order)
    state.held.difference_update(known)
    groups: list[Group] = []
    for change in known:
        groups += _due(state, change.at, group_wait)
        _fold(state, change)
    if final and known:
        reached = max(reached, known[-1].at + 1)
    groups += _due(state, reached, group_wait, final=final)
    state.folded = reached
    return groups


def message_id(wholesaler_id: str, started_at: int, first_id: str) -> str:
    """The id of the message of the group that starts at `started_at` (ms) with an incident."""
    # Packed, because ids may hold any character that could serve to join them.
    name = msgspec.msgpack.encode((wholesaler_id, started_at, first_id))
    return blake2b(name, digest_size=12).hexdigest()


def _order(change: Change) -> tuple[int, str, bool, int, int, str, str]:
    closed_at = change.closed_at
    return (
        change.at,
        change.incident_id,
        closed_at is not None,
        closed_at or 0,
        change.opened_at,
        change.outlet_id,
        change.sku,
    )


def _fold(state: WholesalerState, change: Change) -> None:
    if change.closed_at is not None:
        if state.gathering is not None:
            state.gathering.open.pop(change.incident_id, None)
        return
    if state.gathering is None:
        state.gathering = Gathering(change.at, change.incident_id, {})
    state.gathering.open[change.incident_id] = ListedIncident(
        change.incident_id, change.outlet_id, change.sku, change.opened_at
    )


def _due(
    state: WholesalerState, moment: int, group_wait: int, *, final: bool = False
) -> Iterator[Group]:
    """End the gathering if all before `moment` is folded and that is past its time."""
    gathering = state.gathering
    if gathering is None or not (final or moment > gathering.started_at + group_wait):
        return
    state.gathering = None
    if gathering.open:
        started_at = gathering.started_at
        yield Group(
            message_id(state.wholesaler_id, started_at, gathering.first_id),
            state.wholesaler_id,
            started_at,
            started_at + group_wait,
            tuple(gathering.open.values()),
        )

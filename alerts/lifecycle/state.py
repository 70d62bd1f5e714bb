"""What is known of one wholesaler's stock-outs between two steps, and its bytes. Pure.

What happens to it is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from alerts.lifecycle.grouping import AlertGroup, Change, Gathering, in_order
from schemas.answers import Answer
from schemas.envelope import NO_WATERMARK
from schemas.errors import EnvelopeError
from schemas.messages import ListedIncident

_VERSION: Final = 1

#: States longer than this are packed: a broker takes a megabyte.
_LONG: Final = 32_768
_PACKED: Final = b"z"


class Alert(msgspec.Struct, array_like=True):
    """One stock-out that is open, or whose end somebody still has to be notified of.

    phase: open (nobody was notified) → notified → acknowledged or delivering or cannot → resolved.
    `due` is when something is to be decided next (ms; None: when something happens), `held` why
    that is later than it would be. `since` is where the time of the escalation begins,
    `notified_at` when the wholesaler was last notified, `by` when a promised delivery is due,
    or how long an acknowledgement holds.
    `messages` has the ids of messages by addressee, `answers` those of answers that counted.
    """

    incident_id: str
    outlet_id: str
    sku: str
    opened_at: int
    phase: str = "open"
    due: int | None = None
    held: str = ""
    since: int = 0
    notified_at: int = 0
    step: int = 0
    reminders: int = 0
    by: int = 0
    messages: dict[str, list[str]] = {}
    answers: list[str] = []

    @property
    def listed(self) -> ListedIncident:
        """The stock-out as a message lists it."""
        return ListedIncident(self.incident_id, self.outlet_id, self.sku, self.opened_at)

    def about(self, message_id: str) -> bool:
        """Whether a message named it."""
        return any(message_id in names for names in self.messages.values())


class ShelfHistory(msgspec.Struct, array_like=True):
    """When a shelf ran empty lately, and when its wholesaler was last notified of it (0: never).

    `over` has the stock-outs that were notified and are over, and since when: late events may open
    them again, and nobody shall hear of them twice.
    """

    emptied: list[int] = []
    notified_at: int = 0
    over: dict[str, int] = {}


class HeardAnswer(msgspec.Struct, array_like=True, frozen=True):
    """An answer, and the watermark it met: the time at which it counts."""

    at: int
    answer: Answer


class WholesalerState(msgspec.Struct):
    """What is known of one wholesaler's stock-outs.

    Everything before `folded` is decided; `held` and `answers` wait for their time; `gathering` is
    the group being filled; `alerts` has each open stock-out by its id, in the order they opened.
    `policy` names the rules it went by, `policy_since` is when those of the log began to hold.
    `pending` has the messages decided but not yet sent or given up, by id, in their order. `wake`
    is when the first alert is due, or before.
    """

    wholesaler_id: str
    folded: int = NO_WATERMARK
    held: set[Change] = msgspec.field(default_factory=set)
    gathering: Gathering | None = None
    alerts: dict[str, Alert] = {}
    shelves: dict[str, ShelfHistory] = {}
    answers: list[HeardAnswer] = []
    policy: str = ""
    pending: dict[str, AlertGroup] = {}
    wake: int | None = None
    policy_since: int = NO_WATERMARK

    def idle(self, watermark: int, policy: str) -> bool:
        """Whether a step to this watermark, by this policy, would find nothing to do."""
        return not (
            self.held
            or (self.alerts and self.policy != policy)
            or self.gathering is not None
            or self.answers
            or (self.wake is not None and self.wake < watermark)
        )

    def look_ahead(self) -> None:
        """Set `wake`."""
        dues = [alert.due for alert in self.alerts.values() if alert.due is not None]
        self.wake = min(dues, default=None)


class _Stored(msgspec.Struct, array_like=True):
    version: int
    wholesaler_id: str
    folded: int
    held: list[Change]
    gathering: Gathering | None
    alerts: list[Alert]
    shelves: dict[str, ShelfHistory]
    answers: list[HeardAnswer]
    policy: str
    pending: list[AlertGroup]
    policy_since: int = NO_WATERMARK


def encode(state: WholesalerState) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    data = msgspec.msgpack.encode(
        _Stored(
            _VERSION,
            state.wholesaler_id,
            state.folded,
            sorted(state.held, key=in_order),
            state.gathering,
            list(state.alerts.values()),
            dict(sorted(state.shelves.items())),
            state.answers,
            state.policy,
            list(state.pending.values()),
            state.policy_since,
        )
    )
    return data if len(data) <= _LONG else _PACKED + zlib.compress(data, 1)


def decode(data: bytes) -> WholesalerState:
    """What `encode` wrote. Raises `EnvelopeError` for anything else."""
    try:
        if data[:1] == _PACKED:
            data = zlib.decompress(data[1:])
        (version, *_) = msgspec.msgpack.decode(data)
        if version != _VERSION:
            raise EnvelopeError(f"alert state of version {version}, expected {_VERSION}")
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.MsgspecError, TypeError, ValueError, zlib.error) as error:
        raise EnvelopeError(f"not an alert state: {error}") from None
    state = WholesalerState(
        stored.wholesaler_id,
        stored.folded,
        set(stored.held),
        stored.gathering,
        {alert.incident_id: alert for alert in stored.alerts},
        stored.shelves,
        stored.answers,
        stored.policy,
        {group.message_id: group for group in stored.pending},
        policy_since=stored.policy_since,
    )
    state.look_ahead()
    return state


def hold(state: WholesalerState, change: Change) -> bool:
    """Keep a change until its time; False if it is a replay or already held."""
    if change.at < state.folded or change in state.held:
        return False
    state.held.add(change)
    return True


def hear(state: WholesalerState, answer: Answer, watermark: int) -> bool:
    """Keep an answer that met a watermark; False if it waits already."""
    if any(heard.answer.answer_id == answer.answer_id for heard in state.answers):
        return False
    state.answers.append(HeardAnswer(max(watermark, state.folded), answer))
    return True

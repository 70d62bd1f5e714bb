"""What is known of one wholesaler's stock-outs between two steps, and its bytes. Pure.

What happens to it is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from alerts.lifecycle.grouping import Change, Gathering, in_order
from schemas.answers import Answer
from schemas.envelope import NO_WATERMARK
from schemas.errors import EnvelopeError
from schemas.messages import ListedIncident

_VERSION: Final = 2

#: States longer than this are packed: a broker takes a megabyte.
_LONG: Final = 32_768
_PACKED: Final = b"z"


class Alert(msgspec.Struct, array_like=True):
    """One stock-out that is open, or whose end somebody still has to be told of.

    phase: open (nobody was told) → notified → acknowledged or delivering or cannot → resolved.
    `due` is when something is to be decided next (ms; None: when something happens). `held` is why
    that is later than it would be. `since` is where the time of the escalation begins, `told_at`
    when the wholesaler was last told, `by` until when a delivery is promised. `told` has the
    messages by addressee, `news` the answers that counted.
    """

    incident_id: str
    outlet_id: str
    sku: str
    opened_at: int
    phase: str = "open"
    due: int | None = None
    held: str = ""
    since: int = 0
    told_at: int = 0
    step: int = 0
    reminders: int = 0
    by: int = 0
    told: dict[str, list[str]] = {}
    news: list[str] = []

    @property
    def listed(self) -> ListedIncident:
        """The stock-out as a message lists it."""
        return ListedIncident(self.incident_id, self.outlet_id, self.sku, self.opened_at)

    def about(self, message_id: str) -> bool:
        """Whether a message told of it."""
        return any(message_id in names for names in self.told.values())


class ShelfHistory(msgspec.Struct, array_like=True):
    """When a shelf ran empty lately, and when somebody was last told so (0: never).

    `over` has the stock-outs that were told and are over, and since when: late events may open them
    again, and nobody shall hear of them twice.
    """

    emptied: list[int] = []
    told_at: int = 0
    over: dict[str, int] = {}


class HeardAnswer(msgspec.Struct, array_like=True, frozen=True):
    """News, and the watermark they met: the time at which they count."""

    at: int
    news: Answer


class WholesalerState(msgspec.Struct):
    """What is known of one wholesaler's incidents.

    Everything before `folded` is decided; `held` and `answers` wait for their time; `gathering` is
    the group being filled; `cases` has each open incident by its id, in the order they opened.
    `policy` names the rules it went by, `wake` is when the first case is due, or before.
    """

    wholesaler_id: str
    folded: int = NO_WATERMARK
    held: set[Change] = msgspec.field(default_factory=set)
    gathering: Gathering | None = None
    alerts: dict[str, Alert] = {}
    shelves: dict[str, ShelfHistory] = {}
    answers: list[HeardAnswer] = []
    policy: str = ""
    wake: int | None = None

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


class _Stored1(msgspec.Struct, array_like=True):
    version: int
    wholesaler_id: str
    folded: int
    held: list[Change]
    gathering: Gathering | None


class _Stored2(_Stored1, array_like=True):
    alerts: list[Alert]
    shelves: dict[str, ShelfHistory]
    answers: list[HeardAnswer]
    policy: str


def encode(state: WholesalerState) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    data = msgspec.msgpack.encode(
        _Stored2(
            _VERSION,
            state.wholesaler_id,
            state.folded,
            sorted(state.held, key=in_order),
            state.gathering,
            list(state.alerts.values()),
            dict(sorted(state.shelves.items())),
            state.answers,
            state.policy,
        )
    )
    return data if len(data) <= _LONG else _PACKED + zlib.compress(data, 1)


def decode(data: bytes) -> WholesalerState:
    """What `encode` wrote, also in the version before. Raises `EnvelopeError` for anything else."""
    try:
        if data[:1] == _PACKED:
            data = zlib.decompress(data[1:])
        (version, *_) = msgspec.msgpack.decode(data)
        if version == 1:
            return _from_1(msgspec.msgpack.decode(data, type=_Stored1))
        if version != _VERSION:
            raise EnvelopeError(f"alert state of version {version}, expected {_VERSION}")
        stored = msgspec.msgpack.decode(data, type=_Stored2)
    except (msgspec.MsgspecError, TypeError, ValueError, zlib.error) as error:
        raise EnvelopeError(f"not an alert state: {error}") from None
    state = _from_1(stored)
    state.alerts = {alert.incident_id: alert for alert in stored.alerts}
    state.shelves = stored.shelves
    state.answers = stored.answers
    state.policy = stored.policy
    state.look_ahead()
    return state


def _from_1(stored: _Stored1) -> WholesalerState:
    """Version 1 knew what was being gathered, and forgot what it had told."""
    gathering = stored.gathering
    listed = gathering.open.values() if gathering is not None else ()
    return WholesalerState(
        stored.wholesaler_id,
        stored.folded,
        set(stored.held),
        gathering,
        {i.incident_id: Alert(i.incident_id, i.outlet_id, i.sku, i.opened_at) for i in listed},
    )


def hold(state: WholesalerState, change: Change) -> bool:
    """Keep a change until its time; False if it is a replay or already held."""
    if change.at < state.folded or change in state.held:
        return False
    state.held.add(change)
    return True


def hear(state: WholesalerState, news: Answer, watermark: int) -> bool:
    """Keep news that met a watermark; False if they wait already."""
    if any(answered.news.answer_id == news.answer_id for answered in state.answers):
        return False
    state.answers.append(HeardAnswer(max(watermark, state.folded), news))
    return True

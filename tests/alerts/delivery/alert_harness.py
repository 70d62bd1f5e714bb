"""Fakes of everything around delivery: time that does not pass by itself, a scripted provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from alerts.delivery.dispatcher import Dispatched, Dispatcher
from alerts.delivery.outbox import Outbox
from alerts.lifecycle.grouping import AlertGroup, message_id
from alerts.message.compose import EmptyShelf
from alerts.message.directory import Contact
from schemas.messages import ListedIncident, Message, Receipt

NOW = 1_763_877_900_000
PHONE = "+8613800138000"
BACKUP = "+8613900139000"


class FakeClock:
    """Sleeping moves it on at once."""

    def __init__(self, now: int = NOW) -> None:
        self.ms = now
        self.slept: list[float] = []

    def now(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += round(seconds * 1_000)
        await asyncio.sleep(0)  # others get on meanwhile


class ScriptedSender:
    """Does to each try what the script says next: accept, or raise; afterwards it accepts.

    A step is None (accept), an error, or (error, True): accepted, but the answer is an error.
    `lookups` does the same to `find`, where None means to answer truly.
    """

    def __init__(
        self, *script: object, remote: bool = True, lookups: Iterable[object] = ()
    ) -> None:
        self.remote = remote
        self.finds = True
        self.script = list(script)
        self.lookups = list(lookups)
        self.sends: list[Message] = []
        self.finds_made: list[tuple[str, int]] = []
        self.accepted: list[Message] = []

    async def send(self, message: Message) -> Receipt:
        self.sends.append(message)
        step = self.script.pop(0) if self.script else None
        error, taken = step if isinstance(step, tuple) else (step, step is None)
        if taken:
            self.accepted.append(message)
        if error is not None:
            raise error
        return Receipt(f"P{len(self.accepted)}", message.segments)

    async def find(self, message: Message, since: int) -> Receipt | None:
        self.finds_made.append((message.message_id, since))
        step = self.lookups.pop(0) if self.lookups else None
        if step is not None:
            raise step
        for number, accepted in enumerate(self.accepted, 1):
            if (accepted.message_id, accepted.to) == (message.message_id, message.to):
                return Receipt(f"P{number}", message.segments)
        return None

    async def close(self) -> None:
        pass


class FakeDirectory:
    """Tables in memory."""

    def __init__(self, wholesalers: Mapping[str, Contact] | None = None) -> None:
        self.wholesalers = {"w": wholesaler()} if wholesalers is None else wholesalers
        self.successors: dict[tuple[str, str], str] = {}

    def wholesaler(self, wholesaler_id: str) -> Contact | None:
        return self.wholesalers.get(wholesaler_id)

    def successor(self, wholesaler_id: str, outlet_id: str, at: int) -> str:
        return self.successors.get((wholesaler_id, outlet_id), wholesaler_id)

    def shelf(self, incident: ListedIncident) -> EmptyShelf:
        outlet = f"Shop {incident.outlet_id}"
        return EmptyShelf(incident.outlet_id, outlet, "Hill", incident.sku, incident.opened_at)


def wholesaler(phone: str = PHONE, backup: str = "", language: str = "en") -> Contact:
    return Contact("w", "Wang", phone, backup, language)


def incident(name: str, opened_at: int = NOW) -> ListedIncident:
    return ListedIncident(name, f"o-{name}", "4G", opened_at)


def message(
    name: str = "m1", *, to: str = PHONE, opened_at: int = NOW, asks: bool = True
) -> Message:
    listed = (incident(f"i-{name}", opened_at),)
    return Message(name, "w", to, f"out of cards: {name}", "en", opened_at, listed, 1, asks=asks)


def group(*incidents: ListedIncident, wholesaler_id: str = "w", wait: int = 60_000) -> AlertGroup:
    first = incidents[0]
    name = message_id(wholesaler_id, first.opened_at, first.incident_id)
    start = first.opened_at
    return AlertGroup(name, wholesaler_id, start, start + wait, incidents)


async def dispatched(dispatcher: Dispatcher, groups: Iterable[AlertGroup]) -> Dispatched:
    """What becomes of groups that are sent together, in their order."""
    outbox, groups = Outbox(dispatcher), list(groups)
    outbox.start(dispatcher, groups)
    await outbox.drain()
    outcomes = sorted(outbox.outcomes(dispatcher), key=lambda o: groups.index(o.group))
    return Dispatched(
        [record for outcome in outcomes for record in outcome.sent.records],
        [event for outcome in outcomes for event in outcome.sent.events],
    )

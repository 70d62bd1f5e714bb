"""From a group to records: whom to tell, in which words, what is too old, what was sent before.

Sending and its crashes are `alerts.delivery.delivery`'s; when it is done, and beside what, is
`alerts.delivery.outbox`'; whom a group is for was decided in `alerts.lifecycle.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Final, NamedTuple

import msgspec

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.managers import Managers
from alerts.delivery.ports import Channels, FillLevels, Link
from alerts.lifecycle.grouping import AlertGroup, message_id
from alerts.message.compose import Text, compose
from alerts.message.directory import Contact, Directory
from alerts.message.phones import contacts, takes_links
from alerts.message.texts import OUR_TEXTS, Texts
from alerts.policy.rules import BACKUP, CHANNEL, PHONE
from pipelines.core.watchdog import WATCHDOG
from schemas.alert_events import AlertEvent
from schemas.messages import ListedIncident, Message, MessageRecord

#: The kind of event of a message that went out.
_WENT_OUT: Final = {
    "reminder": "reminded",
    "escalation": "escalated",
    "lost": "escalated",
    "resolved": "note",
}


class Dispatched(NamedTuple):
    """The outcome of a group: rows for sms-messages, and events of its stock-outs."""

    records: list[MessageRecord]
    events: list[AlertEvent]


class Dispatcher:
    """Turns groups into messages and has them delivered.

    `timezone` is the readers'. The watchdog's stock-outs end in `watchdog`, which learns when
    they happened (ms).
    """

    def __init__(
        self,
        delivery: MessageDelivery,
        directory: Directory,
        *,
        timezone: tzinfo,
        channels: Channels | None = None,
        fill_levels: FillLevels | None = None,
        link: Link | None = None,
        texts: Texts = OUR_TEXTS,
        watchdog: Callable[[int], None] = lambda at: None,
    ) -> None:
        self.delivery = delivery
        self.directory = directory
        self.timezone = timezone
        self.managers = Managers(delivery.receipts, delivery.clock, channels)
        self.fill_levels = fill_levels
        self.link = link
        self.texts = texts
        self.watchdog = watchdog

    async def send(self, group: AlertGroup) -> Dispatched:
        """Have a group's messages sent, or given up, however long that takes.

        Raises what `MessageDelivery` raises, and OSError when the disk fails.
        """
        self.delivery.receipts.load(group.wholesaler_id)
        if group.withdrawn:
            alive = tuple(i for i in group.incidents if i.incident_id not in group.withdrawn)
            if not alive:
                return await self._send_nothing(group)
            group = msgspec.structs.replace(group, incidents=alive)
        sent = Dispatched([], [])
        if group.wholesaler_id == WATCHDOG:
            self.watchdog(max(incident.opened_at for incident in group.incidents))
            return sent
        for part in self._parts(group):
            records, events = await self._send(part)
            sent.records.extend(records)
            sent.events.extend(events)
        return sent

    async def _send_nothing(self, group: AlertGroup) -> Dispatched:
        """A message about nothing: unless it is out already it stays here."""
        records = []
        for part in self._parts(group):
            record = await self.delivery.settled(part.message_id)
            if record is None:
                message = self._compose(part, part.message_id, part.incidents)
                why = "late events show that no shelf was empty"
                record = self.delivery.record(message, "stale", why)
            records.append(record)
        texts = [] if group.to.startswith(CHANNEL) else records
        return Dispatched(texts, events_of(group, records))

    async def say_late(self, group: AlertGroup) -> list[AlertEvent]:
        """Tell the fallback that a group has reached nobody so far, while the tries go on."""
        self.delivery.receipts.load(group.wholesaler_id)
        events: list[AlertEvent] = []
        for part in self._parts(group):
            name = part.message_id
            if part.to.startswith(CHANNEL) or self.delivery.receipts.get(name) is not None:
                continue
            why = "nobody was reached yet; the tries go on"
            message = self._compose(part, name, part.incidents)
            late = self.delivery.record(message, "failed", why)
            detail = {"what": part.kind, "to": part.to, "why": why}
            events += [
                _event(part, i.incident_id, "late", part.due_at, detail, name, slot="late")
                for i in part.incidents
            ]
            events += await self.managers.fall_back(part, late, self._name(part))
        return events

    def _parts(self, group: AlertGroup) -> list[AlertGroup]:
        """The group, or a part of it for each who took its outlets over before it fell due.

        The stock-outs stay with whom they happened to, so the parts are still that one's messages;
        only who reads them is somebody else.
        """
        by_reader: dict[str, list[ListedIncident]] = {}
        for incident in group.incidents:
            by_reader.setdefault(self._reader_of(group, incident), []).append(incident)
        if len(by_reader) <= 1:
            return [group]
        return [
            msgspec.structs.replace(
                group,
                message_id=group.message_id
                if reader == group.wholesaler_id
                else f"{group.message_id}-{reader}",
                incidents=tuple(incidents),
            )
            for reader, incidents in by_reader.items()
        ]

    def _reader_of(self, group: AlertGroup, incident: ListedIncident) -> str:
        return self.directory.successor(group.wholesaler_id, incident.outlet_id, group.due_at)

    def _reader(self, group: AlertGroup) -> Contact | None:
        """Who gets the messages of a part: all its outlets have the same reader."""
        return self.directory.wholesaler(self._reader_of(group, group.incidents[0]))

    async def _send(self, group: AlertGroup) -> Dispatched:
        unaware: list[AlertEvent] = []
        if group.kind == "resolved":
            group, unaware = self._only_who_knew(group)
            if not group.incidents:
                return Dispatched([], unaware)
        if group.to.startswith(CHANNEL):
            name = group.to.removeprefix(CHANNEL)
            text = self._text(group, group.message_id, group.incidents, whole=True)
            records = [await self.managers.tell(name, group, text, self._name(group))]
        elif group.kind == "stock_out":
            records = await self._send_first(group)
        else:
            records = [await self._send_later(group)]
        for record in records:
            if record.status in ("undeliverable", "refused", "failed"):
                unaware += await self.managers.fall_back(group, record, self._name(group))
        # What went to a channel is no SMS, and not among them.
        texts = [] if group.to.startswith(CHANNEL) else records
        return Dispatched(texts, events_of(group, records) + unaware)

    async def _send_first(self, group: AlertGroup) -> list[MessageRecord]:
        records = []
        settled = await self.delivery.settled(group.message_id)
        if settled is not None:
            records.append(settled)
        # Input that ended and then went on may be gathered otherwise when it is read anew: what
        # the recorded message did not list goes out as the message it would have been.
        known = set(settled.incident_ids) if settled is not None else set()
        fresh: list[ListedIncident] = []
        old: list[ListedIncident] = []
        for incident in group.incidents:
            if incident.incident_id not in known:
                (old if self.delivery.too_old(incident.opened_at) else fresh).append(incident)
        if old:
            stale_id = f"{group.message_id}-stale" if fresh or settled else group.message_id
            message = self._compose(group, stale_id, old)
            records.append(self.delivery.record(message, "stale", "too old to be of use"))
        if fresh and settled is None:
            records.append(await self._deliver(group, group.message_id, fresh))
        elif fresh:
            first = fresh[0]
            rest_id = message_id(group.wholesaler_id, first.opened_at, first.incident_id)
            rest = await self.delivery.settled(rest_id)
            records.append(rest or await self._deliver(group, rest_id, fresh))
        return records

    async def _send_later(self, group: AlertGroup) -> MessageRecord:
        """What is no group's first message is of use from when it fell due."""
        settled = await self.delivery.settled(group.message_id)
        return settled or await self._deliver(group, group.message_id, group.incidents)

    def _only_who_knew(self, group: AlertGroup) -> tuple[AlertGroup, list[AlertEvent]]:
        """The group without stock-outs its reader never heard of, and an event of each of those."""
        receipts = self.delivery.receipts
        knew = {
            name
            for name, messages in group.after.items()
            if any(receipts.get(message) is not None for message in messages)
        }
        known = tuple(i for i in group.incidents if i.incident_id in knew)
        unknown = [i.incident_id for i in group.incidents if i.incident_id not in knew]
        detail = {"why": "was_not_told", "what": "resolved", "to": group.to}
        return msgspec.structs.replace(group, incidents=known), [
            _event(group, name, "not_notified", group.due_at, detail, group.message_id)
            for name in unknown
        ]

    async def _deliver(
        self, group: AlertGroup, name: str, incidents: Sequence[ListedIncident]
    ) -> MessageRecord:
        wholesaler = self._reader(group)
        message = self._compose(group, name, incidents)
        numbers = self._addresses(wholesaler, group.to)
        if not numbers:
            return self.delivery.record(
                message, "undeliverable", _nobody(group, wholesaler, incidents)
            )
        return await self.delivery.deliver(message, numbers)

    def _addresses(self, wholesaler: Contact | None, to: str) -> list[str]:
        """The channel that a wholesaler chose, then the numbers, of an address of the policy."""
        numbers = _contacts(wholesaler, to)
        if wholesaler is None or to != PHONE:
            return numbers
        return [*self.delivery.routes.chosen(wholesaler.wholesaler_id), *numbers]

    def _compose(
        self, group: AlertGroup, name: str, incidents: Sequence[ListedIncident]
    ) -> Message:
        wholesaler = self._reader(group)
        text = self._text(group, name, incidents)
        return Message(
            name,
            group.wholesaler_id,
            next(iter(_contacts(wholesaler, group.to)), ""),
            text.body,
            text.language,
            group.due_at,
            tuple(incidents),
            text.segments,
            0 if group.kind == "stock_out" else group.due_at,
            group.kind != "resolved",
        )

    def _text(
        self,
        group: AlertGroup,
        name: str,
        incidents: Sequence[ListedIncident],
        *,
        whole: bool = False,
    ) -> Text:
        wholesaler = self._reader(group)
        shelves = [self.directory.shelf(incident) for incident in incidents]
        if self.fill_levels is not None and group.kind != "resolved":
            fill_to = self.fill_levels
            shelves = [s._replace(bring=fill_to(s.outlet_id, s.sku)) for s in shelves]
        asks = group.kind != "resolved" and not whole
        asks = asks and all(map(takes_links, _contacts(wholesaler, group.to)))
        return compose(
            shelves,
            language=wholesaler.language if wholesaler is not None else "",
            timezone=self.timezone,
            signature="" if whole else self.delivery.routes.signature,
            kind=group.kind,
            at=group.due_at,
            whole=whole,
            texts=self.texts,
            link=self.link(name, group.wholesaler_id, group.due_at) if self.link and asks else "",
        )

    def _name(self, group: AlertGroup) -> str:
        wholesaler = self._reader(group)
        return (wholesaler.name if wholesaler is not None else "") or group.wholesaler_id or "?"


def events_of(group: AlertGroup, records: Iterable[MessageRecord]) -> list[AlertEvent]:
    """An event of each stock-out that records list."""
    events = []
    for record in records:
        went_out = record.status == "sent"
        kind = _WENT_OUT.get(group.kind, "notified") if went_out else record.status
        detail = {"what": group.kind, "to": group.to, "why": record.error}
        events += [
            _event(group, name, kind, record.created_at, detail, record.message_id, record.version)
            for name in record.incident_ids
        ]
    return events


def _event(
    group: AlertGroup,
    incident_id: str,
    kind: str,
    at: int,
    detail: dict[str, str],
    about: str,
    version: int = 0,
    slot: str = "message",
) -> AlertEvent:
    return AlertEvent(
        incident_id=incident_id,
        wholesaler_id=group.wholesaler_id,
        at=at,
        kind=kind,
        message_id=about,
        detail=msgspec.json.encode({k: v for k, v in detail.items() if v}).decode(),
        by="policy",
        slot=f"{slot}/{about}",
        version=version,
    )


def _contacts(wholesaler: Contact | None, to: str) -> list[str]:
    """The numbers that a message to an address of the policy may go to, the best first."""
    if wholesaler is None:
        return []
    if to == BACKUP:
        return contacts(wholesaler.backup_phone)
    return contacts(wholesaler.phone, wholesaler.backup_phone if to == PHONE else None)


def _nobody(
    group: AlertGroup, wholesaler: Contact | None, incidents: Sequence[ListedIncident]
) -> str:
    """Why there is nobody to tell, and what to do about it."""
    wholesaler_id = group.wholesaler_id
    if not wholesaler_id:
        outlets = ", ".join(sorted({incident.outlet_id for incident in incidents}))
        return f"no wholesaler holds {outlets}: add a row to assignments.csv"
    if wholesaler is None:
        return f"wholesaler {wholesaler_id} is unknown: add a row to wholesalers.csv"
    lacks, give = "no usable phone", "phone or backup_phone"
    if group.to == BACKUP:
        lacks, give = "no usable second phone", "backup_phone"
    return (
        f"wholesaler {wholesaler_id} has {lacks}: give {give} in wholesalers.csv as +, "
        "country code and number"
    )

"""From groups to records: whom to tell, in which words, what is too old, what was told before.

The one door of this package for a worker: groups that are due go in, rows for sms-messages come
out. Sending and its crashes are `alerts.delivery`'s.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import tzinfo

from alerts.delivery import Delivery
from alerts.directory import Directory, Wholesaler
from alerts.grouping import Group, message_id
from alerts.message import compose
from alerts.phones import usable
from schemas.messages import ListedIncident, Message, MessageRecord


class Dispatcher:
    """Turns groups into messages and has them delivered, many wholesalers at a time.

    `timezone` is the readers'; `signature` the sender's registered name where one is required.
    """

    def __init__(
        self,
        delivery: Delivery,
        directory: Directory,
        *,
        timezone: tzinfo,
        signature: str = "",
        at_a_time: int = 16,
    ) -> None:
        self.delivery = delivery
        self.directory = directory
        self.timezone = timezone
        self.signature = signature
        self._turns = asyncio.Semaphore(at_a_time)

    async def dispatch(self, groups: Iterable[Group]) -> list[MessageRecord]:
        """Deliver groups; the records, each wholesaler's in the order of its groups.

        Returns when every message is sent or given up, however long that takes: the caller must
        not go on before. Raises what `Delivery` raises, and OSError when the disk fails.
        """
        by_wholesaler: dict[str, list[Group]] = defaultdict(list)
        for group in groups:
            by_wholesaler[group.wholesaler_id].append(group)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._serve(g)) for g in by_wholesaler.values()]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [record for task in running for record in task.result()]

    async def _serve(self, groups: Sequence[Group]) -> list[MessageRecord]:
        """One wholesaler's groups, one after the other."""
        async with self._turns:
            return [record for group in groups for record in await self._send(group)]

    async def _send(self, group: Group) -> list[MessageRecord]:
        records = []
        settled = await self.delivery.settled(group.message_id)
        if settled is not None:
            records.append(settled)
        # Input that ended and then went on may be gathered otherwise when it is read anew: what
        # the recorded message did not tell goes out as the message it would have been.
        told = set(settled.incident_ids) if settled is not None else set()
        fresh: list[ListedIncident] = []
        old: list[ListedIncident] = []
        for incident in group.incidents:
            if incident.incident_id not in told:
                (old if self.delivery.too_old(incident.opened_at) else fresh).append(incident)
        if old:
            stale_id = f"{group.message_id}-stale" if fresh or settled else group.message_id
            message = self._compose(group, stale_id, old)
            records.append(self.delivery.record(message, "stale", "too old to be of use"))
        if fresh and settled is None:
            records.append(await self._tell(group, group.message_id, fresh))
        elif fresh:
            first = fresh[0]
            rest_id = message_id(group.wholesaler_id, first.opened_at, first.incident_id)
            rest = await self.delivery.settled(rest_id)
            records.append(rest or await self._tell(group, rest_id, fresh))
        return records

    async def _tell(
        self, group: Group, name: str, incidents: list[ListedIncident]
    ) -> MessageRecord:
        wholesaler = self.directory.wholesaler(group.wholesaler_id)
        message = self._compose(group, name, incidents)
        contacts = _contacts(wholesaler)
        if not contacts:
            return self.delivery.record(
                message, "undeliverable", _nobody(group.wholesaler_id, wholesaler, incidents)
            )
        return await self.delivery.deliver(message, contacts)

    def _compose(self, group: Group, name: str, incidents: list[ListedIncident]) -> Message:
        wholesaler = self.directory.wholesaler(group.wholesaler_id)
        text = compose(
            [self.directory.shelf(incident) for incident in incidents],
            language=wholesaler.language if wholesaler is not None else "",
            timezone=self.timezone,
            signature=self.signature,
        )
        return Message(
            name,
            group.wholesaler_id,
            next(iter(_contacts(wholesaler)), ""),
            text.body,
            text.language,
            group.due_at,
            tuple(incidents),
            text.segments,
        )


def _contacts(wholesaler: Wholesaler | None) -> list[str]:
    """The numbers a wholesaler can be reached at, the best first, each once."""
    if wholesaler is None:
        return []
    numbers = [usable(wholesaler.phone), usable(wholesaler.backup_phone)]
    return list(dict.fromkeys(number for number in numbers if number))


def _nobody(
    wholesaler_id: str, wholesaler: Wholesaler | None, incidents: list[ListedIncident]
) -> str:
    """Why there is nobody to tell, and what to do about it."""
    if not wholesaler_id:
        outlets = ", ".join(sorted({incident.outlet_id for incident in incidents}))
        return f"no wholesaler holds {outlets}: add a row to assignments.csv"
    if wholesaler is None:
        return f"wholesaler {wholesaler_id} is unknown: add a row to wholesalers.csv"
    return (
        f"wholesaler {wholesaler_id} has no usable phone: give phone or backup_phone in "
        "wholesalers.csv as +, country code and number"
    )

"""What goes to managers' channels: escalations, and what reached nobody else. Once, and loud.

A channel takes it or not; there is no asking afterwards, so a crash between its answer and the
record repeats it.
"""

from __future__ import annotations

import logging

import msgspec

from alerts.delivery.clock import Clock
from alerts.delivery.ports import FALLBACK, Channels
from alerts.delivery.receipts import Receipts
from alerts.lifecycle.grouping import AlertGroup
from alerts.message.compose import Text, title
from alerts.policy.rules import CHANNEL
from schemas.alert_events import AlertEvent
from schemas.errors import SendError
from schemas.messages import MessageRecord, Status

log = logging.getLogger(__name__)


class Managers:
    """Tells channels; `channels` None means that none are set up, which is said each time."""

    def __init__(self, receipts: Receipts, clock: Clock, channels: Channels | None) -> None:
        self._receipts = receipts
        self._clock = clock
        self._channels = channels

    async def tell(
        self, name: str, group: AlertGroup, text: Text, wholesaler: str
    ) -> MessageRecord:
        """Tell a channel of a group; '' as its name means that the policy names none."""
        known = self._receipts.get(group.message_id)
        if known is not None:
            await self._receipts.put(known)
            return known
        outlets = len({incident.outlet_id for incident in group.incidents})
        headline = title(group.kind, text.language, wholesaler, outlets)
        error = await self._try(name, headline, text.body)
        record = MessageRecord(
            group.message_id,
            group.wholesaler_id,
            [incident.incident_id for incident in group.incidents],
            text.body,
            0,
            group.due_at,
            _status(name, error),
            1,
            "",
            error,
            self._clock.now(),
        )
        if not error:
            await self._receipts.put(record)
        return record

    async def fall_back(
        self, group: AlertGroup, record: MessageRecord, wholesaler: str
    ) -> list[AlertEvent]:
        """Tell the fallback, if there is one, of a message that reached nobody; its events."""
        if self._channels is None:
            return []
        name = f"{record.message_id}-{FALLBACK}"
        if self._receipts.get(name) is None:
            outlets = len({incident.outlet_id for incident in group.incidents})
            headline = title("unreached", "", wholesaler, outlets)
            error = await self._try(FALLBACK, headline, f"{record.error}\n{record.body}")
            if not error:
                kept = msgspec.structs.replace(record, message_id=name, status="sent", error="")
                await self._receipts.put(kept)
        else:
            error = ""
        detail = {"what": "unreached", "to": CHANNEL + FALLBACK, "why": error}
        return [
            AlertEvent(
                incident_id=incident_id,
                wholesaler_id=group.wholesaler_id,
                at=record.created_at,
                kind="failed" if error else "escalated",
                message_id=record.message_id,
                detail=msgspec.json.encode({k: v for k, v in detail.items() if v}).decode(),
                by="policy",
                slot=f"{FALLBACK}/{record.message_id}",
                version=record.version,
            )
            for incident_id in record.incident_ids
        ]

    async def _try(self, name: str, headline: str, body: str) -> str:
        """Why a channel was not notified; '' if it was."""
        if not name:
            error = "the policy names no channel for this territory: add one under [managers]"
        elif self._channels is None:
            error = f"no channels are set up, so that {name!r} cannot be notified"
        else:
            try:
                await self._channels.tell(name, headline, body)
            except SendError as failed:
                error = f"channel {name!r}: {failed}"
            else:
                return ""
        log.error("%s; it would have been: %s", error, headline)
        return error


def _status(name: str, error: str) -> Status:
    if not error:
        return "sent"
    return "failed" if name else "undeliverable"

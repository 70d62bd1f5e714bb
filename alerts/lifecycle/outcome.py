"""What one advance of a wholesaler's alerts decided: messages to send, and an event a decision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from alerts.lifecycle.grouping import AlertGroup, later_id
from alerts.lifecycle.state import Alert
from schemas.alert_events import AlertEvent
from schemas.answers import Answer
from schemas.fields import TIME_END


class Decisions:
    """Collects them in order; rows and ids are those of one wholesaler."""

    def __init__(self, wholesaler_id: str) -> None:
        self.wholesaler_id = wholesaler_id
        self.groups: list[AlertGroup] = []
        self.events: list[AlertEvent] = []

    def send(
        self,
        name: str,
        started_at: int,
        due_at: int,
        alerts: Iterable[Alert],
        kind: str,
        to: str,
        after: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Have a message of this id go out to an address of `alerts.policy.rules`."""
        wholesaler_id, listed = self.wholesaler_id, tuple(alert.listed for alert in alerts)
        self.groups.append(
            AlertGroup(name, wholesaler_id, started_at, due_at, listed, kind, to, after or {})
        )

    def later(self, due_at: int, kind: str, to: str) -> str:
        """The id of a message that is no group's first."""
        return later_id(self.wholesaler_id, due_at, kind, to)

    def decided(
        self, alert: Alert, at: int, kind: str, detail: dict[str, Any], by: str = "policy"
    ) -> None:
        """Record what was decided about a stock-out at a time, and by whom."""
        self._add(alert.incident_id, at, kind, "", detail, by, f"{kind}/{at}")

    def answered(
        self, incident_id: str, answer: Answer, detail: dict[str, Any], counted_at: int
    ) -> None:
        """Record what was answered about a stock-out, '' where it met none, and when it counted.

        A step that is done again after a crash may find it later: the earliest time holds.
        """
        counted_at = max(counted_at, 0)  # before any watermark
        slot, version = f"answer/{answer.answer_id}", TIME_END - counted_at
        said = detail | {"counted_at": counted_at}
        name, kind, by = answer.message_id, answer.kind, answer.by
        self._add(incident_id, answer.at, kind, name, said, by, slot, version)

    def _add(
        self,
        incident_id: str,
        at: int,
        kind: str,
        message_id: str,
        detail: dict[str, Any],
        by: str,
        slot: str,
        version: int = 0,
    ) -> None:
        kept = {name: value for name, value in detail.items() if value not in (None, "")}
        self.events.append(
            AlertEvent(
                incident_id=incident_id,
                wholesaler_id=self.wholesaler_id,
                at=at,
                kind=kind,
                message_id=message_id,
                detail=msgspec.json.encode(kept).decode(),
                by=by,
                slot=slot,
                version=version,
            )
        )

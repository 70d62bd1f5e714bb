"""What follows from one advance of a wholesaler's stock-outs: messages, and news of each decision.

Why it follows is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from alerts.lifecycle.grouping import AlertGroup, later_id
from alerts.lifecycle.state import Alert
from schemas.alert_events import AlertEvent
from schemas.answers import Answer


class Decisions:
    """Collects them in order; rows and ids are those of one wholesaler."""

    def __init__(self, wholesaler_id: str) -> None:
        self.wholesaler_id = wholesaler_id
        self.groups: list[AlertGroup] = []
        self.news: list[AlertEvent] = []

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
        """Let a message of this name go out to an address of `alerts.policy.rules`."""
        wholesaler_id, listed = self.wholesaler_id, tuple(alert.listed for alert in alerts)
        self.groups.append(
            AlertGroup(name, wholesaler_id, started_at, due_at, listed, kind, to, after or {})
        )

    def later(self, due_at: int, kind: str, to: str) -> str:
        """The name of a message that is no group's first."""
        return later_id(self.wholesaler_id, due_at, kind, to)

    def tell_of(
        self, alert: Alert, at: int, kind: str, detail: dict[str, Any], by: str = "policy"
    ) -> None:
        """Say what was decided about a stock-out at a time, and by whose word."""
        self.news.append(
            AlertEvent(
                incident_id=alert.incident_id,
                wholesaler_id=self.wholesaler_id,
                at=at,
                kind=kind,
                message_id="",
                detail=_json(detail),
                by=by,
                slot=f"{kind}/{at}",
            )
        )

    def heard(self, incident_id: str, news: Answer, detail: dict[str, Any]) -> None:
        """Say what was answered about a stock-out, '' where it met none."""
        self.news.append(
            AlertEvent(
                incident_id=incident_id,
                wholesaler_id=self.wholesaler_id,
                at=news.at,
                kind=news.kind,
                message_id=news.message_id,
                detail=_json(detail),
                by=news.by,
                slot=f"news/{news.answer_id}",
            )
        )


def _json(detail: dict[str, Any]) -> str:
    return msgspec.json.encode({k: v for k, v in detail.items() if v not in (None, "")}).decode()

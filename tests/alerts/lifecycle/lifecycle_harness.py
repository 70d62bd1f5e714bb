"""One wholesaler's stock-outs on a fake clock: a day that tests can play through."""

from __future__ import annotations

import json
from datetime import UTC, date
from typing import Any

from alerts.lifecycle.grouping import AlertGroup, Change
from alerts.lifecycle.lifecycle import advance
from alerts.lifecycle.state import WholesalerState, decode, encode, hear, hold
from alerts.policy.policy import parse_policy
from alerts.policy.rules import AlertRules
from schemas.alert_events import AlertEvent
from schemas.answers import Answer

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: Midnight of Sunday, 1 March 2026, UTC.
START = 1_772_323_200_000

POLICY = """
repeat_interval = "4h"
repeat_limit = 3
resolved_notes = true

[quiet_hours]
start = "22:00"
end = "07:00"
except = [{ sku = "vip" }]

[[escalation]]
after = "30m"
to = "backup_phone"

[[escalation]]
after = "2h"
to = "territory_manager"

[managers]
"north" = "north-team"
"*" = "sales"

[flapping]
incidents = 3
within = "6h"

[[silences]]
outlet = "o-silent"
from = 2026-03-01T00:00:00Z
until = 2026-03-01T12:00:00Z
why = "rebuilding"
by = "Li"

[[maintenance]]
territory = "south"
from = 2026-03-01T09:00:00Z
until = 2026-03-01T10:00:00Z
why = "flood"
"""


class Map:
    """Outlets whose names say where they are."""

    def territories(self, outlet_id: str) -> tuple[str, ...]:
        return (outlet_id.split("-")[1], "city") if "-" in outlet_id else ()

    def closed_on(self, outlet_id: str) -> date | None:
        return date(2026, 3, 1) if outlet_id.endswith("closed") else None


def rules(policy: str = POLICY, *, wall: bool = False) -> AlertRules:
    return AlertRules(MINUTE, parse_policy(policy), zone=UTC, places=Map(), wall=wall)


def at(hours: float, minutes: float = 0) -> int:
    """So long after the start, in ms since the epoch."""
    return START + round(hours * HOUR + minutes * MINUTE)


def opened(name: str, when: int, outlet: str = "", sku: str = "4G") -> Change:
    return Change(name, outlet or f"o-north-{name}", sku, "w", when, None, when)


def closed(opening: Change, when: int) -> Change:
    return Change(
        opening.incident_id, opening.outlet_id, opening.sku, "w", opening.opened_at, when, when
    )


def answer_of(kind: str, message_id: str, when: int = 0, number: int = 0, **detail: Any) -> Answer:
    name = f"{kind}/{message_id}/{when}/{number}"
    return Answer(name, when, "w", kind, message_id, "", json.dumps(detail), "sms")


class Day:
    """Plays a day through; between any two steps the state goes through its bytes."""

    def __init__(self, policy: str = POLICY, *, wall: bool = False) -> None:
        self.rules = rules(policy, wall=wall)
        self.state = WholesalerState("w")
        self.groups: list[AlertGroup] = []
        self.events: list[AlertEvent] = []
        self.watermark = START

    def open(self, name: str, when: int, outlet: str = "", sku: str = "4G") -> Change:
        change = opened(name, when, outlet, sku)
        hold(self.state, change)
        return change

    def close(self, opening: Change, when: int) -> None:
        hold(self.state, closed(opening, when))

    def until(self, when: int, *, final: bool = False, now: int | None = None) -> list[AlertGroup]:
        """Go on to a watermark just past a moment; what is sent on the way."""
        self.watermark = max(self.watermark, when + 1)
        self.state = decode(encode(self.state))
        steps = advance(self.state, self.watermark, self.rules, final=final, now=now)
        self.groups += steps.groups
        self.events += steps.events
        return steps.groups

    def answer(self, kind: str, message_id: str, when: int, **detail: Any) -> list[AlertGroup]:
        """Somebody answers at a moment; what was due until then is sent before."""
        sent = self.until(when - 1)
        hear(self.state, answer_of(kind, message_id, when, **detail), self.watermark)
        return sent

    def said(self, name: str) -> list[tuple[str, float]]:
        """What was said of a stock-out: kinds, and after how many hours."""
        return [(n.kind, (n.at - START) / HOUR) for n in self.events if n.incident_id == name]


def shown(groups: list[AlertGroup]) -> list[tuple[str, str, float, list[str]]]:
    """Messages in brief: kind, addressee, hour, stock-outs."""
    return [
        (g.kind, g.to, (g.due_at - START) / HOUR, [i.incident_id for i in g.incidents])
        for g in groups
    ]

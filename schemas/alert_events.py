"""What was decided and answered about stock-outs: one row each, notified or not, and why.

Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Decided · what went out · what did not · answered · the end.
KINDS: Final = frozenset(
    {
        *("waiting", "refilled_in_time", "not_notified"),
        *("notified", "reminded", "escalated", "note", "late"),
        *("undeliverable", "refused", "failed", "stale"),
        *("acknowledged", "delivering", "cannot", "stop", "start", "status"),
        *("overdue", "resolved", "withdrawn"),
        *("policy_changed", "policy_refused"),
    }
)


class AlertEvent(msgspec.Struct, frozen=True):
    """A row of `schemas.envelope.ALERT_EVENTS`, field by field.

    `at` is event time for what was decided, wall time for what was answered. `incident_id` is ''
    where an answer met no stock-out that is still open, and of a new policy itself. `detail` is a
    JSON object. Of several rows with one incident and `slot` the one with the highest `version`
    holds: a step that is done again after a crash says the same again.
    `kind` is one of `KINDS`, or what somebody else answered.
    """

    incident_id: str
    wholesaler_id: str
    at: int
    kind: str
    message_id: str
    detail: str
    by: str
    slot: str
    version: int = 0

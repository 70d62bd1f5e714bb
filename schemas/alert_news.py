"""What the alerts worker decided and heard about stock-outs: one row each, told or not, and why.

Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

import msgspec


class AlertNews(msgspec.Struct, frozen=True):
    """A row of `schemas.envelope.ALERT_NEWS`, field by field.

    `at` is event time for what was decided, wall time for what was answered. `incident_id` is ''
    where an answer met no stock-out that is still open. `detail` is a JSON object. Of several rows
    with one incident and `slot` the one with the highest `version` holds: a step that is done
    again after a crash says the same again.

    kind: waiting, refilled_in_time (decided) · told, reminded, escalated, note (what went out) ·
    sent nowhere: undeliverable, refused, failed, stale, never_told · acknowledged, delivering,
    cannot, stop, start, status (answered) · overdue, resolved.
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

"""*Now*: the shops at zero, since when and told when; the last messages; stock-outs by hour."""

from __future__ import annotations

from typing import Final

from infra.desk.page import Asked, Page

_MOST: Final = 200

_AT_ZERO: Final = """
SELECT i.outlet_id AS outlet_id, o.name AS outlet, t.name AS territory, w.name AS wholesaler,
       i.sku AS sku, i.opened_at AS since, i.notified_at AS told
FROM stock_incidents AS i
LEFT JOIN outlets AS o ON o.outlet_id = i.outlet_id
LEFT JOIN territories AS t ON t.territory_id = o.territory_id
LEFT JOIN wholesalers AS w ON w.wholesaler_id = i.wholesaler_id
WHERE i.closed_at IS NULL
ORDER BY since
LIMIT {most:UInt64}
"""
_COUNTS: Final = """
SELECT countIf(closed_at IS NULL) AS open,
       countIf(closed_at IS NULL AND notified_at IS NULL) AS untold,
       uniqExactIf(outlet_id, closed_at IS NULL) AS outlets
FROM stock_incidents
"""
# The day is that of the newest stock-out: a run over old files has its own clock.
_HOURS: Final = """
SELECT toHour(opened_at, 'UTC') AS hour, count() AS n
FROM stock_incidents
WHERE toDate(opened_at, 'UTC') = (SELECT toDate(max(opened_at), 'UTC') FROM stock_incidents)
GROUP BY hour ORDER BY hour
"""
_MESSAGES: Final = """
SELECT m.created_at AS at, w.name AS wholesaler, m.status AS status, m.body AS body
FROM sms_messages AS m LEFT JOIN wholesalers AS w ON w.wholesaler_id = m.wholesaler_id
ORDER BY at DESC LIMIT 10
"""


def page(asked: Asked) -> Page:
    """The state of the channel at this moment."""
    counted = {row["hour"]: row["n"] for row in asked.rows(_HOURS)}
    hours = [(hour, counted.get(hour, 0)) for hour in range(24)]
    return Page(
        "now.html.j2",
        {
            "title": "Now",
            "counts": asked.rows(_COUNTS)[0],
            "at_zero": asked.rows(_AT_ZERO, {"most": _MOST}),
            "hours": hours,
            "highest": max(1, *counted.values()) if counted else 1,
            "messages": asked.rows(_MESSAGES),
        },
    )

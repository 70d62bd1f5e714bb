"""When each of some stock-outs was first told, by a message that went out."""

from __future__ import annotations

from typing import Final

#: Joins `told.at` to `i`, for the stock-outs of a `WITH open AS (…)`.
TOLD: Final = """LEFT JOIN
(
    SELECT incident_id, toNullable(min(created_at)) AS at
    FROM sms_messages ARRAY JOIN incident_ids AS incident_id
    WHERE status IN ('sent', 'delivered', 'read')
      AND incident_id IN (SELECT incident_id FROM open)
    GROUP BY incident_id
) AS told ON told.incident_id = i.incident_id
"""

-- Stock-outs: a row when one opens, a row when it closes, and a row when late events made it another
-- or withdrew it: that it never was. The highest version holds; what is withdrawn does not show.
CREATE TABLE IF NOT EXISTS stock_incidents_rows
(
    incident_id String,
    outlet_id String,
    sku String,
    wholesaler_id String,
    opened_at DateTime64(3, 'UTC'),
    closed_at Nullable(DateTime64(3, 'UTC')),
    restated_at Nullable(DateTime64(3, 'UTC')),
    withdrawn UInt8,
    version UInt64
)
ENGINE = ReplacingMergeTree(version, withdrawn)
ORDER BY (outlet_id, sku, incident_id);

-- notified_at is the time of the first message that told of the incident and went out.
CREATE OR REPLACE VIEW stock_incidents AS
SELECT
    incident.incident_id AS incident_id,
    incident.outlet_id AS outlet_id,
    incident.sku AS sku,
    incident.wholesaler_id AS wholesaler_id,
    incident.opened_at AS opened_at,
    incident.closed_at AS closed_at,
    incident.restated_at AS restated_at,
    notice.notified_at AS notified_at
FROM
(
    SELECT incident_id, outlet_id, sku, wholesaler_id, opened_at, closed_at, restated_at
    FROM stock_incidents_rows FINAL
) AS incident
LEFT JOIN
(
    SELECT incident_id, toNullable(min(created_at)) AS notified_at
    FROM sms_messages
    ARRAY JOIN incident_ids AS incident_id
    WHERE status IN ('sent', 'delivered', 'read')
    GROUP BY incident_id
) AS notice
ON incident.incident_id = notice.incident_id;

-- Stock-outs: a row when one opens and a row when it closes, which replaces the first.
CREATE TABLE IF NOT EXISTS stock_incidents_rows
(
    incident_id String,
    outlet_id String,
    sku String,
    wholesaler_id String,
    opened_at DateTime64(3, 'UTC'),
    closed_at Nullable(DateTime64(3, 'UTC')),
    version UInt8
)
ENGINE = ReplacingMergeTree(version)
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
    notice.notified_at AS notified_at
FROM
(
    SELECT incident_id, outlet_id, sku, wholesaler_id, opened_at, closed_at
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

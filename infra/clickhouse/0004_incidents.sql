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

-- Every opening, end and correction of a stock-out, at the time (ms) at which the alerts stage takes
-- it: what was decided can be decided once more. `stock_incidents_rows` keeps only the newest.
CREATE TABLE IF NOT EXISTS incident_changes_rows
(
    wholesaler_id String,
    at Int64,
    incident_id String,
    outlet_id String,
    sku String,
    opened_at DateTime64(3, 'UTC'),
    closed_at Nullable(DateTime64(3, 'UTC')),
    restated_at Nullable(DateTime64(3, 'UTC')),
    withdrawn UInt8,
    -- Tells apart what became known at one moment.
    change UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (wholesaler_id, at, incident_id, change);

CREATE MATERIALIZED VIEW IF NOT EXISTS incident_changes_feed_rows TO incident_changes_rows AS
SELECT
    wholesaler_id, toInt64(intDiv(version, 2)) AS at, incident_id, outlet_id, sku, opened_at,
    closed_at, restated_at, withdrawn,
    cityHash64(opened_at, ifNull(toUnixTimestamp64Milli(closed_at), -1), withdrawn) AS change
FROM stock_incidents_rows;

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

-- What is there already: without corrections an opening and an end are all there was.
INSERT INTO incident_changes_rows
SELECT
    wholesaler_id,
    toUnixTimestamp64Milli(ifNull(ended, opened_at)) AS at,
    incident_id, outlet_id, sku, opened_at, ended AS closed_at, NULL AS restated_at, 0 AS withdrawn,
    cityHash64(opened_at, ifNull(toUnixTimestamp64Milli(ended), -1), withdrawn) AS change
FROM
(
    SELECT
        wholesaler_id, incident_id, outlet_id, sku, opened_at,
        arrayJoin(if(isNull(closed_at), [closed_at], [NULL, closed_at])) AS ended
    FROM stock_incidents_rows FINAL
);

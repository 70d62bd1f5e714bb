-- What was decided and heard about stock-outs: told or not, and why. A step that is done again
-- after a crash writes the same slot again; of what became of a message the latest holds.
CREATE TABLE IF NOT EXISTS alert_news_rows
(
    incident_id String,
    wholesaler_id String,
    at DateTime64(3, 'UTC'),
    kind String,
    message_id String,
    detail String,
    by String,
    slot String,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (incident_id, wholesaler_id, slot);

CREATE VIEW IF NOT EXISTS alert_news AS
SELECT incident_id, wholesaler_id, at, kind, message_id, detail, by
FROM alert_news_rows FINAL;

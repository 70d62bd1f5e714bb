-- Messages to wholesalers: one row each time something became of one; the highest version holds.
CREATE TABLE IF NOT EXISTS sms_messages_rows
(
    message_id String,
    wholesaler_id String,
    incident_ids Array(String),
    body String,
    segments Int32,
    created_at DateTime64(3, 'UTC'),
    status String,
    attempts Int32,
    provider_id String,
    error String,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY message_id;

CREATE OR REPLACE VIEW sms_messages AS
SELECT
    message_id, wholesaler_id, incident_ids, created_at, status, attempts, provider_id, error,
    body, segments
FROM sms_messages_rows FINAL;

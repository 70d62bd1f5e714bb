-- What came back from the phones: statuses as the provider told them, and answers of wholesalers.
CREATE TABLE IF NOT EXISTS answers_rows
(
    answer_id String,
    at DateTime64(3, 'UTC'),
    wholesaler_id String,
    kind String,
    message_id String,
    incident_id String,
    detail String,
    by String
)
ENGINE = ReplacingMergeTree
ORDER BY answer_id;

CREATE OR REPLACE VIEW answers AS
SELECT answer_id, at, wholesaler_id, kind, message_id, incident_id, detail, by
FROM answers_rows FINAL;

-- What became of each message at the provider, of statuses told in any order and any number of
-- times: of two ends the first told holds, and only what was delivered can have been read.
CREATE OR REPLACE VIEW sms_deliveries AS
SELECT
    message_id,
    multiIf(
        countIf(ends) = 0, 'sent',
        argMinIf(told, (told_at, answer_id), ends) NOT IN ('delivered', 'read'),
        argMinIf(told, (told_at, answer_id), ends),
        countIf(told = 'read') > 0, 'read',
        'delivered'
    ) AS status,
    argMinIf(why, (told_at, answer_id), ends) AS reason,
    minOrNullIf(told_at, ends) AS at
FROM
(
    SELECT
        message_id, answer_id, at AS told_at,
        JSONExtractString(detail, 'status') AS told,
        JSONExtractString(detail, 'reason') AS why,
        told IN ('delivered', 'undelivered', 'failed', 'canceled', 'read') AS ends
    FROM answers_rows FINAL
    WHERE kind = 'status'
)
GROUP BY message_id;

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

-- A message that went out is what the provider says became of it.
CREATE OR REPLACE VIEW sms_messages AS
SELECT
    message.message_id AS message_id,
    message.wholesaler_id AS wholesaler_id,
    message.incident_ids AS incident_ids,
    message.created_at AS created_at,
    if(message.status = 'sent' AND delivery.status != '', delivery.status, message.status) AS status,
    message.attempts AS attempts,
    message.provider_id AS provider_id,
    if(delivery.reason != '', delivery.reason, message.error) AS error,
    message.body AS body,
    message.segments AS segments
FROM (SELECT * FROM sms_messages_rows FINAL) AS message
LEFT JOIN sms_deliveries AS delivery ON delivery.message_id = message.message_id;

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

CREATE OR REPLACE VIEW alert_news AS
SELECT incident_id, wholesaler_id, at, kind, message_id, detail, by
FROM alert_news_rows FINAL;

-- Events that contradict the rules of stock: one row a SIM, event and kind.
CREATE TABLE IF NOT EXISTS anomalies_rows
(
    event_id String,
    iccid String,
    kind String,
    at DateTime64(3, 'UTC'),
    detail String
)
ENGINE = ReplacingMergeTree
ORDER BY (kind, event_id, iccid);

CREATE OR REPLACE VIEW anomalies AS
SELECT event_id, iccid, kind, at, detail
FROM anomalies_rows FINAL;

-- Input that could not be used, with its bytes: one row a place in a source, however often read.
CREATE TABLE IF NOT EXISTS dead_letters_rows
(
    source String,
    position Int64,
    received_at DateTime64(3, 'UTC'),
    reason String,
    payload String
)
ENGINE = ReplacingMergeTree
ORDER BY (source, position, cityHash64(payload));

-- Without a reason it is taken back: the line was only half written then.
CREATE OR REPLACE VIEW dead_letters AS
SELECT source, position, received_at, reason, payload
FROM dead_letters_rows FINAL
WHERE reason != '';

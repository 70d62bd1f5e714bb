-- Subscribers' papers that came back; complete is 1 or 0.
CREATE TABLE IF NOT EXISTS registrations_rows
(
    event_id String,
    imsi Int64,
    at DateTime64(3, 'UTC'),
    complete UInt8
)
ENGINE = ReplacingMergeTree
ORDER BY (imsi, event_id);

CREATE OR REPLACE VIEW registrations AS
SELECT event_id, imsi, at, complete
FROM registrations_rows FINAL;

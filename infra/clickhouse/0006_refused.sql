-- Events that contradict the rules of stock: one row a SIM, event and kind. What late events explain
-- is withdrawn and does not show.
CREATE TABLE IF NOT EXISTS anomalies_rows
(
    event_id String,
    iccid String,
    kind String,
    at DateTime64(3, 'UTC'),
    detail String,
    known_at DateTime64(3, 'UTC'),
    withdrawn UInt8
)
ENGINE = ReplacingMergeTree(known_at, withdrawn)
ORDER BY (kind, event_id, iccid);

CREATE OR REPLACE VIEW anomalies AS
SELECT event_id, iccid, kind, at, detail, known_at
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

-- Dead letters that were accepted after a fix of the reference tables or the mapping, and sent on:
-- one row a letter. `fix` is a hash of what it was accepted with.
CREATE TABLE IF NOT EXISTS dead_letters_replayed_rows
(
    source String,
    position Int64,
    received_at DateTime64(3, 'UTC'),
    replayed_at DateTime64(3, 'UTC'),
    replay_id String,
    fix String
)
ENGINE = ReplacingMergeTree
ORDER BY (source, position, received_at);

CREATE OR REPLACE VIEW dead_letters_replayed AS
SELECT source, position, received_at, replayed_at, replay_id, fix
FROM dead_letters_replayed_rows FINAL;

-- What still waits for somebody to act. A line that is refused once more is a new letter.
CREATE OR REPLACE VIEW dead_letters_open AS
SELECT source, position, received_at, reason, payload
FROM dead_letters
WHERE (source, position, received_at) NOT IN
(
    SELECT source, position, received_at FROM dead_letters_replayed_rows
);

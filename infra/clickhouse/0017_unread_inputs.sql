-- What a reader found and does not read: each list of a reader replaces the one before. The row
-- n = 0 says that there is a list, perhaps an empty one.
CREATE TABLE IF NOT EXISTS unread_inputs_rows
(
    reader String,
    at DateTime64(3, 'UTC'),
    n Int32,
    input String,
    reason String
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (reader, n);

CREATE OR REPLACE VIEW unread_inputs AS
SELECT at AS listed_at, reader, input, reason
FROM
(
    SELECT *, max(at) OVER (PARTITION BY reader) AS newest
    FROM unread_inputs_rows FINAL
)
WHERE n > 0 AND at = newest;

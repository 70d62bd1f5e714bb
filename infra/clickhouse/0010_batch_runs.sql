-- Batch runs. A job writes rows under its run's id; they show once the run is published, which is
-- one insert of one row: either all tables of the run show, or none.

CREATE TABLE IF NOT EXISTS batch_run_states
(
    run_id        String,
    revision      UInt32,
    job           String,
    period        String,
    started_at    DateTime64(3, 'UTC'),
    beat_at       DateTime64(3, 'UTC'),
    finished_at   Nullable(DateTime64(3, 'UTC')),
    rows_read     UInt64,
    rows_rejected UInt64,
    rows_written  UInt64,
    status        String,
    error         String,
    version       String,
    inputs        String,
    zone          String,
    as_of         Nullable(Date32),
    data_from     Nullable(DateTime64(3, 'UTC')),
    data_until    Nullable(DateTime64(3, 'UTC'))
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY run_id;

CREATE OR REPLACE VIEW batch_runs AS
SELECT run_id, job, period, started_at, finished_at, rows_read, rows_rejected, rows_written,
       status, error, version, inputs, zone, as_of, data_from, data_until
FROM batch_run_states FINAL;

CREATE TABLE IF NOT EXISTS batch_publications
(
    job          String,
    period       String,
    generation   UInt64,
    run_id       String,
    published_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (job, period, generation);

CREATE OR REPLACE VIEW batch_current AS
SELECT job, period, argMax(run_id, generation) AS run_id
FROM batch_publications
GROUP BY job, period;

-- Up to which day the published runs looked, in which zone, and from when until when what they read
-- reaches: what the rows of every month say of themselves.
CREATE OR REPLACE VIEW batch_reach AS
SELECT run_id, data_from, data_until, as_of, zone
FROM batch_runs
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS batch_rejects_rows
(
    run_id String,
    job    String,
    period String,
    source String,
    row    UInt64,
    reason String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (source, row, reason);

CREATE OR REPLACE VIEW batch_rejects AS
SELECT job, period, source, row, reason
FROM batch_rejects_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

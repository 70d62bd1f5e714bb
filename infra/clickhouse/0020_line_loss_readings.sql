-- The readings behind line loss, kept where a run is asked to: what a unit's figures open down to.

CREATE TABLE IF NOT EXISTS line_loss_readings_rows
(
    run_id        String,
    period        String,
    unit_id       String,
    side          String,
    meter_id      String,
    start         DateTime64(3, 'UTC'),
    end           DateTime64(3, 'UTC'),
    kwh           Float64,
    kwh_in_period Float64,
    quality       String,
    source        String,
    row           UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (unit_id, side, meter_id, start, source, row);

-- Readings that another one of their meter covers: refused, or the very same row again. They are
-- found only after all have been read.
CREATE TABLE IF NOT EXISTS line_loss_uncounted_rows
(
    run_id   String,
    period   String,
    source   String,
    row      UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (source, row);

CREATE VIEW IF NOT EXISTS line_loss_uncounted AS
SELECT * EXCEPT run_id
FROM line_loss_uncounted_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE VIEW IF NOT EXISTS line_loss_readings AS
SELECT * EXCEPT run_id
FROM line_loss_readings_rows
WHERE run_id IN (SELECT run_id FROM batch_current)
  AND (period, source, row) NOT IN (SELECT period, source, row FROM line_loss_uncounted);

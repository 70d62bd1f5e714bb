-- Line loss: a row a unit of the grid and month; energies in kWh. `theoretical_kwh` is what physics
-- says, `unexplained_kwh` what is left of the loss.

CREATE TABLE IF NOT EXISTS line_loss_rows
(
    run_id          String,
    period          String,
    level           String,
    unit_id         String,
    parent_id       String,
    supplied_kwh    Nullable(Float64),
    transferred_kwh Float64,
    sold_kwh        Float64,
    own_loss_kwh    Nullable(Float64),
    sold_total_kwh  Nullable(Float64),
    loss_kwh        Nullable(Float64),
    loss_rate       Nullable(Float64),
    estimated_share Nullable(Float64),
    read_share      Nullable(Float64),
    meters          Int64,
    meters_read     Int64,
    status          String,
    reason          String,
    theoretical_kwh Nullable(Float64),
    unexplained_kwh Nullable(Float64)
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (level, unit_id);

CREATE OR REPLACE VIEW line_loss AS
SELECT * EXCEPT run_id
FROM line_loss_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

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

CREATE OR REPLACE VIEW line_loss_uncounted AS
SELECT * EXCEPT run_id
FROM line_loss_uncounted_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE OR REPLACE VIEW line_loss_readings AS
SELECT * EXCEPT run_id
FROM line_loss_readings_rows
WHERE run_id IN (SELECT run_id FROM batch_current)
  AND (period, source, row) NOT IN (SELECT period, source, row FROM line_loss_uncounted);

-- Units whose loss was high three months running, or rose by three points to five percent or more.
CREATE OR REPLACE VIEW line_loss_flags AS
WITH
    months AS
    (
        SELECT
            period,
            level,
            unit_id,
            loss_rate,
            status,
            toDate(concat(period, '-01')) AS month
        FROM line_loss
    )
SELECT
    now.period AS period,
    now.level AS level,
    now.unit_id AS unit_id,
    now.loss_rate AS loss_rate,
    last.loss_rate AS last_loss_rate,
    now.status = 'high' AND last.status = 'high' AND before.status = 'high' AS high_three_months,
    ifNull(now.loss_rate - last.loss_rate >= 0.03 AND now.loss_rate >= 0.05, false) AS jumped
FROM months AS now
LEFT JOIN months AS last
    ON last.unit_id = now.unit_id AND last.month = addMonths(now.month, -1)
LEFT JOIN months AS before
    ON before.unit_id = now.unit_id AND before.month = addMonths(now.month, -2)
WHERE high_three_months OR jumped;

CREATE TABLE IF NOT EXISTS meter_suspects_rows
(
    run_id            String,
    period            String,
    meter_id          String,
    customer_id       String,
    unit_id           String,
    kwh               Float64,
    usual_kwh         Float64,
    months            Int64,
    change            Float64,
    neighbours_change Nullable(Float64),
    score             Float64,
    reasons           String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, meter_id);

CREATE OR REPLACE VIEW meter_suspects AS
SELECT * EXCEPT run_id
FROM meter_suspects_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Meters that were read in the month before and are not now: a gap in what was sold.
CREATE TABLE IF NOT EXISTS unread_meters_rows
(
    run_id     String,
    period     String,
    unit_id    String,
    meter_id   String,
    kwh_before Float64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (unit_id, meter_id);

CREATE OR REPLACE VIEW unread_meters AS
SELECT * EXCEPT run_id
FROM unread_meters_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

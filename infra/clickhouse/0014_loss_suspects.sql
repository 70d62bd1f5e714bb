-- Line loss beside what physics says, units worth a look, and meters worth a visit.

ALTER TABLE line_loss_rows
    ADD COLUMN IF NOT EXISTS theoretical_kwh Nullable(Float64),
    ADD COLUMN IF NOT EXISTS unexplained_kwh Nullable(Float64);

CREATE OR REPLACE VIEW line_loss AS
SELECT * EXCEPT run_id
FROM line_loss_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Units whose loss was high three months running, or rose by three points to five percent or more.
CREATE VIEW IF NOT EXISTS line_loss_flags AS
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

CREATE VIEW IF NOT EXISTS meter_suspects AS
SELECT * EXCEPT run_id
FROM meter_suspects_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

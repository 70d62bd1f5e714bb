-- Line loss: a row a unit of the grid and month; energies in kWh.

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
    status          String,
    reason          String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (level, unit_id);

CREATE VIEW IF NOT EXISTS line_loss AS
SELECT * EXCEPT run_id
FROM line_loss_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

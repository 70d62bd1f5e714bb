-- The service side's figures of a month, by unit.
CREATE TABLE IF NOT EXISTS service_kpis_rows
(
    run_id      String,
    period      String,
    unit_id     String,
    kpi         String,
    value       Nullable(Float64),
    target      Nullable(Float64),
    numerator   Float64,
    denominator Float64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, unit_id, kpi);

CREATE OR REPLACE VIEW service_kpis AS
SELECT * EXCEPT run_id
FROM service_kpis_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

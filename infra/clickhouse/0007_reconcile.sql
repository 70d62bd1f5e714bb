-- Comparisons of the live tables with what the files say: one row a comparison.
CREATE TABLE IF NOT EXISTS reconcile_runs_rows
(
    run_id String,
    at DateTime64(3, 'UTC'),
    input String,
    rows_read Int64,
    shelves Int64,
    incidents Int64,
    differences Int64,
    explained Int64
)
ENGINE = ReplacingMergeTree
ORDER BY (at, run_id);

CREATE OR REPLACE VIEW reconcile_runs AS
SELECT run_id, at, input, rows_read, shelves, incidents, differences, explained
FROM reconcile_runs_rows FINAL;

-- What was not as expected: stock and incidents by shelf, anomalies by kind. `item` is the incident
-- or the kind of anomaly; `explained` says why a difference is no fault ('' when it is one).
CREATE TABLE IF NOT EXISTS reconcile_differences_rows
(
    run_id String,
    at DateTime64(3, 'UTC'),
    kind String,
    outlet_id String,
    sku String,
    item String,
    expected String,
    found String,
    explained String
)
ENGINE = ReplacingMergeTree
ORDER BY (at, run_id, kind, outlet_id, sku, item);

CREATE OR REPLACE VIEW reconcile_differences AS
SELECT run_id, at, kind, outlet_id, sku, item, expected, found, explained
FROM reconcile_differences_rows FINAL;

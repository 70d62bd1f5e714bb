-- What a round of tomorrow is worth, by expected lost sales, and what only seems to be stocked: as of
-- the evening of a day. A list shows once its run is written, and the newest run of a day replaces
-- those before.
CREATE TABLE IF NOT EXISTS soon_empty_runs
(
    as_of Date32,
    run_at DateTime64(3, 'UTC'),
    worth Float64,
    shelves Int64,
    announced Int64,
    phantoms Int64
)
ENGINE = ReplacingMergeTree
ORDER BY (as_of, run_at);

CREATE TABLE IF NOT EXISTS soon_empty_rows
(
    as_of Date32,
    run_at DateTime64(3, 'UTC'),
    outlet_id String,
    sku String,
    wholesaler_id String,
    on_hand Int64,
    sold_a_day Float64,
    days_of_cover Nullable(Float64),
    lead_days Float64,
    reorder_point Float64,
    risk Float64,
    lost_sales Float64,
    bring Nullable(Int64)
)
ENGINE = ReplacingMergeTree
ORDER BY (as_of, run_at, outlet_id, sku);

CREATE OR REPLACE VIEW soon_empty AS
SELECT as_of, outlet_id, sku, wholesaler_id, on_hand, sold_a_day, days_of_cover, lead_days,
       reorder_point, risk, lost_sales, bring
FROM soon_empty_rows FINAL
WHERE (as_of, run_at) IN (SELECT as_of, max(run_at) FROM soon_empty_runs GROUP BY as_of);

CREATE TABLE IF NOT EXISTS phantom_stock_rows
(
    as_of Date32,
    run_at DateTime64(3, 'UTC'),
    outlet_id String,
    sku String,
    wholesaler_id String,
    on_hand Int64,
    sold_a_day Float64,
    silent_days Int64,
    chance Float64
)
ENGINE = ReplacingMergeTree
ORDER BY (as_of, run_at, outlet_id, sku);

CREATE OR REPLACE VIEW phantom_stock AS
SELECT as_of, outlet_id, sku, wholesaler_id, on_hand, sold_a_day, silent_days, chance
FROM phantom_stock_rows FINAL
WHERE (as_of, run_at) IN (SELECT as_of, max(run_at) FROM soon_empty_runs GROUP BY as_of);

-- The evening's list names what a round of tomorrow is worth: by expected lost sales.
ALTER TABLE soon_empty_runs ADD COLUMN IF NOT EXISTS worth Float64;
ALTER TABLE soon_empty_runs DROP COLUMN IF EXISTS target;
ALTER TABLE soon_empty_rows ADD COLUMN IF NOT EXISTS lost_sales Float64;
ALTER TABLE soon_empty_rows ADD COLUMN IF NOT EXISTS bring Nullable(Int64);

CREATE OR REPLACE VIEW soon_empty AS
SELECT as_of, outlet_id, sku, wholesaler_id, on_hand, sold_a_day, days_of_cover, lead_days,
       reorder_point, risk, lost_sales, bring
FROM soon_empty_rows FINAL
WHERE (as_of, run_at) IN (SELECT as_of, max(run_at) FROM soon_empty_runs GROUP BY as_of);

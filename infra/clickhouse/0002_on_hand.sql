-- SIMs on hand, written after each change of an outlet's stock; the newest holds.
CREATE TABLE IF NOT EXISTS stock_levels_rows
(
    outlet_id String,
    sku String,
    on_hand Int32,
    wholesaler_id String,
    as_of DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(as_of)
ORDER BY (outlet_id, sku);

CREATE OR REPLACE VIEW stock_on_hand AS
SELECT outlet_id, sku, on_hand, wholesaler_id, as_of
FROM stock_levels_rows FINAL;

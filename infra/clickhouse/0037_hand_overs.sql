-- Wholesalers who left, as the exchange directory has them: a reference table, replaced whole.
CREATE TABLE IF NOT EXISTS hand_overs
(
    hand_over_id String,
    wholesaler_id String,
    successor_id String,
    territory_id String,
    valid_from DateTime64(3, 'UTC'),
    undone_at Nullable(DateTime64(3, 'UTC'))
)
ENGINE = MergeTree ORDER BY hand_over_id;

-- Reference data as the exchange directory has it; each table is replaced whole at a load.
CREATE TABLE IF NOT EXISTS territories
(
    territory_id String,
    name String,
    parent_id String
)
ENGINE = MergeTree ORDER BY territory_id;

CREATE TABLE IF NOT EXISTS cells
(
    cell_id String,
    territory_id String
)
ENGINE = MergeTree ORDER BY cell_id;

CREATE TABLE IF NOT EXISTS wholesalers
(
    wholesaler_id String,
    name String,
    phone String,
    backup_phone String,
    language String
)
ENGINE = MergeTree ORDER BY wholesaler_id;

CREATE TABLE IF NOT EXISTS outlets
(
    outlet_id String,
    name String,
    kind String,
    territory_id String,
    opened_on Nullable(Date32),
    closed_on Nullable(Date32)
)
ENGINE = MergeTree ORDER BY outlet_id;

-- The newest valid_from that is not after a time says who held the outlet then.
CREATE TABLE IF NOT EXISTS assignments
(
    outlet_id String,
    wholesaler_id String,
    valid_from DateTime64(3, 'UTC')
)
ENGINE = MergeTree ORDER BY (outlet_id, valid_from);

-- The i-th SIM of a batch has first_iccid + i and first_imsi + i. With the check_digit luhn, the
-- last digit of an ICCID takes no part in + i.
CREATE TABLE IF NOT EXISTS sim_batches
(
    batch_id String,
    sku String,
    first_iccid String,
    first_imsi Int64,
    count Int64,
    check_digit String
)
ENGINE = MergeTree ORDER BY first_imsi;

-- Wholesalers who left, and who takes their outlets over.
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

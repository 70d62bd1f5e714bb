-- Arrears as of a day: money in fen. A re-run for the same day replaces its rows.

CREATE TABLE IF NOT EXISTS arrears_ageing_rows
(
    run_id     String,
    as_of      Date32,
    dimension  String,
    key        String,
    bucket     String,
    amount_fen Int64,
    bills      Int64,
    customers  Int64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (as_of, dimension, key, bucket);

CREATE OR REPLACE VIEW arrears_ageing AS
SELECT * EXCEPT run_id
FROM arrears_ageing_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS bill_recovery_rows
(
    run_id            String,
    billing_period    String,
    as_of             Date32,
    dimension         String,
    key               String,
    charged_fen       Int64,
    received_fen      Int64,
    cohort_rate       Nullable(Float64),
    cash_received_fen Int64,
    cash_rate         Nullable(Float64)
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (as_of, billing_period, dimension, key);

CREATE OR REPLACE VIEW bill_recovery AS
SELECT * EXCEPT run_id
FROM bill_recovery_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS customer_credit_rows
(
    run_id          String,
    as_of           Date32,
    customer_id     String,
    score           Float64,
    grade           String,
    reasons         String,
    open_fen        Int64,
    overdue_fen     Int64,
    unallocated_fen Int64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (as_of, customer_id);

CREATE OR REPLACE VIEW customer_credit AS
SELECT * EXCEPT run_id
FROM customer_credit_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

-- The open bills: what an ageing bucket opens down to.
CREATE TABLE IF NOT EXISTS arrears_bills_rows
(
    run_id         String,
    as_of          Date32,
    bill_id        String,
    customer_id    String,
    segment        String,
    hall_id        String,
    billing_period String,
    issued_on      Date32,
    due_on         Date32,
    amount_fen     Int64,
    open_fen       Int64,
    days           Int64,
    bucket         String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (as_of, bill_id);

CREATE OR REPLACE VIEW arrears_bills AS
SELECT * EXCEPT run_id
FROM arrears_bills_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Roll rates from month to month, for all, by segment and by hall: where the bills that were open a
-- month before are now, however often arrears are run. Of a month's last day the one before is
-- the last of the month before. Where no run is for that very day, the newest one before it counts.
CREATE OR REPLACE VIEW arrears_roll AS
WITH
    runs AS (SELECT DISTINCT as_of FROM arrears_bills),
    pairs AS
    (
        SELECT now.as_of AS as_of, max(then.as_of) AS before
        FROM runs AS now
        CROSS JOIN runs AS then
        WHERE then.as_of <= if(now.as_of = toLastDayOfMonth(now.as_of),
                               toLastDayOfMonth(addMonths(now.as_of, -1)),
                               addMonths(now.as_of, -1))
        GROUP BY as_of
    ),
    bills AS
    (
        SELECT
            pairs.as_of AS as_of,
            pairs.before AS before,
            was.segment AS segment,
            was.hall_id AS hall_id,
            was.bucket AS from_bucket,
            was.open_fen AS was_fen,
            now.bucket AS now_bucket,
            now.open_fen AS now_fen
        FROM pairs
        INNER JOIN arrears_bills AS was ON was.as_of = pairs.before
        LEFT JOIN arrears_bills AS now ON now.as_of = pairs.as_of AND now.bill_id = was.bill_id
    )
SELECT
    as_of,
    before,
    place.1 AS dimension,
    place.2 AS key,
    from_bucket,
    if(now_bucket = '', 'paid', now_bucket) AS to_bucket,
    sum(was_fen) AS was_fen,
    sum(now_fen) AS still_open_fen,
    count() AS bills
FROM bills
ARRAY JOIN [('all', 'all'), ('segment', segment), ('hall', hall_id)] AS place
GROUP BY as_of, before, dimension, key, from_bucket, to_bucket;

CREATE TABLE IF NOT EXISTS payment_reconciliation_rows
(
    run_id          String,
    as_of           Date32,
    day             Date32,
    channel         String,
    received_fen    Int64,
    stated_fen      Int64,
    difference_fen  Int64,
    payments        Int64,
    stated_payments Int64,
    status          String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (as_of, day, channel);

-- Each day and channel once: as the newest run that covers the day saw it.
CREATE OR REPLACE VIEW payment_reconciliation AS
SELECT day, channel, received_fen, stated_fen, difference_fen, payments, stated_payments, status
FROM payment_reconciliation_rows
WHERE run_id IN (SELECT run_id FROM batch_current)
  AND (day, as_of) IN
  (
      SELECT day, max(as_of)
      FROM payment_reconciliation_rows
      WHERE run_id IN (SELECT run_id FROM batch_current)
      GROUP BY day
  );

-- Payments that look like another one booked again, under another id.
CREATE TABLE IF NOT EXISTS payment_doubles_rows
(
    run_id      String,
    as_of       Date32,
    payment_id  String,
    twin_of     String,
    customer_id String,
    bill_id     String,
    day         Date32,
    channel     String,
    amount_fen  Int64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (as_of, channel, payment_id);

CREATE OR REPLACE VIEW payment_doubles AS
SELECT * EXCEPT run_id
FROM payment_doubles_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

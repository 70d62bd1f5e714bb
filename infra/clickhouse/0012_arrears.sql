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

CREATE VIEW IF NOT EXISTS arrears_ageing AS
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

CREATE VIEW IF NOT EXISTS bill_recovery AS
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

CREATE VIEW IF NOT EXISTS customer_credit AS
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

CREATE VIEW IF NOT EXISTS arrears_bills AS
SELECT * EXCEPT run_id
FROM arrears_bills_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

-- What became of the bills that were open at the run before: amounts by bucket then and now.
CREATE VIEW IF NOT EXISTS arrears_roll AS
WITH
    days AS
    (
        SELECT as_of, lagInFrame(toNullable(as_of)) OVER (ORDER BY as_of) AS before
        FROM (SELECT DISTINCT as_of FROM arrears_bills)
    )
SELECT
    days.as_of AS as_of,
    days.before AS before,
    was.bucket AS from_bucket,
    if(now.bucket = '', 'paid', now.bucket) AS to_bucket,
    sum(was.open_fen) AS was_fen,
    sum(now.open_fen) AS still_open_fen,
    count() AS bills
FROM days
INNER JOIN arrears_bills AS was ON was.as_of = days.before
LEFT JOIN arrears_bills AS now ON now.as_of = days.as_of AND now.bill_id = was.bill_id
WHERE days.before IS NOT NULL
GROUP BY as_of, before, from_bucket, to_bucket;

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
CREATE VIEW IF NOT EXISTS payment_reconciliation AS
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
ORDER BY (as_of, payment_id);

CREATE VIEW IF NOT EXISTS payment_doubles AS
SELECT * EXCEPT run_id
FROM payment_doubles_rows
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Subscriber loss: subscribers won and lost, by month.

CREATE TABLE IF NOT EXISTS subscriber_loss_rows
(
    run_id          String,
    period          String,
    dimension       String,
    key             String,
    base            Int64,
    lost            Int64,
    pre_lost        Int64,
    loss_rate       Float64,
    pre_loss_rate   Float64,
    annualised_rate Float64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, dimension, key);

CREATE OR REPLACE VIEW subscriber_loss AS
SELECT * EXCEPT run_id
FROM subscriber_loss_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS subscriber_retention_rows
(
    run_id         String,
    period         String,
    dimension      String,
    key            String,
    cohort         String,
    activated      Int64,
    in_service     Int64,
    retention_rate Float64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, dimension, key, cohort);

CREATE OR REPLACE VIEW subscriber_retention AS
SELECT * EXCEPT run_id
FROM subscriber_retention_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Who has not been heard of for days: the account managers' list.
CREATE TABLE IF NOT EXISTS silent_subscribers_rows
(
    run_id        String,
    period        String,
    imsi          Int64,
    msisdn        String,
    is_new        UInt8,
    first_use     DateTime64(3, 'UTC'),
    last_seen     DateTime64(3, 'UTC'),
    silent_days   Int64,
    outlet_id     String,
    wholesaler_id String,
    territory_id  String,
    account       String,
    manager       String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, imsi);

CREATE OR REPLACE VIEW silent_subscribers AS
SELECT * EXCEPT run_id
FROM silent_subscribers_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Cards that took over a number in the month: a replaced card is no loss.
CREATE TABLE IF NOT EXISTS replaced_cards_rows
(
    run_id      String,
    period      String,
    msisdn      String,
    old_imsi    Int64,
    new_imsi    Int64,
    replaced_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (msisdn, new_imsi);

CREATE OR REPLACE VIEW replaced_cards AS
SELECT * EXCEPT run_id
FROM replaced_cards_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

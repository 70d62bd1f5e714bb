-- A year of a city for `zerostock bench page`: shelves sell six cards, one every three days, stand
-- empty for six hours, and get six again. {outlets} outlets with three shelves each.

INSERT INTO territories
SELECT 'C' || toString(number), 'County ' || toString(number), if(number = 0, '', 'C0')
FROM numbers(17);

INSERT INTO wholesalers
SELECT 'W' || toString(number), 'Wholesaler ' || toString(number),
       '+86138' || leftPad(toString(number), 8, '0'), '', 'zh'
FROM numbers(40);

INSERT INTO outlets
SELECT 'O' || leftPad(toString(number), 6, '0'), 'Shop ' || toString(number), 'phone_shop',
       'C' || toString(1 + number % 16), NULL, NULL
FROM numbers({outlets:UInt64});

INSERT INTO assignments
SELECT 'O' || leftPad(toString(number), 6, '0'), 'W' || toString(number % 40),
       toDateTime64('2025-01-01 00:00:00', 3, 'UTC')
FROM numbers({outlets:UInt64});

INSERT INTO sim_batches (batch_id, sku, first_iccid, first_imsi, count)
SELECT 'B' || toString(number), 'GO-58', '8986' || leftPad(toString(number * 5000), 15, '0'),
       460000000000000 + number * 5000, 5000
FROM numbers(2000);

INSERT INTO stock_movements_rows
    (movement_id, at, known_at, outlet_id, sku, imsi, iccid, delta, cause, event_id, wholesaler_id)
SELECT
    cause || toString(n), at, at,
    'O' || leftPad(toString(intDiv(shelf, 3)), 6, '0'), arrayElement(['GO-58', 'GO-96', 'GO-156'], 1 + shelf % 3),
    460000000000000 + n, '8986' || leftPad(toString(n), 15, '0'), if(cause = 'delivery', 1, -1), cause,
    'e' || toString(n), 'W' || toString(intDiv(shelf, 3) % 40)
FROM
(
    SELECT
        number AS n, number % ({outlets:UInt64} * 3) AS shelf, intDiv(number, {outlets:UInt64} * 3) AS sale,
        arrayJoin(['delivery', 'first_use']) AS cause,
        toDateTime64('2025-03-01 00:00:00', 3, 'UTC') + toIntervalSecond((shelf * 47521) % 1555200) AS first,
        if(cause = 'first_use', first + toIntervalDay(sale * 3),
           first + toIntervalDay(intDiv(sale, 6) * 18 - 3) + toIntervalHour(6)) AS at
    FROM numbers({outlets:UInt64} * 3 * 122)
)
WHERE at < toDateTime64('2026-03-01 00:00:00', 3, 'UTC')
SETTINGS max_partitions_per_insert_block = 0;

INSERT INTO stock_levels_rows (outlet_id, sku, on_hand, wholesaler_id, as_of)
SELECT outlet_id, sku, sum(delta), any(wholesaler_id), max(at)
FROM stock_movements_rows GROUP BY outlet_id, sku;

INSERT INTO stock_incidents_rows (incident_id, outlet_id, sku, wholesaler_id, opened_at, closed_at, version)
SELECT
    'i' || toString(number), 'O' || leftPad(toString(intDiv(shelf, 3)), 6, '0'),
    arrayElement(['GO-58', 'GO-96', 'GO-156'], 1 + shelf % 3), 'W' || toString(intDiv(shelf, 3) % 40),
    opened, if(opened + INTERVAL 6 HOUR < end, toNullable(opened + INTERVAL 6 HOUR), NULL),
    if(opened + INTERVAL 6 HOUR < end, 2, 1)
FROM
(
    SELECT
        number, number % ({outlets:UInt64} * 3) AS shelf,
        toDateTime64('2026-03-01 00:00:00', 3, 'UTC') AS end,
        toDateTime64('2025-03-01 00:00:00', 3, 'UTC') + toIntervalSecond((shelf * 47521) % 1555200)
            + toIntervalDay(intDiv(number, {outlets:UInt64} * 3) * 18 + 15) AS opened
    FROM numbers({outlets:UInt64} * 3 * 21)
)
WHERE opened < end;

INSERT INTO sms_messages_rows
    (message_id, wholesaler_id, incident_ids, body, segments, created_at, status, attempts, provider_id, error, version)
SELECT
    'm' || toString(cityHash64(wholesaler_id, slot)), wholesaler_id, groupArray(incident_id),
    'zerostock: ' || toString(count()) || ' shops ran out', 1, max(opened_at) + INTERVAL 1 MINUTE,
    'delivered', 1, '', '', 1
FROM stock_incidents_rows
GROUP BY wholesaler_id, toStartOfInterval(opened_at, INTERVAL 3 HOUR) AS slot;

INSERT INTO alert_news_rows (incident_id, wholesaler_id, at, kind, message_id, detail, by, slot, version)
SELECT incident_id, wholesaler_id, opened_at + INTERVAL 5 MINUTE, 'acknowledged', '', '{}', 'sms', 'answer', 1
FROM stock_incidents_rows WHERE cityHash64(incident_id) % 2 = 0;

INSERT INTO dead_letters_rows (source, position, received_at, reason, payload)
SELECT 'cdr/' || toString(number % 100) || '.csv', number, toDateTime64('2026-02-28 00:00:00', 3, 'UTC'),
       arrayElement(['malformed: no such column', 'unknown_sim: 460', 'invalid_field: start_time'], 1 + number % 3),
       'a line'
FROM numbers(100000);

INSERT INTO batch_publications (job, period, generation, run_id, published_at)
SELECT arrayJoin(['channel', 'line-loss']), month, 1, 'run-' || month, now64(3)
FROM (SELECT formatDateTime(addMonths(toDate('2025-03-01'), number), '%Y-%m') AS month FROM numbers(12))
UNION ALL SELECT 'arrears', '2026-02-28', 1, 'run-arrears', now64(3);

INSERT INTO outlet_ranking_rows
SELECT
    'run-' || month, month, 'O' || leftPad(toString(number), 6, '0'), 'W' || toString(number % 40),
    'C' || toString(1 + number % 16), 30 + number % 7, 28, 0.1, number, 6, 36, number % 20, 90, 3, 0.03, 1.1, 3.3,
    5.5, arrayElement(['ok', 'at_risk', 'out', 'over'], 1 + number % 4), number % 10 = 0, 'grew'
FROM numbers({outlets:UInt64}) AS n
CROSS JOIN (SELECT formatDateTime(addMonths(toDate('2025-03-01'), number), '%Y-%m') AS month FROM numbers(12)) AS m;

INSERT INTO wholesaler_scorecard_rows
SELECT 'run-' || month, month, 'W' || toString(number), 1000, 990, 900, 0.91, 12, 9000, 8000, 0.89, 1, 1, 20
FROM numbers(40) AS n
CROSS JOIN (SELECT formatDateTime(addMonths(toDate('2025-03-01'), number), '%Y-%m') AS month FROM numbers(12)) AS m;

INSERT INTO diversion_cases_rows
SELECT 'run-' || month, month || '/O000001/W' || toString(number), 'O000001/W' || toString(number), 'h', month,
       'O000001', 'W' || toString(number), 90, 60, 0.66, 0.55, 0.75, 'alarm'
FROM numbers(20) AS n
CROSS JOIN (SELECT formatDateTime(addMonths(toDate('2025-03-01'), number), '%Y-%m') AS month FROM numbers(12)) AS m;

INSERT INTO diversion_evidence_rows
SELECT 'run-2026-02', '2026-02', '2026-02/O000001/W1', 460000000000000 + number, '8986' || leftPad(toString(number), 15, '0'),
       toDateTime64('2026-02-01 00:00:00', 3, 'UTC'), 9, 900, 800, 0.88
FROM numbers(60);

INSERT INTO line_loss_rows
    (run_id, period, level, unit_id, parent_id, supplied_kwh, transferred_kwh, sold_kwh, own_loss_kwh,
     sold_total_kwh, loss_kwh, loss_rate, estimated_share, status, reason)
SELECT
    'run-' || month, month,
    multiIf(number = 0, 'region', number < 5, 'voltage', number < 205, 'feeder', 'transformer_area'),
    'U' || toString(number),
    multiIf(number = 0, '', number < 5, 'U0', number < 205, 'U' || toString(1 + number % 4), 'U' || toString(5 + number % 200)),
    1000, 0, 930, 70, 930, 70, 0.07, 0.1, if(number % 50 = 0, 'high', 'ok'), ''
FROM numbers(8000) AS n
CROSS JOIN (SELECT formatDateTime(addMonths(toDate('2025-03-01'), number), '%Y-%m') AS month FROM numbers(12)) AS m;

INSERT INTO line_loss_readings_rows
SELECT 'run-2026-02', '2026-02', 'U' || toString(number % 8000), if(number % 8 = 0, 'in', 'customer'),
       'M' || toString(number), toDateTime64('2026-02-01 00:00:00', 3, 'UTC'),
       toDateTime64('2026-03-01 00:00:00', 3, 'UTC'), 100, 100, 'measured', 'readings.csv', number
FROM numbers(1000000);

INSERT INTO arrears_bills_rows
SELECT 'run-arrears', toDate32('2026-02-28'), 'B' || toString(number), 'K' || toString(number % 200000),
       arrayElement(['residential', 'commercial', 'property_manager'], 1 + number % 3), 'H' || toString(number % 12),
       '2025-11', toDate32('2025-12-01'), toDate32('2025-12-20'), 12000, 9000, 70, '61-90'
FROM numbers(500000);

INSERT INTO arrears_ageing_rows
SELECT 'run-arrears', as_of, 'segment', segment, bucket, sum(open_fen), count(), uniqExact(customer_id)
FROM arrears_bills_rows GROUP BY as_of, segment, bucket;

INSERT INTO arrears_ageing_rows
SELECT 'run-arrears', as_of, 'all', 'all', bucket, sum(open_fen), count(), uniqExact(customer_id)
FROM arrears_bills_rows GROUP BY as_of, bucket;

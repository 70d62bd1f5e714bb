-- Roll rates from month to month, for all, by segment and by hall: what became of the bills that
-- were open a month before, however often arrears are run. Of a month's last day the one before is
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

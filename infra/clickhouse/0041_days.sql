-- What is dated more than a year ahead comes from a clock gone wrong. It is among the movements, but
-- the days of outlet_daily end before it: they would be ten thousands for each shelf, and no question
-- about the last day could be asked. Where all is dated so (a city made in the future) nothing is left out.
CREATE OR REPLACE VIEW outlet_daily AS
WITH
(
    SELECT least(
        ifNull(maxOrNullIf(at, at <= now64() + INTERVAL 1 YEAR), max(at)),
        toDateTime64('2149-06-06', 3, 'UTC')
    )
    FROM stock_movements_rows
) AS last_at
SELECT
    line.1 AS day,
    outlet_id,
    sku,
    closing - line.8 AS opening,
    line.2 AS received,
    line.3 AS activated,
    line.4 AS returned,
    line.5 AS transferred_in,
    line.6 AS transferred_out,
    line.7 AS written_off,
    closing
FROM
(
    SELECT
        outlet_id,
        sku,
        arraySort(
            groupArray(
                (day, received, activated, returned, transferred_in, transferred_out, written_off, net)
            )
        ) AS lines,
        arrayReduceInRanges(
            'sum',
            arrayMap(place -> (1, place), arrayEnumerate(lines)),
            arrayMap(line -> line.8, lines)
        ) AS closings
    FROM
    (
        SELECT
            day,
            outlet_id,
            sku,
            sum(came) AS received,
            sum(used) AS activated,
            sum(went_back) AS returned,
            sum(moved_in) AS transferred_in,
            sum(moved_out) AS transferred_out,
            sum(lost) AS written_off,
            sum(moved) AS net
        FROM
        (
            SELECT
                toDate(at, 'UTC') AS day,
                outlet_id,
                sku,
                sumIf(delta, cause = 'delivery') AS came,
                -sumIf(delta, cause = 'first_use') AS used,
                -sumIf(delta, cause = 'return') AS went_back,
                sumIf(delta, cause = 'transfer_in') AS moved_in,
                -sumIf(delta, cause IN ('transfer_out', 'moved_out')) AS moved_out,
                -sumIf(delta, cause = 'write_off') AS lost,
                sum(delta) AS moved
            FROM stock_movements
            WHERE at <= last_at
            GROUP BY day, outlet_id, sku
            UNION ALL
            SELECT
                arrayJoin(
                    arrayMap(
                        days -> first_day + days,
                        range(
                            toUInt32(toDate(last_at, 'UTC') - first_day) + 1
                        )
                    )
                ) AS day,
                outlet_id, sku, 0, 0, 0, 0, 0, 0, 0
            FROM
            (
                SELECT outlet_id, sku, toDate(min(at), 'UTC') AS first_day
                FROM stock_movements_rows
                WHERE at <= last_at
                GROUP BY outlet_id, sku
            )
        )
        GROUP BY day, outlet_id, sku
    )
    GROUP BY outlet_id, sku
)
ARRAY JOIN lines AS line, closings AS closing;

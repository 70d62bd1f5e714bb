-- What came to an outlet and what left it: one row a SIM and change.
-- A row may be written twice and appears once: its key is the row's identity. What was known last
-- holds; what late events made never to have happened is withdrawn and does not show.
CREATE TABLE IF NOT EXISTS stock_movements_rows
(
    movement_id String,
    at DateTime64(3, 'UTC'),
    known_at DateTime64(3, 'UTC'),
    outlet_id String,
    sku String,
    imsi Int64,
    iccid String,
    delta Int8,
    cause String,
    event_id String,
    wholesaler_id String,
    withdrawn UInt8
)
ENGINE = ReplacingMergeTree(known_at, withdrawn)
PARTITION BY toYYYYMM(at)
ORDER BY (outlet_id, sku, at, movement_id);

-- The key contains `at`, so equal rows share a partition and FINAL may take each by itself.
CREATE OR REPLACE VIEW stock_movements AS
SELECT
    movement_id, at, outlet_id, sku, iccid, delta, cause, event_id, wholesaler_id, imsi, known_at,
    if(known_at > at, known_at, NULL) AS restated_at
FROM stock_movements_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- Whose days the tables cut: the time zone of the business (ZEROSTOCK_TIME_ZONE), put here by whatever
-- brings the schema up to date; what was put last holds.
CREATE TABLE IF NOT EXISTS business_zones
(
    zone String,
    set_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY set_at;

CREATE OR REPLACE VIEW business_zone AS
SELECT if(count() = 0, 'Asia/Shanghai', argMax(zone, set_at)) AS zone
FROM business_zones;

-- One row for every business day from a shelf's first movement to the last day there is a movement of any
-- shelf, also for days on which nothing moved; opening + what came - what left = closing.
-- A day that late events changed after it was over says when (restated_at), and so do those that
-- followed until then: they opened with other stock.
-- Shelves are gathered in arrays and not ordered by a window function, because a filter on outlet_id
-- reaches the movements' key through a GROUP BY but not through a window.
--
-- A movement dated more than a year ahead comes from a wrong clock: it is listed, but the days end
-- before it, or each shelf would have tens of thousands. Where everything is dated so (a city made
-- in the future) nothing is left out.
CREATE OR REPLACE VIEW outlet_daily AS
WITH
(
    SELECT least(
        ifNull(maxOrNullIf(at, at <= now64() + INTERVAL 1 YEAR), max(at)),
        toDateTime64('2149-06-06', 3, 'UTC')
    )
    FROM stock_movements_rows
) AS last_at,
(SELECT zone FROM business_zone) AS own_zone,
if(own_zone = '', 'UTC', own_zone) AS here  -- '' while the view is only looked at
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
    closing,
    -- Date32: west of UTC the first instant of 1970, which stands for never, is a day of 1969.
    if(toDate32(changed, here) > day, changed, NULL) AS restated_at
FROM
(
    SELECT
        outlet_id,
        sku,
        arraySort(
            groupArray(
                (
                    day, received, activated, returned, transferred_in, transferred_out,
                    written_off, net, known, listed
                )
            )
        ) AS lines,
        arrayReduceInRanges(
            'sum',
            arrayMap(place -> (1, place), arrayEnumerate(lines)),
            arrayMap(line -> line.8, lines)
        ) AS closings,
        arrayReduceInRanges(
            'max',
            arrayMap(place -> (1, place), arrayEnumerate(lines)),
            arrayMap(line -> line.9, lines)
        ) AS changes
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
            sum(moved) AS net,
            max(late) AS known,
            max(calendar) AS listed
        FROM
        (
            SELECT
                toDate(at, here) AS day,
                outlet_id,
                sku,
                sumIf(delta, cause = 'delivery') AS came,
                -sumIf(delta, cause = 'first_use') AS used,
                -sumIf(delta, cause = 'return') AS went_back,
                sumIf(delta, cause = 'transfer_in') AS moved_in,
                -sumIf(delta, cause IN ('transfer_out', 'moved_out')) AS moved_out,
                -sumIf(delta, cause = 'write_off') AS lost,
                sum(delta) AS moved,
                toDateTime64(0, 3, 'UTC') AS late,
                0 AS calendar
            FROM stock_movements
            WHERE at <= last_at
            GROUP BY day, outlet_id, sku
            UNION ALL
            SELECT toDate(at, here), outlet_id, sku, 0, 0, 0, 0, 0, 0, 0, max(known_at), 0
            FROM stock_movements_rows
            WHERE at <= last_at AND known_at > at
            GROUP BY toDate(at, here), outlet_id, sku
            UNION ALL
            SELECT
                arrayJoin(
                    arrayMap(
                        days -> first_day + days,
                        range(
                            toUInt32(toDate(last_at, here) - first_day) + 1
                        )
                    )
                ) AS day,
                outlet_id, sku, 0, 0, 0, 0, 0, 0, 0, toDateTime64(0, 3, 'UTC'), 1
            FROM
            (
                SELECT outlet_id, sku, toDate(min(at), here) AS first_day
                FROM stock_movements
                WHERE at <= last_at
                GROUP BY outlet_id, sku
            )
        )
        GROUP BY day, outlet_id, sku
    )
    GROUP BY outlet_id, sku
)
ARRAY JOIN lines AS line, closings AS closing, changes AS changed
WHERE line.10;

-- SIMs on hand, written after each change of an outlet's stock; the newest holds. A shelf on which,
-- as late events showed, nothing ever was is withdrawn and does not show.
CREATE TABLE IF NOT EXISTS stock_levels_rows
(
    outlet_id String,
    sku String,
    on_hand Int32,
    wholesaler_id String,
    as_of DateTime64(3, 'UTC'),
    withdrawn UInt8
)
ENGINE = ReplacingMergeTree(as_of, withdrawn)
ORDER BY (outlet_id, sku);

CREATE OR REPLACE VIEW stock_on_hand AS
SELECT outlet_id, sku, on_hand, wholesaler_id, as_of
FROM stock_levels_rows FINAL;

-- Subscribers' papers that came back; complete is 1 or 0.
CREATE TABLE IF NOT EXISTS registrations_rows
(
    event_id String,
    imsi Int64,
    at DateTime64(3, 'UTC'),
    complete UInt8
)
ENGINE = ReplacingMergeTree
ORDER BY (imsi, event_id);

CREATE OR REPLACE VIEW registrations AS
SELECT event_id, imsi, at, complete
FROM registrations_rows FINAL;

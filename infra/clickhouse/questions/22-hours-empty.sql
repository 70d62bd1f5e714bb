-- How long are shelves empty, and how soon are they refilled, by what emptied them? Those still
-- empty count up to the newest movement, and among the refilled they do not.
-- who: channel manager, monthly
-- param period = : the month, like 2026-03; none means all
WITH (SELECT until FROM data_until) AS until, (SELECT zone FROM business_zone) AS zone
SELECT emptied.cause AS cause, count() AS stock_outs, countIf(closed_at IS NULL) AS still_empty,
       sum(dateDiff('second', opened_at, ifNull(closed_at, until))) / 3600 AS hours_empty,
       quantileExactOrNullIf(0.5)(hours, closed_at IS NOT NULL) AS median_hours,
       quantileExactOrNullIf(0.9)(hours, closed_at IS NOT NULL) AS nine_of_ten_hours
FROM
(
    SELECT outlet_id, sku, opened_at, closed_at,
           dateDiff('second', opened_at, ifNull(closed_at, opened_at)) / 3600 AS hours
    FROM stock_incidents
    WHERE formatDateTime(opened_at, '%Y-%m', zone) = {period:String} OR {period:String} = ''
) AS open
ANY LEFT JOIN
(
    SELECT outlet_id, sku, at AS opened_at, if(countIf(cause = 'first_use') > 0, 'first_use', any(cause)) AS cause
    FROM stock_movements
    WHERE delta < 0
    GROUP BY outlet_id, sku, at
) AS emptied USING (outlet_id, sku, opened_at)
GROUP BY cause
ORDER BY hours_empty DESC, cause

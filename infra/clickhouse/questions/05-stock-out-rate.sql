-- How many of the days that shelves were watched did they end empty, by territory?
-- who: channel manager, monthly
-- param period = : the month, like 2026-03; none means all
SELECT outlets.territory_id AS territory, count() AS shelf_days, countIf(daily.closing = 0) AS empty,
       empty / shelf_days AS stock_out_rate
FROM outlet_daily AS daily
LEFT JOIN outlets ON outlets.outlet_id = daily.outlet_id
WHERE (formatDateTime(daily.day, '%Y-%m') = {period:String} OR {period:String} = '')
  AND (outlets.closed_on IS NULL OR daily.day < outlets.closed_on)
GROUP BY territory
ORDER BY stock_out_rate DESC, territory

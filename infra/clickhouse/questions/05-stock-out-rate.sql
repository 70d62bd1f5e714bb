-- How many of the days that shelves were watched did they end empty, by territory?
-- who: channel manager, monthly
SELECT outlets.territory_id AS territory, count() AS shelf_days, countIf(daily.closing = 0) AS empty,
       empty / shelf_days AS stock_out_rate
FROM outlet_daily AS daily
LEFT JOIN outlets ON outlets.outlet_id = daily.outlet_id
GROUP BY territory
ORDER BY stock_out_rate DESC, territory

-- Which shops could become partner halls, and why?
-- who: channel manager, monthly
-- job: channel
-- param period = 2026-03: the month
SELECT ranking.sales_rank AS rank, ranking.outlet_id AS outlet_id, outlets.name AS name,
       ranking.sales AS sales, ranking.growth AS growth, ranking.reasons AS reasons
FROM outlet_ranking AS ranking
LEFT JOIN outlets ON outlets.outlet_id = ranking.outlet_id
WHERE ranking.period = {period:String} AND ranking.promote = 1
ORDER BY rank, outlet_id

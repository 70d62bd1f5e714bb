-- Which wholesalers refill in time? Stock-outs by sales count, as in wholesaler_scorecard: those still
-- open after the promised hours, or ended by a transfer, are late; those whose hours still run do not
-- count.
-- who: channel manager, monthly
-- param hours = 24: within how many hours a delivery is promised
-- param period = : the month, like 2026-03; none means all
WITH (SELECT until FROM data_until) AS until
SELECT wholesaler_id, count() AS stock_outs,
       countIf(refilled_at <= opened_at + toIntervalHour({hours:Int32})) AS in_time,
       in_time / stock_outs AS timeliness
FROM stock_outs_by_sales
WHERE opened_at + toIntervalHour({hours:Int32}) <= until
  AND (period = {period:String} OR {period:String} = '')
GROUP BY wholesaler_id
ORDER BY timeliness, wholesaler_id

-- Which wholesalers refill in time? Stock-outs still open after the promised hours count as late,
-- those whose hours still run do not count.
-- who: channel manager, monthly
-- param hours = 24: within how many hours a delivery is promised
WITH (SELECT max(at) FROM stock_movements) AS until
SELECT wholesaler_id, count() AS stock_outs,
       countIf(closed_at <= opened_at + toIntervalHour({hours:Int32})) AS in_time,
       in_time / stock_outs AS timeliness
FROM stock_incidents
WHERE opened_at + toIntervalHour({hours:Int32}) <= until
GROUP BY wholesaler_id
ORDER BY timeliness, wholesaler_id

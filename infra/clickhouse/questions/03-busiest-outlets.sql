-- Which shops sell most, and did they sell more than in the days before?
-- who: channel manager, for promotion to a partner hall
-- param days = 28: how many days back from the last day there is
-- param top = 20: how many shops
WITH (SELECT max(day) FROM outlet_daily) AS today
SELECT outlet_id, sumIf(activated, day > today - {days:Int32}) AS sold,
       sumIf(activated, day <= today - {days:Int32}) AS sold_before, sold - sold_before AS growth
FROM outlet_daily
WHERE day > today - 2 * {days:Int32}
GROUP BY outlet_id
ORDER BY sold DESC, outlet_id
LIMIT {top:Int32}

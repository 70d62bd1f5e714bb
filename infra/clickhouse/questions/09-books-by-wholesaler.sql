-- What did each wholesaler's shops receive, sell, give back and lose?
-- who: channel manager, monthly
-- param period = : the month, like 2026-03; none means all
WITH (SELECT zone FROM business_zone) AS zone
SELECT wholesaler_id, countIf(cause = 'delivery') AS received, countIf(cause = 'first_use') AS sold,
       countIf(cause = 'return') AS returned, countIf(cause = 'write_off') AS written_off
FROM stock_movements
WHERE formatDateTime(at, '%Y-%m', zone) = {period:String} OR {period:String} = ''
GROUP BY wholesaler_id
ORDER BY sold DESC, wholesaler_id

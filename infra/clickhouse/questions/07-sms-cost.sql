-- How many messages went to each wholesaler, how many segments do they cost, and how many did not
-- get through?
-- who: operator, monthly
-- param period = : the month, like 2026-03; none means all
WITH (SELECT zone FROM business_zone) AS zone
SELECT wholesaler_id, count() AS messages, sum(segments) AS segments,
       countIf(status NOT IN ('sent', 'delivered')) AS not_through
FROM sms_messages
WHERE formatDateTime(created_at, '%Y-%m', zone) = {period:String} OR {period:String} = ''
GROUP BY wholesaler_id
ORDER BY segments DESC, wholesaler_id

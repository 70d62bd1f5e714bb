-- How many messages went to each wholesaler, how many segments do they cost, and how many did not
-- get through?
-- who: operator, monthly
SELECT wholesaler_id, count() AS messages, sum(segments) AS segments,
       countIf(status NOT IN ('sent', 'delivered')) AS not_through
FROM sms_messages
GROUP BY wholesaler_id
ORDER BY segments DESC, wholesaler_id

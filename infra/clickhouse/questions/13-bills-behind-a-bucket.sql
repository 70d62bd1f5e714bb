-- Which bills are behind a bar of the ageing? They add up to its amount.
-- who: billing manager, when a figure surprises
-- job: arrears
-- param as_of = 2026-03-31: the day
-- param bucket = 91-180: the bucket
-- param hall = : the hall; none means all
SELECT bill_id, customer_id, hall_id, due_on, days, open_fen
FROM arrears_bills
WHERE as_of = {as_of:Date} AND bucket = {bucket:String}
  AND (hall_id = {hall:String} OR {hall:String} = '')
ORDER BY open_fen DESC, bill_id

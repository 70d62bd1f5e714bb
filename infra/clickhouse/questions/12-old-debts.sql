-- What is owed to each hall, and how much of it for more than 90 days?
-- who: billing manager, monthly
-- job: arrears
-- param as_of = 2026-03-31: the day
SELECT key AS hall, sum(amount_fen) / 100 AS yuan,
       sumIf(amount_fen, bucket IN ('91-180', '181-365', '365+')) / 100 AS old_yuan,
       old_yuan / yuan AS old_share
FROM arrears_ageing
WHERE as_of = {as_of:Date} AND dimension = 'hall'
GROUP BY hall
ORDER BY old_yuan DESC, hall

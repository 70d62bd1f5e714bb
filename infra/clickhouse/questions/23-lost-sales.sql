-- What did empty shelves cost: cards probably not sold, at what the shop's cards bring on average
-- (where it sold none, at the average of all)?
-- who: channel manager, monthly
-- job: channel
-- param period = 2026-03: the month
-- param top = 20: how many shops
WITH
(
    SELECT avg(fee_fen) FROM commission_lines
    WHERE period = {period:String} AND kind = 'activation'
) AS usual
SELECT ranking.outlet_id AS outlet_id, ranking.lost_sales AS lost_cards,
       ranking.lost_sales * ifNull(sold.fee, usual) / 100 AS lost_yuan_a_month
FROM outlet_ranking AS ranking
LEFT JOIN
(
    SELECT outlet_id, toNullable(avg(fee_fen)) AS fee
    FROM commission_lines
    WHERE period = {period:String} AND kind = 'activation'
    GROUP BY outlet_id
) AS sold ON sold.outlet_id = ranking.outlet_id
WHERE ranking.period = {period:String} AND ranking.lost_sales > 0
ORDER BY lost_yuan_a_month DESC, outlet_id
LIMIT {top:Int32}

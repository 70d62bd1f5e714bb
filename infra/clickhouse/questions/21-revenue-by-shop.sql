-- What do the cards sold in a month bring in a month, by shop and SKU: fees, and fee per card?
-- who: channel manager, monthly
-- job: channel
-- param period = 2026-03: the month
-- param top = 20: how many rows
SELECT outlet_id, sku, count() AS cards, sum(fee_fen) / 100 AS fees_yuan,
       fees_yuan / cards AS yuan_a_card
FROM commission_lines
WHERE period = {period:String} AND kind = 'activation'
GROUP BY outlet_id, sku
ORDER BY fees_yuan DESC, outlet_id, sku
LIMIT {top:Int32}

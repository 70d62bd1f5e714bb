-- What is a seller's commission made of? The lines add up to base and what was taken back.
-- who: seller who asks, channel manager who answers
-- job: channel
-- param period = 2026-03: the month
-- param outlet = O000001: the outlet
SELECT kind, activated_at, sku, iccid, fee_fen / 100 AS fee_yuan, amount_fen / 100 AS yuan, explanation
FROM commission_lines
WHERE period = {period:String} AND outlet_id = {outlet:String}
ORDER BY kind, activated_at, iccid

-- What was sent in about a shop and refused, and why? It is missing from its stock.
-- who: territory manager, when a shop says otherwise
-- param outlet = o00001: the shop
SELECT received_at, source, position, reason, payload
FROM dead_letters
WHERE position(payload, {outlet:String}) > 0
ORDER BY received_at, source, position

-- How did a shelf come to hold what it holds? Each movement and the stock after it; the last is the stock on hand.
-- who: territory manager, when a shop says otherwise
-- param outlet = o00001: the shop
-- param sku = std: the article
SELECT at, cause, delta, iccid, event_id,
       sum(delta) OVER (ORDER BY at, movement_id ROWS UNBOUNDED PRECEDING) AS on_hand
FROM stock_movements
WHERE outlet_id = {outlet:String} AND sku = {sku:String}
ORDER BY at, movement_id

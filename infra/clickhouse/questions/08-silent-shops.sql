-- Which shops have cards but sell none? Perhaps the cards are not there any more.
-- who: territory manager, weekly
-- param days = 14: silent for how many days
WITH (SELECT max(at) FROM stock_movements) AS now
SELECT stock.outlet_id AS outlet_id, stock.sku AS sku, stock.on_hand AS on_hand,
       maxOrNullIf(sales.at, sales.cause = 'first_use') AS last_sale
FROM stock_on_hand AS stock
LEFT JOIN stock_movements AS sales
    ON sales.outlet_id = stock.outlet_id AND sales.sku = stock.sku
WHERE stock.on_hand > 0
GROUP BY outlet_id, sku, on_hand
HAVING ifNull(last_sale, min(sales.at)) < now - toIntervalDay({days:Int32})
ORDER BY on_hand DESC, outlet_id, sku

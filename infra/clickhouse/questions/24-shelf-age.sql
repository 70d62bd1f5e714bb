-- Which cards lie too long: what share of what a shop had was sold in so many days, and how old is what
-- lies on its shelves now, counted from the day each card came to the shop?
-- who: territory manager, monthly
-- param period = : the month, like 2026-03; none means all
-- param top = 20: how many shelves
WITH (SELECT until FROM data_until) AS until
SELECT daily.outlet_id AS outlet_id, daily.sku AS sku, daily.sold AS sold, daily.had AS had,
       sold / had AS sell_through, lies.cards AS on_hand, lies.median_days AS median_days,
       lies.oldest_days AS oldest_days
FROM
(
    SELECT outlet_id, sku, sum(activated) AS sold,
           argMin(opening, day) + sum(received) + sum(transferred_in) AS had
    FROM outlet_daily
    WHERE formatDateTime(day, '%Y-%m') = {period:String} OR {period:String} = ''
    GROUP BY outlet_id, sku
) AS daily
LEFT JOIN
(
    SELECT outlet_id, sku, count() AS cards, quantileExact(0.5)(days) AS median_days,
           max(days) AS oldest_days
    FROM
    (
        SELECT outlet_id, sku, imsi,
               dateDiff('day', maxIf(at, delta > 0), assumeNotNull(until)) AS days
        FROM stock_movements
        GROUP BY outlet_id, sku, imsi
        HAVING sum(delta) > 0
    )
    GROUP BY outlet_id, sku
) AS lies ON lies.outlet_id = daily.outlet_id AND lies.sku = daily.sku
WHERE had > 0
ORDER BY sell_through, oldest_days DESC, outlet_id, sku
LIMIT {top:Int32}

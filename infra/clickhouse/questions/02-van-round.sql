-- What should a wholesaler's van carry: the empty shelves of the outlets served today, and what each
-- usually sells on a day on which there is something to sell?
-- who: wholesaler's dispatcher
-- param wholesaler = w001: whose round
WITH (SELECT max(day) FROM outlet_daily) AS today
SELECT outlets.territory_id AS territory, outlets.name AS outlet, open.outlet_id AS outlet_id,
       open.sku AS sku, open.opened_at AS since, round(usual.sold_a_day, 1) AS sold_a_day
FROM stock_incidents AS open
INNER JOIN outlet_holders AS held ON held.outlet_id = open.outlet_id
LEFT JOIN outlets ON outlets.outlet_id = open.outlet_id
LEFT JOIN
(
    SELECT outlet_id, sku, avg(activated) AS sold_a_day
    FROM outlet_daily
    WHERE day > today - 28 AND opening + received + transferred_in > 0
    GROUP BY outlet_id, sku
) AS usual ON usual.outlet_id = open.outlet_id AND usual.sku = open.sku
WHERE open.closed_at IS NULL AND held.wholesaler_id = {wholesaler:String}
ORDER BY territory, outlet, sku

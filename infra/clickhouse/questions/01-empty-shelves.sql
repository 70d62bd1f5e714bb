-- Which shelves are empty now, since when, who should refill them, and was anybody told?
-- who: channel manager, every morning
SELECT outlets.territory_id AS territory, open.outlet_id AS outlet_id, outlets.name AS outlet,
       open.sku AS sku, wholesalers.name AS wholesaler, open.opened_at AS since,
       open.notified_at AS told
FROM stock_incidents AS open
LEFT JOIN outlets ON outlets.outlet_id = open.outlet_id
LEFT JOIN wholesalers ON wholesalers.wholesaler_id = open.wholesaler_id
WHERE open.closed_at IS NULL
ORDER BY territory, since

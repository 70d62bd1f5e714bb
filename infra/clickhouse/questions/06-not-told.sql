-- At which stock-outs was nobody told, and what became of the attempt?
-- who: operator, every day
SELECT open.outlet_id AS outlet_id, open.sku AS sku, open.wholesaler_id AS wholesaler_id,
       open.opened_at AS opened_at, open.closed_at AS closed_at, tried.status AS status,
       tried.error AS error
FROM stock_incidents AS open
LEFT JOIN
(
    SELECT arrayJoin(incident_ids) AS incident_id, any(status) AS status, any(error) AS error
    FROM sms_messages
    GROUP BY incident_id
) AS tried ON tried.incident_id = open.incident_id
WHERE open.notified_at IS NULL
ORDER BY opened_at, outlet_id, sku

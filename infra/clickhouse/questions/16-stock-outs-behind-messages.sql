-- Which stock-outs did each message list, and how long did each last?
-- who: operator, when a wholesaler asks
-- param wholesaler = : whose messages; none means all
SELECT sms.message_id AS message_id, sms.created_at AS created_at, sms.status AS status,
       sms.incident_id AS incident_id, found.outlet_id AS outlet_id, found.sku AS sku,
       found.opened_at AS opened_at, found.closed_at AS closed_at
FROM
(
    SELECT message_id, created_at, status, arrayJoin(incident_ids) AS incident_id
    FROM sms_messages
    WHERE wholesaler_id = {wholesaler:String} OR {wholesaler:String} = ''
) AS sms
LEFT JOIN stock_incidents AS found ON found.incident_id = sms.incident_id
ORDER BY created_at, message_id, incident_id

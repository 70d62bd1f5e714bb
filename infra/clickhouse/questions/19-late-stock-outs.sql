-- Which stock-outs made a wholesaler late? Each that was not refilled in time, the longest first;
-- those that are open still are late as well.
-- who: channel manager, before talking to a wholesaler
-- param wholesaler = W001: the wholesaler
-- param hours = 24: within how many hours a delivery is promised
WITH (SELECT max(at) FROM stock_movements) AS until
SELECT outlet_id, sku, opened_at, notified_at, closed_at,
       dateDiff('hour', opened_at, ifNull(closed_at, until)) AS hours_empty
FROM stock_incidents
WHERE wholesaler_id = {wholesaler:String}
  AND opened_at + toIntervalHour({hours:Int32}) <= until
  AND ifNull(closed_at, until + INTERVAL 1 SECOND) > opened_at + toIntervalHour({hours:Int32})
ORDER BY hours_empty DESC, outlet_id, sku

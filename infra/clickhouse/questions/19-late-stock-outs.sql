-- Which stock-outs made a wholesaler late? Each that was not refilled in time by a delivery, the
-- longest first; those that are open still are late as well.
-- who: channel manager, before talking to a wholesaler
-- param wholesaler = W001: the wholesaler
-- param hours = 24: within how many hours a delivery is promised
-- param period = : the month, like 2026-03; none means all
WITH (SELECT until FROM data_until) AS until
SELECT outlet_id, sku, opened_at, notified_at, closed_at,
       dateDiff('hour', opened_at, ifNull(closed_at, until)) AS hours_empty
FROM stock_outs_by_sales
WHERE wholesaler_id = {wholesaler:String}
  AND opened_at + toIntervalHour({hours:Int32}) <= until
  AND (period = {period:String} OR {period:String} = '')
  AND ifNull(refilled_at > opened_at + toIntervalHour({hours:Int32}), 1)
ORDER BY hours_empty DESC, outlet_id, sku

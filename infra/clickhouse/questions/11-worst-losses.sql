-- Which units lose the most energy themselves, and under which feeder do they hang? What is lost
-- further down is listed there, and not again in each unit above it.
-- who: loss engineer, monthly
-- job: line-loss
-- param period = 2026-03: the month
-- param top = 20: how many units
SELECT loss.unit_id AS unit_id, loss.level AS level, loss.parent_id AS parent_id,
       loss.supplied_kwh AS supplied_kwh, loss.own_loss_kwh AS own_loss_kwh,
       loss.loss_kwh AS loss_kwh, loss.loss_rate AS loss_rate, loss.status AS status,
       above.loss_rate AS parents_loss_rate
FROM line_loss AS loss
LEFT JOIN line_loss AS above ON above.unit_id = loss.parent_id AND above.period = loss.period
WHERE loss.period = {period:String} AND loss.status IN ('high', 'negative')
  AND (loss.own_loss_kwh IS NULL OR abs(loss.own_loss_kwh) > 0.02 * loss.supplied_kwh)
ORDER BY abs(ifNull(loss.own_loss_kwh, loss.loss_kwh)) DESC, unit_id
LIMIT {top:Int32}

-- Which readings make up what a unit was supplied with and what it sold? The run has to have kept
-- them: `zerostock batch line-loss --readings`.
-- who: loss engineer, for a unit that looks odd
-- job: line-loss
-- param period = 2026-03: the month
-- param unit = T001: the unit
SELECT side, meter_id, start, end, kwh, kwh_in_period, quality, source, row
FROM line_loss_readings
WHERE period = {period:String} AND unit_id = {unit:String}
ORDER BY side, kwh_in_period DESC, meter_id, start

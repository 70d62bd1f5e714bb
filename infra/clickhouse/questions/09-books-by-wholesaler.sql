-- What did each wholesaler's shops receive, sell, give back and lose?
-- who: channel manager, monthly
SELECT wholesaler_id, countIf(cause = 'delivery') AS received, countIf(cause = 'first_use') AS sold,
       countIf(cause = 'return') AS returned, countIf(cause = 'write_off') AS written_off
FROM stock_movements
GROUP BY wholesaler_id
ORDER BY sold DESC, wholesaler_id

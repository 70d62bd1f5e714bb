-- Whose subscribers' papers do not come back complete?
-- who: channel manager, monthly
-- param period = : the month they were switched on, like 2026-03; none means all
WITH (SELECT zone FROM business_zone) AS zone
SELECT sold.wholesaler_id AS wholesaler_id, count() AS activations,
       countIf(papers.imsi != 0) AS complete, complete / activations AS completeness
FROM
(
    SELECT imsi, wholesaler_id
    FROM stock_movements
    WHERE cause = 'first_use'
      AND (formatDateTime(at, '%Y-%m', zone) = {period:String} OR {period:String} = '')
) AS sold
LEFT JOIN (SELECT DISTINCT imsi FROM registrations WHERE complete = 1) AS papers
    ON papers.imsi = sold.imsi
GROUP BY wholesaler_id
ORDER BY completeness, wholesaler_id

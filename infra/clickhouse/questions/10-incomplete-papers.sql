-- Whose subscribers' papers do not come back complete?
-- who: channel manager, monthly
SELECT sold.wholesaler_id AS wholesaler_id, count() AS activations,
       countIf(papers.imsi != 0) AS complete, complete / activations AS completeness
FROM (SELECT imsi, wholesaler_id FROM stock_movements WHERE cause = 'first_use') AS sold
LEFT JOIN (SELECT DISTINCT imsi FROM registrations WHERE complete = 1) AS papers
    ON papers.imsi = sold.imsi
GROUP BY wholesaler_id
ORDER BY completeness, wholesaler_id

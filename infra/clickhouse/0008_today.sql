-- What readers of the tables ask again and again: names, and how things are today.

-- Names to show. A thing without a name goes by its number; `(nobody)` is who serves an outlet that
-- nobody holds.
CREATE OR REPLACE VIEW outlet_names AS
SELECT
    o.outlet_id AS outlet_id,
    if(o.name = '', o.outlet_id, o.name) AS outlet,
    o.kind AS kind,
    o.territory_id AS territory_id,
    if(t.name = '', o.territory_id, t.name) AS territory
FROM outlets AS o
LEFT JOIN territories AS t ON t.territory_id = o.territory_id;

CREATE OR REPLACE VIEW wholesaler_names AS
SELECT wholesaler_id, if(name = '', wholesaler_id, name) AS wholesaler
FROM wholesalers
UNION ALL
SELECT '' AS wholesaler_id, '(nobody)' AS wholesaler;

-- Until when the data reach: the newest movement. One dated more than a day ahead comes from a wrong
-- clock, unless everything is (a simulated city may be in the future). No row without movements.
CREATE OR REPLACE VIEW data_until AS
SELECT ifNull(maxOrNullIf(at, at <= now64() + INTERVAL 1 DAY), max(at)) AS until
FROM stock_movements_rows
HAVING count() > 0;

-- Who serves each outlet today. Data may be ahead of this machine's clock.
CREATE OR REPLACE VIEW outlet_holders AS
SELECT
    outlet_id,
    argMax(assignments.wholesaler_id, assignments.valid_from) AS wholesaler_id,
    max(assignments.valid_from) AS since
FROM assignments
WHERE assignments.valid_from <= greatest(now64(3), ifNull((SELECT until FROM data_until), now64(3)))
GROUP BY outlet_id;

-- The stock-outs that wholesalers answer for: shelves that sales emptied, and not a return, a
-- transfer or a write-off. Refilled is one that a delivery ended; the month is the business's.
CREATE OR REPLACE VIEW stock_outs_by_sales AS
WITH
(SELECT zone FROM business_zone) AS own_zone,
if(own_zone = '', 'UTC', own_zone) AS here  -- '' while the view is only looked at
SELECT
    incident_id, outlet_id, sku, wholesaler_id, opened_at, closed_at, notified_at,
    formatDateTime(opened_at, '%Y-%m', here) AS period,
    if(ended.delivered, closed_at, NULL) AS refilled_at
FROM stock_incidents AS open
ANY LEFT JOIN
(
    SELECT outlet_id, sku, at AS opened_at, countIf(cause = 'first_use') > 0 AS sold, 1 AS known
    FROM stock_movements
    WHERE delta < 0
    GROUP BY outlet_id, sku, at
) AS emptied USING (outlet_id, sku, opened_at)
ANY LEFT JOIN
(
    SELECT outlet_id, sku, toNullable(at) AS closed_at, 1 AS delivered
    FROM stock_movements
    WHERE cause = 'delivery'
) AS ended USING (outlet_id, sku, closed_at)
WHERE emptied.sold OR NOT emptied.known;

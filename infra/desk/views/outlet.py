"""*Outlet*: one shop's stock, its stock-outs and its last movements."""

from __future__ import annotations

from typing import Final

from infra.desk.page import Asked, Page

_SHOP: Final = """
SELECT o.outlet_id AS outlet_id, o.name AS name, o.kind AS kind, t.name AS territory
FROM outlets AS o LEFT JOIN territories AS t ON t.territory_id = o.territory_id
WHERE o.outlet_id = {outlet:String}
"""
_STOCK: Final = """
SELECT s.sku AS sku, s.on_hand AS on_hand, w.name AS wholesaler, s.as_of AS as_of
FROM stock_on_hand AS s LEFT JOIN wholesalers AS w ON w.wholesaler_id = s.wholesaler_id
WHERE s.outlet_id = {outlet:String} ORDER BY sku
"""
_INCIDENTS: Final = """
SELECT sku, opened_at, notified_at, closed_at FROM stock_incidents
WHERE outlet_id = {outlet:String} ORDER BY opened_at DESC LIMIT 20
"""
_MOVEMENTS: Final = """
SELECT at, sku, cause, sum(delta) AS sims FROM stock_movements
WHERE outlet_id = {outlet:String} GROUP BY at, sku, cause ORDER BY at DESC LIMIT 50
"""


def page(asked: Asked) -> Page:
    """One shop; 404 for one that is not in the reference tables."""
    this = {"outlet": asked.path["outlet"]}
    shop = asked.rows(_SHOP, this)
    if not shop:
        return Page("missing.html.j2", {"title": "No such outlet"}, 404)
    return Page(
        "outlet.html.j2",
        {
            "title": shop[0]["name"] or shop[0]["outlet_id"],
            "shop": shop[0],
            "stock": asked.rows(_STOCK, this),
            "incidents": asked.rows(_INCIDENTS, this),
            "movements": asked.rows(_MOVEMENTS, this),
        },
    )

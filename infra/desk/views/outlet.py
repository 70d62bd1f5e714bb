"""*Outlet*: one shop's stock day by day, its sales, its stock-outs and its last movements."""

from __future__ import annotations

from typing import Final

from infra.desk.page import Page, ViewRequest
from infra.desk.parts import (
    Chart,
    ColumnSpec,
    Facts,
    Figure,
    Figures,
    Row,
    Shape,
    TableSection,
    columns,
)
from infra.desk.translation import N_
from infra.desk.views.common import named, not_found
from infra.desk.views.lists import WHOLESALER

_SHOP: Final = """
SELECT n.outlet_id AS outlet_id, n.outlet AS name, n.kind AS kind, n.territory AS territory,
       o.opened_on AS opened_on, o.closed_on AS closed_on
FROM outlets AS o JOIN outlet_names AS n ON n.outlet_id = o.outlet_id
WHERE o.outlet_id = {outlet:String}
"""
_HOLDER: Final = named(
    """(SELECT wholesaler_id, valid_from AS since FROM assignments
       WHERE outlet_id = {outlet:String})""",
    "ORDER BY since DESC",
    outlet=False,
)
_STOCK: Final = """
SELECT sku, on_hand, as_of FROM stock_on_hand WHERE outlet_id = {outlet:String} ORDER BY sku
"""
_DAYS: Final = """
SELECT day, sku, closing, activated FROM outlet_daily
WHERE outlet_id = {outlet:String}
  AND day > (SELECT toDate(max(at), 'UTC') FROM stock_movements_rows) - 90
ORDER BY day, sku
"""
_RANK: Final = """
SELECT period, status, sales, growth, days_of_cover, lost_sales, stock_out_rate, promote, reasons
FROM outlet_ranking WHERE outlet_id = {outlet:String} ORDER BY period DESC LIMIT 12
"""
_INCIDENTS: Final = named(
    "(SELECT * FROM stock_incidents WHERE outlet_id = {outlet:String})",
    "ORDER BY opened_at DESC LIMIT 20",
    outlet=False,
)
_MOVEMENTS: Final = """
SELECT at, sku, cause, sum(delta) AS sims, min(iccid) AS iccid
FROM stock_movements
WHERE outlet_id = {outlet:String} GROUP BY at, sku, cause ORDER BY at DESC LIMIT 50
"""


def page(request: ViewRequest) -> Page:
    """One shop; 404 for one that is not in the reference tables."""
    this = {"outlet": request.path["outlet"]}
    shop = request.row(_SHOP, this)
    if shop is None:
        return not_found(N_("Outlet"), N_("See all outlets"), "/outlets")
    holders = request.rows(_HOLDER, this)
    stock, days, months = (
        request.rows(_STOCK, this),
        request.rows(_DAYS, this),
        request.rows(_RANK, this),
    )
    last = months[0] if months else {}
    on_hand = sum(row["on_hand"] for row in stock) if stock else None
    return Page(
        N_("Outlet"),
        [
            Figures([
                Figure(N_("On hand (SIMs)"), on_hand, tone="bad" if on_hand == 0 else ""),
                Figure(N_("Sold in 28 days (SIMs)"), _sold(days)),
                Figure(N_("Days of cover, newest month"), last.get("days_of_cover"), "decimal"),
                Figure(N_("Lost sales, newest month (SIMs)"), last.get("lost_sales"), "decimal"),
            ]),
            Facts([
                Figure(N_("Number"), shop["outlet_id"], "text"),
                Figure(N_("Kind"), shop["kind"], "status"),
                Figure(N_("Territory"), shop["territory"], "text"),
                *_holder(holders),
                Figure(N_("Newest month ranked"), last.get("period"), "text"),
                Figure(N_("Status"), last.get("status"), "status"),
                *([Figure(N_("Why to promote"), last["reasons"], "reasons")]
                  if last.get("promote") else []),
                *([Figure(N_("Closed on"), shop["closed_on"], "day")] if shop["closed_on"] else []),
            ]),
            _by_day(N_("On hand at the day's end (UTC), 90 days"), "line", days, "closing"),
            _by_day(N_("Sold by day (UTC), 90 days"), "stack", days, "activated"),
            TableSection(N_("Shelves"), (
                *columns("stock_on_hand", "sku", "on_hand", "as_of"),
            ), stock, N_("Nothing was ever delivered here.")),
            TableSection(N_("Stock-outs"), (
                *columns("stock_incidents", "sku", "opened_at", "notified_at", "closed_at"),
                WHOLESALER,
            ), request.rows(_INCIDENTS, this), N_("Never empty.")),
            TableSection(N_("Last movements"), (
                ColumnSpec("at", N_("At"), "second"), ColumnSpec("sku", N_("SKU")),
                ColumnSpec("cause", N_("Cause"), "name"), ColumnSpec("sims", N_("SIMs"), "number"),
                ColumnSpec("iccid", N_("First card"), "secret", link="/sims/"),
            ), request.rows(_MOVEMENTS, this), N_("No movement yet.")),
            TableSection(N_("Served by"), (
                ColumnSpec("name", N_("Wholesaler"), link="/wholesalers/", to="wholesaler_id"),
                ColumnSpec("since", N_("Since"), "time"),
            ), holders, N_("Nobody serves this outlet: nobody is notified when it runs out.")),
        ],
        name=shop["name"] or shop["outlet_id"],
    )  # fmt: skip


def _holder(holders: list[Row]) -> list[Figure]:
    if not holders:
        return []
    now = holders[0]
    return [
        Figure(N_("Wholesaler"), now["name"], "text", link=f"/wholesalers/{now['wholesaler_id']}")
    ]


def _sold(days: list[Row]) -> int | None:
    recent = sorted({row["day"] for row in days})[-28:]
    return sum(row["activated"] for row in days if row["day"] >= recent[0]) if recent else None


def _by_day(title: str, shape: Shape, days: list[Row], name: str) -> Chart:
    """A row a day, a column an article."""
    skus = sorted({row["sku"] for row in days})
    table: dict[object, dict[str, object]] = {}
    for row in days:
        table.setdefault(row["day"], {"day": row["day"], **dict.fromkeys(skus)})[row["sku"]] = row[
            name
        ]
    columns = (
        ColumnSpec("day", N_("Day"), "day"),
        *(ColumnSpec(sku, sku, "number") for sku in skus),
    )
    return Chart(title, shape, columns, list(table.values()), N_("No movement yet."))

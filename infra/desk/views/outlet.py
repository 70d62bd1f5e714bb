"""*Outlet*: one shop's stock day by day, its sales, its stock-outs and its last movements."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from urllib.parse import quote

from infra.desk.freshness import of_stream
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
    column,
    columns,
    figure,
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
_HOLDERS: Final = named(
    """(SELECT wholesaler_id, valid_from FROM assignments WHERE outlet_id = {outlet:String})""",
    "ORDER BY valid_from DESC",
    outlet=False,
)
_HOLDER: Final = named(
    "(SELECT wholesaler_id FROM outlet_holders WHERE outlet_id = {outlet:String})", outlet=False
)
_STOCK: Final = """
SELECT sku, on_hand, as_of FROM stock_on_hand WHERE outlet_id = {outlet:String} ORDER BY sku
"""
# Business days; `outlet_daily` would do for one zone only.
_DAYS: Final = """
WITH (SELECT toDate(until, {zone:String}) FROM data_until) AS last_day
SELECT toDate(at, {zone:String}) AS day, sku, toInt64(sum(delta)) AS net,
       toInt64(-sumIf(delta, cause = 'first_use')) AS activated, any(last_day) AS last
FROM stock_movements WHERE outlet_id = {outlet:String} AND day <= last_day
GROUP BY day, sku ORDER BY day, sku
"""
_RANK: Final = """
SELECT period, status, sales, growth, days_of_cover, lost_sales, stock_out_rate, promote, reasons
FROM outlet_ranking WHERE outlet_id = {outlet:String} ORDER BY period DESC LIMIT 12
"""
_INCIDENTS: Final = named(
    "(SELECT * FROM stock_incidents WHERE outlet_id = {outlet:String})",
    "ORDER BY opened_at DESC LIMIT 21",
    outlet=False,
)
_MOVEMENTS: Final = """
SELECT at, sku, cause, sum(delta) AS sims, min(iccid) AS iccid
FROM stock_movements
WHERE outlet_id = {outlet:String} GROUP BY at, sku, cause ORDER BY at DESC LIMIT 51
"""


def page(request: ViewRequest) -> Page:
    """One shop; 404 for one that is not in the reference tables."""
    this = {"outlet": request.path["outlet"]}
    shop = request.row(_SHOP, this)
    if shop is None:
        return not_found(N_("Outlet"), N_("See all outlets"), "/outlets")
    holders, holder = request.rows(_HOLDERS, this), request.row(_HOLDER, this)
    stock, months = request.rows(_STOCK, this), request.rows(_RANK, this)
    days = by_day(request.rows(_DAYS, this))
    last = months[0] if months else {}
    on_hand = sum(row["on_hand"] for row in stock) if stock else None
    return Page(
        N_("Outlet"),
        [
            Figures([
                Figure(N_("On hand (SIMs)"), on_hand, tone="bad" if on_hand == 0 else ""),
                Figure(N_("Sold in 28 days (SIMs)"), _sold(days)),
                figure("outlet_ranking", "days_of_cover", last.get("days_of_cover")),
                figure("outlet_ranking", "lost_sales", last.get("lost_sales")),
            ]),
            Facts([
                Figure(N_("Number"), shop["outlet_id"], "text"),
                Figure(N_("Kind"), shop["kind"], "status"),
                Figure(N_("Territory"), shop["territory"], "text"),
                *_holder(holder),
                Figure(N_("Figures of the month"), last.get("period"), "text"),
                Figure(N_("Status"), last.get("status"), "status"),
                *([Figure(N_("Why to promote"), last["reasons"], "reasons")]
                  if last.get("promote") else []),
                *([Figure(N_("Closed on"), shop["closed_on"], "day")] if shop["closed_on"] else []),
            ]),
            _by_day(N_("On hand at the end of the day, 90 days"), "line", days, "closing"),
            _by_day(N_("Sold by day, 90 days"), "stack", days, "activated"),
            TableSection(N_("Shelves"), (
                *columns("stock_on_hand", "sku", "on_hand", "as_of"),
            ), stock, N_("Nothing was ever delivered here.")),
            TableSection(N_("Stock-outs"), (
                *columns("stock_incidents", "sku"),
                column("stock_incidents", "opened_at", link="/stock-outs/", to="incident_id"),
                *columns("stock_incidents", "notified_at", "closed_at"), WHOLESALER,
            ), request.rows(_INCIDENTS, this), N_("Never empty."), limit=20),
            TableSection(N_("Last movements"), (
                ColumnSpec("at", N_("At"), "second"), ColumnSpec("sku", N_("SKU")),
                ColumnSpec("cause", N_("Cause"), "name"), ColumnSpec("sims", N_("SIMs"), "number"),
                ColumnSpec("iccid", N_("First card"), "secret", link="/sims/"),
            ), request.rows(_MOVEMENTS, this), N_("No movement yet."), limit=50),
            TableSection(N_("Served by"), (
                WHOLESALER, ColumnSpec("valid_from", N_("Since"), "time"),
            ), holders, N_("Nobody serves this outlet: nobody is notified when it runs out.")),
        ],
        name=shop["name"],
        freshness=of_stream(request),
    )  # fmt: skip


def _holder(holder: Row | None) -> list[Figure]:
    if holder is None:
        return []
    link = f"/wholesalers/{quote(holder['wholesaler_id'], '')}"
    return [Figure(N_("Wholesaler today"), holder["wholesaler"], "text", link=link)]


def by_day(moved: list[Row], days: int = 90) -> list[Row]:
    """Each of the last days' closing stock and sales by SKU, also where nothing moved.

    `moved` has day, sku, net, activated and the last day of all, by day.
    """
    if not moved:
        return []
    last = moved[0]["last"]
    first = last - timedelta(days=days - 1)
    changes = {(row["day"], row["sku"]): row for row in moved}
    found: list[Row] = []
    for sku in sorted({row["sku"] for row in moved}):
        mine = [row for row in moved if row["sku"] == sku]
        level = sum(row["net"] for row in mine if row["day"] < first)
        begins = max(first, mine[0]["day"])
        for day in (begins + timedelta(days=n) for n in range((last - begins).days + 1)):
            change = changes.get((day, sku), {"net": 0, "activated": 0})
            level += change["net"]
            found.append(
                {"day": day, "sku": sku, "closing": level, "activated": change["activated"]}
            )
    return sorted(found, key=lambda row: (row["day"], row["sku"]))


def _sold(days: list[Row]) -> int | None:
    if not days:
        return None
    begins = days[-1]["day"] - timedelta(days=27)
    return sum(int(row["activated"]) for row in days if row["day"] >= begins)


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

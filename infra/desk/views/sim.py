"""*SIM*: one card's way, from its batch over the shelves to its first call."""

from __future__ import annotations

from typing import Final

from infra.desk.page import Asked, Page
from infra.desk.parts import Column, Facts, Figure, Piece, Row, Table
from infra.desk.views.missing import missing
from infra.desk.words import N_

_BATCH: Final = """
SELECT batch_id, sku, first_imsi + (toInt128(card) - toInt128(first_iccid)) AS imsi
FROM (SELECT *, {card:String} AS card FROM sim_batches WHERE length(first_iccid) = length(card))
WHERE toInt128(card) >= toInt128(first_iccid)
  AND toInt128(card) < toInt128(first_iccid) + count
"""
_MOVEMENTS: Final = """
SELECT m.at AS at, m.cause AS cause, m.delta AS delta, m.sku AS sku, m.outlet_id AS outlet_id,
       if(o.name = '', m.outlet_id, o.name) AS outlet, 
       m.wholesaler_id AS wholesaler_id
FROM stock_movements AS m LEFT JOIN outlets AS o ON o.outlet_id = m.outlet_id
WHERE m.iccid = {card:String} ORDER BY m.at, m.delta
"""
_PAPERS: Final = """
SELECT at, if(complete = 1, 'complete', 'incomplete') AS papers FROM registrations
WHERE imsi = {imsi:Int64} ORDER BY at
"""


def card_of(asked: Asked, text: str) -> str | None:
    """The ICCID of a card that is known by its ICCID or IMSI; None if it is none."""
    if not (text.isascii() and text.isdigit() and 10 <= len(text) <= 22):
        return None
    if asked.rows(_BATCH, {"card": text}):
        return text
    # An IMSI has 15 digits; its card counts with it in its batch.
    if len(text) > 18:
        return None
    found = asked.row(
        "SELECT leftPad(toString(toInt128(first_iccid) + ({imsi:Int64} - first_imsi)),"
        " length(first_iccid), '0') AS card FROM sim_batches"
        " WHERE {imsi:Int64} >= first_imsi AND {imsi:Int64} < first_imsi + count",
        {"imsi": int(text)},
    )
    return str(found["card"]) if found else None


def page(asked: Asked) -> Page:
    """One card; 404 for one of no batch."""
    card = asked.path["card"]
    known = card.isascii() and card.isdigit() and len(card) <= 22
    batch = asked.row(_BATCH, {"card": card}) if known else None
    if batch is None:
        return missing(N_("SIM"), N_("See all outlets"), "/outlets")
    moves = asked.rows(_MOVEMENTS, {"card": card})
    papers = asked.rows(_PAPERS, {"imsi": int(batch["imsi"])})
    return Page(
        N_("SIM"),
        [
            Facts([
                Figure(N_("Batch"), batch["batch_id"], "text"),
                Figure(N_("SKU"), batch["sku"], "text"),
                Figure(N_("Is"), _where(moves), "word"),
                Figure(N_("Papers"), papers[-1]["papers"] if papers else "not back yet", "word"),
            ]),
            Piece("card.html.j2", {"card": card, "imsi": str(batch["imsi"])}),
            Table(N_("Its way"), (
                Column("at", N_("At"), "second"), Column("cause", N_("Cause"), "word"),
                Column("outlet", N_("Outlet"), link="/outlets/", to="outlet_id"),
                Column("delta", N_("Change"), "number"),
                Column("wholesaler_id", N_("Wholesaler"), link="/wholesalers/"),
            ), moves, N_("It was never delivered to an outlet.")),
        ],
    )  # fmt: skip


def _where(moves: list[Row]) -> str:
    if not moves:
        return N_("not delivered")
    last = moves[-1]
    if last["cause"] == "first_use":
        return N_("in use")
    return N_("on a shelf") if last["delta"] > 0 else N_("off the shelf")

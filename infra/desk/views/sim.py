"""*SIM*: one card's way, from its batch over the shelves to its first call."""

from __future__ import annotations

import contextlib
from typing import Final

from infra.desk.page import Page, ViewRequest
from infra.desk.parts import ColumnSpec, Facts, Figure, Row, TableSection
from infra.desk.translation import N_
from infra.desk.views.holder import holder
from infra.desk.views.not_found import missing
from schemas.iccids import iccid_in, series_of

_BATCHES: Final = (
    "SELECT batch_id, sku, first_iccid, first_imsi, count, check_digit FROM sim_batches"
)
# Where it ever was is found first, by a column of numbers alone: the key leads to the rest.
_MOVEMENTS: Final = f"""
SELECT m.at AS at, m.cause AS cause, m.delta AS delta, m.sku AS sku, m.outlet_id AS outlet_id,
       if(o.name = '', m.outlet_id, o.name) AS outlet,
       m.wholesaler_id AS wholesaler_id,
       {holder("m")}
FROM stock_movements AS m
LEFT JOIN outlets AS o ON o.outlet_id = m.outlet_id
LEFT JOIN wholesalers AS w ON w.wholesaler_id = m.wholesaler_id
WHERE m.imsi = {{imsi:Int64}} AND m.outlet_id IN
      (SELECT outlet_id FROM stock_movements_rows WHERE imsi = {{imsi:Int64}})
ORDER BY m.at, m.delta
"""  # noqa: S608 - pieces of our own
_PAPERS: Final = """
SELECT at, if(complete = 1, 'complete', 'incomplete') AS papers FROM registrations
WHERE imsi = {imsi:Int64} ORDER BY at
"""


def find(asked: ViewRequest, number: str) -> Row | None:
    """The card with this ICCID or IMSI: card, imsi, batch_id, sku; None if no batch has it.

    The i-th card of a batch has the i-th ICCID after its first and its first IMSI + i. An ICCID is
    too long for ClickHouse's integers, and batches are few, so they are looked through here.
    """
    if not (number.isascii() and number.isalnum() and 10 <= len(number) <= 22):
        return None
    for batch in asked.rows(_BATCHES):
        luhn = batch["check_digit"] == "luhn"
        series, first = series_of(str(batch["first_iccid"]), luhn=luhn)
        places = [int(number) - batch["first_imsi"]] if number.isdigit() else []
        with contextlib.suppress(ValueError):
            other, at = series_of(number.upper().removesuffix("F"), luhn=luhn)
            places += [at - first] if other == series else []
        for place in places:
            if 0 <= place < batch["count"]:
                card = iccid_in(series, first + place)
                return {**batch, "card": card, "imsi": batch["first_imsi"] + place}
    return None


def page(asked: ViewRequest) -> Page:
    """One card; 404 for one of no batch."""
    batch = find(asked, asked.path["card"])
    if batch is None:
        return missing(N_("SIM"), N_("See all outlets"), "/outlets")
    card = batch["card"]
    this = {"imsi": int(batch["imsi"])}
    moves, papers = asked.rows(_MOVEMENTS, this), asked.rows(_PAPERS, this)
    return Page(
        N_("SIM"),
        [
            Facts([
                Figure(N_("Card"), card, "secret"),
                Figure(N_("Subscriber"), str(batch["imsi"]), "secret"),
                Figure(N_("Batch"), batch["batch_id"], "text"),
                Figure(N_("SKU"), batch["sku"], "text"),
                Figure(N_("Is"), _where(moves), "word"),
                Figure(N_("Papers"), papers[-1]["papers"] if papers else "not back yet", "word"),
            ]),
            TableSection(N_("Its way"), (
                ColumnSpec("at", N_("At"), "second"), ColumnSpec("cause", N_("Cause"), "word"),
                ColumnSpec("outlet", N_("Outlet"), link="/outlets/", to="outlet_id"),
                ColumnSpec("delta", N_("Change"), "number"),
                ColumnSpec("wholesaler", N_("Wholesaler"), "name", link="/wholesalers/",
                       to="wholesaler_id"),
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

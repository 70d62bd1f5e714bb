"""*SIM*: the history of one card, from its batch over the shelves to its first use."""

from __future__ import annotations

import contextlib
from typing import Final

from infra.desk.freshness import of_stream
from infra.desk.page import Page, ViewRequest
from infra.desk.parts import ColumnSpec, Facts, Figure, Row, TableSection
from infra.desk.translation import N_
from infra.desk.views.common import named, not_found
from infra.desk.views.lists import OUTLET, WHOLESALER
from schemas.cards import iccid_in, series_of

_BATCHES: Final = (
    "SELECT batch_id, sku, first_iccid, first_imsi, count, check_digit FROM sim_batches"
)
# Where it ever was is found first, by a column of numbers alone: the key leads to the rest.
_MOVEMENTS: Final = named(
    """(SELECT at, cause, delta, sku, outlet_id, wholesaler_id FROM stock_movements
       WHERE imsi = {imsi:Int64} AND outlet_id IN
             (SELECT outlet_id FROM stock_movements_rows WHERE imsi = {imsi:Int64}))""",
    "ORDER BY at, delta",
)
_PAPERS: Final = """
SELECT at, if(complete = 1, 'complete', 'incomplete') AS papers FROM registrations
WHERE imsi = {imsi:Int64} ORDER BY at
"""


def find(request: ViewRequest, number: str) -> Row | None:
    """The card with this ICCID or IMSI: card, imsi, batch_id, sku; None if no batch has it.

    The i-th card of a batch has the i-th ICCID after its first and its first IMSI + i. An ICCID is
    too long for ClickHouse's integers, and batches are few, so they are looked through here.
    """
    if not (number.isascii() and number.isalnum() and 10 <= len(number) <= 22):
        return None
    for batch in request.rows(_BATCHES):
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


def page(request: ViewRequest) -> Page:
    """One card; 404 for one of no batch."""
    batch = find(request, request.path["card"])
    if batch is None:
        return not_found(N_("SIM"), N_("See all outlets"), "/outlets")
    card = batch["card"]
    this = {"imsi": int(batch["imsi"])}
    moves, papers = request.rows(_MOVEMENTS, this), request.rows(_PAPERS, this)
    return Page(
        N_("SIM"),
        [
            Facts([
                Figure(N_("Card"), card, "secret"),
                Figure(N_("Subscriber"), str(batch["imsi"]), "secret"),
                Figure(N_("Batch"), batch["batch_id"], "text"),
                Figure(N_("SKU"), batch["sku"], "text"),
                Figure(N_("State"), _where(moves), "status"),
                Figure(N_("Papers"), papers[-1]["papers"] if papers else "not back yet", "status"),
            ]),
            TableSection(N_("Its history"), (
                ColumnSpec("at", N_("At"), "second"), ColumnSpec("cause", N_("Cause"), "status"),
                OUTLET, ColumnSpec("delta", N_("Change"), "number"), WHOLESALER,
            ), moves, N_("It was never delivered to an outlet.")),
        ],
        freshness=of_stream(request),
    )  # fmt: skip


def _where(moves: list[Row]) -> str:
    if not moves:
        return N_("not delivered")
    last = moves[-1]
    if last["cause"] == "first_use":
        return N_("in use")
    return N_("on a shelf") if last["delta"] > 0 else N_("off the shelf")

"""*Wholesaler*: whom they serve, what is empty there, what they were told and what they said."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from infra.desk.page import Page, ViewRequest
from infra.desk.parts import (
    Chart,
    ColumnSpec,
    CustomSection,
    Facts,
    Figure,
    Figures,
    MessageList,
    TableSection,
)
from infra.desk.translation import N_
from infra.desk.views.not_found import missing
from infra.desk.views.notified import TOLD

_WHO: Final = """
SELECT wholesaler_id, name, phone, backup_phone, language FROM wholesalers
WHERE wholesaler_id = {who:String}
"""
_OUTLETS: Final = """
SELECT toInt64(count()) AS n FROM
(
    SELECT outlet_id, argMax(wholesaler_id, valid_from) AS holder FROM assignments
    WHERE valid_from <= (SELECT max(at) FROM stock_movements_rows) GROUP BY outlet_id
)
WHERE holder = {who:String}
"""
_OPEN: Final = f"""
WITH open AS
(
    SELECT incident_id, outlet_id, sku, opened_at FROM stock_incidents_rows FINAL
    WHERE wholesaler_id = {{who:String}} AND closed_at IS NULL
)
SELECT i.outlet_id AS outlet_id, if(o.name = '', i.outlet_id, o.name) AS outlet,
       t.name AS territory, i.sku AS sku, i.opened_at AS since, told.at AS told
FROM open AS i
LEFT JOIN outlets AS o ON o.outlet_id = i.outlet_id
LEFT JOIN territories AS t ON t.territory_id = o.territory_id
{TOLD}ORDER BY since, outlet_id, sku LIMIT 200
"""  # noqa: S608 - pieces of our own
_CARDS: Final = """
SELECT period, timeliness, incidents, stock_outs_open, activations, completeness, diversion_cases
FROM wholesaler_scorecard WHERE wholesaler_id = {who:String} ORDER BY period
"""
_MESSAGES: Final = """
SELECT created_at AS at, status, body FROM sms_messages
WHERE wholesaler_id = {who:String} ORDER BY created_at DESC, message_id LIMIT 10
"""
_ANSWERS: Final = """
SELECT at, kind, by FROM answers
WHERE wholesaler_id = {who:String} AND kind != 'status' ORDER BY at DESC LIMIT 10
"""

_NO_PHONE: Final = N_("No phone number is on file: nobody is told when an outlet runs out.")


def _outlets(name: str) -> str:
    return f"/outlets?{urlencode({'wholesaler': name})}" if name else ""


def page(asked: ViewRequest) -> Page:
    """One wholesaler; 404 for one that is not in the reference tables."""
    this = {"who": asked.path["wholesaler"]}
    who = asked.row(_WHO, this)
    if who is None:
        return missing(N_("Wholesaler"), N_("See all wholesalers"), "/wholesalers")
    opened, cards = asked.rows(_OPEN, this), asked.rows(_CARDS, this)
    last = cards[-1] if cards else {}
    held = asked.row(_OUTLETS, this)
    return Page(
        N_("Wholesaler"),
        [
            Figures([
                Figure(N_("Outlets held"), held and held["n"], link=_outlets(who["name"])),
                Figure(N_("Empty shelves"), len(opened), tone="bad" if opened else "good"),
                Figure(N_("In time, newest month"), last.get("timeliness"), "share"),
                Figure(N_("New subscribers, newest month"), last.get("activations")),
                Figure(N_("Papers complete, newest month"), last.get("completeness"), "share"),
            ]),
            *([] if who["phone"] else [CustomSection("notice.html.j2", {"text": _NO_PHONE})]),
            Facts([
                Figure(N_("Number"), who["wholesaler_id"], "text"),
                Figure(N_("Phone"), who["phone"], "secret"),
                Figure(N_("Backup phone"), who["backup_phone"], "secret"),
                Figure(N_("Language of messages"), who["language"], "word"),
            ]),
            TableSection(N_("Empty now, the longest first"), (
                ColumnSpec("outlet", N_("Outlet"), link="/outlets/", to="outlet_id"),
                ColumnSpec("territory", N_("Territory")), ColumnSpec("sku", N_("SKU")),
                ColumnSpec("since", N_("Since"), "time"), ColumnSpec("told", N_("Told"), "time"),
            ), opened, N_("No outlet is at zero.")),
            Chart(N_("New subscribers by period"), "bar", (
                ColumnSpec("period", N_("Period")),
                ColumnSpec("activations", N_("New subscribers"), "number"),
            ), cards if len(cards) > 1 else [],
                N_("Two periods or more make a picture: the channel job adds one each month.")),
            TableSection(N_("By period"), (
                ColumnSpec("period", N_("Period")),
                ColumnSpec("timeliness", N_("In time"), "share"),
                ColumnSpec("incidents", N_("Stock-outs"), "number"),
                ColumnSpec("stock_outs_open", N_("Still open"), "number"),
                ColumnSpec("activations", N_("New subscribers"), "number"),
                ColumnSpec("completeness", N_("Papers complete"), "share"),
                ColumnSpec("diversion_cases", N_("Diversion cases"), "number"),
            ), cards[::-1], N_("The channel job has not run yet.")),
            MessageList(N_("Last messages"), asked.rows(_MESSAGES, this),
                     N_("No message went out yet.")),
            TableSection(N_("Last answers"), (
                ColumnSpec("at", N_("At"), "time"), ColumnSpec("kind", N_("Answer"), "word"),
                ColumnSpec("by", N_("By"), "word"),
            ), asked.rows(_ANSWERS, this), N_("No answer came yet.")),
        ],
        name=who["name"] or who["wholesaler_id"],
    )  # fmt: skip

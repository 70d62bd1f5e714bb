"""*Wholesaler*: whom they serve, what is empty there, their messages and answers."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from infra.desk.freshness import of_stream
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
    column,
    columns,
    figure,
)
from infra.desk.translation import N_
from infra.desk.views.common import NOTIFIED, named, not_found
from infra.desk.views.lists import OUTLET, STOCK_OUT_ROWS, TERRITORY

_WHO: Final = """
SELECT wholesaler_id, name, phone, backup_phone, language FROM wholesalers
WHERE wholesaler_id = {who:String}
"""
_OUTLETS: Final = """
SELECT toInt64(count()) AS n FROM outlet_holders WHERE wholesaler_id = {who:String}
"""
_OPEN: Final = f"""
WITH open AS
(
    SELECT incident_id, outlet_id, sku, opened_at FROM {STOCK_OUT_ROWS}
    WHERE wholesaler_id = {{who:String}} AND closed_at IS NULL
)
SELECT i.incident_id AS incident_id, i.outlet_id AS outlet_id, i.outlet AS outlet,
       i.territory AS territory, i.sku AS sku,
       i.opened_at AS opened_at, notified.at AS notified_at
FROM ({named("open", wholesaler=False)}) AS i
{NOTIFIED}ORDER BY opened_at, outlet_id, sku LIMIT 201
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

_NO_PHONE: Final = N_("No phone number is on file: nobody is notified when an outlet runs out.")


def _outlets(name: str) -> str:
    return f"/outlets?{urlencode({'wholesaler': name})}" if name else ""


def page(request: ViewRequest) -> Page:
    """One wholesaler; 404 for one that is not in the reference tables."""
    this = {"who": request.path["wholesaler"]}
    who = request.row(_WHO, this)
    if who is None:
        return not_found(N_("Wholesaler"), N_("See all wholesalers"), "/wholesalers")
    opened, cards = request.rows(_OPEN, this), request.rows(_CARDS, this)
    last = cards[-1] if cards else {}
    held = request.row(_OUTLETS, this)
    return Page(
        N_("Wholesaler"),
        [
            Figures([
                Figure(N_("Outlets served"), held and held["n"], link=_outlets(who["name"])),
                Figure(N_("Empty shelves"), len(opened), tone="bad" if opened else "good"),
                figure("wholesaler_scorecard", "timeliness", last.get("timeliness")),
                figure("wholesaler_scorecard", "activations", last.get("activations")),
                figure("wholesaler_scorecard", "completeness", last.get("completeness")),
            ]),
            *([] if who["phone"] else [CustomSection("notice.html.j2", {"text": _NO_PHONE})]),
            Facts([
                Figure(N_("Figures of the month"), last.get("period"), "text"),
                Figure(N_("Number"), who["wholesaler_id"], "text"),
                Figure(N_("Phone"), who["phone"], "secret"),
                Figure(N_("Backup phone"), who["backup_phone"], "secret"),
                Figure(N_("Language of messages"), who["language"], "status"),
            ]),
            TableSection(N_("Empty now, longest first"), (
                OUTLET, TERRITORY,
                *columns("stock_incidents", "sku"),
                column("stock_incidents", "opened_at", link="/stock-outs/", to="incident_id"),
                *columns("stock_incidents", "notified_at"),
            ), opened, N_("No shelf is empty."), limit=200),
            Chart(N_("New subscribers by period"), "bar", (
                ColumnSpec("period", N_("Period")),
                ColumnSpec("activations", N_("New subscribers"), "number"),
            ), cards if len(cards) > 1 else [],
                N_("A chart needs two periods or more: the channel job adds one each month.")),
            TableSection(N_("By period"), (
                ColumnSpec("period", N_("Period")),
                *columns("wholesaler_scorecard", "timeliness", "incidents", "stock_outs_open",
                         "activations", "completeness", "diversion_cases"),
            ), cards[::-1], N_("The channel job has not run yet.")),
            MessageList(N_("Last messages"), request.rows(_MESSAGES, this),
                     N_("No message went out yet.")),
            TableSection(N_("Last answers"), (
                ColumnSpec("at", N_("At"), "time"), ColumnSpec("kind", N_("Answer"), "status"),
                ColumnSpec("by", N_("By"), "status"),
            ), request.rows(_ANSWERS, this), N_("No answer came yet.")),
        ],
        name=who["name"] or who["wholesaler_id"],
        freshness=of_stream(request),
    )  # fmt: skip

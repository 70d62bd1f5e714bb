"""*Stock-out*: how long a shelf was empty, who was notified when and how, and why not."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from infra.desk.freshness import of_stream
from infra.desk.page import Page, ViewRequest
from infra.desk.parts import (
    ColumnSpec,
    CustomSection,
    Facts,
    Figure,
    Figures,
    MessageList,
    Row,
    TableSection,
)
from infra.desk.translation import N_
from infra.desk.views.common import named, not_found

_INCIDENT: Final = named(
    """(SELECT *, dateDiff('second', opened_at, ifNull(closed_at, (SELECT until FROM data_until)))
                  / 3600 AS hours
        FROM stock_incidents WHERE incident_id = {id:String})"""
)
# One that never was shows nowhere else; who was notified of it asks here.
_NEVER_WAS: Final = named(
    """(SELECT incident_id, outlet_id, sku, wholesaler_id, opened_at, closed_at, withdrawn,
               toDateTime64(NULL, 3, 'UTC') AS notified_at, toFloat64(0) AS hours
        FROM stock_incidents_rows
        WHERE incident_id = {id:String} ORDER BY version DESC LIMIT 1)"""
)
_TODAY: Final = named(
    """(SELECT h.wholesaler_id AS wholesaler_id, p.phone AS phone FROM outlet_holders AS h
       LEFT JOIN wholesalers AS p ON p.wholesaler_id = h.wholesaler_id
       WHERE h.outlet_id = {outlet:String})""",
    outlet=False,
)
_MESSAGES: Final = """
SELECT message_id, created_at AS at, status, body, attempts, error
FROM sms_messages WHERE has(incident_ids, {id:String}) ORDER BY at, message_id
"""
# Answers that came when the stock-out was over bear its message's id only.
_EVENTS: Final = """
SELECT at, kind, by, JSONExtractString(detail, 'to') AS to,
       arrayStringConcat(arrayFilter(x -> x != '', [
           JSONExtractString(detail, 'why'), JSONExtractString(detail, 'waited_for'),
           JSONExtractString(detail, 'status'), JSONExtractString(detail, 'reason')
       ]), '; ') AS why,
       arrayStringConcat(arrayFilter(x -> x != '', [
           JSONExtractString(detail, 'note'), JSONExtractString(detail, 'text')
       ]), '; ') AS note,
       if(JSONExtractInt(detail, 'until') > 0,
          toNullable(fromUnixTimestamp64Milli(JSONExtractInt(detail, 'until'), 'UTC')), NULL
       ) AS until
FROM alert_news
WHERE incident_id = {id:String} OR (incident_id = '' AND message_id != '' AND message_id IN
      (SELECT message_id FROM sms_messages WHERE has(incident_ids, {id:String})))
ORDER BY at, kind
"""
_SENT: Final = frozenset({"sent", "delivered", "read"})


def page(request: ViewRequest) -> Page:
    """One stock-out; 404 for one that there is not."""
    this = {"id": request.path["incident"]}
    incident = request.row(_INCIDENT, this) or request.row(_NEVER_WAS, this)
    if incident is None:
        return not_found(N_("Stock-out"), N_("See all stock-outs"), "/stock-outs?month=")
    today = request.row(_TODAY, {"outlet": incident["outlet_id"]})
    events, messages = request.rows(_EVENTS, this), request.rows(_MESSAGES, this)
    verdict, reason = _verdict(incident, events, messages)
    return Page(
        N_("Stock-out"),
        [
            Figures([
                Figure(N_("Since"), incident["opened_at"], "time"),
                Figure(N_("Refilled"), incident["closed_at"], "time",
                       tone="" if incident["closed_at"] else "bad"),
                Figure(N_("Empty for (hours)"), incident["hours"], "decimal", about=N_(
                    "From the moment it ran out until it was refilled, or until the end of the"
                    " data.")),
                Figure(N_("Notified"), incident["notified_at"], "time", about=N_(
                    "When the first message that lists this stock-out was made and went out.")),
            ]),
            CustomSection("verdict.html.j2", {"text": verdict, "reason": reason}),
            Facts([
                Figure(N_("Outlet"), incident["outlet"], "text",
                       link=f"/outlets/{quote(incident['outlet_id'], '')}"),
                Figure(N_("SKU"), incident["sku"], "text"),
                Figure(N_("Territory"), incident["territory"], "text"),
                _wholesaler(N_("Wholesaler when it ran out"), incident),
                *([_wholesaler(N_("Wholesaler today"), today),
                   Figure(N_("Phone"), today["phone"], "secret")] if today else []),
            ]),
            TableSection(N_("What was decided and heard"), (
                ColumnSpec("at", N_("At"), "second"), ColumnSpec("kind", N_("What"), "status"),
                ColumnSpec("to", N_("To whom"), "status"), ColumnSpec("why", N_("Why"), "status"),
                ColumnSpec("until", N_("Waits until"), "time"),
                ColumnSpec("note", N_("Note"), "long"), ColumnSpec("by", N_("By"), "status"),
            ), events, N_("Nothing was decided yet: it is being gathered with others, or the alerts"
                          " worker has not reached it.")),
            MessageList(N_("Messages about it"), messages, N_("No message about it was made.")),
        ],
        name=f"{incident['outlet']} · {incident['sku']}",
        freshness=of_stream(request),
    )  # fmt: skip


def _wholesaler(label: str, row: Row) -> Figure:
    link = f"/wholesalers/{quote(row['wholesaler_id'], '')}" if row["wholesaler_id"] else ""
    return Figure(label, row["wholesaler"], "text" if link else "status", link=link)


def _verdict(incident: Row, events: list[Row], messages: list[Row]) -> tuple[str, str]:
    """Whether somebody was notified, in a sentence; and the reason if not."""
    notified = any(message["status"] in _SENT for message in messages)
    if incident.get("withdrawn"):
        if notified:
            return N_("There was no stock-out: that became known after a message went out."), ""
        return N_("There was no stock-out: that became known before a message went out."), ""
    if notified:
        return N_("A message about this stock-out went out."), ""
    failed = [message for message in messages if message["status"] not in ("", "pending")]
    if failed:
        return N_("Nobody was notified: the message did not go out."), failed[-1]["status"]
    if not incident["wholesaler_id"]:
        return N_("Nobody was notified: no wholesaler served the outlet."), ""
    waits = [event for event in events if event["why"]]
    if waits and incident["closed_at"] is None:
        return N_("Nobody has been notified yet."), waits[-1]["why"]
    if waits:
        return N_("Nobody was notified."), waits[-1]["why"]
    return N_("Nothing was decided about notifying anybody yet."), ""

"""*Now*: what is empty, since when, who was notified; stock-outs by the hour; messages; delays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import urlencode

from infra.desk.freshness import of_stream
from infra.desk.page import Freshness, Page, Services, ViewRequest
from infra.desk.parts import (
    Chart,
    ColumnSpec,
    Figure,
    Figures,
    MessageList,
    Pair,
    Row,
    TableSection,
    column,
    columns,
)
from infra.desk.translation import N_
from infra.desk.views.common import NOTIFIED, choose, first_run, named, of_named
from infra.desk.views.lists import HOURS, OUTLET, STOCK_OUT_ROWS, TERRITORY, WHOLESALER

_MOST: Final = 50
_MOST_OF_ALL: Final = 6

_AT_ZERO: Final = f"""
WITH open AS
(
    SELECT incident_id, outlet_id, sku, wholesaler_id, opened_at
    FROM {STOCK_OUT_ROWS} WHERE closed_at IS NULL
)
SELECT i.incident_id AS incident_id, i.outlet_id AS outlet_id, i.outlet AS outlet,
       i.territory_of AS territory_of, i.territory AS territory,
       i.wholesaler_id AS wholesaler_id, i.wholesaler AS wholesaler,
       i.sku AS sku, i.opened_at AS opened_at, notified.at AS notified_at, answer.kind AS answer
FROM ({named("open")}) AS i
{NOTIFIED}LEFT JOIN
(
    SELECT incident_id, argMax(alert_news.kind, alert_news.at) AS kind
    FROM alert_news
    WHERE alert_news.kind IN ('acknowledged', 'delivering', 'cannot')
      AND incident_id IN (SELECT incident_id FROM open)
    GROUP BY incident_id
) AS answer ON answer.incident_id = i.incident_id
ORDER BY opened_at, outlet_id, sku
"""  # noqa: S608 - pieces of our own
_SHELVES: Final = """
SELECT n.territory_id AS territory_of, h.wholesaler_id AS wholesaler_id,
       toInt64(sum(s.shelves)) AS shelves, groupArrayIf(s.outlet_id, s.on_hand = 0) AS empty
FROM
(
    SELECT outlet_id, count() AS shelves, sum(on_hand) AS on_hand FROM stock_on_hand
    GROUP BY outlet_id
) AS s
LEFT JOIN outlet_names AS n ON n.outlet_id = s.outlet_id
LEFT JOIN outlet_holders AS h ON h.outlet_id = s.outlet_id
GROUP BY territory_of, wholesaler_id
"""
# The clock is that of the newest movement: a run over old files has its own.
_FLOW: Final = """
WITH (SELECT until FROM data_until) AS newest
SELECT newest, toInt64(countIf(cause = 'first_use')) AS sold,
       toInt64(countIf(cause = 'delivery')) AS delivered
FROM stock_movements
WHERE at > newest - INTERVAL 1 HOUR AND at <= newest
  AND toYYYYMM(at) >= toYYYYMM(newest - INTERVAL 1 HOUR)
"""
# Nobody is notified before a shelf is empty: messages of the last day suffice.
_DELAYS: Final = """
WITH (SELECT max(opened_at) FROM stock_incidents_rows) AS newest
SELECT quantileExact(0.5)(dateDiff('second', i.opened_at, notified.at)) AS half,
       quantileExact(0.9)(dateDiff('second', i.opened_at, notified.at)) AS most,
       toInt64(count()) AS n
FROM
(
    SELECT incident_id, opened_at FROM stock_incidents_rows FINAL
    WHERE opened_at > newest - INTERVAL 1 DAY
) AS i
JOIN
(
    SELECT incident_id, min(created_at) AS at
    FROM sms_messages ARRAY JOIN incident_ids AS incident_id
    WHERE status IN ('sent', 'delivered', 'read') AND created_at > newest - INTERVAL 1 DAY
    GROUP BY incident_id
) AS notified ON notified.incident_id = i.incident_id
"""
_HOURS: Final = """
WITH (SELECT toDate(max(opened_at), {zone:String}) FROM stock_incidents_rows) AS day
SELECT toHour(opened_at, {zone:String}) AS hour, toInt64(count()) AS n, any(day) AS of
FROM stock_incidents_rows FINAL
WHERE toDate(opened_at, {zone:String}) = day
GROUP BY hour ORDER BY hour
"""
_MESSAGES: Final = named(
    "(SELECT created_at AS at, message_id, wholesaler_id, status, body FROM sms_messages)",
    "ORDER BY at DESC, message_id LIMIT 5",
    outlet=False,
)

_OUTLETS: Final = "SELECT toInt64(count()) AS n FROM outlets"
_PLACES: Final = """
SELECT territory_id AS value, name FROM territories
WHERE territory_id IN (SELECT territory_id FROM outlets) ORDER BY name, value LIMIT 500
"""
_PEOPLE: Final = """
SELECT wholesaler_id AS value, name FROM wholesalers ORDER BY name, value LIMIT 500
"""

_COLUMNS: Final = (
    OUTLET,
    TERRITORY,
    WHOLESALER,
    *columns("stock_incidents", "sku"),
    column("stock_incidents", "opened_at", link="/stock-outs/", to="incident_id"),
    HOURS,
    column("stock_incidents", "notified_at"),
    ColumnSpec("answer", N_("Answer"), "status"),
)


@dataclass(frozen=True)
class Channel:
    """The whole channel at one moment, whoever looks at whatever part of it."""

    at_zero: list[Row]
    shelves: list[Row]
    flow: Row
    delays: Row
    hours: list[Row]
    messages: list[Row]
    places: list[Row]
    people: list[Row]
    freshness: Freshness
    outlets: int


def live(request: ViewRequest) -> Callable[[Mapping[str, str]], Page]:
    """Asks the warehouse, once for all who watch; gives what context any part of the channel."""
    now = Channel(
        request.rows(_AT_ZERO),
        request.rows(_SHELVES),
        request.row(_FLOW) or {},
        request.row(_DELAYS) or {},
        request.rows(_HOURS),
        request.rows(_MESSAGES),
        request.rows(_PLACES),
        request.rows(_PEOPLE),
        of_stream(request),
        (request.row(_OUTLETS) or {"n": 0})["n"],
    )
    return partial(_page, now, request.services)


def page(request: ViewRequest) -> Page:
    """The state of the channel at this moment, for all of it or one territory or wholesaler."""
    return live(request)(request.query)


def _page(now: Channel, services: Services, query: Mapping[str, str]) -> Page:
    territory, wholesaler = query.get("territory", ""), query.get("wholesaler", "")
    newest = now.flow.get("newest")
    rows: list[Row] = [
        {**row, "hours": _hours_until(newest, row["opened_at"])}
        for row in now.at_zero
        if territory in ("", row["territory_of"]) and wholesaler in ("", row["wholesaler_id"])
    ]
    unnotified = sum(row["notified_at"] is None for row in rows)
    waiting = sum(not row["answer"] for row in rows)
    figures = [
        *_empty(now, rows, territory, wholesaler),
        Figure(
            N_("Not notified yet"),
            unnotified,
            tone="bad" if unnotified else "",
            about=N_("Empty shelves of which no message has gone out."),
        ),
        *_unserved(rows),
        Figure(
            N_("No answer yet"),
            waiting,
            about=N_("Empty shelves of which no wholesaler has answered a message."),
        ),
    ]
    here = {
        name: next((row[name] for row in rows), "")
        for name, chosen in (("territory", territory), ("wholesaler", wholesaler))
        if chosen
    }
    above = [
        choose(
            of_named("territory", N_("Territory"), now.places, territory, N_("all")),
            of_named("wholesaler", N_("Wholesaler"), now.people, wholesaler, N_("all")),
            live=True,
        )
    ]
    if now.freshness.until is None and not now.at_zero:
        return replace(first_run(services, outlets=now.outlets), title=N_("Now"), above=above)
    return Page(
        N_("Now"),
        above=above,
        parts=[
            Figures([*figures, *([] if here else _flow(now))]),
            Pair((
                _most(N_("Where most shelves are empty"), "territory", "territory_of", rows),
                _most(N_("Whose shelves are empty"), "wholesaler", "wholesaler_id", rows),
            )),
            # What is not told apart by place and person stands on the page of the whole alone.
            *([] if here else [Pair((
                _hours(now.hours),
                MessageList(N_("Messages as they go out"), now.messages,
                         N_("No message went out yet.")),
            ))]),
            TableSection(N_("Empty shelves, longest first"), _COLUMNS, rows,
                         N_("No shelf is empty."), more=_all_open(**here), limit=_MOST),
        ],
        freshness=now.freshness,
    )  # fmt: skip


def _empty(now: Channel, rows: list[Row], territory: str, wholesaler: str) -> list[Figure]:
    """Outlets without any SIM, outlets with an empty shelf, and empty shelves."""
    here = [
        row
        for row in now.shelves
        if territory in ("", row["territory_of"]) and wholesaler in ("", row["wholesaler_id"])
    ]
    nothing = {outlet for row in here for outlet in row["empty"]}
    some = {row["outlet_id"] for row in rows}
    shelves = sum(row["shelves"] for row in here)
    rate = (100 * len(rows) / shelves, N_("per 100 shelves")) if shelves else None
    return [
        Figure(N_("Empty outlets"), len(nothing & some), tone="bad" if nothing & some else "good",
               about=N_("Outlets that have run out of every SKU: no SIM is left.")),
        Figure(N_("Outlets with an empty shelf"), len(some),
               about=N_("Outlets that have run out of at least one SKU, empty outlets included.")),
        Figure(N_("Empty shelves"), len(rows), per_100=rate, about=N_(
            "Shelves (an outlet and an SKU) that were stocked once and hold no SIM now.")),
    ]  # fmt: skip


def _flow(now: Channel) -> list[Figure]:
    """How the whole channel goes."""
    delays = now.delays if now.delays.get("n") else {}
    return [
        Figure(N_("Median time to notify (s)"), delays.get("half"), about=N_(
            "From the moment a shelf ran out until its message was made, of the last day's"
            " stock-outs.")),
        Figure(N_("90% notified within (s)"), delays.get("most")),
        Figure(N_("SIMs sold in the last hour"), now.flow.get("sold")),
    ]  # fmt: skip


def _hours_until(newest: datetime | None, since: datetime) -> float | None:
    return (newest - since).total_seconds() / 3_600 if newest and newest >= since else None


def _unserved(rows: list[Row]) -> list[Figure]:
    """Nobody can be notified of these: shown only when there are some."""
    count = sum(not row["wholesaler_id"] for row in rows)
    link = _all_open(wholesaler="(nobody)")
    label = N_("At outlets nobody serves")
    return [Figure(label, count, tone="bad", link=link)] if count else []


def _all_open(**only: str) -> str:
    longest_first = {"month": "", "state": "open", "sort": "opened_at", "dir": "asc"}
    return f"/stock-outs?{urlencode({**longest_first, **only})}"


def _most(title: str, name: str, of: str, rows: list[Row]) -> TableSection:
    """Those with most empty shelves; each leads to this page of it alone."""
    found = Counter((row[of], row[name]) for row in rows)
    top = found.most_common(_MOST_OF_ALL)
    return TableSection(
        title,
        (
            ColumnSpec("name", N_(name.capitalize()), "name", link=f"/?{name}=", to="id"),
            ColumnSpec("shelves", N_("Empty shelves"), "number", bar="of_most"),
        ),
        [
            {"id": key, "name": text, "shelves": n, "of_most": n / top[0][1]}
            for (key, text), n in top
        ],
        N_("No shelf is empty."),
    )


def _hours(rows: list[Row]) -> Chart:
    found = {row["hour"]: row for row in rows}
    hours = [
        {"hour": f"{hour:02d}:00", "n": found[hour]["n"] if hour in found else 0}
        for hour in range(24)
    ]
    return Chart(
        N_("Stock-outs by hour, on the latest day"),
        "bar",
        (ColumnSpec("hour", N_("Hour")), ColumnSpec("n", N_("Stock-outs"), "number")),
        hours if found else [],
        N_("No outlet ever ran out."),
    )

"""What several views share: names in SQL, choices, and what is said where there is nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from infra.desk.page import Page, Services
from infra.desk.parts import CustomSection, Row
from infra.desk.translation import N_

#: Joins `notified.at` to `i`, for the stock-outs of a `WITH open AS (…)`: when the first message
#: that lists each went out.
NOTIFIED: Final = """LEFT JOIN
(
    SELECT incident_id, toNullable(min(created_at)) AS at
    FROM sms_messages ARRAY JOIN incident_ids AS incident_id
    WHERE status IN ('sent', 'delivered', 'read')
      AND incident_id IN (SELECT incident_id FROM open)
    GROUP BY incident_id
) AS notified ON notified.incident_id = i.incident_id
"""


def named(rows: str, then: str = "", *, outlet: bool = True, wholesaler: bool = True) -> str:
    """The rows of a table or of a statement in brackets, with names beside their ids.

    `outlet_id` gets `outlet`, `territory` and `territory_of` (its id), `wholesaler_id` gets
    `wholesaler`. What the reference tables do not know goes by its id. `then` ends the statement.
    """
    # Names under names of their own: `x.*` would rename columns that both sides have.
    columns, joins = ["x.*"], []
    if outlet:
        columns.append(
            "if(outlet_name = '', x.outlet_id, outlet_name) AS outlet, territory, territory_of"
        )
        joins.append(
            "LEFT JOIN (SELECT outlet_id AS of_outlet, outlet AS outlet_name, territory,"
            " territory_id AS territory_of FROM outlet_names) AS o ON o.of_outlet = x.outlet_id"
        )
    if wholesaler:
        columns.append("if(wholesaler_name = '', x.wholesaler_id, wholesaler_name) AS wholesaler")
        joins.append(
            "LEFT JOIN (SELECT wholesaler_id AS of_wholesaler, wholesaler AS wholesaler_name"
            " FROM wholesaler_names) AS w ON w.of_wholesaler = x.wholesaler_id"
        )
    return f"SELECT {', '.join(columns)} FROM {rows} AS x {' '.join(joins)} {then}"  # noqa: S608


@dataclass(frozen=True)
class Choice:
    """A field of the address, and what it can be: value and text."""

    name: str
    label: str
    options: list[tuple[str, str]]
    chosen: str


def choose(*choices: Choice, live: bool = False) -> CustomSection:
    """The form that chooses; on a live page with a button that pauses it."""
    return CustomSection("choose.html.j2", {"choices": choices, "live": live})


def of_values(name: str, label: str, values: Iterable[object], chosen: object) -> Choice:
    """One of some values, each its own text."""
    return Choice(name, label, [(str(one), str(one)) for one in values], str(chosen))


def of_named(name: str, label: str, rows: Iterable[Row], chosen: str, everything: str) -> Choice:
    """One of some rows with `value` and `name`, or all of them."""
    options = [(str(row["value"]), str(row["name"] or row["value"])) for row in rows]
    return Choice(name, label, [("", everything), *options], chosen)


def not_found(title: str, where: str, link: str) -> Page:
    """404, and where to look instead."""
    text = N_("There is nothing at this address.")
    context = {"text": text, "where": where, "link": link}
    return Page(title, [CustomSection("notice.html.j2", context)], status=404)


def first_run(services: Services, *, outlets: int = 0) -> Page:
    """The way from nothing to data; `outlets` are known already."""
    steps = [
        (N_("Put the files into an exchange directory (docs/contract.md says which), or simulate a"
            " city:"), "zerostock simulate --out city --outlets 300 --cdrs 100000"),
        (N_("Read the events, and keep reading:"),
         f"zerostock run --input city --data {services.data} --follow"),
        (N_("Compute the monthly figures:"),
         f"zerostock batch channel --period YYYY-MM --input city --data {services.data}"),
        (N_("Create logins before others may see the page:"),
         f"zerostock users add NAME --role admin --data {services.data}"),
    ]  # fmt: skip
    context = {"steps": steps, "outlets": outlets}
    return Page(N_("Getting started"), [CustomSection("first_run.html.j2", context)])


def unfilled(title: str, command: str) -> Page:
    """A view without rows yet, and the command that fills it."""
    return Page(title, [CustomSection("unfilled.html.j2", {"command": command})])

"""*Search*: outlets and wholesalers by number or name, a SIM or a phone by its number."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from infra.desk.page import Answer, Page, Redirect, ViewRequest
from infra.desk.parts import ColumnSpec, CustomSection, TableSection
from infra.desk.translation import N_
from infra.desk.views import sim

_OUTLETS: Final = """
SELECT o.outlet_id AS outlet_id, if(o.name = '', o.outlet_id, o.name) AS outlet,
       t.name AS territory, o.kind AS kind
FROM outlets AS o LEFT JOIN territories AS t ON t.territory_id = o.territory_id
WHERE positionCaseInsensitiveUTF8(concat(o.outlet_id, ' ', o.name), {text:String}) > 0
ORDER BY lower(o.outlet_id) != lower({text:String}), length(o.name), o.outlet_id LIMIT 50
"""
_WHOLESALERS: Final = """
SELECT wholesaler_id, if(name = '', wholesaler_id, name) AS wholesaler FROM wholesalers
WHERE positionCaseInsensitiveUTF8(concat(wholesaler_id, ' ', name), {text:String}) > 0
ORDER BY lower(wholesaler_id) != lower({text:String}), name LIMIT 50
"""
# The whole number or its end of eight digits: not a way to find out numbers by trying.
_PHONES: Final = """
SELECT wholesaler_id, if(name = '', wholesaler_id, name) AS wholesaler FROM wholesalers
WHERE (phone != '' AND endsWith(phone, {digits:String}))
   OR (backup_phone != '' AND endsWith(backup_phone, {digits:String}))
ORDER BY wholesaler_id LIMIT 50
"""


def page(asked: ViewRequest) -> Answer:
    """What fits; where it can only be one thing, that thing itself."""
    text = asked.query.get("q", "").strip()[:100]
    if not text:
        return Page(N_("Search"), [_hint()])
    digits = re.sub(r"[\s()+-]", "", text)
    card = sim.find(asked, digits)
    if card is not None:
        return Redirect(f"/sims/{digits}")  # as it was typed: no more than the visitor knew
    outlets = asked.rows(_OUTLETS, {"text": text})
    people = asked.rows(_WHOLESALERS, {"text": text})
    if digits.isdigit() and len(digits) >= 8:
        people += asked.rows(_PHONES, {"digits": digits})
    if len(outlets) + len(people) == 1:
        return Redirect(
            f"/outlets/{quote(outlets[0]['outlet_id'], '')}"
            if outlets
            else f"/wholesalers/{quote(people[0]['wholesaler_id'], '')}"
        )
    if not outlets and not people:
        return Page(N_("Search"), [_hint(N_("Nothing fits."))], name=text)
    return Page(
        N_("Search"),
        [
            TableSection(N_("Outlets"), (
                ColumnSpec("outlet_id", N_("Number"), link="/outlets/"),
                ColumnSpec("outlet", N_("Outlet"), link="/outlets/", to="outlet_id"),
                ColumnSpec("kind", N_("Kind"), "word"), ColumnSpec("territory", N_("Territory")),
            ), outlets, N_("No outlet fits.")),
            TableSection(N_("Wholesalers"), (
                ColumnSpec("wholesaler_id", N_("Number"), link="/wholesalers/"),
                ColumnSpec("wholesaler", N_("Wholesaler"), link="/wholesalers/", to="wholesaler_id"),
            ), people, N_("No wholesaler fits.")),
        ],
        name=text,
    )  # fmt: skip


def _hint(found: str = "") -> CustomSection:
    return CustomSection("hint.html.j2", {"found": found})

"""*Search*: outlets and wholesalers by number or name, a SIM or a phone by its number."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from infra.desk.page import Answer, Page, Redirect, ViewRequest
from infra.desk.parts import ColumnSpec, CustomSection, TableSection, column
from infra.desk.translation import N_
from infra.desk.views import sim
from infra.desk.views.lists import OUTLET, TERRITORY, WHOLESALER

_OUTLETS: Final = """
SELECT outlet_id, outlet, territory, kind FROM outlet_names
WHERE positionCaseInsensitiveUTF8(concat(outlet_id, ' ', outlet), {text:String}) > 0
ORDER BY lower(outlet_id) != lower({text:String}), length(outlet), outlet_id LIMIT 51
"""
_WHOLESALERS: Final = """
SELECT wholesaler_id, wholesaler FROM wholesaler_names
WHERE wholesaler_id != ''
  AND positionCaseInsensitiveUTF8(concat(wholesaler_id, ' ', wholesaler), {text:String}) > 0
ORDER BY lower(wholesaler_id) != lower({text:String}), wholesaler LIMIT 51
"""
# The whole number or its end of eight digits: not a way to find out numbers by trying.
_PHONES: Final = """
SELECT wholesaler_id, if(name = '', wholesaler_id, name) AS wholesaler FROM wholesalers
WHERE (phone != '' AND endsWith(phone, {digits:String}))
   OR (backup_phone != '' AND endsWith(backup_phone, {digits:String}))
ORDER BY wholesaler_id LIMIT 51
"""


def page(request: ViewRequest) -> Answer:
    """What fits; where it can only be one thing, that thing itself."""
    text = request.query.get("q", "").strip()[:100]
    if not text:
        return Page(N_("Search"), [_hint()])
    digits = re.sub(r"[\s()+-]", "", text)
    card = sim.find(request, digits)
    if card is not None:
        return Redirect(f"/sims/{digits}")  # as it was typed: no more than the visitor knew
    outlets = request.rows(_OUTLETS, {"text": text})
    people = request.rows(_WHOLESALERS, {"text": text})
    if digits.isdigit() and len(digits) >= 8:
        people += request.rows(_PHONES, {"digits": digits})
    if len(outlets) + len(people) == 1:
        return Redirect(
            f"/outlets/{quote(outlets[0]['outlet_id'], '')}"
            if outlets
            else f"/wholesalers/{quote(people[0]['wholesaler_id'], '')}"
        )
    if not outlets and not people:
        return Page(N_("Search"), [_hint(N_("Nothing matches."))], name=text)
    return Page(
        N_("Search"),
        [
            TableSection(N_("Outlets"), (
                column("outlet_names", "outlet_id", link="/outlets/"), OUTLET,
                ColumnSpec("kind", N_("Kind"), "status"), TERRITORY,
            ), outlets, N_("No outlet matches."), limit=50),
            TableSection(N_("Wholesalers"), (
                ColumnSpec("wholesaler_id", N_("Number"), link="/wholesalers/"),
                WHOLESALER,
            ), people, N_("No wholesaler matches."), limit=50),
        ],
        name=text,
    )  # fmt: skip


def _hint(found: str = "") -> CustomSection:
    return CustomSection("hint.html.j2", {"found": found})

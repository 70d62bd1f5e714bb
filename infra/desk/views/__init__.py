"""Every view of the desk, and how they stand in the menu."""

from __future__ import annotations

from functools import partial
from typing import Final

from infra.desk.page import MenuEntry, MenuGroup, View
from infra.desk.tables import table_page
from infra.desk.translation import N_
from infra.desk.views import (
    arrears,
    diversion,
    lists,
    loss,
    now,
    outlet,
    search,
    sim,
    system,
    wholesaler,
)
from infra.desk.views import dead_letters as letters

_LISTS: Final = {
    one.path: View(one.path, one.title, partial(table_page, one))
    for one in (*lists.TABLES, loss.READINGS, letters.LETTERS)
}
_NOW: Final = View("/", N_("Now"), now.page, live=now.live)
_LOSS: Final = View("/loss", N_("Loss"), loss.page)
_ARREARS: Final = View("/arrears", N_("Arrears"), arrears.page)
_SYSTEM: Final = View("/system", N_("System"), system.page)
_LETTERS: Final = View(
    "/dead-letters", letters.LETTERS.title, letters.page, letters.replay, "replay"
)

MENU: Final = (
    MenuGroup(N_("Shops"), [
        _NOW, _LISTS["/stock-outs"], _LISTS["/outlets"], _LISTS["/soon-empty"],
        _LISTS["/ranking"],
    ]),
    MenuGroup(N_("Partners"), [
        _LISTS["/wholesalers"], _LISTS["/diversion"], _LISTS["/commission"], _LISTS["/halls"],
    ]),
    MenuGroup(N_("Energy and bills"), [
        _LOSS, _LISTS["/meter-suspects"], _ARREARS, _LISTS["/credit"],
    ]),
    MenuGroup(N_("Workings"), [
        _LISTS["/batch-runs"], _LETTERS, _SYSTEM,
        MenuEntry("/users", N_("Users"), "administer"), MenuEntry("/trail", N_("Trail"), "administer"),
    ]),
)  # fmt: skip

VIEWS: Final = (
    _NOW,
    _LOSS,
    _ARREARS,
    _SYSTEM,
    _LETTERS,
    *(view for path, view in _LISTS.items() if path != "/dead-letters"),
    View("/outlets/{outlet}", "", outlet.page),
    View("/wholesalers/{wholesaler}", "", wholesaler.page),
    View("/diversion/{case:path}", "", diversion.page, diversion.decide, "decide"),
    View("/loss/units/{unit}", "", loss.unit),
    View("/sims/{card}", "", sim.page),
    View("/search", "", search.page),
    View("/dead-letters/one", "", letters.one),
)

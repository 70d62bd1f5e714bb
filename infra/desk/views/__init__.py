"""Every view of the desk, and the menu."""

from __future__ import annotations

from functools import partial
from typing import Final

from infra.desk.page import MenuEntry, MenuGroup, View
from infra.desk.tables import table_page
from infra.desk.translation import N_
from infra.desk.views import (
    arrears,
    dead_letters,
    diversion,
    findings,
    lists,
    loss,
    now,
    outlet,
    search,
    sim,
    stock_out,
    system,
    wholesaler,
)

_LISTS: Final = {
    one.path: View(one.path, one.title, partial(table_page, one))
    for one in (
        *lists.TABLES,
        *findings.TABLES,
        loss.UNITS,
        loss.READINGS,
        dead_letters.DEAD_LETTERS,
    )
}
_NOW: Final = View("/", N_("Now"), now.page, live=now.live)
_LOSS: Final = View("/loss", N_("Loss"), loss.page)
_ARREARS: Final = View("/arrears", N_("Arrears"), arrears.page)
_SYSTEM: Final = View("/system", N_("System"), system.page)
_DEAD_LETTERS: Final = View(
    "/dead-letters",
    dead_letters.DEAD_LETTERS.title,
    dead_letters.page,
    dead_letters.replay,
    "replay",
)

MENU: Final = (
    MenuGroup(N_("Shops"), [
        _NOW, _LISTS["/stock-outs"], _LISTS["/outlets"], _LISTS["/soon-empty"],
        _LISTS["/doubted-stock"], _LISTS["/ranking"], _LISTS["/promotion"],
    ]),
    MenuGroup(N_("Partners"), [
        _LISTS["/wholesalers"], _LISTS["/refills"], _LISTS["/diversion"],
        _LISTS["/commission"], _LISTS["/halls"], _LISTS["/subscriber-loss"],
        _LISTS["/silent-subscribers"],
    ]),
    MenuGroup(N_("Energy and bills"), [
        _LOSS, _LISTS["/meter-suspects"], _ARREARS, _LISTS["/credit"],
        _LISTS["/payment-differences"], _LISTS["/payment-doubles"],
    ]),
    MenuGroup(N_("Operations"), [
        _LISTS["/batch-runs"], _DEAD_LETTERS, _LISTS["/anomalies"], _SYSTEM,
        MenuEntry("/users", N_("Users"), "administer"), MenuEntry("/trail",
        N_("Audit trail"), "administer"),
    ]),
)  # fmt: skip

VIEWS: Final = (
    _NOW,
    _LOSS,
    _ARREARS,
    _SYSTEM,
    _DEAD_LETTERS,
    *(view for path, view in _LISTS.items() if path != "/dead-letters"),
    View("/outlets/{outlet}", "", outlet.page),
    View("/stock-outs/{incident:path}", "", stock_out.page),
    View("/wholesalers/{wholesaler}", "", wholesaler.page),
    View("/diversion/{case:path}", "", diversion.page, diversion.decide, "decide"),
    View("/loss/units/{unit}", "", loss.unit),
    View("/sims/{card}", "", sim.page),
    View("/search", "", search.page),
    View("/dead-letters/one", "", dead_letters.one),
)

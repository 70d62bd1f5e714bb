"""Every view of the desk, in the order of the menu."""

from __future__ import annotations

from functools import partial
from typing import Final

from infra.desk.page import View
from infra.desk.tables import table_page
from infra.desk.views import now, outlet
from infra.desk.views.lists import LISTINGS

VIEWS: Final = (
    View("/", "Now", now.page),
    *(View(one.path, one.title, partial(table_page, one)) for one in LISTINGS),
    View("/outlets/{outlet}", "", outlet.page),
)

"""Names and numbers as the reference tables give them."""

from __future__ import annotations

from alert_harness import NOW, PHONE, incident

from alerts.message.compose import EmptyShelf
from alerts.message.directory import Contact, ReferenceDirectory
from schemas.reference import Outlet, Reference, Territory
from schemas.reference import Wholesaler as Row


def test_what_the_tables_say_and_leave_out() -> None:
    directory = ReferenceDirectory(
        Reference(
            territories={"t": Territory(territory_id="t", name="Hill")},
            wholesalers={
                "w": Row(wholesaler_id="w", name="Wang", phone=PHONE, language="zh"),
                "v": Row(wholesaler_id="v", name="Li"),
            },
            outlets={
                "o-a": Outlet(outlet_id="o-a", name="Abe", kind="kiosk", territory_id="t"),
                "o-b": Outlet(outlet_id="o-b", name="Bob", kind="kiosk"),
            },
        )
    )
    assert directory.wholesaler("w") == Contact("w", "Wang", PHONE, "", "zh")
    assert directory.wholesaler("v") == Contact("v", "Li", "", "", "")
    assert directory.wholesaler("") is None
    assert directory.shelf(incident("a")) == EmptyShelf("o-a", "Abe", "Hill", "4G", NOW)
    assert directory.shelf(incident("b")) == EmptyShelf("o-b", "Bob", "", "4G", NOW)
    assert directory.shelf(incident("c")) == EmptyShelf("o-c", "", "", "4G", NOW)

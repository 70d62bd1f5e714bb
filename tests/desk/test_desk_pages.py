"""What a browser gets from the desk."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from services.asgi import Reply, call
from typer.testing import CliRunner

from infra.cli import app as cli
from infra.desk.app import desk_app
from infra.desk.formats import redacted
from infra.desk.page import Services
from infra.desk.reading import SharedWarehouse
from infra.desk.tables import State
from infra.desk.views import VIEWS
from infra.desk.visitor import Visitor
from pipelines.warehouse.engines.embedded import Embedded
from schemas.errors import UsageError, WarehouseDown

MENU = [view.path for view in VIEWS if view.title]


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process must not set levels for the tests after it."""
    monkeypatch.setattr("infra.logs.start_logging", lambda level: None)


def get(desk: Any, target: str, method: str = "GET", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(call(desk, method, target, b"", {"Host": "127.0.0.1:8080"} | named))


def text(reply: Reply) -> str:
    return reply.body.decode()


def figure(page: str, label: str) -> str:
    """What stands under a label."""
    found = re.search(rf"<dt[^>]*>{re.escape(label)}</dt><dd[^>]*>(?:<a[^>]*>)?([^<]*)", page)
    assert found is not None, label
    return found[1].strip()


@pytest.mark.parametrize("path", MENU)
def test_every_view_is_served_with_a_strict_policy(desk: Any, path: str) -> None:
    reply = get(desk, path)
    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "style=" not in text(reply)
    assert 'aria-current="page"' in text(reply)


@pytest.mark.parametrize("path", [*MENU, "/outlets/O1"])
def test_no_view_shows_a_phone_number(desk: Any, path: str) -> None:
    assert "13800138000" not in text(get(desk, path))


LETTER = "/dead-letters/one?source=f&position=7"


@pytest.mark.parametrize("path", ["/dead-letters", LETTER, "/dead-letters?format=csv"])
def test_a_number_within_a_text_is_masked_for_those_who_may_not_see_it(
    desk: Any, path: str
) -> None:
    viewer, manager = (text(get(People(desk, role), path)) for role in ("viewer", "manager"))
    assert "bad row: 1380****000 of 2026-03-01" in viewer
    assert "13800138000" not in viewer
    assert "bad row: 13800138000 of 2026-03-01" in manager


def test_what_is_masked_is_not_found_by_trying(desk: Any) -> None:
    for role, found in (("viewer", False), ("manager", True)):
        people = People(desk, role)
        assert (LETTER.partition("?")[0] in text(get(people, "/dead-letters?q=1380013"))) is found
        assert LETTER.partition("?")[0] in text(get(people, "/dead-letters?q=2026-03"))


def test_now_leads_to_those_with_most_empty_shelves(desk: Any) -> None:
    shown = text(get(desk, "/"))
    assert 'href="/?territory=T"' in shown
    assert 'href="/?wholesaler=W"' in shown
    longest_first = 'href="/stock-outs?month=&amp;state=open&amp;sort=opened_at&amp;dir=asc'
    assert f'{longest_first}"' in shown
    only = text(get(desk, "/?wholesaler=W"))
    assert f'{longest_first}&amp;wholesaler=Wang"' in only
    for address in ("", "&wholesaler=Wang", "&territory=North"):
        assert "/outlets/O1" in text(get(desk, f"/stock-outs?month=&state=open{address}"))
    assert "/outlets/O1" not in text(get(desk, "/stock-outs?month=&state=refilled"))


def test_now_says_what_is_empty_and_that_nobody_was_notified(desk: Any) -> None:
    shown = text(get(desk, "/"))
    assert figure(shown, "Outlets with an empty shelf") == "2"
    assert figure(shown, "Not notified yet") == "2"
    assert figure(shown, "No answer yet") == "2"
    assert "Corner &lt;b&gt;" in shown
    assert "Corner <b>" not in shown
    assert "2026-03-01 16:00" in shown  # in the time zone of the business day


def test_now_says_what_nobody_can_be_told_of_and_leads_there(desk: Any) -> None:
    found = re.search(r'nobody serves</dt><dd><a href="([^"]*)">1</a>', text(get(desk, "/")))
    assert found is not None
    shown = text(get(desk, found[1].replace("&amp;", "&")))
    assert "/outlets/O3" in shown
    assert "/outlets/O1" not in shown
    assert "nobody serves" not in text(get(desk, "/?wholesaler=W"))


def test_now_of_a_part_shows_nothing_of_the_whole(desk: Any) -> None:
    whole, part = text(get(desk, "/")), text(get(desk, "/?wholesaler=W"))
    for said in ("SIMs sold in the last hour", "Messages as they go out", "Stock-outs by hour"):
        assert said in whole
        assert said not in part


def test_a_choice_that_no_row_has_is_said(desk: Any) -> None:
    shown = text(get(desk, "/stock-outs?month=9999-99"))
    assert '<option value="9999-99" selected>' in shown
    assert "Nothing matches" in shown


def test_an_address_that_there_is_not_is_said_in_the_frame(desk: Any) -> None:
    reply = get(desk, "/nosuch", Accept_Language="zh")
    assert reply.status == 404
    assert "这个地址没有页面" in text(reply)
    assert 'href="/outlets"' in text(reply)


@pytest.mark.parametrize(
    ("said", "veil"),
    [
        ("call 138-0013-8000 today", "call 138-******000 today"),
        ("call 138 0013 8000", "call 138 ******000"),
        ("8986000109092862 and 13800138000", "8986*********862 and 1380****000"),
        ("from 2026-03-01 08:15 to 2026-03-02", "from 2026-03-01 08:15 to 2026-03-02"),
        ("1,234.56 yuan of 1234567890", "1,234.56 yuan of 1234567890"),
    ],
)
def test_numbers_of_persons_are_veiled_however_they_are_written(said: str, veil: str) -> None:
    assert redacted(said, "long") == veil


def test_a_link_keeps_the_period_it_stands_in(desk: Any) -> None:
    shown = text(get(desk, "/batch-runs"))
    assert 'href="/batch-runs/refused?job=arrears&amp;period=2026-02-28"' in shown


def test_an_outlet_shows_its_stock_and_an_unknown_one_is_missing(desk: Any) -> None:
    assert '<td class="n">1,234</td>' in text(get(desk, "/outlets/O2"))
    assert get(desk, "/outlets/nobody").status == 404


def test_a_stock_out_that_never_was_says_so(desk: Any) -> None:
    page = text(get(desk, "/stock-outs/K"))
    assert "There was no stock-out: that became known before a message went out." in page
    assert "/stock-outs/K" not in text(get(desk, "/stock-outs?month="))
    assert get(desk, "/stock-outs/L").status == 404


def test_a_table_sorts_and_filters(desk: Any) -> None:
    up, down = (text(get(desk, f"/outlets?sort=on_hand&dir={way}")) for way in ("asc", "desc"))
    assert up.index("/outlets/O1") < up.index("/outlets/O2")
    assert down.index("/outlets/O2") < down.index("/outlets/O1")
    filtered = text(get(desk, "/outlets?q=hALL"))
    assert "/outlets/O2" in filtered
    assert "/outlets/O1" not in filtered
    assert "Nothing matches" in text(get(desk, "/outlets?q=nothing"))


@pytest.mark.parametrize(
    "query",
    [
        "sort=on_hand%20DESC%3B%20DROP%20TABLE%20outlets",
        "dir=asc,(SELECT%201)",
        "q='%20OR%201=1%20--",
        "page=-1",
        "page=%C2%B2",
        "page=999999999999999999999",
    ],
)
def test_no_address_reaches_the_sql(desk: Any, query: str) -> None:
    reply = get(desk, f"/outlets?{query}")
    assert reply.status == 200
    assert ("/outlets/O1" in text(reply)) is (not query.startswith("q="))


def test_rows_that_sort_alike_stand_on_one_page_each(desk: Any) -> None:
    found: list[str] = []
    for page in (1, 2, 3):
        shown = text(get(desk, f"/dead-letters?sort=reason&q=alike&page={page}"))
        found += re.findall(r"/dead-letters/one\?([^\"]*)", shown)
    assert len(found) == len(set(found)) == 130


def test_a_list_counts_what_it_shows(desk: Any) -> None:
    for chosen, rows in (("", 2), ("state=open", 2), ("state=refilled", 0), ("territory=North", 1)):
        shown = text(get(desk, f"/stock-outs?month=&{chosen}"))
        assert shown.count('href="/outlets/O') == rows
        assert (f" of {rows}<" in re.sub(r"\s+", " ", shown)) is bool(rows)


def test_a_page_behind_the_last_says_so(desk: Any) -> None:
    assert "There is no such page" in text(get(desk, "/outlets?page=2"))


def test_a_table_downloads_as_it_is_filtered(desk: Any) -> None:
    reply = get(desk, "/outlets?format=csv&q=Hall")
    assert reply.headers["content-type"].startswith("text/csv")
    lines = text(reply).splitlines()
    assert len(lines) == 2
    assert lines[1] == "O2,Hall,stocked,1234,S,North,Wang,2026-03-01 16:00:00"


def test_an_empty_view_names_the_command_that_fills_it(desk: Any) -> None:
    assert "<code>zerostock batch channel " in text(get(desk, "/ranking"))


def test_addresses_keep_what_is_not_changed() -> None:
    state = State("on_hand", down=True, text="a&b", number=3, chosen={"sku": "S"})
    assert state.address(page=4) == "?sku=S&sort=on_hand&dir=desc&q=a%26b&page=4"


def test_nothing_can_be_written(desk: Any) -> None:
    assert get(desk, "/outlets", method="POST").status == 405


@pytest.mark.parametrize("name", ["desk.css", "htmx.min.js"])
def test_static_files_come_from_the_server_itself(desk: Any, name: str) -> None:
    assert get(desk, f"/static/{name}").status == 200
    assert get(desk, "/static/htmx-licence.txt").status == 404


class Counting:
    """A warehouse that counts how often a page was made of it."""

    def __init__(self, real: Embedded) -> None:
        self.opened, self._real, self._lock = 0, real, threading.Lock()

    @contextmanager
    def open(self) -> Any:
        with self._lock:
            self.opened += 1
        yield self._real


class People:
    """Somebody else at each request, as the doorkeeper would say."""

    def __init__(self, app: Any, role: str) -> None:
        self._app, self._role, self._count = app, role, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._count += 1
        scope["visitor"] = Visitor(f"user{self._count}", self._role, f"word{self._count}")
        await self._app(scope, receive, send)


@pytest.mark.parametrize("renewing", [False, True])
def test_a_hundred_watchers_of_now_cost_one_page(
    warehouse: Embedded, clock: Any, renewing: bool
) -> None:
    counting = Counting(warehouse)
    desk = People(desk_app(counting.open, clock=clock), "viewer")
    headers = {"Host": "localhost"} | ({"HX-Request": "true"} if renewing else {})

    async def watch() -> list[Reply]:
        one = [call(desk, "GET", "/", b"", headers) for _ in range(100)]
        return await asyncio.gather(*one)

    replies = asyncio.run(watch())
    assert {reply.status for reply in replies} == {200}
    assert counting.opened == 1
    # A whole page is each visitor's own; what renews itself has nothing of anybody.
    assert len({reply.body for reply in replies}) == (1 if renewing else 100)
    assert all((b'value="word' in reply.body) is not renewing for reply in replies)
    clock.seconds += 5
    get(desk, "/")
    assert counting.opened == 2


def test_watchers_of_a_hundred_parts_cost_one_look_as_well(warehouse: Embedded, clock: Any) -> None:
    counting = Counting(warehouse)
    desk = desk_app(counting.open, clock=clock)
    shown = [
        text(get(desk, f"/?wholesaler={who}", HX_Request="true")) for who in ("W", "", "nobody")
    ]
    assert counting.opened == 1
    assert [one.count('href="/outlets/') for one in shown] == [1, 2, 0]


def test_what_a_page_has_already_is_not_sent_again(desk: Any, clock: Any) -> None:
    first = get(desk, "/", HX_Request="true")
    seen = first.headers["etag"].strip('"')
    again = get(desk, "/", HX_Request="true", X_Seen=seen)
    assert again.headers["etag"] == first.headers["etag"]  # for the question after this one
    assert (again.status, again.body) == (204, b"")
    assert get(desk, "/", HX_Request="true", X_Seen="other").status == 200


class Down:
    def query(self, sql: str, parameters: object = None) -> pa.Table:
        raise WarehouseDown("clickhouse://user:secret@host is gone")


def test_a_warehouse_that_is_gone_is_said_without_its_address(clock: Any) -> None:
    @contextmanager
    def down() -> Any:
        yield Down()

    reply = get(desk_app(down, clock=clock), "/outlets")
    assert reply.status == 503
    assert "does not answer" in text(reply)
    assert "secret" not in text(reply)


@pytest.mark.parametrize("path", ["/", "/outlets", "/loss"])
def test_without_a_warehouse_the_way_to_data_is_shown_and_none_is_made(
    nowhere: Path, path: str
) -> None:
    services = Services(data=str(nowhere))
    reply = get(desk_app(SharedWarehouse(nowhere, None).opened, services), path)
    assert reply.status == 200
    assert f"zerostock run --input city --data {nowhere} --follow" in text(reply)
    assert not nowhere.exists()


@pytest.mark.parametrize(
    "options",
    [["--data", "x", "--host", "0.0.0.0"], []],
)
def test_serve_refuses_the_open_and_the_unclear(options: list[str]) -> None:
    ran = CliRunner().invoke(cli, ["serve", *options])
    assert isinstance(ran.exception, UsageError)

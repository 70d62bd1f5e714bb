"""The desk in a real browser, over what a real run and its batch jobs left."""

from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from services.browser import chromium
from services.need import ServiceMissing, missing
from services.ports import free_port
from services.waiting import accepts_connections, wait_until

from infra.desk.access.store import AccessStore
from infra.desk.views import MENU
from pipelines.simulate import CityPlan, simulate
from pipelines.warehouse import migrate, open_for_reading, open_warehouse
from schemas.masking import masked

PASSWORD = "korrekt pferd batterie"
#: A slow machine is given time; a fast one does not wait.
PATIENCE = 60_000
PAGES = [view.path for group in MENU for view in group.views]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a small city that has a case of diversion."""
    folder = tmp_path_factory.mktemp("desk")
    simulate(CityPlan(seed=5, outlets=300, days=4, cdrs=40_000), folder / "city")
    made = folder / "data"
    zerostock("run", "--input", folder / "city", "--data", made, "--sms", f"file:{folder}/sms")
    for job in (
        ("channel", "--period", "2026-03"),
        ("line-loss", "--period", "2026-03", "--readings"),
        ("arrears", "--as-of", "2026-03-31"),
    ):
        zerostock("batch", *job, "--input", folder / "city", "--data", made)
    store = AccessStore(made / "desk.sqlite")
    for name, role in (("vera", "viewer"), ("mei", "manager"), ("ada", "admin")):
        store.add(name, role, PASSWORD)
    return made


def zerostock(*arguments: object) -> None:
    command = [sys.executable, "-m", "infra.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def served(data: Path, *options: object) -> Iterator[str]:
    """The desk as people start it; gives its address, and is ended by Ctrl-C."""
    port = free_port()
    command = [sys.executable, "-m", "infra.cli", "serve", "--data", str(data)]
    command += ["--port", str(port), *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            wait_until(lambda: accepts_connections(port), "the desk to listen")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(60)
            finally:
                server.kill()


@pytest.fixture(scope="module")
def desk(data: Path) -> Iterator[str]:
    with served(data, "--input", data.parent / "city") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        with chromium() as opened:
            yield opened
    except ServiceMissing as error:
        missing(error)


Opens = Callable[..., Any]


@pytest.fixture(scope="module")
def sessions(browser: Any, desk: str) -> dict[str, Any]:
    """Everybody's cookies after they logged in once."""
    found = {}
    for name in ("vera", "mei", "ada"):
        with closing(browser.new_context(base_url=desk, locale="en")) as context:
            log_in(context.new_page(), name)
            found[name] = context.storage_state()
    return found


@pytest.fixture
def opens(browser: Any, desk: str, sessions: dict[str, Any]) -> Iterator[Opens]:
    """Opens the desk as somebody, in a window of its own; what a page complains of fails a test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def window(name: str = "", **options: Any) -> Any:
        context = browser.new_context(
            **{"base_url": desk, "locale": "en", "storage_state": sessions.get(name), **options}
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                if said.type == "error" and "status of 4" not in said.text
                else None
            ),
        )
        return page

    expect.set_options(timeout=PATIENCE)
    yield window
    for context in contexts:
        context.close()
    assert complaints == []


def log_in(page: Any, name: str, password: str = PASSWORD) -> None:
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_load_state()


def rows(page: Any) -> Any:
    return page.locator("main table tbody tr")


def read_csv(path: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8-sig"))))


def test_a_stranger_is_sent_to_the_login_and_then_on(opens: Opens) -> None:
    page = opens()
    page.goto("/ranking?sort=growth")
    assert "/login" in page.url
    expect(page.locator("nav.menu")).to_have_count(0)
    page.get_by_label("Name").fill("vera")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/ranking?sort=growth")
    [session] = [one for one in page.context.cookies() if one["name"] == "desk"]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")
    page.get_by_role("button", name="Log out").click()
    page.goto("/ranking")
    assert "/login" in page.url


def test_a_wrong_password_is_refused_and_said_alike_for_a_wrong_name(opens: Opens) -> None:
    page = opens()
    told = []
    for name in ("vera", "nobody"):
        log_in(page, name, "wrong wrong wrong")
        told.append(page.get_by_role("alert").inner_text())
        assert "/login" in page.url
    assert told == ["Name or password is wrong."] * 2


@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_the_menu_opens_without_a_complaint(opens: Opens, path: str) -> None:
    page = opens("ada")
    said = page.goto(path)
    assert said.status == 200
    expect(page.locator("nav.menu a[aria-current]")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_be_visible()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_machine_finds_nothing_inaccessible(opens: Opens, look: str) -> None:
    page = opens("ada", color_scheme=look)
    page.goto("/outlets")
    outlet = page.locator("main td a").first.get_attribute("href")
    page.goto("/diversion")
    case = page.locator("main td a").first.get_attribute("href")
    page.goto("/loss")
    unit = page.locator(".tree td a").first.get_attribute("href")
    page.goto("/stock-outs?month=")
    stock_out = page.locator("main td a[href^='/stock-outs/']").first.get_attribute("href")
    for path in [*PAGES, outlet, case, unit, stock_out, "/account", "/search?q=nothing-matches"]:
        page.goto(path)
        found = Axe().run(page).response["violations"]
        assert [(path, one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_now_shows_the_run_and_renews_itself(opens: Opens, data: Path) -> None:
    page = opens("vera")
    page.goto("/")
    figure = page.locator(".figures div", has_text="Empty shelves").locator("dd").first
    with closing(open_for_reading(data=data)) as warehouse:
        sql = "SELECT count() AS n FROM stock_incidents WHERE closed_at IS NULL"
        before = warehouse.query(sql).to_pylist()[0]["n"]
        [shop] = warehouse.query("SELECT outlet_id FROM outlets LIMIT 1").to_pylist()
    assert before > 0
    expect(figure).to_have_text(f"{before:,}")
    expect(page.locator(".plot canvas")).to_have_count(1)
    page.get_by_text("The numbers").click()
    page.locator("#live table a").first.focus()
    # Whoever runs the stream takes the warehouse; the page goes on, by that one's door or after.
    with closing(open_warehouse(data=data)) as owner:
        now = pa.array([1_775_000_000_000], pa.timestamp("ms", tz="UTC"))
        owner.insert("stock_incidents_rows", pa.table({
            "incident_id": ["live"], "outlet_id": [shop["outlet_id"]], "sku": ["LIVE"],
            "wholesaler_id": [""], "opened_at": now, "version": pa.array([1], pa.uint8()),
        }))  # fmt: skip
    expect(figure).to_have_text(f"{before + 1:,}")
    assert page.locator("details[open]").count() == 1  # what its reader opened stays open
    assert page.evaluate("document.activeElement.matches('#live table a')")  # where they were


def test_now_follows_a_run_from_its_first_stock_out_on(
    browser: Any, data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "data"
    with closing(open_warehouse(data=home)) as warehouse:
        migrate(warehouse)
    with served(home) as address, closing(browser.new_context(locale="en")) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        figure = page.locator(".figures div", has_text="Empty shelves").locator("dd").first
        expect(page.locator("ol.steps li").first).to_be_visible()  # nothing yet: how to get there
        zerostock("run", "--input", data.parent / "city", "--data", home, "--sms",
                  f"file:{tmp_path}/sms")  # fmt: skip
        with closing(open_for_reading(data=home)) as warehouse:
            sql = "SELECT count() AS n FROM stock_incidents WHERE closed_at IS NULL"
            empty = warehouse.query(sql).to_pylist()[0]["n"]
        assert empty > 0
        expect(figure).to_have_text(f"{empty:,}")  # never loaded again by hand
        expect(page.locator("article.sms").first).to_be_visible()


def test_now_pauses(opens: Opens) -> None:
    page = opens("vera")
    page.clock.install()
    page.goto("/")
    with page.expect_response(re.compile("/$")):
        page.clock.run_for(4_000)
    page.get_by_role("button", name="Pause").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)
    page.evaluate("fetch('/static/desk.css')")  # requests are told in order: none came before it
    assert [one.rpartition("/")[2] for one in asked] == ["desk.css"]


def test_filter_sort_and_drill_down_to_a_card(opens: Opens) -> None:
    page = opens("mei")
    page.goto("/outlets")
    page.get_by_label("SKU").select_option(index=1)
    chosen = page.get_by_label("SKU").input_value()
    expect(page.get_by_role("columnheader", name="SKU")).to_be_visible()
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("columnheader", name="SKU")).to_have_count(0)  # the same in every row
    page.get_by_role("link", name=re.compile("On hand")).click()
    expect(page.locator("th[aria-sort]")).to_contain_text("On hand")
    assert f"sku={chosen}" in page.url
    rows(page).first.get_by_role("link").first.click()
    page.wait_for_url("**/outlets/*")
    expect(page.locator(".plot canvas").first).to_be_visible()
    page.goto("/diversion")
    rows(page).first.get_by_role("link").first.click()
    evidence = page.locator("table", has_text="Subscriber").locator("tbody tr")
    card = evidence.first.get_by_role("link").inner_text()
    evidence.first.get_by_role("link").click()
    page.wait_for_url(f"**/sims/{card}")
    expect(rows(page).first).to_contain_text("delivery")


def test_a_loss_opens_down_to_readings_that_add_up(opens: Opens) -> None:
    page = opens("vera")
    page.goto("/loss")
    page.locator(".tree td a").last.click()
    page.wait_for_url("**/loss/units/*")
    side = page.locator("table", has_text="Meters").locator("tbody tr").first
    told = float(side.locator("td").last.inner_text().replace(",", ""))
    name = side.locator("td").first.inner_text()
    page.get_by_role("link", name="See all").click()
    page.get_by_label("Side").select_option(name)
    page.get_by_role("button", name="Filter").click()
    with page.expect_download() as kept:
        page.get_by_role("link", name="CSV").click()
    lines = read_csv(kept.value.path())
    assert sum(float(line["In the month (kWh)"]) for line in lines) == pytest.approx(told, abs=0.05)


def test_an_amount_opens_down_to_its_bills(opens: Opens) -> None:
    page = opens("vera")
    page.goto("/arrears")
    bucket = page.locator("table", has_text="Customers").locator("tbody tr").first
    amount = bucket.locator("td").nth(2).inner_text()
    bucket.get_by_role("link").click()
    with page.expect_download() as kept:
        page.get_by_role("link", name="CSV").click()
    lines = read_csv(kept.value.path())
    assert f"¥{sum(float(line['Open (yuan)']) for line in lines):,.2f}" == amount


def test_who_is_empty_and_who_was_notified_is_two_clicks_away(opens: Opens) -> None:
    page = opens("mei")
    page.goto("/")
    page.locator("table", has_text="Answer").locator("a[href^='/stock-outs/']").first.click()
    page.wait_for_url("**/stock-outs/**")
    expect(page.locator(".stale").last).to_contain_text(re.compile("went out|notified"))
    page.locator(".facts a[href^='/wholesalers/']").first.click()
    page.wait_for_url("**/wholesalers/**")


def test_the_slowest_wholesaler_is_one_click_away(opens: Opens) -> None:
    page = opens("vera")
    page.goto("/")
    page.get_by_role("link", name="Refill times").click()
    expect(page.get_by_role("columnheader", name=re.compile(r"Median \(hours"))).to_have_attribute(
        "aria-sort", "descending"
    )
    page.get_by_text("What the columns mean").click()
    expect(page.locator(".defs dd").first).to_be_visible()


def test_a_workbook_downloads(opens: Opens) -> None:
    page = opens("vera")
    page.goto("/wholesalers")
    with page.expect_download() as kept:
        page.get_by_role("link", name="Excel").click()
    assert kept.value.suggested_filename == "wholesalers.xlsx"
    with zipfile.ZipFile(kept.value.path()) as book:
        assert "xl/worksheets/sheet1.xml" in book.namelist()


def test_a_manager_decides_a_case_and_an_admin_reads_who_did(opens: Opens, data: Path) -> None:
    page = opens("mei")
    page.goto("/diversion?status=suspected")
    rows(page).first.get_by_role("link").first.click()
    page.get_by_role("button", name="Confirm").click()  # without a reason the browser stays
    expect(page.get_by_label("Why")).to_be_focused()
    page.get_by_label("Why").fill("Seen in the next county <b>twice</b>")
    page.get_by_role("button", name="Confirm").click()
    expect(page.locator(".facts .status.confirmed")).to_be_visible()
    history = page.locator("table", has_text="Decision").locator("tbody tr")
    expect(history.first).to_contain_text("mei")
    expect(history.first).to_contain_text("Seen in the next county <b>twice</b>")
    with closing(open_for_reading(data=data)) as warehouse:
        [case] = warehouse.query(
            "SELECT decided_by, why FROM diversion_cases WHERE status = 'confirmed'"
        ).to_pylist()
    assert case == {"decided_by": "mei", "why": "Seen in the next county <b>twice</b>"}
    admin = opens("ada")
    admin.goto("/trail")
    expect(rows(admin).filter(has_text="confirmed").first).to_contain_text("mei")


def test_a_viewer_sees_no_whole_number_and_may_not_decide(opens: Opens, data: Path) -> None:
    page = opens("vera")
    page.goto("/diversion")
    rows(page).first.get_by_role("link").first.click()
    expect(page.get_by_role("button", name="Confirm")).to_have_count(0)
    with closing(open_for_reading(data=data)) as warehouse:
        cards = warehouse.query("SELECT iccid, imsi FROM diversion_evidence").to_pylist()
        phones = warehouse.query("SELECT wholesaler_id, phone FROM wholesalers").to_pylist()
    shown = page.content()
    assert not any(card["iccid"] in shown or str(card["imsi"]) in shown for card in cards)
    known = next(one for one in phones if one["phone"])
    page.goto(f"/wholesalers/{known['wholesaler_id']}")
    assert known["phone"] not in page.content()
    expect(page.locator(".facts")).to_contain_text(masked(known["phone"]))
    status = page.goto("/users").status
    assert status == 403


def test_a_forged_form_changes_nothing(opens: Opens, desk: str, data: Path) -> None:
    page = opens("mei")
    page.goto("/diversion")
    case = page.locator("main td a").first.get_attribute("href")
    form = {"decision": "dismissed", "why": "forged", "csrf": "guessed"}
    assert page.request.post(case, form=form).status == 403
    # Another site's page sends the form, with the reader's own cookies if the browser lends them.
    evil = page.context.new_page()
    evil.route("http://evil.example/", lambda route: route.fulfill(
        content_type="text/html",
        body=f"<form method=post action='{desk}{case}'><input name=decision value=dismissed>"
        "<input name=why value=forged></form><script>document.forms[0].submit()</script>",
    ))  # fmt: skip
    with evil.expect_navigation(url=f"{desk}{case}"):
        evil.goto("http://evil.example/")
    with closing(open_for_reading(data=data)) as warehouse:
        sql = "SELECT count() AS n FROM diversion_decisions WHERE why = 'forged'"
        assert warehouse.query(sql).to_pylist() == [{"n": 0}]


def test_dead_letters_are_looked_at_and_checked_again(opens: Opens) -> None:
    page = opens("mei")
    page.goto("/dead-letters")
    expect(rows(page).first).to_be_visible()
    rows(page).first.get_by_role("link").click()
    expect(page.locator("pre")).not_to_be_empty()
    page.goto("/dead-letters")
    page.get_by_role("button", name="Check them again").click()
    refused = page.locator(".figures div", has_text="Still refused").locator("dd")
    expect(refused).not_to_have_text("0")  # nothing was put right
    expect(page.get_by_role("button", name="Resend")).to_have_count(0)


def test_search_finds_shops_wholesalers_cards_and_phones(opens: Opens, data: Path) -> None:
    with closing(open_for_reading(data=data)) as warehouse:
        [card] = warehouse.query(
            "SELECT iccid, imsi FROM stock_movements WHERE imsi > 0 LIMIT 1"
        ).to_pylist()
        phones = warehouse.query(
            "SELECT wholesaler_id, phone FROM wholesalers WHERE phone != '' LIMIT 1"
        ).to_pylist()
    page = opens("mei")
    page.goto("/")
    for text, leads in (
        ("O000001", "/outlets/O000001"),
        (card["iccid"], f"/sims/{card['iccid']}"),
        (str(card["imsi"]), f"/sims/{card['imsi']}"),
        (phones[0]["phone"], f"/wholesalers/{phones[0]['wholesaler_id']}"),
    ):
        page.get_by_role("searchbox", name="Search").fill(text)
        page.get_by_role("searchbox", name="Search").press("Enter")
        page.wait_for_url(f"**{leads}")
    page.get_by_role("searchbox", name="Search").fill("nothing fits this")
    page.get_by_role("searchbox", name="Search").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Nothing matches")


def test_on_a_phone_nothing_is_wider_than_the_screen(opens: Opens) -> None:
    page = opens("mei", viewport={"width": 360, "height": 740})
    for path in [*PAGES[:-2], "/outlets/O000001"]:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_it_speaks_the_browsers_language_and_the_one_chosen(opens: Opens) -> None:
    page = opens(locale="zh-CN")
    page.goto("/login")
    expect(page.get_by_role("heading", level=1)).to_have_text("登录")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


@pytest.mark.parametrize("path", ["/commission", "/commission/lines", "/credit"])
def test_what_jobs_say_is_said_in_the_visitors_language(opens: Opens, path: str) -> None:
    page = opens("vera", locale="zh-CN")
    page.goto(path)
    said = page.locator("td.long").all_inner_texts()
    assert any(re.search(r"[\u4e00-\u9fff]", text) for text in said)
    assert [text for text in said if re.search(r"[a-z]{3,} [a-z]{2,}", text)] == []


def test_light_or_dark_as_chosen(opens: Opens) -> None:
    page = opens("vera", color_scheme="light")
    page.goto("/system")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("link", name="Dark").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("System")
    assert page.evaluate(ground) != light


def test_the_keyboard_reaches_the_content(opens: Opens) -> None:
    page = opens("vera")
    page.goto("/outlets")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_it_says_so_when_the_server_is_gone(browser: Any, data: Path, tmp_path: Path) -> None:
    with served(data) as address:
        context = browser.new_context(base_url=address, locale="en")
        page = context.new_page()
        log_in(page, "vera")
        page.goto("/")
        expect(page.locator(".old")).to_be_hidden()
    expect(page.locator(".old")).to_be_visible()
    context.close()


def test_without_any_login_it_is_read_only_and_asks_for_none(
    browser: Any, data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "data"
    with closing(open_warehouse(data=home)):
        pass
    with served(home) as address:
        assert urlopen(f"{address}/outlets").status == 200
        context = browser.new_context(base_url=address, locale="en")
        page = context.new_page()
        page.goto("/")
        expect(page.locator("footer")).to_contain_text("read-only")
        assert page.request.post("/dead-letters", form={"do": "replay"}).status == 403
        context.close()

"""The desk says what is so: figures beside a plain computation over a small city of known state."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import re
import statistics
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.asgi import Reply, call
from services.tables import put

from infra.desk.app import desk_app
from infra.desk.page import Services
from infra.desk.parts import NUMBERS
from infra.desk.sheets import _safe
from infra.desk.views import dead_letters, findings, lists, loss
from infra.desk.views.outlet import by_day
from pipelines.warehouse import migrate
from pipelines.warehouse.engines.embedded import Embedded

ZONE = dt.timezone(dt.timedelta(hours=8))
#: Half past midnight of 1 March in Shanghai, still February in UTC.
MIDNIGHT = dt.datetime(2026, 2, 28, 16, 30, tzinfo=dt.UTC)
UNTIL = dt.datetime(2026, 3, 31, 15, 59, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
#: Outlet, SKU, on hand, wholesaler of the last movement.
SHELVES = [
    ("O1", "A", 0, "W1"), ("O1", "B", 0, "W1"),  # nothing left
    ("O2", "A", 0, "W1"), ("O2", "B", 5, "W1"),  # one shelf empty; W2 took the outlet over
    ("O3", "A", 7, "W2"),
]  # fmt: skip
#: Incident, outlet, SKU, wholesaler at its start, hours before UNTIL at which it opened and closed.
INCIDENTS = [
    ("i1", "O1", "A", "W1", 40, None), ("i2", "O1", "B", "W1", 30, None),
    ("i3", "O2", "A", "W1", 20, None),
    *((f"r{n}", "O3", "A", "W2", 100 + n, 100 + n - (n % 7 + 1)) for n in range(25)),
    ("old", "O3", "A", "W2", 24 * 45, 24 * 45 - 90),
]  # fmt: skip


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    opened = Embedded(tmp_path_factory.mktemp("truth") / "data")
    migrate(opened)
    outlets = ["O1", "O2", "O3", "O4", *(f"S{n:03}" for n in range(60))]
    known = {"O1": "=HYPERLINK(1)", "O2": "+8613800138000", "O3": "Hall"}
    names = [known.get(one, f"Shop {one}") for one in outlets]
    put(opened, "outlets", outlet_id=outlets, name=names,
        kind=["kiosk"] * len(outlets), territory_id=["T"] * len(outlets))  # fmt: skip
    put(opened, "territories", territory_id=["T"], name=["North"], parent_id=[""])
    put(opened, "wholesalers", wholesaler_id=["W1", "W2"], name=["Wang", "Li"],
        phone=["+8613800138000", ""], backup_phone=["", ""], language=["zh", "zh"])  # fmt: skip
    put(opened, "assignments", outlet_id=["O1", "O2", "O2", "O3", "O4"],
        wholesaler_id=["W1", "W1", "W2", "W2", "W2"],
        valid_from=[MIDNIGHT, MIDNIGHT, UNTIL - HOUR, MIDNIGHT, MIDNIGHT])  # fmt: skip
    put(opened, "stock_levels_rows", outlet_id=[s[0] for s in SHELVES], sku=[s[1] for s in SHELVES],
        on_hand=[s[2] for s in SHELVES], wholesaler_id=[s[3] for s in SHELVES],
        as_of=[UNTIL] * len(SHELVES))  # fmt: skip
    moves = [("d1", MIDNIGHT, 3, "delivery"), ("s1", MIDNIGHT + HOUR, -1, "first_use"),
             ("s2", UNTIL, -1, "first_use")]  # fmt: skip
    put(opened, "stock_movements_rows", movement_id=[m[0] for m in moves], at=[m[1] for m in moves],
        known_at=[m[1] for m in moves], outlet_id=["O2"] * 3, sku=["A"] * 3, imsi=[1, 2, 3],
        iccid=["8986000000000000001"] * 3, delta=[m[2] for m in moves], cause=[m[3] for m in moves],
        event_id=["e"] * 3, wholesaler_id=["W1"] * 3)  # fmt: skip
    put(opened, "stock_incidents_rows", incident_id=[i[0] for i in INCIDENTS],
        outlet_id=[i[1] for i in INCIDENTS], sku=[i[2] for i in INCIDENTS],
        wholesaler_id=[i[3] for i in INCIDENTS], opened_at=[UNTIL - i[4] * HOUR for i in INCIDENTS],
        closed_at=[None if i[5] is None else UNTIL - i[5] * HOUR for i in INCIDENTS],
        version=[1] * len(INCIDENTS))  # fmt: skip
    put(opened, "sms_messages_rows", message_id=["m1"], wholesaler_id=["W1"],
        incident_ids=[["i1"]], body=["O1: A is out"], segments=[1], created_at=[UNTIL - 39 * HOUR],
        status=["sent"], attempts=[1], version=[1])  # fmt: skip
    put(opened, "alert_news_rows", incident_id=["i1", "i2"], wholesaler_id=["W1", "W1"],
        at=[UNTIL - 39 * HOUR, UNTIL - 30 * HOUR], kind=["notified", "waiting"],
        message_id=["m1", ""], detail=['{"to": "phone"}', '{"why": "quiet_hours"}'],
        slot=["a", "b"], version=[1, 1])  # fmt: skip
    put(opened, "soon_empty_runs", as_of=[dt.date(2026, 3, 31)], run_at=[UNTIL])
    soon = [("O2", 0.9, 0.5, 2.0), ("O3", 0.4, 3.0, 1.0), ("S001", 0.35, 0.8, 1.0)]
    put(opened, "soon_empty_rows", as_of=[dt.date(2026, 3, 31)] * 3, run_at=[UNTIL] * 3,
        outlet_id=[s[0] for s in soon], sku=["B"] * 3, risk=[s[1] for s in soon],
        days_of_cover=[s[2] for s in soon], lead_days=[s[3] for s in soon],
        lost_sales=[2.5, 0.5, 1.5], bring=[9, 3, 4])  # fmt: skip
    put(opened, "batch_publications", job=["channel", "channel", "line-loss"],
        period=["2026-03", "2026-02", "2026-03"], generation=[1, 1, 1], run_id=["c", "b", "l"],
        published_at=[UNTIL - 3 * HOUR, UNTIL, UNTIL + 24 * HOUR])  # fmt: skip
    put(opened, "outlet_ranking_rows", run_id=["c", "b"], period=["2026-03", "2026-02"],
        outlet_id=["O2", "O3"], sales=[12, 5], shelf_days=[1, 56], promote=[1, 0],
        reasons=["sells 12 a month, number 1 of 2", ""])  # fmt: skip
    units = [(f"U{n}", "negative" if n % 3 else "high", -100.0 - n if n % 3 else 10.0 + n)
             for n in range(26)]  # fmt: skip
    put(opened, "line_loss_rows", run_id=["l"] * 26, period=["2026-03"] * 26,
        level=["feeder"] * 26, unit_id=[u[0] for u in units], status=[u[1] for u in units],
        own_loss_kwh=[u[2] for u in units], loss_kwh=[u[2] for u in units],
        supplied_kwh=[1000.0] * 26)  # fmt: skip
    yield opened
    opened.close()


def get(city: Embedded, target: str, now: dt.datetime = UNTIL + HOUR, **headers: str) -> Reply:
    desk = desk_app(lambda: nullcontext(city), Services(now=lambda: now))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(call(desk, "GET", target, b"", {"Host": "127.0.0.1:8080"} | named))


def text(city: Embedded, target: str, now: dt.datetime = UNTIL + HOUR, **headers: str) -> str:
    reply = get(city, target, now, **headers)
    assert reply.status == 200
    return reply.body.decode()


def figures(page: str) -> dict[str, str]:
    found = re.findall(r"<dt[^>]*>([^<]*)</dt><dd[^>]*>(?:<a[^>]*>)?([^<]*)", page)
    return {label: value.strip() for label, value in reversed(found)}  # definitions come after


def rows(city: Embedded, target: str, **headers: str) -> list[dict[str, str]]:
    """A list as its CSV file has it."""
    reply = get(city, target + ("&" if "?" in target else "?") + "format=csv", **headers)
    return list(csv.DictReader(io.StringIO(reply.body.decode("utf-8-sig"))))


# counts


def test_an_empty_outlet_is_not_an_outlet_with_an_empty_shelf(city: Embedded) -> None:
    shown = figures(text(city, "/"))
    assert shown["Empty outlets"] == "1"
    assert shown["Outlets with an empty shelf"] == "2"
    assert shown["Empty shelves"] == "3"


@pytest.mark.parametrize(
    ("chosen", "empty", "rate"),
    [("", 3, 60.0), ("?wholesaler=W1", 2, 100.0), ("?wholesaler=W2", 1, 100 / 3)],
)
def test_a_rate_stands_beside_the_count_of_empty_shelves(
    city: Embedded, chosen: str, empty: int, rate: float
) -> None:
    page = text(city, f"/{chosen}")
    assert figures(page)["Empty shelves"] == str(empty)
    assert f"{rate:.2f} per 100 shelves" in page


def test_lists_have_todays_wholesaler_and_shops_never_stocked(city: Embedded) -> None:
    shown = rows(city, "/outlets?q=O")
    held = {row["Number"]: row["Wholesaler"] for row in shown}
    assert held == {"O1": "Wang", "O2": "Li", "O3": "Li", "O4": "Li"} | {
        f"S{n:03}": "(nobody)" for n in range(60)
    }
    states = {(row["Number"], row["SKU"]): row["State"] for row in shown}
    assert states["O1", "A"] == "empty outlet"
    assert (states["O2", "A"], states["O2", "B"]) == ("empty shelf", "stocked")
    assert states["O4", ""] == "never stocked"


def test_an_open_stock_out_is_todays_wholesalers_a_closed_one_thens(city: Embedded) -> None:
    page = text(city, "/stock-outs?month=&state=open&wholesaler=Li")
    assert "/stock-outs/i3" in page
    assert "/stock-outs/i1" not in page
    assert len(rows(city, "/stock-outs?month=&state=refilled&wholesaler=Li")) == 26


# days


def test_days_and_months_are_cut_at_local_midnight(city: Embedded) -> None:
    page = text(city, "/outlets/O2")
    days = re.findall(r"<td>(2026-\d\d-\d\d)</td>", page)
    assert (min(days), max(days)) == ("2026-03-01", "2026-03-31")
    assert "UTC" not in page
    assert "2026-03-01 00:30:00" in page
    months = {row["Month"] for row in rows(city, "/stock-outs?month=")}
    assert months == {
        f"{(UNTIL - i[4] * HOUR).astimezone(ZONE):%Y-%m}" for i in INCIDENTS
    }  # fmt: skip


MOVES = st.lists(
    st.tuples(st.integers(0, 130), st.sampled_from("AB"), st.integers(-3, 9), st.integers(0, 3)),
    min_size=1,
)


@given(MOVES)
def test_the_course_of_days_is_the_running_sum(moves: list[tuple[int, str, int, int]]) -> None:
    first = dt.date(2026, 1, 1)
    merged: dict[tuple[int, str], tuple[int, int]] = {}
    for day, sku, net, sold in moves:
        had = merged.get((day, sku), (0, 0))
        merged[day, sku] = (had[0] + net, had[1] + sold)
    moved = [
        {"day": first + dt.timedelta(days=day), "sku": sku, "net": net, "activated": sold,
         "last": first + dt.timedelta(days=130)}
        for (day, sku), (net, sold) in sorted(merged.items())
    ]  # fmt: skip
    for row in by_day(moved):
        until = [one for one in moved if one["sku"] == row["sku"] and one["day"] <= row["day"]]
        assert row["closing"] == sum(one["net"] for one in until)
        assert row["activated"] == sum(
            one["activated"] for one in until if one["day"] == row["day"]
        )
    shown = {(row["day"], row["sku"]) for row in by_day(moved)}
    begins = {sku: min(one["day"] for one in moved if one["sku"] == sku) for _, sku in merged}
    assert shown == {
        (first + dt.timedelta(days=day), sku)
        for sku, begin in begins.items()
        for day in range(41, 131)
        if first + dt.timedelta(days=day) >= begin
    }


# how old


@pytest.mark.parametrize("path", ["/", "/outlets", "/stock-outs", "/refills", "/outlets/O2",
                                  "/wholesalers/W1", "/system", "/stock-outs/i1"])  # fmt: skip
def test_every_live_view_says_until_when_and_warns_when_nothing_came_since(
    city: Embedded, path: str
) -> None:
    fresh = text(city, path)
    assert "Data until 2026-03-31 23:59" in fresh
    assert "Nothing newer" not in fresh
    assert "Nothing newer has arrived for 5 hours." in text(city, path, UNTIL + 5 * HOUR)
    assert "Nothing newer has arrived for 10 days." in text(city, path, UNTIL + 240 * HOUR)


def test_a_job_says_when_it_was_computed_from_when_until_when(city: Embedded) -> None:
    march = text(city, "/ranking?period=2026-03")
    assert "Computed at 2026-03-31 20:59 · from 2026-03-01 until 2026-03-31" in march
    assert "Computed before the period ended" in march
    february = text(city, "/ranking?period=2026-02")
    assert "from 2026-02-01 until 2026-02-28" in february
    assert 'class="stale"' not in february
    assert "Computed at 2026-04-01 23:59" in text(city, "/loss")


# no silent limits


def test_a_list_that_is_cut_says_so_and_leads_to_all(city: Embedded) -> None:
    page = text(city, "/loss")
    assert "Only the first 20 are shown." in page
    assert "negative" in page
    found = rows(city, "/loss/units?period=2026-03")
    assert len(found) == 26
    assert sum(row["Status"] == "negative" for row in found) == 17


def test_a_search_with_more_than_it_shows_says_so(city: Embedded) -> None:
    assert "Only the first 50 are shown." in text(city, "/search?q=Shop")
    assert "Only the first" not in text(city, "/search?q=S00")


# what figures rest on and mean


def test_soon_empty_has_what_wholesalers_were_told_of(city: Embedded) -> None:
    listed = rows(city, "/soon-empty")
    assert [(row["To bring (cards)"], row["Lost sales (cards, estimated)"]) for row in listed] == [
        ("9", "2.5"),
        ("4", "1.5"),
        ("3", "0.5"),
    ]


def test_a_ranking_says_how_much_data_it_rests_on(city: Embedded) -> None:
    assert [row["Shelf days"] for row in rows(city, "/ranking?period=2026-03")] == ["1"]
    assert [row["Why to promote"] for row in rows(city, "/promotion")] == [
        "sells 12 a month, number 1 of 2"
    ]


LISTINGS = [*lists.TABLES, *findings.TABLES, loss.READINGS, loss.UNITS, dead_letters.DEAD_LETTERS]


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda one: one.path)
def test_every_number_of_a_list_is_defined_one_click_away(listing: Any) -> None:
    assert [c.name for c in listing.columns if c.kind in NUMBERS and not c.about] == []


def test_estimates_and_marks_say_what_they_are() -> None:
    headings = {
        (listing.path, column.name): column.heading
        for listing in LISTINGS
        for column in listing.columns
    }
    for path, name in (("/ranking", "lost_sales"), ("/ranking", "days_of_cover"),
                       ("/soon-empty", "days_of_cover"), ("/soon-empty", "lead_days")):  # fmt: skip
        assert "estimated" in headings[path, name]
    assert "100 is best" in headings["/halls", "complaints"]


# who is slow, who was notified


def test_refill_times_are_those_of_a_plain_computation(city: Embedded) -> None:
    found = {row["Wholesaler"]: row for row in rows(city, "/refills")}
    closed = sorted(i[4] - i[5] for i in INCIDENTS if i[5] is not None and i[5] < 24 * 30)
    assert float(found["Li"]["Median (hours)"]) == statistics.median(closed)
    assert float(found["Li"]["90% within (hours)"]) == closed[round(0.9 * len(closed))]
    assert float(found["Li"]["Median, 30 days before (hours)"]) == 90
    assert found["Li"]["Refilled"] == str(len(closed))
    assert (found["Wang"]["Open now"], found["Wang"]["Oldest open (hours)"]) == ("2", "40.0")
    assert (found["Li"]["Open now"], found["Li"]["Oldest open (hours)"]) == ("1", "20.0")
    assert found["Wang"]["Median (hours)"] == ""


@pytest.mark.parametrize(
    ("incident", "said"),
    [
        ("i1", "A message about this stock-out went out."),
        ("i2", "Nobody has been notified yet. Reason: quiet hours"),
        ("i3", "Nothing was decided about notifying anybody yet."),
    ],
)
def test_a_stock_out_says_who_was_notified_or_why_not(
    city: Embedded, incident: str, said: str
) -> None:
    page = re.sub(r"\s+", " ", text(city, f"/stock-outs/{incident}"))
    assert said in page
    assert ("O1: A is out" in page) is (incident == "i1")
    assert ("<dd>+861*******000</dd>" in page) is (incident != "i3")  # Wang's phone; Li has none
    assert get(city, "/stock-outs/nothing").status == 404


# files


def test_a_csv_opens_right_in_chinese_excel(city: Embedded) -> None:
    reply = get(city, "/outlets?format=csv&q=O", Accept_Language="zh")
    assert reply.body.startswith(b"\xef\xbb\xbf")
    lines = list(csv.DictReader(io.StringIO(reply.body.decode("utf-8-sig"))))
    by_id = {line["编号"]: line for line in lines}
    assert by_id["O1"]["网点"] == "'=HYPERLINK(1)"
    assert by_id["O2"]["网点"] == "'+8613800138000"
    assert by_id["O3"]["截至"] == "2026-03-31 23:59:00"
    assert by_id["O1"]["状态"] == "空网点"


def test_a_workbook_has_text_for_names_local_times_and_the_readers_headings(city: Embedded) -> None:
    reply = get(city, "/outlets?format=xlsx&q=O", Accept_Language="zh")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "=HYPERLINK(1)" in sheet
    assert "<f>" not in sheet
    assert "批发商" in sheet
    excel_day_0 = dt.datetime(1899, 12, 30, tzinfo=ZONE)
    assert str((UNTIL - excel_day_0) / dt.timedelta(days=1))[:12] in sheet


@given(st.text())
def test_no_text_of_a_csv_becomes_a_formula_or_loses_digits(value: str) -> None:
    written = str(_safe(value))
    assert written[:1] not in ("=", "+", "-", "@") or not written
    assert written.endswith(value)
    assert not re.fullmatch(r"[0-9]{12,}", written)

"""The answers to saved questions, beside the same worked out from the input's files and truth."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.simulate.truth import TrueIncident, Truth, read_truth

HOUR = 3_600_000


@pytest.fixture(scope="module")
def truth(ran: Any) -> Truth:
    return read_truth(ran.city)


def answers(ran: Any, name: str, **params: object) -> list[dict[str, Any]]:
    given = [word for key, value in params.items() for word in ("--param", f"{key}={value}")]
    text = ran.zerostock("ask", name, "--data", ran.data, "--format", "JSONEachRow", *given)
    return [json.loads(line) for line in text.splitlines()]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def told(truth: Truth) -> dict[tuple[str, str, int], int]:
    """When each stock-out was told, of those that were."""
    return {
        incident: message.sent_for_at
        for message in truth.messages
        if message.wholesaler_id
        for incident in message.incidents
    }


def still_open(truth: Truth) -> list[TrueIncident]:
    return [incident for incident in truth.incidents if incident.closed_at is None]


def test_empty_shelves(ran: Any, truth: Truth) -> None:
    outlets = {row["outlet_id"]: row for row in read(ran.city / "reference/outlets.csv")}
    names = {r["wholesaler_id"]: r["name"] for r in read(ran.city / "reference/wholesalers.csv")}
    sent = told(truth)
    found = {
        (row["outlet_id"], row["sku"], at(row["since"])): (
            row["territory"],
            row["outlet"],
            row["wholesaler"],
            at(row["told"]) if row["told"] else None,
        )
        for row in answers(ran, "empty-shelves")
    }
    wanted = {
        (i.outlet_id, i.sku, i.opened_at): (
            outlets[i.outlet_id]["territory_id"],
            outlets[i.outlet_id]["name"],
            names.get(i.wholesaler_id, ""),
            sent.get((i.outlet_id, i.sku, i.opened_at)),
        )
        for i in still_open(truth)
    }
    assert found == wanted
    assert wanted


def test_van_round(ran: Any, truth: Truth) -> None:
    holder: dict[str, str] = {}
    for row in sorted(read(ran.city / "reference/assignments.csv"), key=lambda r: r["valid_from"]):
        holder[row["outlet_id"]] = row["wholesaler_id"]
    held: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for incident in still_open(truth):
        held[holder.get(incident.outlet_id, "")].add((incident.outlet_id, incident.sku))
    wholesaler = max(held.keys() - {""}, key=lambda w: len(held[w]))
    found = answers(ran, "van-round", wholesaler=wholesaler)
    assert {(row["outlet_id"], row["sku"]) for row in found} == held[wholesaler]
    assert len(found) == len(held[wholesaler])
    assert all(row["sold_a_day"] > 0 for row in found)


def test_delivery_timeliness(ran: Any, truth: Truth) -> None:
    moved = (
        "SELECT outlet_id, sku, toString(toUnixTimestamp64Milli(at)) AS ms, cause, delta"
        " FROM stock_movements"
    )
    text = ran.zerostock("query", "--data", ran.data, "--format", "JSONEachRow", moved)
    causes: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    for row in map(json.loads, text.splitlines()):
        causes[row["outlet_id"], row["sku"], int(row["ms"])].add(row["cause"])
    until = max(ms for _, _, ms in causes)
    due: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for incident in truth.incidents:
        shelf, closed = (incident.outlet_id, incident.sku), incident.closed_at
        if "first_use" not in causes[*shelf, incident.opened_at]:
            continue
        if incident.opened_at + 2 * HOUR <= until:
            due[incident.wholesaler_id] += 1
            kept[incident.wholesaler_id] += (
                closed is not None
                and closed <= incident.opened_at + 2 * HOUR
                and "delivery" in causes[*shelf, closed]
            )
    found = answers(ran, "delivery-timeliness", hours=2)
    assert {
        row["wholesaler_id"]: (int(row["stock_outs"]), int(row["in_time"])) for row in found
    } == {name: (due[name], kept[name]) for name in due}
    assert all(
        row["timeliness"] == pytest.approx(kept[row["wholesaler_id"]] / due[row["wholesaler_id"]])
        for row in found
    )


def test_not_told(ran: Any, truth: Truth) -> None:
    sent = told(truth)
    wanted = sorted(
        (i.opened_at, i.outlet_id, i.sku)
        for i in truth.incidents
        if (i.outlet_id, i.sku, i.opened_at) not in sent
    )
    found = answers(ran, "not-told")
    assert [(at(r["opened_at"]), r["outlet_id"], r["sku"]) for r in found] == wanted
    assert all(row["status"] == "undeliverable" for row in found if not row["wholesaler_id"])


def test_sms_cost(ran: Any, truth: Truth) -> None:
    wanted = Counter(message.wholesaler_id for message in truth.messages)
    found = answers(ran, "sms-cost")
    got = {row["wholesaler_id"]: int(row["messages"]) for row in found}
    nobodys = got.pop("", 0)
    assert got == wanted
    assert sum(int(row["not_through"]) for row in found) == nobodys


def test_books_by_wholesaler_agree_with_the_shelves(ran: Any, truth: Truth) -> None:
    rows = answers(ran, "books-by-wholesaler")
    received, gone = (
        sum(int(row[name]) for row in rows for name in names)
        for names in (("received",), ("sold", "returned", "written_off"))
    )
    moved_over = (
        "SELECT countIf(cause = 'transfer_in') - countIf(cause IN ('transfer_out', 'moved_out'))"
        " FROM stock_movements"
    )
    between = int(ran.zerostock("query", "--data", ran.data, "--format", "TSV", moved_over))
    assert received - gone + between == sum(truth.stock.values())


def test_old_debts(ran: Any) -> None:
    rows = answers(ran, "old-debts", as_of="2026-03-31")
    owed = {row["hall"]: (round(row["yuan"] * 100), round(row["old_yuan"] * 100)) for row in rows}
    bills = (
        "SELECT hall_id AS hall, sum(open_fen) AS fen, sumIf(open_fen, days > 90) AS old"
        " FROM arrears_bills WHERE as_of = '2026-03-31' GROUP BY hall"
    )
    text = ran.zerostock("query", "--data", ran.data, "--format", "JSONEachRow", bills)
    opened = [json.loads(line) for line in text.splitlines()]
    assert owed == {row["hall"]: (int(row["fen"]), int(row["old"])) for row in opened}
    known = {row["hall_id"] for row in read(ran.city / "utility/customers.csv")}
    assert owed.keys() <= known | {"unknown"}


def test_worst_losses(ran: Any) -> None:
    rows = answers(ran, "worst-losses", period="2026-03")
    parents = {r["unit_id"]: r["parent_id"] for r in read(ran.city / "utility/grid_units.csv")}
    planted = {
        row["id"]
        for row in read(ran.city / "truth/utility.csv")
        if row["planted"] == "negative_loss"
    }
    assert [abs(row["own_loss_kwh"]) for row in rows] == sorted(
        (abs(row["own_loss_kwh"]) for row in rows), reverse=True
    )
    for row in rows:
        assert row["parent_id"] == parents[row["unit_id"]]
        assert row["loss_rate"] == pytest.approx(row["loss_kwh"] / row["supplied_kwh"])
    assert {row["unit_id"] for row in rows if row["status"] == "negative"} == planted

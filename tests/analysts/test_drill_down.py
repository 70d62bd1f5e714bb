"""A figure opens to its rows: they add up to it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pipelines.simulate.truth import read_truth


def rows(ran: Any, *arguments: str) -> list[dict[str, Any]]:
    text = ran.zerostock(*arguments, "--data", ran.data, "--format", "JSONEachRow")
    return [json.loads(line) for line in text.splitlines()]


def test_an_ageing_bucket_is_its_bills(ran: Any) -> None:
    bars = rows(
        ran,
        "query",
        "SELECT bucket, toInt64(amount_fen) AS fen, bills FROM arrears_ageing"
        " WHERE as_of = '2026-03-31' AND dimension = 'all' ORDER BY fen DESC LIMIT 2",
    )
    assert len(bars) == 2
    for bar in bars:
        bills = rows(ran, "ask", "bills-behind-a-bucket", "--param", f"bucket={bar['bucket']}")
        assert sum(int(bill["open_fen"]) for bill in bills) == int(bar["fen"]) > 0
        assert len(bills) == int(bar["bills"])


def test_stock_is_its_movements(ran: Any) -> None:
    shelf = rows(ran, "query", "SELECT * FROM stock_on_hand ORDER BY on_hand DESC LIMIT 1")[0]
    chosen = ("--param", f"outlet={shelf['outlet_id']}", "--param", f"sku={shelf['sku']}")
    moved = rows(ran, "ask", "movements-behind-a-shelf", *chosen)
    assert sum(row["delta"] for row in moved) == shelf["on_hand"] > 0
    assert int(moved[-1]["on_hand"]) == shelf["on_hand"]
    assert all(row["event_id"] for row in moved)


def test_messages_are_their_stock_outs(ran: Any) -> None:
    told: Counter[tuple[str, str]] = Counter()
    for message in read_truth(ran.city).messages:
        if message.wholesaler_id:
            told.update((outlet, sku) for outlet, sku, _ in message.incidents)
    found = rows(ran, "ask", "stock-outs-behind-messages")
    sent = [row for row in found if row["status"] != "undeliverable"]  # those nobody holds
    assert Counter((row["outlet_id"], row["sku"]) for row in sent) == told
    assert told


def test_what_was_refused_about_a_shop_is_found(ran: Any) -> None:
    every = rows(ran, "query", "SELECT payload FROM dead_letters WHERE payload LIKE '%outlet_id%'")
    named = [json.loads(row["payload"]) for row in every if row["payload"].endswith("}")]
    assert named
    outlet = named[0]["outlet_id"]
    found = rows(ran, "ask", "refused-about-a-shop", "--param", f"outlet={outlet}")
    assert len(found) >= sum(row.get("outlet_id") == outlet for row in named) > 0
    assert all(row["reason"] for row in found)

"""Arrears against plain bookkeeping, conservation of money, and the odd cases of paying."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from batch_harness import compute_tables, reasons, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.plain_batch import bucket, plain_arrears

from pipelines.core.billing import arrears

AS_OF = date(2026, 3, 31)
CUSTOMER = ("customer_id", "segment", "hall_id")
BILL = ("bill_id", "customer_id", "billing_period", "issued_on", "due_on", "amount_fen")
PAYMENT = ("payment_id", "customer_id", "bill_id", "paid_on", "amount_fen", "channel")
STATEMENT = ("day", "channel", "amount_fen", "payments")
Row = dict[str, Any]


def write(
    root: Path, customers: list[Row], bills: list[Row], payments: list[Row], **more: list[Row]
) -> None:
    write_csv(root / "customers.csv", CUSTOMER, customers)
    write_csv(root / "bills.csv", BILL, bills)
    write_csv(root / "payments.csv", PAYMENT, payments)
    if "statements" in more:
        write_csv(root / "channel_statements.csv", STATEMENT, more["statements"])


def run(root: Path, as_of: date = AS_OF, **how: Any) -> dict[str, list[Row]]:
    return compute_tables("arrears", root, as_of.isoformat(), **how)


def bill(bill_id: str, fen: int, due: date | None = AS_OF, **more: Any) -> Row:
    return {
        "bill_id": bill_id,
        "customer_id": "c",
        "billing_period": "2026-01",
        "issued_on": date(2026, 1, 5),
        "due_on": due,
        "amount_fen": fen,
    } | more


def payment(payment_id: str, fen: int, bill_id: str | None = None, **more: Any) -> Row:
    return {
        "payment_id": payment_id,
        "customer_id": "c",
        "bill_id": bill_id,
        "paid_on": date(2026, 2, 1),
        "amount_fen": fen,
        "channel": "bank",
    } | more


def still_open(tables: dict[str, list[Row]]) -> dict[str, int]:
    return {row["bill_id"]: row["open_fen"] for row in tables["arrears_bills"]}


def books(rng: random.Random) -> tuple[list[Row], list[Row], list[Row]]:
    """Customers, bills (credit notes, future ones, ones without a due date), payments."""
    people = [f"c{i}" for i in range(rng.randint(1, 6))]
    customers = [
        {
            "customer_id": c,
            "segment": rng.choice(("home", "shop", None)),
            "hall_id": rng.choice("XY"),
        }
        for c in people
        if rng.random() < 0.8
    ]

    def some_day() -> date:
        return AS_OF - timedelta(days=rng.randint(-40, 500))

    bills = []
    for i in range(rng.randint(0, 20)):
        issued = some_day()
        bills.append(
            bill(
                f"b{i}",
                rng.choice((rng.randint(0, 900), rng.randint(0, 900), -rng.randint(1, 300))),
                rng.choice((None, issued + timedelta(days=rng.randint(-5, 60)))),
                customer_id=rng.choice(people),
                issued_on=issued,
                billing_period=f"{issued:%Y-%m}",
            )
        )
    payments = [
        payment(
            f"p{i}",
            rng.randint(0, 800),
            rng.choice((None, f"b{rng.randrange(25)}")),
            customer_id=rng.choice(people),
            paid_on=some_day(),
            channel=rng.choice(("bank", "counter", None)),
        )
        for i in range(rng.randint(0, 25))
    ]
    return customers, bills, payments


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_equals_plain_bookkeeping(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    customers, bills, payments = books(rng)
    root = tmp_path_factory.mktemp("books")
    repeated = [rng.choice(rows) for rows in (bills, payments) if rows]
    rows = [rng.sample(r, len(r)) for r in (customers, bills, payments)]
    rows[1] += [r for r in repeated if "billing_period" in r]
    rows[2] += [r for r in repeated if "channel" in r]
    write(root, *rows)
    tables = run(root, parts=rng.choice((1, 3)))
    wanted = plain_arrears(customers, bills, payments, AS_OF)
    assert {
        (r["dimension"], r["key"], r["bucket"]): [r["amount_fen"], r["bills"], r["customers"]]
        for r in tables["arrears_ageing"]
    } == wanted["ageing"]
    assert {
        (r["billing_period"], r["dimension"], r["key"]): [
            r["charged_fen"], r["received_fen"], r["cash_received_fen"]
        ]
        for r in tables["bill_recovery"]
    } == wanted["recovery"]  # fmt: skip
    assert {
        r["customer_id"]: r["unallocated_fen"]
        for r in tables["customer_credit"]
        if r["unallocated_fen"]
    } == wanted["unallocated"]
    for r in tables["bill_recovery"]:
        charged = r["charged_fen"]
        assert r["cohort_rate"] == (r["received_fen"] / charged if charged else None)
        assert r["cash_rate"] == (r["cash_received_fen"] / charged if charged else None)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_money_is_conserved(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    customers, bills, payments = books(random.Random(seed))
    root = tmp_path_factory.mktemp("books")
    write(root, customers, bills, payments)
    tables = run(root)
    billed = sum(max(b["amount_fen"], 0) for b in bills if b["issued_on"] <= AS_OF)
    credited = sum(-min(b["amount_fen"], 0) for b in bills if b["issued_on"] <= AS_OF)
    paid = sum(p["amount_fen"] for p in payments if p["paid_on"] <= AS_OF)
    for dimension in ("all", "segment", "hall"):
        buckets = sum(
            r["amount_fen"] for r in tables["arrears_ageing"] if r["dimension"] == dimension
        )
        allocated = sum(
            r["received_fen"] for r in tables["bill_recovery"] if r["dimension"] == dimension
        )
        assert buckets + allocated == billed
    unallocated = sum(r["unallocated_fen"] for r in tables["customer_credit"])
    assert allocated + unallocated == paid + credited
    by_bill = sum(r["open_fen"] for r in tables["arrears_bills"])
    assert by_bill == buckets


@given(
    owed=st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 50)), max_size=8),
    given_=st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 80)), max_size=8),
)
def test_credit_pays_the_oldest_first(
    owed: list[tuple[str, int]], given_: list[tuple[str, int]]
) -> None:
    bills = pl.DataFrame(
        [(f"b{i}", c, AS_OF + timedelta(days=i % 3), fen) for i, (c, fen) in enumerate(owed)],
        schema={"bill_id": pl.String, "customer_id": pl.String, "due_on": pl.Date,
                "open_fen": pl.Int64},
        orient="row",
    )  # fmt: skip
    credit = pl.DataFrame(
        [(f"p{i}", c, AS_OF, fen) for i, (c, fen) in enumerate(given_)],
        schema={"payment_id": pl.String, "customer_id": pl.String, "paid_on": pl.Date,
                "amount_fen": pl.Int64},
        orient="row",
    )  # fmt: skip
    found: dict[str, int] = {}
    for row in arrears.pay_oldest(bills, credit).iter_rows(named=True):
        found[row["bill_id"]] = found.get(row["bill_id"], 0) + row["paid_fen"]
    left = {c: sum(fen for other, fen in given_ if other == c) for c in "xyz"}
    wanted = {}
    for row in bills.sort("due_on", "bill_id").iter_rows(named=True):
        taken = min(row["open_fen"], left[row["customer_id"]])
        left[row["customer_id"]] -= taken
        if taken:
            wanted[row["bill_id"]] = taken
    assert found == wanted


@pytest.mark.parametrize("days", [-5, 0, 1, 30, 31, 60, 61, 90, 91, 180, 181, 365, 366, 4000])
def test_buckets_at_their_borders(days: int) -> None:
    frame = pl.DataFrame({"due_on": [AS_OF - timedelta(days=days)]})
    assert frame.select(arrears.bucket(arrears.past_due(AS_OF))).item() == bucket(days)


def test_a_bill_without_a_due_date_ages_from_its_issue(tmp_path: Path) -> None:
    write(tmp_path, [], [bill("b", 100, None, issued_on=AS_OF - timedelta(days=31))], [])
    (row,) = [r for r in run(tmp_path)["arrears_ageing"] if r["dimension"] == "segment"]
    assert (row["key"], row["bucket"], row["amount_fen"]) == ("unknown", "31-60", 100)


def test_a_payment_before_its_bill_pays_it_and_one_for_a_bill_to_come_is_credit(
    tmp_path: Path,
) -> None:
    early = payment("p1", 100, "b1", paid_on=date(2025, 12, 1))
    ahead = payment("p2", 70, "b2")
    later = bill("b2", 70, issued_on=AS_OF + timedelta(days=1))
    write(tmp_path, [], [bill("b1", 100), bill("b3", 100), later], [early, ahead])
    assert still_open(run(tmp_path)) == {"b3": 30}
    assert still_open(run(tmp_path, AS_OF + timedelta(days=1))) == {"b3": 100}


def test_somebody_else_may_pay_a_bill_and_keeps_what_is_left_over(tmp_path: Path) -> None:
    write(
        tmp_path,
        [],
        [bill("b1", 100), bill("b2", 50, customer_id="friend")],
        [payment("p", 130, "b1", customer_id="friend")],
    )
    assert still_open(run(tmp_path)) == {"b2": 20}


def test_a_credit_note_is_credit_of_its_customer(tmp_path: Path) -> None:
    write(tmp_path, [], [bill("b1", 100), bill("note", -30), bill("b2", 100)], [])
    tables = run(tmp_path)
    assert still_open(tables) == {"b1": 70, "b2": 100}
    (row,) = [r for r in tables["bill_recovery"] if r["dimension"] == "all"]
    assert (row["charged_fen"], row["received_fen"], row["cash_received_fen"]) == (200, 30, 0)


def test_what_comes_after_the_day_does_not_count(tmp_path: Path) -> None:
    tomorrow = AS_OF + timedelta(days=1)
    write(
        tmp_path,
        [],
        [bill("b1", 100), bill("b2", 100, issued_on=tomorrow)],
        [payment("p1", 40, paid_on=tomorrow), payment("p2", 5)],
    )
    assert still_open(run(tmp_path)) == {"b1": 95}


def test_recovery_keeps_cohort_and_cash_apart(tmp_path: Path) -> None:
    write(
        tmp_path,
        [],
        [bill("b1", 100), bill("b2", 300, billing_period="2026-02")],
        [payment("p1", 100, "b1", paid_on=date(2026, 2, 9)), payment("p2", 300, "b2")],
    )
    found = {r["billing_period"]: r for r in run(tmp_path)["bill_recovery"] if r["key"] == "all"}
    assert (found["2026-01"]["cohort_rate"], found["2026-01"]["cash_rate"]) == (1, 0)
    assert found["2026-02"]["cohort_rate"] == 1
    assert found["2026-02"]["cash_rate"] == 400 / 300


def test_cash_of_a_month_without_bills_is_in_no_recovery(tmp_path: Path) -> None:
    late = payment("p", 100, "b1", paid_on=date(2026, 3, 9))
    write(tmp_path, [], [bill("b1", 100)], [late])
    tables = run(tmp_path)
    assert still_open(tables) == {}
    assert {r["billing_period"] for r in tables["bill_recovery"]} == {"2026-01"}
    assert {r["cash_received_fen"] for r in tables["bill_recovery"]} == {0}


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    write(
        tmp_path,
        [],
        [bill("b1", 100), bill("b1", 120), bill("b2", 1, billing_period="2026-13")],
        [payment("p", -5), payment("q", 1, paid_on="31.03.2026"), payment("r", 9.5)],
    )
    tables = run(tmp_path)
    assert still_open(tables) == {"b1": 100}
    assert reasons(tables) == ["conflict", *["invalid_field"] * 3, "negative_payment"]


def test_channels_are_reconciled_day_by_day(tmp_path: Path) -> None:
    first, second = date(2026, 2, 1), date(2026, 2, 2)
    statements = [
        {"day": first, "channel": "bank", "amount_fen": 150, "payments": 2},
        {"day": second, "channel": "bank", "amount_fen": 80, "payments": 1},
        {"day": second, "channel": "agent", "amount_fen": 7, "payments": 1},
        {"day": first, "channel": "agent", "amount_fen": 9, "payments": 2},
        {"day": AS_OF + timedelta(days=1), "channel": "bank", "amount_fen": 1, "payments": 1},
    ]
    payments = [
        payment("p1", 100), payment("p2", 50), payment("p3", 90, paid_on=second),
        payment("p4", 5, channel="till"), payment("p5", 9, channel="agent"),
    ]  # fmt: skip
    write(tmp_path, [], [], payments, statements=statements)
    found = {
        (r["day"], r["channel"]): (r["status"], r["difference_fen"])
        for r in run(tmp_path)["payment_reconciliation"]
    }
    assert found == {
        (first, "bank"): ("ok", 0),
        (second, "bank"): ("different", 10),
        (second, "agent"): ("not_received", -7),
        (first, "till"): ("not_stated", 5),
        (first, "agent"): ("different_count", 0),
    }


def test_payments_that_look_doubled_are_listed(tmp_path: Path) -> None:
    payments = [payment("p2", 50, "b"), payment("p1", 50, "b"), payment("p3", 50)]
    write(tmp_path, [], [bill("b", 50)], payments)
    (row,) = run(tmp_path)["payment_doubles"]
    assert (row["payment_id"], row["twin_of"], row["amount_fen"]) == ("p2", "p1", 50)


def test_grades_say_why(tmp_path: Path) -> None:
    people = [{"customer_id": c, "segment": "home", "hall_id": "X"} for c in ("good", "bad", "new")]
    overdue = AS_OF - timedelta(days=200)
    write(
        tmp_path,
        people,
        [
            bill("g", 100, customer_id="good"),
            bill("b1", 12_345, overdue, customer_id="bad"),
            bill("b2", 1000, date(2026, 1, 2), customer_id="bad"),
        ],
        [
            payment("p1", 100, "g", customer_id="good"),
            payment("p2", 1000, "b2", customer_id="bad"),
        ],
    )
    (tmp_path / "customer_records.csv").write_text(
        "record_id,customer_id,kind,happened_on\nr1,bad,theft,2026-01-01\nr1,bad,theft,2026-01-01\n"
        "r2,bad,dispute,2024-01-01\nr3,new,dispute,2026-03-31\n"
    )
    found = {r["customer_id"]: r for r in run(tmp_path)["customer_credit"]}
    assert (found["good"]["grade"], found["good"]["score"], found["good"]["reasons"]) == (
        "A",
        100,
        "",
    )
    assert (found["new"]["score"], found["new"]["reasons"]) == (95, "1 dispute(s) in a year")
    assert found["bad"]["grade"] == "D"
    assert found["bad"]["overdue_fen"] == 12_345
    assert found["bad"]["reasons"] == (
        "1 record(s) of tampering or theft in a year; 123.45 yuan overdue, the oldest for 200 days;"
        " paid late 1 time(s) in a year, 30 days on average"
    )
    # 100 - 30 for theft - 20 for age - 20 × 12345/13345 overdue - 40 × 30/90 late
    assert found["bad"]["score"] == pytest.approx(
        100 - 30 - 20 - 20 * 12345 / 13345 - 40 / 3, abs=0.05
    )

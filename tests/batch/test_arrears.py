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
BILL = ("bill_id", "customer_id", "billing_period", "issued_on", "due_on", "amount_fen", "corrects")
PAYMENT = ("payment_id", "customer_id", "bill_id", "paid_on", "amount_fen", "channel", "reverses")
STATEMENT = ("day", "channel", "amount_fen", "payments")
Row = dict[str, Any]


def write(
    root: Path, customers: list[Row], bills: list[Row], payments: list[Row], **more: list[Row]
) -> None:
    write_csv(root / "customers.csv", CUSTOMER, customers)
    # Bills whose notes could not name one come without the column.
    some = bills and all(row["corrects"] == "" for row in bills)
    write_csv(root / "bills.csv", BILL[:-1] if some else BILL, bills)
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
        "corrects": None,
    } | more


def payment(payment_id: str, fen: int, bill_id: str | None = None, **more: Any) -> Row:
    return {
        "payment_id": payment_id,
        "customer_id": "c",
        "bill_id": bill_id,
        "paid_on": date(2026, 2, 1),
        "amount_fen": fen,
        "channel": "bank",
        "reverses": None,
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
    column = rng.random() < 0.5
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
                corrects=rng.choice((None, f"b{rng.randrange(22)}")) if column else "",
            )
        )
    for b in [b for b in bills if b["amount_fen"] > 0 and rng.random() < 0.3]:
        later = b["issued_on"] + timedelta(days=rng.randint(-3, 20))
        note = {"bill_id": f"n{len(bills)}", "amount_fen": -b["amount_fen"], "issued_on": later}
        bills.append(b | note | {"corrects": None if column else ""})
    payments = [
        payment(
            f"p{rng.randrange(i + 1)}" if rng.random() < 0.3 else f"p{i}",
            rng.randint(0, 800),
            rng.choice((None, f"b{rng.randrange(25)}")),
            customer_id=rng.choice(people),
            paid_on=some_day(),
            channel=rng.choice(("bank", "counter", None)),
        )
        for i in range(rng.randint(0, 25))
    ]
    seen: dict[tuple[str, str | None], Row] = {}
    for p in payments:
        seen.setdefault((p["payment_id"], p["channel"]), p)
    payments = list(seen.values())
    for i in range(rng.randint(0, 6) if payments else 0):
        back = rng.choice(payments)
        named = rng.choice((None, back["payment_id"], "p99"))
        payments.append(
            back
            | {
                "payment_id": f"r{i}",
                "amount_fen": min(-1, -back["amount_fen"]),
                "paid_on": back["paid_on"] + timedelta(days=rng.randint(-2, 30)),
                "channel": back["channel"] if rng.random() < 0.8 else "till",
                "reverses": named,
            }
        )
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
    assert still_open(tables) == wanted["open"]
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
    plain = plain_arrears(customers, bills, payments, AS_OF)
    billed, credited, paid = plain["billed"], plain["credited"], plain["paid"]
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
        [(f"p{i}", None, c, AS_OF, fen, False) for i, (c, fen) in enumerate(given_)],
        schema=arrears.CREDIT,
        orient="row",
    )
    found: dict[str, int] = {}
    after, paid, rest = arrears.pay_oldest(bills, credit)
    for row in paid.iter_rows(named=True):
        found[row["bill_id"]] = found.get(row["bill_id"], 0) + row["paid_fen"]
    assert bills["open_fen"].sum() - after["open_fen"].sum() == sum(found.values())
    assert credit["amount_fen"].sum() - rest["amount_fen"].sum() == sum(found.values())
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
    assert reasons(tables) == ["conflict", *["invalid_field"] * 3, "unknown_payment"]


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


def test_a_bounced_cheque_leaves_the_bill_open_and_nobody_paid_late(tmp_path: Path) -> None:
    bounced = payment("p1r", -100, "b1", paid_on=date(2026, 3, 9))
    write(tmp_path, [], [bill("b1", 100, date(2026, 1, 9))], [payment("p1", 100, "b1"), bounced])
    tables = run(tmp_path)
    assert still_open(tables) == {"b1": 100}
    assert {r["cash_received_fen"] for r in tables["bill_recovery"]} == {0}
    (credit,) = tables["customer_credit"]
    assert "paid late" not in credit["reasons"]
    assert still_open(run(tmp_path, date(2026, 3, 8))) == {}
    assert tables["batch_rejects"] == []


def test_a_payment_is_taken_back_once_and_by_its_own_channel(tmp_path: Path) -> None:
    payments = [
        payment("p", 60, "b1"), payment("p", 40, "b1", channel="till"),
        payment("r1", -60, reverses="p"), payment("r2", -60, reverses="p"),
        payment("r3", -7, "b1"),
    ]  # fmt: skip
    write(tmp_path, [], [bill("b1", 100)], payments)
    tables = run(tmp_path)
    assert still_open(tables) == {"b1": 100}, "r1 takes back bank's, r2 the only one left"
    assert [(r["row"], r["reason"].split(":")[0]) for r in tables["batch_rejects"]] == [
        (5, "unknown_payment")
    ]


@pytest.mark.parametrize(
    ("note", "wanted", "left"),
    [
        ({"fen": -30, "corrects": "b2"}, {"b1": 100, "b2": 70}, 0),
        ({"fen": -130, "corrects": "b2"}, {"b1": 70}, 0),
        ({"fen": -130, "corrects": None}, {"b2": 70}, 0),
        ({"fen": -250, "corrects": "b2"}, {}, 50),
        ({"fen": -30, "corrects": "gone"}, {"b1": 70, "b2": 100}, 0),
    ],
)
def test_a_credit_note_lowers_the_bill_it_names(
    note: dict[str, Any], wanted: dict[str, int], left: int, tmp_path: Path
) -> None:
    bills = [
        bill("b1", 100, date(2026, 2, 1)), bill("b2", 100, date(2026, 2, 2)),
        bill("n", note["fen"], None, corrects=note["corrects"], issued_on=date(2026, 3, 5)),
    ]  # fmt: skip
    write(tmp_path, [], bills, [])
    for parts in (1, 3):
        tables = run(tmp_path, parts=parts)
        assert still_open(tables) == wanted
        (credit,) = tables["customer_credit"]
        assert (credit["unallocated_fen"], "paid late" in credit["reasons"]) == (left, False)
    assert still_open(run(tmp_path, date(2026, 3, 4))) == {"b1": 100, "b2": 100}


def test_money_taken_back_by_notes_and_cheques(tmp_path: Path) -> None:
    """An export whose notes cannot name their bill, over variations of what stands beside it."""
    jan, feb = {"billing_period": "2026-01"}, {"billing_period": "2026-02"}
    old = bill("B5", 10_000, date(2026, 2, 15), corrects="", **jan)
    new = bill("B6", 8_000, date(2026, 3, 15), corrects="", **feb, issued_on=date(2026, 3, 1))
    note = bill("CN1", -8_000, None, corrects="", **feb, issued_on=date(2026, 3, 5))
    for bills, wanted in (
        ([old, new, note], {"B5": 10_000}),
        ([note, new, old], {"B5": 10_000}),
        ([old, new, note, note | {"bill_id": "CN2"}], {"B5": 2_000}),  # nothing left to correct
        ([old, new, new | {"bill_id": "B7"}, note], {"B5": 10_000, "B7": 8_000}),
        ([old, new, note | jan], {"B5": 2_000, "B6": 8_000}),
        ([old, new, note | {"amount_fen": -7_999}], {"B5": 2_001, "B6": 8_000}),
        ([old, new, note | {"customer_id": "d"}], {"B5": 10_000, "B6": 8_000}),
        ([old, new, note | {"issued_on": date(2026, 2, 28)}], {"B5": 2_000, "B6": 8_000}),
        # An export that has the column and leaves it empty: credit.
        ([b | {"corrects": None} for b in (old, new, note)], {"B5": 2_000, "B6": 8_000}),
    ):
        for parts in (1, 5):
            write(tmp_path, [], bills, [])
            tables = run(tmp_path, parts=parts)
            assert still_open(tables) == wanted, bills
            assert not any("paid late" in row["reasons"] for row in tables["customer_credit"])


@pytest.mark.parametrize("parts", [2, 7, 64])
def test_books_that_hang_together_are_settled_together(parts: int, tmp_path: Path) -> None:
    """A chain of customers, each paying the next one's bill, ids given twice, a cheque taken back
    by somebody else, and a bill's name with a zero too many."""
    people = [f"c{n}" for n in range(40)]
    bills = [bill(f"b{n}", 100 + n, customer_id=who) for n, who in enumerate(people)]
    payments = [
        payment(f"p{n}", 150, f"b{(n + 1) % 40}" if n % 2 else f"b{n}", customer_id=who)
        for n, who in enumerate(people)
    ]
    payments += [
        payment("p3", 7, customer_id="c9"),  # another's id
        payment("r", -150, reverses="p5", customer_id="c20"),
        payment("q", 1, "0b7", customer_id="c31"),
    ]
    bills.append(bill("b2", 1, customer_id="c11"))
    write(tmp_path, [], bills, payments)
    one = run(tmp_path)
    assert run(tmp_path, parts=parts) == one
    assert len(one["batch_rejects"]) == 3


def test_two_channels_may_use_the_same_number(tmp_path: Path) -> None:
    payments = [payment("1", 40, "b"), payment("1", 60, "b", channel="wechat")]
    write(tmp_path, [], [bill("b", 100)], [*payments, *payments])
    tables = run(tmp_path, parts=3)
    assert (still_open(tables), tables["batch_rejects"]) == ({}, [])


@pytest.mark.parametrize(("named", "known"), [("123", "000123"), ("000123", "123"), ("b7", "B7")])
def test_a_near_miss_of_a_bills_id_is_noted(named: str, known: str, tmp_path: Path) -> None:
    write(tmp_path, [], [bill(known, 100)], [payment("p", 100, named), payment("q", 1, "other")])
    tables = run(tmp_path, parts=4)
    (row,) = tables["batch_rejects"]
    assert row["row"] == 1
    assert row["reason"] == (
        f"note: bill {named} is not known, but {known} is; the payment is credit"
    )


SHAPES = {
    "issued_on": ["2026-02-01", "2026-02-01 00:00:00", "2026/2/1", "2026/02/01", "20260201",
                  "2026-02-01T08:30", "2026年2月1日"],
    "billing_period": ["2026-01", "202601", "2026/1", "2026/01", "2026-01-01", "2026年1月"],
    "amount_fen": ["10000", "10000.00", "10,000", "+10000", "10,000.0"],
}  # fmt: skip


@pytest.mark.parametrize("column", SHAPES)
def test_days_months_and_amounts_are_read_in_the_shapes_of_exports(
    column: str, tmp_path: Path
) -> None:
    bills = [
        bill(f"b{n}", 10_000, issued_on="2026-02-01", due_on="2026-02-15") | {column: shape}
        for n, shape in enumerate(SHAPES[column])
    ]
    write(tmp_path, [], bills, [])
    tables = run(tmp_path)
    assert tables["batch_rejects"] == []
    plain = {(r["issued_on"], r["billing_period"], r["open_fen"]) for r in tables["arrears_bills"]}
    assert plain == {(date(2026, 2, 1), "2026-01", 10_000)}


@pytest.mark.parametrize(
    ("column", "shape"),
    [("issued_on", "01/02/2026"), ("issued_on", "2026-02-30"), ("issued_on", "2026-02-01T00:00Z"),
     ("billing_period", "2026-13"), ("billing_period", "2026-01-15"), ("billing_period", "1/2026"),
     ("amount_fen", "100,00"), ("amount_fen", "1e4"), ("amount_fen", "99.5"),
     ("amount_fen", "10.000,00")],
)  # fmt: skip
def test_what_may_mean_two_things_is_refused(column: str, shape: str, tmp_path: Path) -> None:
    write(tmp_path, [], [bill("b", 10_000) | {column: shape}], [])
    (reject,) = run(tmp_path)["batch_rejects"]
    assert reject["reason"].startswith(f"invalid_field: {column}: '{shape}' is not")

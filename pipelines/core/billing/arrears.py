"""Arrears: which payment pays which bill, how old the rest is, how much of a period came in.

Frames in, frames out; money in whole fen (Int64). Every function needs all rows of the bills or
customers it is given, and none depends on the order of the rows. Files and shuffles live in
`pipelines.batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Int64s = npt.NDArray[np.int64]

#: Upper ends of the buckets in days past due, both included; what is older is "365+".
BUCKETS = (("not_due", 0), ("1-30", 30), ("31-60", 60), ("61-90", 90), ("91-180", 180),
           ("181-365", 365))  # fmt: skip
OLDEST = "365+"

#: Segment or hall of who is not among the customers, or has none.
UNKNOWN = "unknown"

#: Money that reached a bill; `note` says that a credit note brought it, which nobody paid.
ALLOCATION = {
    "bill_id": pl.String,
    "customer_id": pl.String,
    "due_on": pl.Date,
    "paid_on": pl.Date,
    "paid_fen": pl.Int64,
    "note": pl.Boolean,
}

#: Credit of a customer: what is left of a payment, or of a credit note.
CREDIT = {
    "payment_id": pl.String,
    "channel": pl.String,
    "customer_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
    "note": pl.Boolean,
}

#: Money of one customer comes in this order.
_IN_ORDER = ("paid_on", "payment_id", "channel")


def match_reversals(reversals: pl.DataFrame, payments: pl.DataFrame) -> tuple[list[int], list[int]]:
    """(rows of `payments` that are taken back, rows of `reversals` that take nothing back).

    Both: payment_id, channel, customer_id, bill_id, paid_on, amount_fen; `reversals`, whose amounts
    are negative, have `reverses` besides. One that names a payment takes back that one of its own
    channel or, where that has none, its customer's only one of that id. One that names none takes
    back the newest payment of its customer, bill and amount that is not after it. Each payment is
    taken back once.
    """
    by_id: dict[tuple[str, str | None], list[int]] = {}
    by_customer: dict[tuple[str, str], list[int]] = {}
    by_bill: dict[tuple[str, str | None, int], list[int]] = {}
    rows = payments.with_row_index("n").sort(*_IN_ORDER).to_dicts()
    days = {row["n"]: row["paid_on"] for row in rows}
    for row in rows:
        by_id.setdefault((row["payment_id"], row["channel"]), []).append(row["n"])
        by_customer.setdefault((row["payment_id"], row["customer_id"]), []).append(row["n"])
        same = (row["customer_id"], row["bill_id"], row["amount_fen"])
        by_bill.setdefault(same, []).append(row["n"])
    taken: set[int] = set()
    without: list[int] = []
    for row in reversals.with_row_index("n").sort(*_IN_ORDER).to_dicts():
        if row["reverses"] is not None:
            name = row["reverses"]
            own = [n for n in by_id.get((name, row["channel"]), []) if n not in taken]
            free = [n for n in by_customer.get((name, row["customer_id"]), []) if n not in taken]
            found = own or (free if len(free) == 1 else [])
        else:
            same = (row["customer_id"], row["bill_id"], -row["amount_fen"])
            found = [
                n for n in by_bill.get(same, []) if n not in taken and days[n] <= row["paid_on"]
            ]
        if found:
            taken.add(found[-1])
        else:
            without.append(row["n"])
    return sorted(taken), sorted(without)


def pay_named(
    bills: pl.DataFrame, payments: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(bills with open_fen, allocations, what is left of the payments as CREDIT).

    `bills`: bill_id, customer_id, due_on, amount_fen (0 or more); `payments`: CREDIT and bill_id;
    all bills they may name. The earlier payment (then the lesser id) pays first, up to what is
    open.
    """
    fen = pl.col("amount_fen")
    owed = bills.select(
        "bill_id", "due_on", owner="customer_id", bill=pl.int_range(pl.len()), owed=fen
    )
    named = payments.join(owed, on="bill_id", how="left").with_columns(pl.col("owed").fill_null(0))
    several = named["bill"].is_duplicated() & named["bill"].is_not_null()
    after_others = named.filter(several).sort("bill", *_IN_ORDER)
    paid = pl.concat(
        [
            named.filter(~several).with_columns(before=pl.lit(0, pl.Int64)),
            after_others.with_columns(before=fen.cum_sum().over("bill") - fen),
        ]
    ).with_columns(paid_fen=pl.min_horizontal((pl.col("owed") - pl.col("before")).clip(0), fen))
    allocations = paid.filter(pl.col("paid_fen") > 0)
    sums = allocations.group_by("bill").agg(pl.col("paid_fen").sum())
    taken = np.zeros(bills.height, np.int64)
    taken[sums["bill"].to_numpy()] = sums["paid_fen"].to_numpy()
    left = paid.with_columns(fen - pl.col("paid_fen")).filter(fen > 0)
    return (
        bills.with_columns(open_fen=fen - pl.Series(taken)),
        allocations.with_columns(customer_id="owner").select(*ALLOCATION),
        left.select(*CREDIT),
    )


def match_credit_notes(bills: pl.DataFrame) -> pl.DataFrame:
    """The bills, with `corrects` of the credit notes that had no way to name a bill ("").

    `bills`: bill_id, customer_id, billing_period, issued_on, amount_fen, corrects; null is a note
    that might have named one and did not. A note corrects the bill of the same customer, period
    and amount, not issued after it, that no other note corrects: the one with the least bill_id.
    """
    unnamed = (pl.col("amount_fen") < 0) & (pl.col("corrects") == "")
    notes = bills.filter(unnamed).with_columns(-pl.col("amount_fen"))
    if notes.is_empty():
        return bills
    same = ("customer_id", "billing_period", "amount_fen")
    named = bills["corrects"].drop_nulls().unique()
    free: dict[tuple[object, ...], list[tuple[str, date]]] = {}
    meant = bills.join(notes, on=same, how="semi").filter(~pl.col("bill_id").is_in(named.implode()))
    for bill_id, issued_on, *what in (
        meant.select("bill_id", "issued_on", *same).sort("bill_id").iter_rows()
    ):
        free.setdefault(tuple(what), []).append((bill_id, issued_on))
    found: dict[str, str] = {}
    in_order = notes.select("bill_id", "issued_on", *same).sort("issued_on", "bill_id")
    for note_id, noted_on, *what in in_order.iter_rows():
        some = free.get(tuple(what), [])
        first = next((bill for bill in some if bill[1] <= noted_on), None)
        if first is not None:
            some.remove(first)
            found[note_id] = first[0]
    matched = pl.DataFrame({"bill_id": [*found], "_corrects": [*found.values()]},
                           schema={"bill_id": pl.String, "_corrects": pl.String})  # fmt: skip
    return bills.join(matched, on="bill_id", how="left", maintain_order="left").with_columns(
        corrects=pl.when(unnamed).then("_corrects").otherwise("corrects")
    ).drop("_corrects")  # fmt: skip


def apply_credit_notes(bills: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(bills, each lowered by the notes that name it; the rest of the notes as CREDIT).

    `bills`: bill_id, customer_id, issued_on, due_on, amount_fen, corrects. A bill of less than
    nothing is a credit note. One that names a bill lowers it, down to nothing; what is left over,
    and all of one that names none, is credit of its customer.
    """
    is_note = pl.col("amount_fen") < 0
    notes = bills.filter(is_note).select(
        "customer_id",
        payment_id="bill_id",
        bill_id="corrects",
        channel=pl.lit(None, pl.String),
        paid_on="issued_on",
        amount_fen=-pl.col("amount_fen"),
        note=pl.lit(value=True),
    )
    if notes.is_empty():
        return bills, pl.DataFrame(schema=CREDIT)
    lowered, _, left = pay_named(bills.filter(~is_note), notes)
    return lowered.with_columns(amount_fen="open_fen").drop("open_fen"), left


def pay_oldest(
    bills: pl.DataFrame, credit: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(bills, allocations, credit) after customers' credit has paid their open bills, oldest first.

    `bills`: bill_id, customer_id, due_on, open_fen; `credit`: CREDIT, of which amount_fen becomes
    what is left. Bills go by (due_on, bill_id), credit by (paid_on, payment_id).
    """
    given = credit.filter(pl.col("amount_fen") > 0)
    # Numbers for names: sorting and adding up go by them.
    payers = given.select("customer_id").unique().with_row_index("payer").cast({"payer": pl.Int64})
    how: dict[str, Any] = {"on": "customer_id", "nulls_equal": True}
    numbered = bills.join(payers, how="left", maintain_order="left", **how)
    owing = (pl.col("open_fen") > 0) & pl.col("payer").is_not_null()
    owed = numbered.filter(owing).sort("payer", "due_on", "bill_id")
    given = given.join(payers, **how).sort("payer", *_IN_ORDER)
    owed_at, given_at, fen = _meet(
        *_spread(
            owed["payer"].to_numpy(),
            owed["open_fen"].to_numpy(),
            given["payer"].to_numpy(),
            given["amount_fen"].to_numpy(),
        )
    )
    taken, spent = np.zeros(owed.height, np.int64), np.zeros(given.height, np.int64)
    np.add.at(taken, owed_at, fen)
    np.add.at(spent, given_at, fen)
    allocations = pl.concat(
        [
            owed[owed_at].select("bill_id", "customer_id", "due_on"),
            given[given_at].select("paid_on", paid_fen=pl.Series(fen, dtype=pl.Int64), note="note"),
        ],
        how="horizontal",
    )
    return (
        pl.concat(
            [numbered.filter(~owing), owed.with_columns(pl.col("open_fen") - pl.Series(taken))]
        ).drop("payer"),
        allocations,
        given.with_columns(pl.col("amount_fen") - pl.Series(spent)).drop("payer"),
    )


def _spread(
    owing: Int64s, owed: Int64s, giving: Int64s, given: Int64s
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Starts and ends of every amount on one line of money, each customer at a place of its own.

    `owing` and `giving` are whose the amounts are: numbers from 0, ascending.
    """
    customers = np.arange(1 + max(owing.max(initial=-1), giving.max(initial=-1)))

    def line(whose: Int64s, fen: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """(end of each amount among its customer's, what is before it, each customer's total)."""
        ends = np.concatenate([[0], np.cumsum(fen, dtype=np.int64)])
        first = np.searchsorted(whose, customers)
        last = np.searchsorted(whose, customers, side="right")
        begin = ends[first]
        return ends[1:] - begin[whose], ends[:-1] - begin[whose], ends[last] - begin

    owed_end, owed_start, owed_total = line(owing, owed)
    given_end, given_start, given_total = line(giving, given)
    widest = np.maximum(owed_total, given_total)
    place = np.cumsum(widest) - widest
    return (
        place[owing] + owed_start, place[owing] + owed_end,
        place[giving] + given_start, place[giving] + given_end,
    )  # fmt: skip


def _meet(
    owed_from: Int64s, owed_to: Int64s, given_from: Int64s, given_to: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """(place among owed, place among given, amount) wherever the two lie on the same money."""
    if not len(owed_from) or not len(given_from):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    cuts = np.unique(np.concatenate([owed_from, owed_to, given_from, given_to]))
    start, fen = cuts[:-1], np.diff(cuts)
    owed = np.searchsorted(owed_from, start, side="right") - 1
    given = np.searchsorted(given_from, start, side="right") - 1
    both = (owed >= 0) & (given >= 0)
    both &= (start < owed_to[owed]) & (start < given_to[given])
    return owed[both], given[both], fen[both]


def past_due(as_of: date) -> pl.Expr:
    """Days since `due_on`; negative before it."""
    return (pl.lit(as_of) - pl.col("due_on")).dt.total_days()


def bucket(days: pl.Expr) -> pl.Expr:
    """The ageing bucket of days past due."""
    name = pl.lit(OLDEST)
    for label, most in reversed(BUCKETS):
        name = pl.when(days <= most).then(pl.lit(label)).otherwise(name)
    return name


def by_dimension(rows: pl.DataFrame, keys: Sequence[str], sums: Sequence[pl.Expr]) -> pl.DataFrame:
    """`sums` of rows with segment and hall_id, by `keys`, for dimension all, segment and hall."""
    return pl.concat(
        rows.group_by(*keys, key.cast(pl.String).alias("key"))
        .agg(*sums)
        .select(pl.lit(dimension).alias("dimension"), pl.all())
        for dimension, key in (
            ("all", pl.lit("all")),
            ("segment", pl.col("segment")),
            ("hall", pl.col("hall_id")),
        )
    )


def ageing(bills: pl.DataFrame) -> pl.DataFrame:
    """amount_fen, bills, customers by dimension, key and bucket, of bills that are open."""
    open_bills = bills.filter(pl.col("open_fen") > 0)
    sums = [
        pl.col("open_fen").sum().alias("amount_fen"),
        pl.len().cast(pl.Int64).alias("bills"),
        pl.col("customer_id").n_unique().cast(pl.Int64).alias("customers"),
    ]
    return by_dimension(open_bills, ["bucket"], sums)


def recovery(bills: pl.DataFrame, cash: pl.DataFrame) -> pl.DataFrame:
    """bills, charged_fen, received_fen, cash_received_fen by dimension, key and billing_period.

    `bills`: billing_period, amount_fen, open_fen; `cash`: billing_period (the month of receipt),
    amount_fen; both with segment and hall_id. Credit notes charge nothing.
    """
    charged = bills.filter(pl.col("amount_fen") > 0).select(
        "billing_period",
        "segment",
        "hall_id",
        bills=pl.lit(1, pl.Int64),
        charged_fen="amount_fen",
        received_fen=pl.col("amount_fen") - pl.col("open_fen"),
        cash_received_fen=pl.lit(0, pl.Int64),
    )
    received = cash.select(
        "billing_period",
        "segment",
        "hall_id",
        bills=pl.lit(0, pl.Int64),
        charged_fen=pl.lit(0, pl.Int64),
        received_fen=pl.lit(0, pl.Int64),
        cash_received_fen="amount_fen",
    )
    names = ("bills", "charged_fen", "received_fen", "cash_received_fen")
    return by_dimension(pl.concat([charged, received]), ["billing_period"], [pl.col(*names).sum()])


def rates(sums: pl.DataFrame) -> pl.DataFrame:
    """Recovery sums with cohort_rate and cash_rate, of the periods for which there are bills."""
    billed = sums.filter(pl.col("bills") > 0).select("billing_period").unique()
    charged = pl.when(pl.col("charged_fen") > 0).then(pl.col("charged_fen"))
    return (
        sums.join(billed, on="billing_period", how="semi")
        .with_columns(
            cohort_rate=pl.col("received_fen") / charged,
            cash_rate=pl.col("cash_received_fen") / charged,
        )
        .sort("billing_period", "dimension", "key")
    )

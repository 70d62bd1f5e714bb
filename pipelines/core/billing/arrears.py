"""Arrears: which payment pays which bill, how old the rest is, how much of a period came in.

Frames in, frames out; money in whole fen (Int64). Every function needs all rows of the bills or
customers it is given, and none depends on the order of the rows. Files and shuffles live in
`pipelines.batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

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

#: One payment (or credit note) towards one bill.
ALLOCATION = {
    "bill_id": pl.String,
    "payment_id": pl.String,
    "paid_on": pl.Date,
    "paid_fen": pl.Int64,
}


def pay_named(
    bills: pl.DataFrame, payments: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(bills with open_fen, allocations, what is left of the payments).

    `bills`: bill_id, amount_fen; `payments`: payment_id, bill_id, paid_on, amount_fen, …; all bills
    they may name. The earlier payment (then the lesser id) pays first, up to what is open. What is
    left keeps the columns of `payments`. A credit note (amount ≤ 0) takes no payment.
    """
    whole = pl.col("amount_fen").clip(0)
    named = payments.sort("bill_id", "paid_on", "payment_id").join(
        bills.select("bill_id", open=whole), on="bill_id", how="left"
    )
    before = pl.col("amount_fen").cum_sum().over("bill_id") - pl.col("amount_fen")
    room = (pl.col("open").fill_null(0) - before).clip(0)
    named = named.with_columns(paid_fen=pl.min_horizontal(room, "amount_fen"))
    left = named.with_columns(pl.col("amount_fen") - pl.col("paid_fen")).filter(
        pl.col("amount_fen") > 0
    )
    allocations = named.filter(pl.col("paid_fen") > 0).select(*ALLOCATION)
    paid = allocations.group_by("bill_id").agg(pl.col("paid_fen").sum())
    rest = bills.join(paid, on="bill_id", how="left").with_columns(
        open_fen=whole - pl.col("paid_fen").fill_null(0)
    )
    return rest.drop("paid_fen"), allocations, left.select(payments.columns)


def credit_notes(bills: pl.DataFrame) -> pl.DataFrame:
    """Bills of less than nothing as credit: payment_id, customer_id, paid_on, amount_fen."""
    return bills.filter(pl.col("amount_fen") < 0).select(
        "customer_id",
        payment_id=pl.format("credit note {}", "bill_id"),
        paid_on="issued_on",
        amount_fen=-pl.col("amount_fen"),
    )


def pay_oldest(bills: pl.DataFrame, credit: pl.DataFrame) -> pl.DataFrame:
    """Allocations of customers' credit to their open bills, oldest first.

    `bills`: bill_id, customer_id, due_on, open_fen; `credit`: payment_id, customer_id, paid_on,
    amount_fen. Bills go by (due_on, bill_id), credit by (paid_on, payment_id).
    """
    owed = bills.filter(pl.col("open_fen") > 0).sort("customer_id", "due_on", "bill_id")
    given = credit.filter(pl.col("amount_fen") > 0).sort("customer_id", "paid_on", "payment_id")
    ends = _spread(
        owed.select("customer_id", fen="open_fen"), given.select("customer_id", fen="amount_fen")
    )
    owed_at, given_at, fen = _meet(*ends)
    return pl.concat(
        [
            owed[owed_at].select("bill_id"),
            given[given_at].select("payment_id", "paid_on"),
            pl.DataFrame({"paid_fen": fen}, schema={"paid_fen": pl.Int64}),
        ],
        how="horizontal",
    ).select(*ALLOCATION)


def _spread(owed: pl.DataFrame, given: pl.DataFrame) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Starts and ends of every amount on one line of money, each customer at a place of its own."""

    def total(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        return frame.group_by("customer_id").agg(pl.col("fen").sum().alias(name))

    room = total(owed, "owed").join(
        total(given, "given"), on="customer_id", how="full", coalesce=True, nulls_equal=True
    )
    widest = pl.max_horizontal(pl.col("owed").fill_null(0), pl.col("given").fill_null(0))
    places = room.sort("customer_id").select("customer_id", place=widest.cum_sum() - widest)

    def ends(frame: pl.DataFrame) -> tuple[Int64s, Int64s]:
        before = pl.col("fen").cum_sum().over("customer_id") - pl.col("fen")
        at = frame.join(
            places, on="customer_id", how="left", nulls_equal=True, maintain_order="left"
        ).select(start=pl.col("place") + before, end=pl.col("place") + before + pl.col("fen"))
        return at["start"].to_numpy(), at["end"].to_numpy()

    return (*ends(owed), *ends(given))


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

"""Arrears: which payment pays which bill, how old the rest is, who is worth how much credit.

Frames in, frames out; money in whole fen (Int64). Every function wants all rows of the bills or
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
    told = payments.sort("bill_id", "paid_on", "payment_id").join(
        bills.select("bill_id", open=whole), on="bill_id", how="left"
    )
    before = pl.col("amount_fen").cum_sum().over("bill_id") - pl.col("amount_fen")
    room = (pl.col("open").fill_null(0) - before).clip(0)
    told = told.with_columns(paid_fen=pl.min_horizontal(room, "amount_fen"))
    left = told.with_columns(pl.col("amount_fen") - pl.col("paid_fen")).filter(
        pl.col("amount_fen") > 0
    )
    allocations = told.filter(pl.col("paid_fen") > 0).select(*ALLOCATION)
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


# --- credit -------------------------------------------------------------------------------------

#: Points off a hundred: at most so many for each kind of trouble.
LATE_POINTS, OVERDUE_POINTS, THEFT_POINTS, THEFT_MOST, DISPUTE_POINTS, DISPUTE_MOST = (
    40, 40, 30, 60, 5, 15,
)  # fmt: skip
#: A payment this late, and a bill this long overdue, cost all their points (days).
LATE_DAYS, OVERDUE_DAYS = 90, 180
#: How far back lateness and records count (days).
LOOK_BACK = 365

GRADES = (("A", 85.0), ("B", 70.0), ("C", 50.0))
WORST = "D"


def credit(
    customers: pl.DataFrame, bills: pl.DataFrame, allocations: pl.DataFrame, records: pl.DataFrame,
    as_of: date,
) -> pl.DataFrame:  # fmt: skip
    """score (0–100), grade and reasons of each customer.

    `customers`: customer_id; `bills`: customer_id, due_on, amount_fen, open_fen, days;
    `allocations`: customer_id, due_on, paid_on, paid_fen; `records`: customer_id, kind (tampering,
    theft, dispute), happened_on. From a hundred points go

    - up to 40 for money paid late in the last year: 40 × Σ fen × min(days late, 90)/90 ÷ Σ fen;
    - up to 40 for what is overdue now: 20 × overdue ÷ billed in the last year (at most 1), and
      20 × min(days of the oldest, 180)/180;
    - 30 for each record of tampering or theft (at most 60), 5 for each dispute (at most 15).

    A from 85, B from 70, C from 50, else D.
    """
    since = pl.lit(as_of) - pl.duration(days=LOOK_BACK)
    late_days = (pl.col("paid_on") - pl.col("due_on")).dt.total_days().clip(0)
    late = (
        allocations.filter(pl.col("paid_on") > since)
        .with_columns(late=late_days)
        .group_by("customer_id")
        .agg(
            late_share=(pl.col("paid_fen") * pl.col("late").clip(None, LATE_DAYS) / LATE_DAYS).sum()
            / pl.col("paid_fen").sum(),
            late_times=(pl.col("late") > 0).sum(),
            late_mean=pl.col("late").filter(pl.col("late") > 0).mean(),
        )
    )
    overdue_now = (pl.col("open_fen") > 0) & (pl.col("days") > 0)
    owed = bills.group_by("customer_id").agg(
        overdue=pl.col("open_fen").filter(overdue_now).sum(),
        oldest=pl.col("days").filter(overdue_now).max(),
        billed=pl.col("amount_fen").filter(pl.col("days") < LOOK_BACK).clip(0).sum(),
    )
    noted = (
        records.filter((pl.col("happened_on") > since) & (pl.col("happened_on") <= as_of))
        .group_by("customer_id")
        .agg(
            thefts=(pl.col("kind") != "dispute").sum(), disputes=(pl.col("kind") == "dispute").sum()
        )
    )
    known = (
        customers.select("customer_id")
        .join(late, on="customer_id", how="left")
        .join(owed, on="customer_id", how="left")
        .join(noted, on="customer_id", how="left")
        .with_columns(pl.exclude("customer_id").fill_null(0))
    )
    share = pl.when(pl.col("overdue") > 0).then(
        (pl.col("overdue") / pl.max_horizontal("billed", "overdue")).clip(0, 1)
    )
    age = pl.col("oldest").clip(0, OVERDUE_DAYS) / OVERDUE_DAYS
    lost = (
        LATE_POINTS * pl.col("late_share")
        + OVERDUE_POINTS / 2 * (share.fill_null(0) + age)
        + (THEFT_POINTS * pl.col("thefts")).clip(0, THEFT_MOST)
        + (DISPUTE_POINTS * pl.col("disputes")).clip(0, DISPUTE_MOST)
    )
    return known.with_columns(score=(100.0 - lost).clip(0, 100).round(1)).select(
        "customer_id",
        "score",
        grade=_grade(pl.col("score")),
        reasons=_reasons(),
    )


def _grade(score: pl.Expr) -> pl.Expr:
    grade = pl.lit(WORST)
    for name, least in reversed(GRADES):
        grade = pl.when(score >= least).then(pl.lit(name)).otherwise(grade)
    return grade


def _reasons() -> pl.Expr:
    """Why, in words, the worst kind first; empty for a spotless customer."""
    words = [
        pl.when(pl.col("thefts") > 0).then(
            pl.format("{} record(s) of tampering or theft in a year", "thefts")
        ),
        pl.when(pl.col("overdue") > 0).then(
            pl.format(
                "{} yuan overdue, the oldest for {} days",
                (pl.col("overdue") / 100).round(2),
                "oldest",
            )
        ),
        pl.when(pl.col("late_times") > 0).then(
            pl.format(
                "paid late {} time(s) in a year, {} days on average",
                "late_times",
                pl.col("late_mean").round(0).cast(pl.Int64),
            )
        ),
        pl.when(pl.col("disputes") > 0).then(pl.format("{} dispute(s) in a year", "disputes")),
    ]
    return pl.concat_str(words, separator="; ", ignore_nulls=True)

"""What a customer's credit is worth: points off a hundred, a grade, and the reasons in words."""

from __future__ import annotations

from datetime import date

import polars as pl

from schemas import sentences as said

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
        pl.when(pl.col("thefts") > 0).then(pl.format(said.THEFTS, "thefts")),
        pl.when(pl.col("overdue") > 0).then(
            pl.format(
                said.OVERDUE,
                (pl.col("overdue") / 100).cast(pl.Decimal(scale=2)),
                "oldest",
            )
        ),
        pl.when(pl.col("late_times") > 0).then(
            pl.format(
                said.PAID_LATE,
                "late_times",
                pl.col("late_mean").round(0).cast(pl.Int64),
            )
        ),
        pl.when(pl.col("disputes") > 0).then(pl.format(said.DISPUTES, "disputes")),
    ]
    return pl.concat_str(words, separator=said.BETWEEN, ignore_nulls=True)

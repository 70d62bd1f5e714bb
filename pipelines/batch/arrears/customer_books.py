"""All that is one customer's, settled: credit pays the oldest bills, the rest ages.

Open bills, doubled payments and credit grades go to the results; sums by segment and hall are
yielded, to be added up. The rules are in `pipelines.core.billing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import apache_beam as beam
import polars as pl

from pipelines.batch.arrears.files import CREDIT, DOUBLES, OPEN_BILLS, PAID
from pipelines.batch.arrears.reconciliation import doubles
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.transforms import JoinedRows, Results
from pipelines.core.billing import arrears, credit


def settle(group: JoinedRows, as_of: date, results: Results) -> Iterator[object]:
    """All that is one customer's → sums by segment and hall; details go to the results."""
    frames = group.frames
    customers, twice = deduplicate(frames["customers"], ["customer_id"])
    records, noted_twice = deduplicate(frames["records"], ["record_id"])
    results.refuse(f"customers-{group.name}", twice, noted_twice)
    who = customers.select(
        "customer_id",
        pl.col("segment", "hall_id").fill_null(arrears.UNKNOWN),
    )

    def known(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.join(who, on="customer_id", how="left").with_columns(
            pl.col("segment", "hall_id").fill_null(arrears.UNKNOWN)
        )

    paid_late = arrears.pay_oldest(frames["bills"], frames["given"])
    taken = paid_late.group_by("bill_id").agg(pl.col("paid_fen").sum())
    days = arrears.past_due(as_of)
    bills = known(frames["bills"].join(taken, on="bill_id", how="left")).with_columns(
        open_fen=pl.col("open_fen") - pl.col("paid_fen").fill_null(0),
        days=days,
        bucket=arrears.bucket(days),
    )
    cash = known(
        frames["payments"]
        .group_by("customer_id", billing_period=pl.col("paid_on").dt.strftime("%Y-%m"))
        .agg(pl.col("amount_fen").sum())
    )
    results.put(OPEN_BILLS.name, group.name, bills.filter(pl.col("open_fen") > 0))
    results.put(DOUBLES.name, group.name, doubles(frames["payments"]))
    due = frames["bills"].select("bill_id", "customer_id", "due_on")
    paid = pl.concat([frames["paid"], paid_late.join(due, on="bill_id").select(*PAID)])
    results.put(
        CREDIT.name,
        group.name,
        _credit(customers, bills, paid, records, frames["given"], paid_late, as_of),
    )
    yield arrears.ageing(bills)
    yield beam.pvalue.TaggedOutput("recovery", arrears.recovery(bills, cash))
    yield beam.pvalue.TaggedOutput("balance", _balance(bills, paid))


def _credit(
    customers: pl.DataFrame,
    bills: pl.DataFrame,
    paid: pl.DataFrame,
    records: pl.DataFrame,
    given: pl.DataFrame,
    from_credit: pl.DataFrame,
    as_of: date,
) -> pl.DataFrame:
    everyone = pl.concat(
        [customers.select("customer_id"), bills.select("customer_id"), given.select("customer_id")]
    ).unique()
    owed = bills.group_by("customer_id").agg(
        open_fen=pl.col("open_fen").sum(),
        overdue_fen=pl.col("open_fen").filter(pl.col("days") > 0).sum(),
    )
    used = from_credit.group_by("payment_id").agg(pl.col("paid_fen").sum())
    left = (
        given.join(used, on="payment_id", how="left")
        .group_by("customer_id")
        .agg(
            unallocated_fen=pl.col("amount_fen").sum() - pl.col("paid_fen").fill_null(0).sum(),
        )
    )
    return (
        credit.credit(everyone, bills, paid, records, as_of)
        .join(owed, on="customer_id", how="left")
        .join(left, on="customer_id", how="left")
        .with_columns(pl.col("open_fen", "overdue_fen", "unallocated_fen").fill_null(0))
    )


def _balance(bills: pl.DataFrame, paid: pl.DataFrame) -> pl.DataFrame:
    """What must come out even over all groups, in fen."""
    return pl.DataFrame(
        {
            "is": ["fen"],
            "billed": [bills["amount_fen"].clip(0).sum()],
            "open": [bills["open_fen"].sum()],
            "allocated": [paid["paid_fen"].sum()],
        }
    )

"""All that is one customer's, settled: credit pays the oldest bills, the rest ages.

Open bills, doubled payments and credit grades go to the results; sums by segment and hall are
yielded, to be added up. The rules are in `pipelines.core.billing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

import apache_beam as beam
import polars as pl

from pipelines.batch.arrears.files import CREDIT, DOUBLES, OPEN_BILLS, PAID, PAYMENT_KEY
from pipelines.batch.arrears.reconciliation import doubles
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.transforms import JoinedRows, Results, from_bytes
from pipelines.core.billing import arrears, credit


def without_reversed(payments: pl.DataFrame, reversed_: Iterable[bytes]) -> pl.DataFrame:
    """Payments without those that were taken back."""
    taken = [from_bytes(data) for data in reversed_]
    if not taken:
        return payments
    return payments.join(pl.concat(taken), on=PAYMENT_KEY, how="anti", nulls_equal=True)


def settle(
    group: JoinedRows, reversed_: Iterable[bytes], *, as_of: date, results: Results
) -> Iterator[object]:
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

    taken_back = list(reversed_)
    payments = without_reversed(frames["payments"], taken_back)
    given = without_reversed(frames["given"], taken_back)
    owed, from_credit, left = arrears.pay_oldest(frames["bills"], given)
    paid = pl.concat([frames["paid"], from_credit.select(*PAID)])
    days = arrears.past_due(as_of)
    bills = known(owed).with_columns(days=days, bucket=arrears.bucket(days))
    cash = known(
        payments.group_by("customer_id", billing_period=pl.col("paid_on").dt.strftime("%Y-%m")).agg(
            pl.col("amount_fen").sum()
        )
    )
    results.put(OPEN_BILLS.name, group.name, bills.filter(pl.col("open_fen") > 0))
    results.put(DOUBLES.name, group.name, doubles(payments))
    everyone = pl.concat(
        frame.select("customer_id") for frame in (customers, bills, given)
    ).unique()
    results.put(CREDIT.name, group.name, _credit(everyone, bills, paid, records, left, as_of))
    yield arrears.ageing(bills)
    yield beam.pvalue.TaggedOutput("recovery", arrears.recovery(bills, cash))
    yield beam.pvalue.TaggedOutput("balance", _balance(bills, paid))


def _credit(
    everyone: pl.DataFrame,
    bills: pl.DataFrame,
    paid: pl.DataFrame,
    records: pl.DataFrame,
    left: pl.DataFrame,
    as_of: date,
) -> pl.DataFrame:
    fen = pl.col("open_fen")
    owed = bills.group_by("customer_id").agg(
        open_fen=fen.sum(), overdue_fen=fen.filter(pl.col("days") > 0).sum()
    )
    unused = left.group_by("customer_id").agg(unallocated_fen=pl.col("amount_fen").sum())
    return (
        credit.credit(everyone, bills, paid.filter(~pl.col("note")), records, as_of)
        .join(owed, on="customer_id", how="left")
        .join(unused, on="customer_id", how="left")
        .with_columns(pl.col("open_fen", "overdue_fen", "unallocated_fen").fill_null(0))
    )


def _balance(bills: pl.DataFrame, paid: pl.DataFrame) -> pl.DataFrame:
    """What must come out even over all groups, in fen."""
    return pl.DataFrame(
        {
            "is": ["fen"],
            "billed": [bills["amount_fen"].sum()],
            "open": [bills["open_fen"].sum()],
            "allocated": [paid["paid_fen"].sum()],
        }
    )

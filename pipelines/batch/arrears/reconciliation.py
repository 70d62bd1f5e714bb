"""The money that payment channels say they took, against the payments we have; payments twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from pipelines.batch.arrears.files import RECONCILIATION
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.transforms import JoinedRows, Results
from pipelines.core.billing.arrears import UNKNOWN


def received_by_channel(payments: pl.DataFrame) -> pl.DataFrame:
    channel = pl.col("channel").fill_null(UNKNOWN)
    return payments.group_by(day="paid_on", channel=channel).agg(
        received_fen=pl.col("amount_fen").sum(), payments=pl.len().cast(pl.Int64)
    )


def reconcile(group: JoinedRows, as_of: date, results: Results) -> Iterator[object]:
    """Day by day and channel by channel, what was received against what the channel states."""
    stated, rejects = deduplicate(group.frames["stated"], ["day", "channel"])
    results.refuse("statements", rejects)
    both = group.frames["received"].join(
        stated.filter(pl.col("day") <= as_of).select(
            "day", "channel", stated_fen="amount_fen", stated_payments="payments"
        ),
        on=["day", "channel"],
        how="full",
        coalesce=True,
    )
    received, said = pl.col("received_fen").fill_null(0), pl.col("stated_fen").fill_null(0)
    counted = pl.col("payments") != pl.col("stated_payments")
    status = (
        pl.when(pl.col("stated_fen").is_null())
        .then(pl.lit("not_stated"))
        .when(pl.col("received_fen").is_null())
        .then(pl.lit("not_received"))
        .when(received != said)
        .then(pl.lit("different"))
        .when(counted.fill_null(value=False))
        .then(pl.lit("different_count"))
        .otherwise(pl.lit("ok"))
    )
    rows = both.select(
        "day",
        "channel",
        received.alias("received_fen"),
        said.alias("stated_fen"),
        (received - said).alias("difference_fen"),
        pl.col("payments").fill_null(0),
        pl.col("stated_payments").fill_null(0),
        status.alias("status"),
    )
    if stated.height:
        results.put(RECONCILIATION.name, "all", rows)
    yield from ()


def doubles(payments: pl.DataFrame) -> pl.DataFrame:
    """Payments that look like another one again: same customer, bill, day, channel and amount."""
    same = ("customer_id", "bill_id", "paid_on", "channel", "amount_fen")
    first = pl.col("payment_id").min().over(same)
    # Few are alike; looking for them by a hash spares the rest the window.
    alike = payments.filter(pl.struct(same).hash().is_duplicated())
    return (
        alike.with_columns(twin_of=first)
        .filter(pl.col("payment_id") != pl.col("twin_of"))
        .select(
            "payment_id",
            "twin_of",
            "customer_id",
            pl.col("bill_id").fill_null(""),
            pl.col("paid_on").alias("day"),
            pl.col("channel").fill_null(UNKNOWN),
            "amount_fen",
        )
    )

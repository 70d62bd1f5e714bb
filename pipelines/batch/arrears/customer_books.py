"""All that is some customers', settled: who pays what, what ages, what their credit is worth.

Open bills, doubled payments, credit grades and rejects go to the results; sums by segment and hall
are yielded, to be added up. The rules are in `pipelines.core.billing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date

import apache_beam as beam
import polars as pl

from pipelines.batch.arrears.files import CREDIT, DOUBLES, OPEN_BILLS
from pipelines.batch.arrears.links import about, astray
from pipelines.batch.arrears.reconciliation import doubles, received_by_channel
from pipelines.batch.engine.columns import ROW, SOURCE
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.transforms import JoinedRows, JoinInput, Results, Then, to_bytes
from pipelines.core.billing import arrears, credit


def settle_part(
    group: JoinedRows, found: Iterable[bytes], *, then: Then, sides: Mapping[str, JoinInput]
) -> Iterator[object]:
    """`then` with a part's customers; on the side, all that is of those who are linked to others.

    `found` are the links of all parts.
    """
    away = astray(group.frames, found)
    if away.is_empty():
        yield from then(group)
        return
    linked = pl.col("customer_id").is_in(away.implode())
    for name, side in sides.items():
        sent = name, to_bytes(group.frames[name].filter(linked))
        yield beam.pvalue.TaggedOutput("astray", (side.parts, sent))  # a part of their own
    stay = {name: rows.filter(~linked) for name, rows in group.frames.items()}
    yield from then(JoinedRows(group.name, stay))


def settle(group: JoinedRows, *, as_of: date, results: Results) -> Iterator[object]:
    """All that is some customers' → sums by segment and hall; details go to the results."""
    name, frames = group.name, group.frames
    customers, twice = deduplicate(frames["customers"], ["customer_id"])
    records, noted_twice = deduplicate(frames["records"], ["record_id"])
    bills, billed_twice = deduplicate(frames["bills"], ["bill_id"])
    payments, paid_twice = deduplicate(frames["payments"], ["channel", "payment_id"])
    results.refuse(f"twice-{name}", twice, noted_twice, billed_twice, paid_twice)

    payments = payments.filter(pl.col("paid_on") <= as_of)
    yield beam.pvalue.TaggedOutput("received", received_by_channel(payments))
    payments, unknown = _without_reversed(payments)
    results.refuse(f"reversals-{name}", unknown)
    bills = bills.filter(pl.col("issued_on") <= as_of).with_columns(
        pl.coalesce("due_on", "issued_on").alias("due_on")
    )
    charged, notes = arrears.apply_credit_notes(arrears.match_credit_notes(bills))
    given = payments.with_columns(note=pl.lit(value=False))
    names = pl.col("bill_id").is_not_null()
    named, unnamed = given.filter(names), given.filter(~names)
    results.note(f"named-{name}", _near_misses(bills, named))
    owed, paid, left = arrears.pay_named(charged, named)
    at_hand = pl.concat([unnamed.select(*arrears.CREDIT), left, notes])
    owed, from_credit, left = arrears.pay_oldest(owed, at_hand)
    paid = pl.concat([paid, from_credit.select(*paid.columns)])

    days = arrears.past_due(as_of)
    who = customers.select("customer_id", pl.col("segment", "hall_id").fill_null(arrears.UNKNOWN))

    def known(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.join(who, on="customer_id", how="left").with_columns(
            pl.col("segment", "hall_id").fill_null(arrears.UNKNOWN)
        )

    bills = known(owed.drop("corrects", SOURCE, ROW)).with_columns(
        days=days, bucket=arrears.bucket(days)
    )
    received = payments.group_by(
        "customer_id", billing_period=pl.col("paid_on").dt.strftime("%Y-%m")
    ).agg(pl.col("amount_fen").sum())
    results.put(OPEN_BILLS.name, name, bills.filter(pl.col("open_fen") > 0))
    results.put(DOUBLES.name, name, doubles(payments))
    everyone = pl.concat(
        frame.select("customer_id") for frame in (customers, bills, at_hand)
    ).unique()
    results.put(CREDIT.name, name, _credit(everyone, bills, paid, records, left, as_of))
    yield arrears.ageing(bills)
    yield beam.pvalue.TaggedOutput("recovery", arrears.recovery(bills, known(received)))
    yield beam.pvalue.TaggedOutput("balance", _balance(bills, paid))


def _without_reversed(payments: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(payments that count: neither taken back nor taking back; rejects)."""
    back = pl.col("amount_fen") < 0
    reversals = payments.filter(back)
    given = payments.filter(~back)
    if reversals.is_empty():
        return given, pl.DataFrame(schema=reversals.select(SOURCE, ROW, reason="channel").schema)
    meant = reversals.with_columns(-pl.col("amount_fen"))
    same = ["customer_id", "bill_id", "amount_fen"]
    named = pl.col("payment_id").is_in(reversals["reverses"].drop_nulls().unique().implode())
    alike = given.join(meant, on=same, how="semi", nulls_equal=True)
    candidates = pl.concat([given.filter(named), alike]).unique([SOURCE, ROW])
    taken, without = arrears.match_reversals(reversals, candidates)
    reason = pl.lit("unknown_payment: it takes back a payment that is not there")
    return (
        given.join(candidates[taken], on=[SOURCE, ROW], how="anti"),
        reversals[without].select(SOURCE, ROW, reason.alias("reason")),
    )


def _near_misses(bills: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Notes on payments whose bill is not known, but one that is almost called so."""
    lost = named.join(bills, on="bill_id", how="anti").with_columns(_about=about("bill_id"))
    if lost.is_empty():
        bills = bills.clear()
    known = bills.select(_about=about("bill_id"), known="bill_id").unique("_about", keep="any")
    return lost.join(known, on="_about").select(
        SOURCE,
        ROW,
        pl.format(
            "bill {} is not known, but {} is; the payment is credit", "bill_id", "known"
        ).alias("reason"),
    )


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

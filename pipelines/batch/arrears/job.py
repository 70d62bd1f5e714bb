"""Arrears as of a day: ageing, recovery, credit, and the money the channels say they took.

Rows come together three times: payments by their id (each counts once), bills with the payments
that name them, and all of one customer's (`customer_books`), whose credit then pays the oldest
bills. Sums by segment and hall are added up last. The rules are in `pipelines.core.billing`, data
sets and tables in `files`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial

import apache_beam as beam
import polars as pl

from pipelines.batch.arrears.customer_books import settle, without_reversed
from pipelines.batch.arrears.files import (
    AGEING,
    BILLS,
    CREDIT,
    CUSTOMERS,
    DOUBLES,
    OPEN_BILLS,
    OWED,
    PAID,
    PAYMENT_KEY,
    PAYMENTS,
    RECEIVED,
    RECONCILIATION,
    RECORDS,
    RECOVERY,
    STATEMENTS,
)
from pipelines.batch.arrears.reconciliation import received_by_channel, reconcile
from pipelines.batch.engine.columns import ROW, SOURCE
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.job import Job, Plan
from pipelines.batch.engine.transforms import (
    FramePart,
    JoinedRows,
    JoinInput,
    Keyed,
    Results,
    SumFrames,
    from_bytes,
    to_bytes,
    together,
)
from pipelines.core.billing import arrears
from schemas.errors import BatchError


@dataclass(frozen=True, slots=True)
class _Sides:
    """Who comes together with whom, and by what."""

    raw_payments: JoinInput
    raw_bills: JoinInput
    named: JoinInput
    customers: JoinInput
    records: JoinInput
    payments: JoinInput
    bills: JoinInput
    paid: JoinInput
    given: JoinInput
    reversals: JoinInput
    candidates: JoinInput

    @staticmethod
    def in_parts(parts: int) -> _Sides:
        """Split into so many groups."""
        return _Sides(
            JoinInput("payments", "payment_id", PAYMENTS.schema, parts),
            JoinInput("bills", "_about", BILLS.schema | {"_about": pl.String}, parts),
            JoinInput("named", "_about", PAYMENTS.schema | {"_about": pl.String}, parts),
            JoinInput("customers", "customer_id", CUSTOMERS.schema, parts),
            JoinInput("records", "customer_id", RECORDS.schema, parts),
            JoinInput("payments", "customer_id", PAYMENTS.schema, parts),
            JoinInput("bills", "customer_id", OWED, parts),
            JoinInput("paid", "customer_id", PAID, parts),
            JoinInput("given", "customer_id", arrears.CREDIT, parts),
            JoinInput("reversals", "payment_id", PAYMENTS.schema),
            JoinInput("candidates", "payment_id", PAYMENTS.schema),
        )


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    as_of, results = plan.as_of, plan.results
    sides = _Sides.in_parts(plan.parts)
    read = plan.read(pipeline, PAYMENTS, partial(_payments, side=sides.raw_payments), tags=["back"])
    payments = together(
        "Payments once",
        [read.main],
        [sides.raw_payments],
        partial(_payments_once, sides=sides, as_of=as_of, results=results),
        [beam.pvalue.AsIter(read.back)],
        tags=["named", "unnamed", "received", "back"],
    )
    reversed_ = beam.pvalue.AsIter(
        together(
            "Payments taken back",
            [payments["back"]],
            [sides.reversals, sides.candidates],
            partial(_match_reversals, results=results),
        )
    )
    bills = together(
        "Pay the bills named",
        [plan.read(pipeline, BILLS, partial(_bills, side=sides.raw_bills)), payments["named"]],
        [sides.raw_bills, sides.named],
        partial(_pay_named, sides=sides, as_of=as_of, results=results),
        [reversed_],
        tags=["paid", "given"],
    )
    settled = together(
        "Settle with each customer",
        [
            plan.read(pipeline, CUSTOMERS, sides.customers.of_piece),
            plan.read(pipeline, RECORDS, sides.records.of_piece),
            payments["main"],
            payments["unnamed"],
            bills["main"],
            bills["paid"],
            bills["given"],
        ],
        [sides.customers, sides.records, sides.payments, sides.bills, sides.paid, sides.given],
        partial(settle, as_of=as_of, results=results),
        [reversed_],
        tags=["recovery", "balance"],
    )
    for name, tag, keys, finish in (
        ("ageing", "main", ["dimension", "key", "bucket"], _write_ageing),
        ("recovery", "recovery", ["dimension", "key", "billing_period"], _write_recovery),
        ("balance", "balance", ["is"], _check_balance),
    ):
        _ = (
            settled[tag]
            | f"Add up {name}" >> beam.CombineGlobally(SumFrames(keys)).without_defaults()
            | f"Write {name}" >> beam.Map(finish, as_of, results)
        )
    received, stated = (
        JoinInput("received", "day", RECEIVED),
        JoinInput("stated", "day", STATEMENTS.schema),
    )
    total = (
        payments["received"]
        | "Add up channels"
        >> beam.CombineGlobally(SumFrames(["day", "channel"])).without_defaults()
        | "Received" >> beam.FlatMap(received.split)
    )
    together(
        "Reconcile",
        [total, plan.read(pipeline, STATEMENTS, stated.of_piece)],
        [received, stated],
        partial(reconcile, as_of=as_of, results=results),
    )


def _tagged(tag: str, elements: Iterable[object]) -> Iterator[beam.pvalue.TaggedOutput]:
    return (beam.pvalue.TaggedOutput(tag, element) for element in elements)


def _payments(piece: FramePart, side: JoinInput) -> Iterator[object]:
    """Payments; on the side what those of less than nothing take back."""
    yield from side.split(piece.frame)
    back = piece.frame.filter(pl.col("amount_fen") < 0)
    if back.height:
        yield beam.pvalue.TaggedOutput("back", to_bytes(back))


def _bills(piece: FramePart, side: JoinInput) -> Iterator[Keyed]:
    """Bills; a credit note that names one goes with it."""
    note = (pl.col("amount_fen") < 0) & pl.col("corrects").is_not_null()
    about = pl.when(note).then(pl.col("corrects")).otherwise(pl.col("bill_id"))
    rows = piece.frame.with_columns(about.alias("_about"))
    yield from side.split(rows.with_columns(_about=_about("_about")))


def _payments_once(
    group: JoinedRows, back: Iterable[bytes], *, sides: _Sides, as_of: date, results: Results
) -> Iterator[object]:
    """Payments by id → each once, by customer; on the side by the bill named, and as credit.

    Payments that may be taken back, and those that take them back, go aside besides.
    """
    kept, rejects = deduplicate(group.frames["payments"], ["channel", "payment_id"])
    results.refuse(f"payments-{group.name}", rejects)
    kept = kept.filter(pl.col("paid_on") <= as_of)
    yield beam.pvalue.TaggedOutput("received", received_by_channel(kept))
    yield from _tagged("back", _taken_back(kept, [from_bytes(data) for data in back], sides))
    payments = kept.filter(pl.col("amount_fen") >= 0)
    names = pl.col("bill_id").is_not_null()
    yield from sides.payments.split(payments)
    named = payments.filter(names).with_columns(_about=_about("bill_id"))
    yield from _tagged("named", sides.named.split(named))
    unnamed = payments.filter(~names).with_columns(note=pl.lit(value=False))
    yield from _tagged("unnamed", sides.given.split(unnamed.select(*sides.given.schema)))


def _taken_back(payments: pl.DataFrame, back: list[pl.DataFrame], sides: _Sides) -> Iterator[Keyed]:
    """The reversals among some payments, and whatever any reversal may mean."""
    if not back:
        return
    reversals = pl.concat(back)
    same = ["customer_id", "bill_id", "amount_fen"]
    meant = reversals.filter(pl.col("reverses").is_null()).with_columns(-pl.col("amount_fen"))
    named = pl.col("payment_id").is_in(reversals["reverses"].drop_nulls().unique().implode())
    given = payments.filter(pl.col("amount_fen") >= 0)
    either = [given.filter(named), given.join(meant, on=same, how="semi", nulls_equal=True)]
    yield from sides.reversals.split(payments.filter(pl.col("amount_fen") < 0))
    yield from sides.candidates.split(pl.concat(either).unique([SOURCE, ROW]))


def _match_reversals(group: JoinedRows, results: Results) -> Iterator[bytes]:
    """Reversals and what they may mean → the payments that count for nothing."""
    reversals, payments = group.frames["reversals"], group.frames["candidates"]
    taken, without = arrears.match_reversals(reversals, payments)
    reason = pl.lit("unknown_payment: it takes back a payment that is not there")
    results.refuse("reversals", reversals[without].select(SOURCE, ROW, reason.alias("reason")))
    if taken:
        yield to_bytes(payments[taken].select(*PAYMENT_KEY))


def _about(bill_id: str) -> pl.Expr:
    """What ids of bills that differ in leading zeros and capitals only have in common."""
    return pl.col(bill_id).str.to_lowercase().str.strip_chars_start("0")


def _pay_named(
    group: JoinedRows,
    reversed_: Iterable[bytes],
    *,
    sides: _Sides,
    as_of: date,
    results: Results,
) -> Iterator[object]:
    """Bills with the payments that name them → bills owed; on the side who paid, what is left."""
    bills, rejects = deduplicate(group.frames["bills"], ["bill_id"])
    results.refuse(f"bills-{group.name}", rejects)
    bills = bills.filter(pl.col("issued_on") <= as_of).with_columns(
        pl.coalesce("due_on", "issued_on").alias("due_on")
    )
    named = without_reversed(group.frames["named"], reversed_)
    results.note(f"named-{group.name}", _near_misses(bills, named))
    charged, notes = arrears.apply_credit_notes(bills)
    owed, paid, left = arrears.pay_named(charged, named.with_columns(note=pl.lit(value=False)))
    yield from sides.bills.split(owed.select(*OWED))
    yield from _tagged("paid", sides.paid.split(paid.select(*PAID)))
    yield from _tagged("given", sides.given.split(pl.concat([left, notes])))


def _near_misses(bills: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Notes on payments whose bill is not known, but one that is almost called so."""
    lost = named.join(bills, on="bill_id", how="anti")
    known = bills.select("_about", known="bill_id").unique("_about", keep="any")
    return lost.join(known, on="_about").select(
        SOURCE,
        ROW,
        pl.format(
            "bill {} is not known, but {} is; the payment is credit", "bill_id", "known"
        ).alias("reason"),
    )


def _check_balance(sums: pl.DataFrame, as_of: date, results: Results) -> None:
    billed, still_open, allocated = sums.row(0)[1:]
    if billed != still_open + allocated:
        raise BatchError(
            f"billed {billed} fen is not open {still_open} plus allocated {allocated} as of {as_of}"
        )


def _write_ageing(sums: pl.DataFrame, _: date, results: Results) -> None:
    results.put(AGEING.name, "all", sums)


def _write_recovery(sums: pl.DataFrame, _: date, results: Results) -> None:
    results.put(RECOVERY.name, "all", arrears.rates(sums))


JOB = Job(
    "arrears",
    "as_of",
    (CUSTOMERS, BILLS, PAYMENTS, STATEMENTS, RECORDS),
    (AGEING, RECOVERY, CREDIT, OPEN_BILLS, RECONCILIATION, DOUBLES),
    _build,
)

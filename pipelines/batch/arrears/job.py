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

from pipelines.batch.arrears.customer_books import settle
from pipelines.batch.arrears.files import (
    AGEING,
    BILLS,
    CREDIT,
    CUSTOMERS,
    DOUBLES,
    GIVEN,
    OPEN_BILLS,
    OWED,
    PAID,
    PAID_ONCE,
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

    @staticmethod
    def in_parts(parts: int) -> _Sides:
        """Split into so many groups."""
        return _Sides(
            JoinInput("payments", "payment_id", PAYMENTS.schema, parts),
            JoinInput("bills", "bill_id", BILLS.schema, parts),
            JoinInput("named", "bill_id", PAID_ONCE, parts),
            JoinInput("customers", "customer_id", CUSTOMERS.schema, parts),
            JoinInput("records", "customer_id", RECORDS.schema, parts),
            JoinInput("payments", "customer_id", PAID_ONCE, parts),
            JoinInput("bills", "customer_id", OWED, parts),
            JoinInput("paid", "customer_id", PAID, parts),
            JoinInput("given", "customer_id", GIVEN, parts),
        )


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    as_of, results = plan.as_of, plan.results
    sides = _Sides.in_parts(plan.parts)
    payments = together(
        "Payments once",
        [plan.read(pipeline, PAYMENTS, partial(_sound_payments, sides.raw_payments, results))],
        [sides.raw_payments],
        partial(_payments_once, sides=sides, as_of=as_of, results=results),
        tags=["named", "unnamed", "received"],
    )
    bills = together(
        "Pay the bills named",
        [plan.read(pipeline, BILLS, sides.raw_bills.of_piece), payments["named"]],
        [sides.raw_bills, sides.named],
        partial(_pay_named, sides=sides, as_of=as_of, results=results),
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


def _sound_payments(side: JoinInput, results: Results, piece: FramePart) -> Iterator[Keyed]:
    """Payments without those of less than nothing."""
    wrong = piece.frame["amount_fen"] < 0
    if wrong.any():
        reason = "negative_payment: money given back is a matter for a bill or a credit note"
        rejects = piece.frame.filter(wrong).select(SOURCE, ROW, pl.lit(reason).alias("reason"))
        results.refuse(f"negative-{piece.name}", rejects)
    yield from side.split(piece.frame.filter(~wrong))


def _payments_once(
    group: JoinedRows, sides: _Sides, as_of: date, results: Results
) -> Iterator[object]:
    """Payments by id → each once, by customer; on the side by the bill named, and as credit."""
    kept, rejects = deduplicate(group.frames["payments"], ["payment_id"])
    results.refuse(f"payments-{group.name}", rejects)
    payments = kept.filter(pl.col("paid_on") <= as_of).select(*PAID_ONCE)
    names = pl.col("bill_id").is_not_null()
    yield from sides.payments.split(payments)
    yield from _tagged("named", sides.named.split(payments.filter(names)))
    unnamed = payments.filter(~names).select(*GIVEN)
    yield from _tagged("unnamed", sides.given.split(unnamed))
    yield beam.pvalue.TaggedOutput("received", received_by_channel(payments))


def _pay_named(group: JoinedRows, sides: _Sides, as_of: date, results: Results) -> Iterator[object]:
    """Bills with the payments that name them → bills owed; on the side who paid, what is left."""
    bills, rejects = deduplicate(group.frames["bills"], ["bill_id"])
    results.refuse(f"bills-{group.name}", rejects)
    bills = bills.filter(pl.col("issued_on") <= as_of).with_columns(
        pl.coalesce("due_on", "issued_on").alias("due_on")
    )
    owed, paid, left = arrears.pay_named(bills, group.frames["named"])
    of_whom = bills.select("bill_id", "customer_id", "due_on")
    given = pl.concat([left.select(*GIVEN), arrears.credit_notes(bills).select(*GIVEN)])
    yield from sides.bills.split(owed.select(*OWED))
    yield from _tagged("paid", sides.paid.split(paid.join(of_whom, on="bill_id").select(*PAID)))
    yield from _tagged("given", sides.given.split(given))


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

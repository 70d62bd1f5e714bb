"""Arrears as of a day: ageing, recovery, credit, and the money the channels say they took.

Rows come together three times: payments by their id (each counts once), bills with the payments
that name them, and all that is one customer's, whose credit then pays the oldest bills. Sums by
segment and hall are added up last. The rules are in `pipelines.core.arrears`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial

import apache_beam as beam
import polars as pl

from pipelines.batch.columns import ORIGIN, ROW, SOURCE, Dataset, choice, day, month, text, whole
from pipelines.batch.job import Job, Plan
from pipelines.batch.once import once
from pipelines.batch.tables import DAY, REAL, TEXT, WHOLE, ResultTable
from pipelines.batch.transforms import Group, Keyed, Piece, Results, Side, SumFrames, together
from pipelines.core import arrears
from schemas.errors import BatchError

CUSTOMERS = Dataset(
    "customers",
    (text("customer_id"), text("segment", required=False), text("hall_id", required=False)),
)
BILLS = Dataset(
    "bills",
    (
        text("bill_id"),
        text("customer_id"),
        month("billing_period"),
        day("issued_on"),
        day("due_on", required=False),
        whole("amount_fen"),
    ),
)
PAYMENTS = Dataset(
    "payments",
    (
        text("payment_id"),
        text("customer_id"),
        text("bill_id", required=False),
        day("paid_on"),
        whole("amount_fen"),
        text("channel", required=False),
    ),
)
STATEMENTS = Dataset(
    "channel_statements",
    (day("day"), text("channel"), whole("amount_fen"), whole("payments", required=False)),
    optional=True,
)
RECORDS = Dataset(
    "customer_records",
    (
        text("record_id"),
        text("customer_id"),
        choice("kind", ("tampering", "theft", "dispute")),
        day("happened_on"),
    ),
    optional=True,
)

AGEING = ResultTable(
    "arrears_ageing",
    ("as_of", "dimension", "key", "bucket"),
    {
        "as_of": DAY,
        "dimension": TEXT,
        "key": TEXT,
        "bucket": TEXT,
        "amount_fen": WHOLE,
        "bills": WHOLE,
        "customers": WHOLE,
    },
)
RECOVERY = ResultTable(
    "bill_recovery",
    ("as_of", "billing_period", "dimension", "key"),
    {
        "billing_period": TEXT,
        "as_of": DAY,
        "dimension": TEXT,
        "key": TEXT,
        "charged_fen": WHOLE,
        "received_fen": WHOLE,
        "cohort_rate": REAL,
        "cash_received_fen": WHOLE,
        "cash_rate": REAL,
    },
)
CREDIT = ResultTable(
    "customer_credit",
    ("as_of", "customer_id"),
    {
        "as_of": DAY,
        "customer_id": TEXT,
        "score": REAL,
        "grade": TEXT,
        "reasons": TEXT,
        "open_fen": WHOLE,
        "overdue_fen": WHOLE,
        "unallocated_fen": WHOLE,
    },
)
OPEN_BILLS = ResultTable(
    "arrears_bills",
    ("as_of", "bill_id"),
    {
        "as_of": DAY,
        "bill_id": TEXT,
        "customer_id": TEXT,
        "segment": TEXT,
        "hall_id": TEXT,
        "billing_period": TEXT,
        "issued_on": DAY,
        "due_on": DAY,
        "amount_fen": WHOLE,
        "open_fen": WHOLE,
        "days": WHOLE,
        "bucket": TEXT,
    },
)
RECONCILIATION = ResultTable(
    "payment_reconciliation",
    ("as_of", "day", "channel"),
    {
        "as_of": DAY,
        "day": DAY,
        "channel": TEXT,
        "received_fen": WHOLE,
        "stated_fen": WHOLE,
        "difference_fen": WHOLE,
        "payments": WHOLE,
        "stated_payments": WHOLE,
        "status": TEXT,
    },
)
DOUBLES = ResultTable(
    "payment_doubles",
    ("as_of", "payment_id"),
    {
        "as_of": DAY,
        "payment_id": TEXT,
        "twin_of": TEXT,
        "customer_id": TEXT,
        "bill_id": TEXT,
        "day": DAY,
        "channel": TEXT,
        "amount_fen": WHOLE,
    },
)

_CUSTOMER = {"customer_id": pl.String, "segment": pl.String, "hall_id": pl.String, **ORIGIN}
_BILL = {
    "bill_id": pl.String,
    "customer_id": pl.String,
    "billing_period": pl.String,
    "issued_on": pl.Date,
    "due_on": pl.Date,
    "amount_fen": pl.Int64,
    **ORIGIN,
}
_PAYMENT = {
    "payment_id": pl.String,
    "customer_id": pl.String,
    "bill_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
    "channel": pl.String,
    **ORIGIN,
}
_PAID_ONCE = {name: kind for name, kind in _PAYMENT.items() if name not in ORIGIN}
_RECORD = {
    "record_id": pl.String,
    "customer_id": pl.String,
    "kind": pl.String,
    "happened_on": pl.Date,
    **ORIGIN,
}
_STATEMENT = {
    "day": pl.Date,
    "channel": pl.String,
    "amount_fen": pl.Int64,
    "payments": pl.Int64,
    **ORIGIN,
}
_OWED = {name: kind for name, kind in _BILL.items() if name not in ORIGIN} | {"open_fen": pl.Int64}
_PAID = {"customer_id": pl.String, "due_on": pl.Date, **arrears.ALLOCATION}
_GIVEN = {
    "payment_id": pl.String,
    "customer_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
}
_RECEIVED = {
    "day": pl.Date,
    "channel": pl.String,
    "received_fen": pl.Int64,
    "payments": pl.Int64,
}


@dataclass(frozen=True, slots=True)
class _Sides:
    """Who comes together with whom, and by what."""

    raw_payments: Side
    raw_bills: Side
    named: Side
    customers: Side
    records: Side
    payments: Side
    bills: Side
    paid: Side
    given: Side

    @staticmethod
    def in_parts(parts: int) -> _Sides:
        """Split into so many groups."""
        return _Sides(
            Side("payments", "payment_id", _PAYMENT, parts),
            Side("bills", "bill_id", _BILL, parts),
            Side("named", "bill_id", _PAID_ONCE, parts),
            Side("customers", "customer_id", _CUSTOMER, parts),
            Side("records", "customer_id", _RECORD, parts),
            Side("payments", "customer_id", _PAID_ONCE, parts),
            Side("bills", "customer_id", _OWED, parts),
            Side("paid", "customer_id", _PAID, parts),
            Side("given", "customer_id", _GIVEN, parts),
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
        partial(_settle, as_of=as_of, results=results),
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
    received, stated = Side("received", "day", _RECEIVED), Side("stated", "day", _STATEMENT)
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
        partial(_reconcile, as_of=as_of, results=results),
    )


def _tagged(tag: str, elements: Iterable[object]) -> Iterator[beam.pvalue.TaggedOutput]:
    return (beam.pvalue.TaggedOutput(tag, element) for element in elements)


def _sound_payments(side: Side, results: Results, piece: Piece) -> Iterator[Keyed]:
    """Payments without those of less than nothing."""
    wrong = piece.frame["amount_fen"] < 0
    if wrong.any():
        reason = "negative_payment: money given back is a matter for a bill or a credit note"
        rejects = piece.frame.filter(wrong).select(SOURCE, ROW, pl.lit(reason).alias("reason"))
        results.refuse(f"negative-{piece.name}", rejects)
    yield from side.split(piece.frame.filter(~wrong))


def _payments_once(group: Group, sides: _Sides, as_of: date, results: Results) -> Iterator[object]:
    """Payments by id → each once, by customer; on the side by the bill named, and as credit."""
    kept, rejects = once(group.frames["payments"], ["payment_id"])
    results.refuse(f"payments-{group.name}", rejects)
    payments = kept.filter(pl.col("paid_on") <= as_of).select(*_PAID_ONCE)
    names = pl.col("bill_id").is_not_null()
    yield from sides.payments.split(payments)
    yield from _tagged("named", sides.named.split(payments.filter(names)))
    unnamed = payments.filter(~names).select(*_GIVEN)
    yield from _tagged("unnamed", sides.given.split(unnamed))
    yield beam.pvalue.TaggedOutput("received", _received(payments))


def _pay_named(group: Group, sides: _Sides, as_of: date, results: Results) -> Iterator[object]:
    """Bills with the payments that name them → bills owed; on the side who paid, what is left."""
    bills, rejects = once(group.frames["bills"], ["bill_id"])
    results.refuse(f"bills-{group.name}", rejects)
    bills = bills.filter(pl.col("issued_on") <= as_of).with_columns(
        pl.coalesce("due_on", "issued_on").alias("due_on")
    )
    owed, paid, left = arrears.pay_named(bills, group.frames["named"])
    of_whom = bills.select("bill_id", "customer_id", "due_on")
    given = pl.concat([left.select(*_GIVEN), arrears.credit_notes(bills).select(*_GIVEN)])
    yield from sides.bills.split(owed.select(*_OWED))
    yield from _tagged("paid", sides.paid.split(paid.join(of_whom, on="bill_id").select(*_PAID)))
    yield from _tagged("given", sides.given.split(given))


def _settle(group: Group, as_of: date, results: Results) -> Iterator[object]:
    """All that is one customer's → sums by segment and hall; details go to the results."""
    frames = group.frames
    customers, twice = once(frames["customers"], ["customer_id"])
    records, noted_twice = once(frames["records"], ["record_id"])
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
    day_of = pl.lit(as_of).alias("as_of")
    results.put(
        OPEN_BILLS.name,
        group.name,
        bills.filter(pl.col("open_fen") > 0).with_columns(day_of).select(*OPEN_BILLS.columns),
    )
    results.put(DOUBLES.name, group.name, _doubles(frames["payments"]).with_columns(day_of))
    due = frames["bills"].select("bill_id", "customer_id", "due_on")
    paid = pl.concat([frames["paid"], paid_late.join(due, on="bill_id").select(*_PAID)])
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
        arrears.credit(everyone, bills, paid, records, as_of)
        .join(owed, on="customer_id", how="left")
        .join(left, on="customer_id", how="left")
        .with_columns(
            pl.col("open_fen", "overdue_fen", "unallocated_fen").fill_null(0),
            as_of=pl.lit(as_of),
        )
    )


def _doubles(payments: pl.DataFrame) -> pl.DataFrame:
    """Payments that look like another one again: same customer, bill, day, channel and amount."""
    same = ("customer_id", "bill_id", "paid_on", "channel", "amount_fen")
    first = pl.col("payment_id").min().over(same)
    return (
        payments.with_columns(twin_of=first)
        .filter(pl.col("payment_id") != pl.col("twin_of"))
        .select(
            "payment_id",
            "twin_of",
            "customer_id",
            pl.col("bill_id").fill_null(""),
            pl.col("paid_on").alias("day"),
            pl.col("channel").fill_null(arrears.UNKNOWN),
            "amount_fen",
        )
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


def _check_balance(sums: pl.DataFrame, as_of: date, results: Results) -> None:
    billed, still_open, allocated = sums.row(0)[1:]
    if billed != still_open + allocated:
        raise BatchError(
            f"billed {billed} fen is not open {still_open} plus allocated {allocated} as of {as_of}"
        )


def _write_ageing(sums: pl.DataFrame, as_of: date, results: Results) -> None:
    results.put(AGEING.name, "all", sums.with_columns(as_of=pl.lit(as_of)))


def _write_recovery(sums: pl.DataFrame, as_of: date, results: Results) -> None:
    results.put(RECOVERY.name, "all", arrears.rates(sums).with_columns(as_of=pl.lit(as_of)))


def _received(payments: pl.DataFrame) -> pl.DataFrame:
    channel = pl.col("channel").fill_null(arrears.UNKNOWN)
    return payments.group_by(day="paid_on", channel=channel).agg(
        received_fen=pl.col("amount_fen").sum(), payments=pl.len().cast(pl.Int64)
    )


def _reconcile(group: Group, as_of: date, results: Results) -> Iterator[object]:
    """Day by day and channel by channel, what was received against what the channel states."""
    stated, rejects = once(group.frames["stated"], ["day", "channel"])
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
        pl.lit(as_of).alias("as_of"),
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


JOB = Job(
    "arrears",
    "as_of",
    (CUSTOMERS, BILLS, PAYMENTS, STATEMENTS, RECORDS),
    (AGEING, RECOVERY, CREDIT, OPEN_BILLS, RECONCILIATION, DOUBLES),
    _build,
)

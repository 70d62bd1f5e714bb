"""Arrears as of a day: ageing, recovery, credit, and the money the channels say they took.

Rows come together three times: payments by their id (each counts once), bills with the payments
that name them, and all that is one customer's, whose credit then pays the oldest bills. Sums by
segment and hall are added up last. The rules are in `pipelines.core.arrears`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial

import apache_beam as beam
import polars as pl

from pipelines.batch.columns import ROW, SOURCE, Dataset, choice, day, month, text, whole
from pipelines.batch.job import Job, Plan
from pipelines.batch.once import once
from pipelines.batch.tables import DAY, REAL, TEXT, WHOLE, ResultTable
from pipelines.batch.transforms import Group, Piece, Results, Side, SumFrames, together
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

_ORIGIN = {SOURCE: pl.String, ROW: pl.UInt64}
_CUSTOMER = {"customer_id": pl.String, "segment": pl.String, "hall_id": pl.String, **_ORIGIN}
_BILL = {
    "bill_id": pl.String,
    "customer_id": pl.String,
    "billing_period": pl.String,
    "issued_on": pl.Date,
    "due_on": pl.Date,
    "amount_fen": pl.Int64,
    **_ORIGIN,
}
_PAYMENT = {
    "payment_id": pl.String,
    "customer_id": pl.String,
    "bill_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
    "channel": pl.String,
    **_ORIGIN,
}
_RECORD = {
    "record_id": pl.String,
    "customer_id": pl.String,
    "kind": pl.String,
    "happened_on": pl.Date,
    **_ORIGIN,
}
_STATEMENT = {
    "day": pl.Date,
    "channel": pl.String,
    "amount_fen": pl.Int64,
    "payments": pl.Int64,
    **_ORIGIN,
}
_OWED = {name: kind for name, kind in _BILL.items() if name not in _ORIGIN} | {"open_fen": pl.Int64}
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
_TAGS = ("paid", "given")


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    as_of, results = plan.as_of, plan.results
    raw_payments = plan.read(pipeline, PAYMENTS, partial(_sound_payments, results=results))
    payments = together(
        "Payments by id", {"payments": Side(raw_payments, "payment_id", _PAYMENT)}, plan.parts
    ) | "Payments once" >> beam.Map(_payments_once, as_of, results)
    bills = together(
        "Bills with their payments",
        {
            "bills": Side(plan.read(pipeline, BILLS), "bill_id", _BILL),
            "payments": Side(
                payments | "Named" >> beam.Map(_named),
                "bill_id",
                _PAYMENT,
            ),
        },
        plan.parts,
    ) | "Pay the bills named" >> beam.FlatMap(_pay_named, as_of, results).with_outputs(
        *_TAGS, main="owed"
    )
    unnamed = payments | "Unnamed" >> beam.Map(_credit_of_unnamed)
    sides = {
        "customers": Side(plan.read(pipeline, CUSTOMERS), "customer_id", _CUSTOMER),
        "records": Side(plan.read(pipeline, RECORDS), "customer_id", _RECORD),
        "payments": Side(payments, "customer_id", _PAYMENT),
        "bills": Side(bills["owed"], "customer_id", _OWED),
        "paid": Side(bills["paid"], "customer_id", _PAID),
        "given": Side(
            (bills["given"], unnamed) | "Credit" >> beam.Flatten(), "customer_id", _GIVEN
        ),
    }
    of_customers = together("Of one customer", sides, plan.parts) | "Settle" >> beam.FlatMap(
        _settle, as_of, results
    ).with_outputs("recovery", "balance", main="ageing")
    for name, keys, finish in (
        ("ageing", ["dimension", "key", "bucket"], _write_ageing),
        ("recovery", ["dimension", "key", "billing_period"], _write_recovery),
        ("balance", ["is"], _check_balance),
    ):
        _ = (
            of_customers[name]
            | f"Add up {name}" >> beam.CombineGlobally(SumFrames(keys)).without_defaults()
            | f"Write {name}" >> beam.Map(finish, as_of, results)
        )
    received = (
        payments
        | "By channel" >> beam.Map(_received)
        | "Add up channels"
        >> beam.CombineGlobally(SumFrames(["day", "channel"])).without_defaults()
        | "Received" >> beam.Map(lambda frame: Piece("received", frame))
    )
    _ = together(
        "Days and channels",
        {
            "received": Side(received, "day", _RECEIVED),
            "stated": Side(plan.read(pipeline, STATEMENTS), "day", _STATEMENT),
        },
        1,
    ) | "Reconcile" >> beam.Map(_reconcile, as_of, results)


def _sound_payments(piece: Piece, results: Results) -> Iterator[Piece]:
    """Payments without those of less than nothing."""
    wrong = piece.frame["amount_fen"] < 0
    if wrong.any():
        reason = "negative_payment: money given back is a matter for a bill or a credit note"
        rejects = piece.frame.filter(wrong).select(SOURCE, ROW, pl.lit(reason).alias("reason"))
        results.refuse(f"negative-{piece.name}", rejects)
    yield Piece(piece.name, piece.frame.filter(~wrong))


def _payments_once(group: Group, as_of: date, results: Results) -> Piece:
    kept, rejects = once(group.frames["payments"], ["payment_id"])
    results.refuse(f"payments-{group.name}", rejects)
    return Piece(group.name, kept.filter(pl.col("paid_on") <= as_of))


def _named(piece: Piece) -> Piece:
    """The payments that name a bill."""
    return Piece(piece.name, piece.frame.filter(pl.col("bill_id").is_not_null()))


def _credit_of_unnamed(piece: Piece) -> Piece:
    """The payments that name none, as credit."""
    unnamed = piece.frame.filter(pl.col("bill_id").is_null())
    return Piece(piece.name, unnamed.select(*_GIVEN))


def _pay_named(group: Group, as_of: date, results: Results) -> Iterator[object]:
    """Bills with the payments that name them → bills owed; on the side who paid, what is left."""
    bills, rejects = once(group.frames["bills"], ["bill_id"])
    results.refuse(f"bills-{group.name}", rejects)
    bills = bills.filter(pl.col("issued_on") <= as_of).with_columns(
        pl.coalesce("due_on", "issued_on").alias("due_on")
    )
    owed, paid, left = arrears.pay_named(bills, group.frames["payments"])
    given = pl.concat([left.select(*_GIVEN), arrears.credit_notes(bills).select(*_GIVEN)])
    of_whom = bills.select("bill_id", "customer_id", "due_on")
    yield Piece(group.name, owed.select(*_OWED))
    yield beam.pvalue.TaggedOutput(
        "paid", Piece(group.name, paid.join(of_whom, on="bill_id").select(*_PAID))
    )
    yield beam.pvalue.TaggedOutput("given", Piece(group.name, given))


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


def _received(piece: Piece) -> pl.DataFrame:
    channel = pl.col("channel").fill_null(arrears.UNKNOWN)
    return piece.frame.group_by(day="paid_on", channel=channel).agg(
        received_fen=pl.col("amount_fen").sum(), payments=pl.len().cast(pl.Int64)
    )


def _reconcile(group: Group, as_of: date, results: Results) -> None:
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
    if not stated.height:
        return
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
    results.put(RECONCILIATION.name, "all", rows)


JOB = Job(
    "arrears",
    "as_of",
    (CUSTOMERS, BILLS, PAYMENTS, STATEMENTS, RECORDS),
    (AGEING, RECOVERY, CREDIT, OPEN_BILLS, RECONCILIATION, DOUBLES),
    _build,
)

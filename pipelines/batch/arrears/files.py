"""What arrears reads and writes: data sets, tables, and rows as they travel."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import ORIGIN, Dataset, choice, day, month, text, whole
from pipelines.batch.engine.tables import DAY, REAL, TEXT, WHOLE, ResultTable
from pipelines.core.billing.arrears import ALLOCATION

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


# --- rows as they travel ------------------------------------------------------------------------

CUSTOMER = {"customer_id": pl.String, "segment": pl.String, "hall_id": pl.String, **ORIGIN}

BILL = {
    "bill_id": pl.String,
    "customer_id": pl.String,
    "billing_period": pl.String,
    "issued_on": pl.Date,
    "due_on": pl.Date,
    "amount_fen": pl.Int64,
    **ORIGIN,
}

PAYMENT = {
    "payment_id": pl.String,
    "customer_id": pl.String,
    "bill_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
    "channel": pl.String,
    **ORIGIN,
}

PAID_ONCE = {name: kind for name, kind in PAYMENT.items() if name not in ORIGIN}

RECORD = {
    "record_id": pl.String,
    "customer_id": pl.String,
    "kind": pl.String,
    "happened_on": pl.Date,
    **ORIGIN,
}

STATEMENT = {
    "day": pl.Date,
    "channel": pl.String,
    "amount_fen": pl.Int64,
    "payments": pl.Int64,
    **ORIGIN,
}

OWED = {name: kind for name, kind in BILL.items() if name not in ORIGIN} | {"open_fen": pl.Int64}

PAID = {"customer_id": pl.String, "due_on": pl.Date, **ALLOCATION}

GIVEN = {
    "payment_id": pl.String,
    "customer_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
}

RECEIVED = {
    "day": pl.Date,
    "channel": pl.String,
    "received_fen": pl.Int64,
    "payments": pl.Int64,
}

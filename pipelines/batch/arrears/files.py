"""What arrears reads and writes: data sets, tables, and rows as they travel."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import Dataset, choice, day, month, text, whole
from pipelines.batch.engine.tables import ResultTable
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

AGEING = ResultTable("arrears_ageing")
RECOVERY = ResultTable("bill_recovery")
CREDIT = ResultTable("customer_credit")
OPEN_BILLS = ResultTable("arrears_bills")
RECONCILIATION = ResultTable("payment_reconciliation")
DOUBLES = ResultTable("payment_doubles")

# --- rows as they travel ------------------------------------------------------------------------

PAID_ONCE = PAYMENTS.values

OWED = BILLS.values | {"open_fen": pl.Int64}

PAID = {"customer_id": pl.String, "due_on": pl.Date, **ALLOCATION}

GIVEN = {
    "payment_id": pl.String,
    "customer_id": pl.String,
    "paid_on": pl.Date,
    "amount_fen": pl.Int64,
}

RECEIVED = {"day": pl.Date, "channel": pl.String, "received_fen": pl.Int64, "payments": pl.Int64}

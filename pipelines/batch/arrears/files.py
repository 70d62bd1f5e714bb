"""What arrears reads and writes: data sets, tables, and rows as they travel."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import Dataset, choice, day, month, text, whole
from pipelines.batch.engine.tables import ResultTable

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
        # An export without the column has no way to name the bill.
        text("corrects", required=False, present=False, absent=""),
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
        text("reverses", required=False, present=False),
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

#: Money that came in, by day and channel.
RECEIVED = {"day": pl.Date, "channel": pl.String, "received_fen": pl.Int64, "payments": pl.Int64}

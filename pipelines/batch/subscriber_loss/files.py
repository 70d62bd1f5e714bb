"""What subscriber loss reads and writes: data sets, tables, and rows as they travel."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import ORIGIN, Dataset, imsi, text, time, whole
from pipelines.batch.engine.tables import ResultTable

CALLS = Dataset(
    "cdr",
    (text("call_id"), time("start_time"), imsi("imsi"),
     whole("charge_fen", required=False, present=False),
     text("msisdn", required=False, present=False)),
    optional=True,
    folders=("",),
    calls=True,
)  # fmt: skip

EVENTS = Dataset("events", (), optional=True, folders=("",), events=True)

KEY_ACCOUNTS = Dataset(
    "key_accounts",
    (imsi("imsi"), text("account"), text("manager")),
    optional=True,
    folders=("reference", ""),
)

LOSS = ResultTable("subscriber_loss")
RETENTION = ResultTable("subscriber_retention")
SILENT = ResultTable("silent_subscribers")
REPLACED = ResultTable("replaced_cards")


# --- rows as they travel ------------------------------------------------------------------------

#: One SIM's figures from some of its events: the last use before the month and before its end, and
#: the newest number; times in ms, null where there is none.
USE = {
    "imsi": pl.Int64,
    "block": pl.Int64,
    "first_use": pl.Int64,
    "first_event": pl.String,
    "seen_before": pl.Int64,
    "seen": pl.Int64,
    "msisdn": pl.String,
    "named_at": pl.Int64,
}

PLACED = {
    "at": pl.Int64,
    "event_id": pl.String,
    "type": pl.Int64,
    "outlet_id": pl.String,
    "to_outlet_id": pl.String,
    "first_imsi": pl.Int64,
    "count": pl.Int64,
    **ORIGIN,
}

ACCOUNT = KEY_ACCOUNTS.schema | {"block": pl.Int64}

#: Calls and activations alike; `charge_fen` is null for an activation, which is no call.
HAPPENED = {
    "imsi": pl.Int64,
    "at": pl.Int64,
    "event_id": pl.String,
    "charge_fen": pl.Int64,
    "msisdn": pl.String,
}

#: A SIM with the shop that sold it; `subscriber` is its number or, where none is known, its IMSI.
SIM = {
    "subscriber": pl.String,
    "imsi": pl.Int64,
    "msisdn": pl.String,
    "first_use": pl.Int64,
    "first_event": pl.String,
    "seen_before": pl.Int64,
    "seen": pl.Int64,
    "outlet_id": pl.String,
    "territory_id": pl.String,
    "wholesaler_id": pl.String,
    "account": pl.String,
    "manager": pl.String,
}

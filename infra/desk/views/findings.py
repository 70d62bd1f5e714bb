"""What jobs and the stream found and somebody should look at: one table each."""

from __future__ import annotations

from typing import Final

from infra.desk.freshness import JobRun
from infra.desk.parts import column, columns
from infra.desk.tables import ListPage
from infra.desk.translation import N_
from infra.desk.views.common import named
from infra.desk.views.lists import ARREARS, OUTLET, WHOLESALER

_ARREARS: Final = "zerostock batch arrears --as-of YYYY-MM-DD --input DIR --data DATA"
_LOSS: Final = "zerostock batch subscriber-loss --period YYYY-MM --input DIR --data DATA"

DOUBTED_STOCK: Final = ListPage(
    "/doubted-stock",
    N_("Doubted stock"),
    N_("Shelves that sold and then fell silent although the books say they are stocked."),
    named("phantom_stock"),
    columns("phantom_stock", "as_of", OUTLET, WHOLESALER, "sku", "on_hand", "sold_a_day",
            "silent_days", "chance"),
    "chance",
    down=False,
    filled_by="zerostock soon-empty --data DATA",
    choices=("as_of", "wholesaler"),
    first=True,
    job=JobRun("soon-empty", streams=True),
)  # fmt: skip

ANOMALIES: Final = ListPage(
    "/anomalies",
    N_("Anomalies"),
    N_("Events that contradict what was known of a SIM, the newest first."),
    "SELECT at, kind, iccid, event_id, detail FROM anomalies",
    columns("anomalies", "at", "kind", column("anomalies", "iccid", link="/sims/"), "event_id",
            "detail"),
    "at",
    choices=("kind",),
)  # fmt: skip

SUBSCRIBER_LOSS: Final = ListPage(
    "/subscriber-loss",
    N_("Subscriber loss"),
    N_("Subscribers lost and about to be lost, by territory, outlet, wholesaler and month of first"
       " use."),
    "SELECT * FROM subscriber_loss",
    columns("subscriber_loss", "period", "dimension", "key", "base", "lost", "loss_rate",
            "pre_lost", "pre_loss_rate", "annualised_rate"),
    "lost",
    filled_by=_LOSS,
    choices=("period", "dimension"),
    first=True,
    job=JobRun("subscriber-loss"),
)  # fmt: skip

SILENT_SUBSCRIBERS: Final = ListPage(
    "/silent-subscribers",
    N_("Silent subscribers"),
    N_("Whom account managers should call: silent, but not lost yet."),
    named("silent_subscribers"),
    columns("silent_subscribers", "period", "imsi", "silent_days", "last_seen", "account",
            "manager", OUTLET, WHOLESALER),
    "silent_days",
    filled_by=_LOSS,
    choices=("period", "manager", "account"),
    first=True,
    job=JobRun("subscriber-loss"),
)  # fmt: skip

PAYMENT_DIFFERENCES: Final = ListPage(
    "/payment-differences",
    N_("Payment differences"),
    N_("Days on which a channel states other payments than were received, the newest first."),
    "SELECT * FROM payment_reconciliation WHERE status != 'ok'",
    columns("payment_reconciliation", "day", "channel", "difference_fen", "received_fen",
            "stated_fen", "payments", "stated_payments", "status"),
    "day",
    filled_by=_ARREARS,
    choices=("channel", "status"),
    job=ARREARS,
)  # fmt: skip

PAYMENT_DOUBLES: Final = ListPage(
    "/payment-doubles",
    N_("Payments booked twice"),
    N_("Payments that look like another one booked again under another id."),
    "SELECT * FROM payment_doubles",
    columns("payment_doubles", "as_of", "payment_id", "twin_of", "customer_id", "bill_id", "day",
            "channel", "amount_fen"),
    "amount_fen",
    filled_by=_ARREARS,
    choices=("as_of", "channel"),
    first=True,
    job=ARREARS,
)  # fmt: skip

TABLES: Final = (
    DOUBTED_STOCK, ANOMALIES, SUBSCRIBER_LOSS, SILENT_SUBSCRIBERS, PAYMENT_DIFFERENCES,
    PAYMENT_DOUBLES,
)  # fmt: skip

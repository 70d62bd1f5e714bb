"""The views that are one table each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from infra.desk.parts import ColumnSpec, column, columns
from infra.desk.tables import Listing
from infra.desk.translation import N_
from infra.desk.views.common import named

_CHANNEL: Final = "zerostock batch channel --period YYYY-MM --input DIR --data DATA"
_ARREARS: Final = "zerostock batch arrears --as-of YYYY-MM-DD --input DIR --data DATA"

OUTLET: Final = column("outlet_names", "outlet", link="/outlets/", to="outlet_id")
_NUMBER: Final = column("outlet_names", "outlet_id", link="/outlets/")
TERRITORY: Final = column("outlet_names", "territory")
WHOLESALER: Final = column(
    "wholesaler_names", "wholesaler", link="/wholesalers/", to="wholesaler_id"
)


def _bar(table: str, name: str) -> ColumnSpec:
    return column(table, name, bar=name)


OUTLETS: Final = Listing(
    "/outlets",
    N_("Outlets"),
    N_("SIMs on hand on every shelf, the emptiest first."),
    named("stock_on_hand"),
    (
        _NUMBER,
        OUTLET,
        *columns("stock_on_hand", "on_hand", "sku"),
        TERRITORY,
        WHOLESALER,
        *columns("stock_on_hand", "as_of"),
    ),
    "on_hand",
    down=False,
    choices=("territory", "sku", "wholesaler"),
)

STOCK_OUTS: Final = Listing(
    "/stock-outs",
    N_("Stock-outs"),
    N_("Every time a shelf ran out, since when and until when, month by month."),
    # Not who was notified when: that is looked up in all messages, for one outlet on its own page.
    f"""WITH (SELECT max(at) FROM stock_movements_rows) AS newest
       SELECT *, formatDateTime(opened_at, '%Y-%m') AS month,
              if(closed_at IS NULL, 'open', 'refilled') AS state,
              dateDiff('second', opened_at, ifNull(closed_at, newest)) / 3600 AS hours
       FROM ({named("(SELECT * FROM stock_incidents_rows FINAL)")})""",  # noqa: S608 - our own
    (
        ColumnSpec("month", N_("Month (UTC)")),
        OUTLET,
        TERRITORY,
        WHOLESALER,
        *columns("stock_incidents", "sku"),
        ColumnSpec("state", N_("State"), "status"),
        *columns("stock_incidents", "opened_at", "closed_at"),
        ColumnSpec("hours", N_("Empty for (hours)"), "decimal"),
    ),
    "opened_at",
    choices=("month", "state", "territory", "sku", "wholesaler"),
    first=True,
)

RANKING: Final = Listing(
    "/ranking",
    N_("Ranking"),
    N_("Sales, growth, stock-outs and cover of every shop, month by month."),
    named("outlet_ranking"),
    columns(
        "outlet_ranking", "period", OUTLET, "sales_rank", "sales", WHOLESALER, "growth",
        "deliveries", _bar("outlet_ranking", "stock_out_rate"), "lost_sales", "days_of_cover",
        "status", "reasons",
    ),
    "sales",
    filled_by=_CHANNEL,
    choices=("period", "status", "wholesaler"),
    first=True,
)  # fmt: skip

WHOLESALERS: Final = Listing(
    "/wholesalers",
    N_("Wholesalers"),
    N_("Delivery timeliness, papers, stock-outs and diversion of every wholesaler."),
    named("wholesaler_scorecard", outlet=False),
    columns(
        "wholesaler_scorecard", "period", WHOLESALER, _bar("wholesaler_scorecard", "timeliness"),
        "incidents", "stock_outs_open", "activations",
        _bar("wholesaler_scorecard", "completeness"), "diversion_cases", "diverted_sims",
    ),
    "activations",
    filled_by=_CHANNEL,
    choices=("period",),
    first=True,
)  # fmt: skip

DIVERSION: Final = Listing(
    "/diversion",
    N_("Diversion"),
    N_("Outlets whose SIMs are used away from where they were sold. Open one to see the evidence"
       " and to decide."),
    named("diversion_cases"),
    columns(
        "diversion_cases", "period", replace(OUTLET, link="/diversion/", to="case_id"), WHOLESALER,
        "sims", "away", _bar("diversion_cases", "share"), "low", "level", "status", "decided_by",
    ),
    "low",
    filled_by=_CHANNEL,
    choices=("period", "level", "status"),
)  # fmt: skip

COMMISSION: Final = Listing(
    "/commission",
    N_("Commission"),
    N_("What every seller earns, and why. Each amount opens down to the SIMs behind it."),
    named("commission", wholesaler=False),
    columns(
        "commission", "period",
        replace(OUTLET, link="/commission/lines?outlet_id=", carry="period"),
        "role", "activations", "base_fen", "attainment", "factor", "clawback_fen", "amount_fen",
        "explanation",
    ),
    "amount_fen",
    filled_by=_CHANNEL,
    choices=("period", "role"),
    first=True,
)  # fmt: skip

COMMISSION_LINES: Final = Listing(
    "/commission/lines",
    N_("Commission by SIM"),
    N_("One line per SIM: what it earned or lost, and why."),
    named("commission_lines", wholesaler=False),
    columns(
        "commission_lines", "period", OUTLET, _NUMBER, "activated_at", "sku",
        column("commission_lines", "iccid", link="/sims/"), "kind", "fee_fen", "amount_fen",
        "explanation",
    ),
    "activated_at",
    filled_by=_CHANNEL,
    choices=("period", "outlet_id", "kind"),
    first=True,
)  # fmt: skip

HALLS: Final = Listing(
    "/halls",
    N_("Halls"),
    N_("Sales against target and service, and the score of both."),
    named("hall_assessment", wholesaler=False),
    columns(
        "hall_assessment", "period", OUTLET, "sales", "target", "sales_score", "inspection",
        "satisfaction", "complaints", "service_score", "score",
    ),
    "score",
    filled_by=_CHANNEL,
    choices=("period",),
    first=True,
)  # fmt: skip

SOON_EMPTY: Final = Listing(
    "/soon-empty",
    N_("Soon empty"),
    N_("Shelves that will probably run out before the next delivery."),
    named("soon_empty"),
    columns(
        "soon_empty", "as_of", OUTLET, WHOLESALER, "sku", "on_hand", "sold_a_day",
        "days_of_cover", "lead_days", _bar("soon_empty", "risk"),
    ),
    "risk",
    filled_by="zerostock soon-empty --data DATA",
    choices=("as_of", "wholesaler"),
    first=True,
)  # fmt: skip

METER_SUSPECTS: Final = Listing(
    "/meter-suspects",
    N_("Suspect meters"),
    N_("Customers whose consumption departed from their own history while their neighbours' did"
       " not."),
    "SELECT * FROM meter_suspects",
    columns(
        "meter_suspects", "period", "meter_id", "customer_id",
        column("meter_suspects", "unit_id", link="/loss/units/"), "kwh", "usual_kwh", "change",
        "score", "reasons",
    ),
    "score",
    filled_by="zerostock batch meter-suspects --period YYYY-MM --input DIR --data DATA",
    choices=("period",),
    first=True,
)  # fmt: skip

BILLS: Final = Listing(
    "/arrears/bills",
    N_("Open bills"),
    N_("Every open bill of a day; the bills of a bucket add up to it."),
    "SELECT * FROM arrears_bills",
    columns(
        "arrears_bills", "as_of", "bill_id", "customer_id", "segment", "hall_id", "billing_period",
        "due_on", "days", "bucket", "amount_fen", "open_fen",
    ),
    "open_fen",
    filled_by=_ARREARS,
    choices=("as_of", "segment", "hall_id", "bucket"),
    first=True,
)  # fmt: skip

CREDIT: Final = Listing(
    "/credit",
    N_("Credit grades"),
    N_("Every customer's grade, with the reasons in words."),
    "SELECT * FROM customer_credit",
    columns(
        "customer_credit", "as_of",
        column("customer_credit", "customer_id", link="/arrears/bills?q=", carry="as_of"),
        "grade", "score", "open_fen", "overdue_fen", "reasons",
    ),
    "score",
    down=False,
    filled_by=_ARREARS,
    choices=("as_of", "grade"),
    first=True,
)  # fmt: skip

BATCH_RUNS: Final = Listing(
    "/batch-runs",
    N_("Batch runs"),
    N_("What the batch jobs read, refused and wrote."),
    """SELECT started_at, job, period, dateDiff('second', started_at, finished_at) AS seconds,
              toInt64(rows_read) AS rows_read, toInt64(rows_rejected) AS rows_rejected,
              toInt64(rows_written) AS rows_written, status, error
       FROM batch_runs""",
    columns(
        "batch_runs", "started_at",
        column("batch_runs", "job", link="/batch-runs/refused?job=", carry="period"), "period",
        "status", ColumnSpec("seconds", N_("Took (s)"), "number"), "rows_read", "rows_rejected",
        "rows_written", "error",
    ),
    "started_at",
    filled_by="zerostock batch JOB",
    choices=("job", "status"),
)  # fmt: skip

BATCH_REJECTS: Final = Listing(
    "/batch-runs/refused",
    N_("Rows refused by batch jobs"),
    N_("Every row that a batch job could not use, and why."),
    "SELECT job, period, source, toInt64(row) AS row, reason FROM batch_rejects",
    columns("batch_rejects", "job", "period", "source", "row", "reason"),
    "source",
    down=False,
    filled_by="zerostock batch JOB",
    choices=("job", "period"),
)

TABLES: Final = (
    OUTLETS, STOCK_OUTS, SOON_EMPTY, RANKING, WHOLESALERS, DIVERSION, COMMISSION, COMMISSION_LINES,
    HALLS, METER_SUSPECTS, BILLS, CREDIT, BATCH_RUNS, BATCH_REJECTS,
)  # fmt: skip

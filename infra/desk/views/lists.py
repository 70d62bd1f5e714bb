"""The views that are one table each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from infra.desk.freshness import JobRun
from infra.desk.parts import ColumnSpec, column, columns
from infra.desk.tables import ListPage
from infra.desk.translation import N_
from infra.desk.views.common import named

_CHANNEL: Final = "zerostock batch channel --period YYYY-MM --input DIR --data DATA"
_ARREARS: Final = "zerostock batch arrears --as-of YYYY-MM-DD --input DIR --data DATA"

CHANNEL: Final = JobRun("channel", streams=True)
ARREARS: Final = JobRun("arrears")

OUTLET: Final = column("outlet_names", "outlet", link="/outlets/", to="outlet_id")
_NUMBER: Final = column("outlet_names", "outlet_id", link="/outlets/")
TERRITORY: Final = column("outlet_names", "territory")
WHOLESALER: Final = column(
    "wholesaler_names", "wholesaler", link="/wholesalers/", to="wholesaler_id"
)


HOURS: Final = ColumnSpec(
    "hours",
    N_("Empty for (hours)"),
    "decimal",
    about=N_("From the moment it ran out until it was refilled, or until the end of the data."),
)


def _bar(table: str, name: str) -> ColumnSpec:
    return column(table, name, bar=name)


#: Every outlet, stocked or not, by today's holder.
_SHELVES: Final = """(
    SELECT ids.outlet_id AS outlet_id, s.sku AS sku, s.on_hand AS on_hand, s.as_of AS as_of,
           h.wholesaler_id AS wholesaler_id,
           multiIf(ifNull(o.closed_on <= toDate(now(), {zone:String}), false), 'closed',
                   s.on_hand IS NULL, 'never_stocked', total.on_hand = 0, 'empty_outlet',
                   s.on_hand = 0, 'empty_shelf', 'stocked') AS state
    FROM
    (
        SELECT outlet_id FROM outlets UNION DISTINCT SELECT outlet_id FROM stock_on_hand
    ) AS ids
    LEFT JOIN
    (
        SELECT outlet_id, sku, toNullable(on_hand) AS on_hand, toNullable(as_of) AS as_of
        FROM stock_on_hand
    ) AS s ON s.outlet_id = ids.outlet_id
    LEFT JOIN
    (
        SELECT outlet_id, sum(on_hand) AS on_hand FROM stock_on_hand GROUP BY outlet_id
    ) AS total ON total.outlet_id = ids.outlet_id
    LEFT JOIN outlets AS o ON o.outlet_id = ids.outlet_id
    LEFT JOIN outlet_holders AS h ON h.outlet_id = ids.outlet_id
)"""

OUTLETS: Final = ListPage(
    "/outlets",
    N_("Outlets"),
    N_("SIMs on hand on every shelf, emptiest first, with today's wholesaler. Outlets that were"
       " never stocked come last."),
    named(_SHELVES),
    (
        _NUMBER,
        OUTLET,
        ColumnSpec("state", N_("State"), "status", about=N_(
            "An empty outlet has no SIM at all; an empty shelf is one SKU of an outlet that has"
            " others.")),
        *columns("stock_on_hand", "on_hand", "sku"),
        TERRITORY,
        WHOLESALER,
        *columns("stock_on_hand", "as_of"),
    ),
    "on_hand",
    down=False,
    choices=("state", "territory", "sku", "wholesaler"),
)  # fmt: skip

#: Stock-outs with who serves the outlet: today's wholesaler of the open ones, then's of the others.
STOCK_OUT_ROWS: Final = """(
    SELECT i.incident_id AS incident_id, i.outlet_id AS outlet_id, i.sku AS sku,
           i.opened_at AS opened_at, i.closed_at AS closed_at,
           if(i.closed_at IS NULL, h.wholesaler_id, i.wholesaler_id) AS wholesaler_id
    FROM (SELECT * FROM stock_incidents_rows FINAL) AS i
    LEFT JOIN outlet_holders AS h ON h.outlet_id = i.outlet_id
)"""

STOCK_OUTS: Final = ListPage(
    "/stock-outs",
    N_("Stock-outs"),
    N_("Every time a shelf ran out, since when and until when, by month. Open one to see who was"
       " notified, and why not."),
    # Not who was notified when: that is looked up in all messages, for one on its own page.
    f"""WITH (SELECT until FROM data_until) AS until
       SELECT *, formatDateTime(opened_at, '%Y-%m', {{zone:String}}) AS month,
              if(closed_at IS NULL, 'open', 'refilled') AS state,
              dateDiff('second', opened_at, ifNull(closed_at, until)) / 3600 AS hours
       FROM ({named(STOCK_OUT_ROWS)})""",  # noqa: S608 - our own
    (
        ColumnSpec("month", N_("Month")),
        OUTLET,
        TERRITORY,
        replace(WHOLESALER, about=N_(
            "Who serves the outlet: today, of a stock-out that is open; at its start, of one that"
            " was refilled.")),
        *columns("stock_incidents", "sku"),
        ColumnSpec("state", N_("State"), "status"),
        column("stock_incidents", "opened_at", link="/stock-outs/", to="incident_id"),
        *columns("stock_incidents", "closed_at"),
        HOURS,
    ),
    "opened_at",
    choices=("month", "state", "territory", "sku", "wholesaler"),
    first=True,
)  # fmt: skip

REFILLS: Final = ListPage(
    "/refills",
    N_("Refill times"),
    N_("How long each wholesaler takes to refill an empty shelf: the last 30 days of the data, and"
       " the 30 days before. Slowest first."),
    "SELECT *, concat('month=&state=open&wholesaler=', encodeURLComponent(wholesaler)) AS open_of"  # noqa: S608
    " FROM ("
    + named(
        f"""(
    WITH (SELECT until FROM data_until) AS until
    SELECT wholesaler_id,
           toInt64(countIf(recent)) AS refilled,
           if(refilled = 0, NULL, quantileExactIf(0.5)(hours, recent)) AS median_hours,
           if(refilled = 0, NULL, quantileExactIf(0.9)(hours, recent)) AS slow_hours,
           if(countIf(before) = 0, NULL, quantileExactIf(0.5)(hours, before)) AS median_before,
           toInt64(countIf(closed_at IS NULL)) AS open,
           if(open = 0, NULL, maxIf(hours, closed_at IS NULL)) AS oldest_hours,
           any(shelves.shelves) AS shelves,
           if(shelves = 0, NULL, 100 * open / shelves) AS open_rate
    FROM
    (
        SELECT *, dateDiff('second', opened_at, ifNull(closed_at, until)) / 3600 AS hours,
               ifNull(closed_at > until - INTERVAL 30 DAY AND closed_at <= until, false) AS recent,
               ifNull(closed_at > until - INTERVAL 60 DAY
                      AND closed_at <= until - INTERVAL 30 DAY, false) AS before
        FROM {STOCK_OUT_ROWS}
    ) AS s
    LEFT JOIN
    (
        SELECT h.wholesaler_id AS of, toInt64(count()) AS shelves
        FROM stock_on_hand AS o LEFT JOIN outlet_holders AS h ON h.outlet_id = o.outlet_id
        GROUP BY of
    ) AS shelves ON shelves.of = s.wholesaler_id
    GROUP BY wholesaler_id
)""",  # noqa: S608 - our own
        outlet=False,
    )
    + ")",
    (
        WHOLESALER,
        ColumnSpec("median_hours", N_("Median (hours)"), "decimal", about=N_(
            "Half of the stock-outs refilled in the last 30 days of the data were refilled within"
            " this time.")),
        ColumnSpec("slow_hours", N_("90% within (hours)"), "decimal", about=N_(
            "Nine of ten stock-outs refilled in the last 30 days of the data were refilled within"
            " this time.")),
        ColumnSpec("median_before", N_("Median, 30 days before (hours)"), "decimal",
                   about=N_("The same median, of the 30 days before.")),
        ColumnSpec("refilled", N_("Refilled"), "number", about=N_(
            "Stock-outs refilled in the last 30 days of the data: what the times rest on.")),
        ColumnSpec("open", N_("Open now"), "number", link="/stock-outs?", to="open_of",
                   about=N_("Stock-outs that are open at outlets this wholesaler serves today.")),
        ColumnSpec("open_rate", N_("Open per 100 shelves"), "decimal", about=N_(
            "Open stock-outs per 100 shelves that this wholesaler serves today.")),
        ColumnSpec("oldest_hours", N_("Oldest open (hours)"), "decimal", about=N_(
            "How long the longest open stock-out has lasted, until the end of the data.")),
    ),
    "median_hours",
)  # fmt: skip

RANKING: Final = ListPage(
    "/ranking",
    N_("Ranking"),
    N_("Sales, growth, stock-outs and cover of every shop, month by month."),
    named("outlet_ranking"),
    columns(
        "outlet_ranking", "period", OUTLET, "sales_rank", "sales", "shelf_days", WHOLESALER,
        "growth", "deliveries", _bar("outlet_ranking", "stock_out_rate"), "lost_sales",
        "days_of_cover", "status",
    ),
    "sales",
    filled_by=_CHANNEL,
    job=CHANNEL,
    choices=("period", "status", "wholesaler"),
    first=True,
)  # fmt: skip

PROMOTION: Final = ListPage(
    "/promotion",
    N_("Promotion"),
    N_("Shops worth promoting to partner hall, with every reason, by month."),
    named("(SELECT * FROM outlet_ranking WHERE promote = 1)"),
    columns(
        "outlet_ranking", "period", OUTLET, TERRITORY, WHOLESALER, "sales_rank", "sales",
        "growth", _bar("outlet_ranking", "stock_out_rate"), "shelf_days", "reasons",
    ),
    "sales",
    filled_by=_CHANNEL,
    choices=("period", "territory", "wholesaler"),
    first=True,
    job=CHANNEL,
)  # fmt: skip

WHOLESALERS: Final = ListPage(
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
    job=CHANNEL,
    choices=("period",),
    first=True,
)  # fmt: skip

DIVERSION: Final = ListPage(
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
    job=CHANNEL,
    choices=("period", "level", "status"),
)  # fmt: skip

COMMISSION: Final = ListPage(
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
    job=CHANNEL,
    choices=("period", "role"),
    first=True,
)  # fmt: skip

COMMISSION_LINES: Final = ListPage(
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
    job=CHANNEL,
    choices=("period", "outlet_id", "kind"),
    first=True,
)  # fmt: skip

HALLS: Final = ListPage(
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
    job=CHANNEL,
    choices=("period",),
    first=True,
)  # fmt: skip

SOON_EMPTY: Final = ListPage(
    "/soon-empty",
    N_("Soon empty"),
    N_("What tomorrow's round is worth: the shelves that wholesalers were told of in the evening,"
       " with how many cards to bring. Estimated from sales of the last 28 days."),
    named("soon_empty"),
    columns(
        "soon_empty", "as_of", OUTLET, WHOLESALER, "sku", "on_hand", "sold_a_day",
        "days_of_cover", "lead_days", _bar("soon_empty", "risk"), "lost_sales", "bring",
    ),
    "lost_sales",
    filled_by="zerostock soon-empty --data DATA",
    job=JobRun("soon-empty", streams=True),
    choices=("as_of", "wholesaler"),
    first=True,
)  # fmt: skip

METER_SUSPECTS: Final = ListPage(
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
    job=JobRun("meter-suspects"),
    choices=("period",),
    first=True,
)  # fmt: skip

BILLS: Final = ListPage(
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
    job=ARREARS,
    choices=("as_of", "segment", "hall_id", "bucket"),
    first=True,
)  # fmt: skip

CREDIT: Final = ListPage(
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
    job=ARREARS,
    choices=("as_of", "grade"),
    first=True,
)  # fmt: skip

BATCH_RUNS: Final = ListPage(
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
        "status",
        ColumnSpec("seconds", N_("Took (s)"), "number", about=N_("Seconds from start to end.")),
        "rows_read", "rows_rejected", "rows_written", "error",
    ),
    "started_at",
    filled_by="zerostock batch JOB",
    job=JobRun(""),
    choices=("job", "status"),
)  # fmt: skip

BATCH_REJECTS: Final = ListPage(
    "/batch-runs/refused",
    N_("Rows refused by batch jobs"),
    N_("Every row that a batch job could not use, and why."),
    "SELECT job, period, source, toInt64(row) AS row, reason FROM batch_rejects",
    columns("batch_rejects", "job", "period", "source", "row", "reason"),
    "source",
    down=False,
    filled_by="zerostock batch JOB",
    job=JobRun(""),
    choices=("job", "period"),
)

TABLES: Final = (
    OUTLETS, STOCK_OUTS, SOON_EMPTY, RANKING, PROMOTION, WHOLESALERS, REFILLS, DIVERSION,
    COMMISSION, COMMISSION_LINES, HALLS, METER_SUSPECTS, BILLS, CREDIT, BATCH_RUNS, BATCH_REJECTS,
)  # fmt: skip

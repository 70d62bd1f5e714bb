"""The views that are one table each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from infra.desk.parts import Column
from infra.desk.tables import Listing
from infra.desk.translation import N_
from infra.desk.views.holder import holder

_CHANNEL: Final = "zerostock batch channel --period YYYY-MM --input DIR --data DATA"
_PERIOD: Final = Column("period", N_("Period"))
_OUTLET: Final = Column("outlet", N_("Outlet"), link="/outlets/", to="outlet_id")
_WHOLESALER: Final = Column(
    "wholesaler", N_("Wholesaler"), link="/wholesalers/", to="wholesaler_id"
)


#: Names, under names of their own: else `x.*` would call the columns that tables share `x.…`.
_OUTLET_NAMES: Final = (
    "LEFT JOIN (SELECT outlet_id AS of_outlet, name AS outlet_name FROM outlets) AS o"
    " ON o.of_outlet = x.outlet_id"
)
_WHOLESALER_NAMES: Final = (
    "LEFT JOIN (SELECT wholesaler_id AS of_wholesaler, name AS wholesaler_name FROM wholesalers)"
    " AS w ON w.of_wholesaler = x.wholesaler_id"
)
_AS_OUTLET: Final = "if(outlet_name = '', x.outlet_id, outlet_name) AS outlet"
_AS_WHOLESALER: Final = "if(wholesaler_name = '', x.wholesaler_id, wholesaler_name) AS wholesaler"


def _named(table: str) -> str:
    """A table with the names of its outlets and wholesalers."""
    return (
        f"SELECT x.*, {_AS_OUTLET}, {_AS_WHOLESALER} FROM {table} AS x"  # noqa: S608 - our own
        f" {_OUTLET_NAMES} {_WHOLESALER_NAMES}"
    )


OUTLETS: Final = Listing(
    "/outlets",
    N_("Outlets"),
    N_("SIMs on hand on every shelf, the emptiest first."),
    """SELECT s.outlet_id AS outlet_id, if(o.name = '', s.outlet_id, o.name) AS outlet,
              t.name AS territory, s.sku AS sku, s.on_hand AS on_hand,
              s.wholesaler_id AS wholesaler_id, w.name AS wholesaler, s.as_of AS as_of
       FROM stock_on_hand AS s
       LEFT JOIN outlets AS o ON o.outlet_id = s.outlet_id
       LEFT JOIN territories AS t ON t.territory_id = o.territory_id
       LEFT JOIN wholesalers AS w ON w.wholesaler_id = s.wholesaler_id""",
    (
        Column("outlet_id", N_("Number"), link="/outlets/"),
        Column("outlet", N_("Outlet"), link="/outlets/", to="outlet_id"),
        Column("on_hand", N_("On hand (SIMs)"), "number"),
        Column("sku", N_("SKU")),
        Column("territory", N_("Territory")),
        _WHOLESALER,
        Column("as_of", N_("As of"), "time"),
    ),
    "on_hand",
    down=False,
    choices=("territory", "sku", "wholesaler"),
)

STOCK_OUTS: Final = Listing(
    "/stock-outs",
    N_("Stock-outs"),
    N_("Every time a shelf ran out, since when and until when, month by month."),
    # Not who was told when: that is looked up in all messages, for one outlet on its own page.
    f"""WITH (SELECT max(at) FROM stock_movements_rows) AS newest
       SELECT formatDateTime(i.opened_at, '%Y-%m') AS month, i.outlet_id AS outlet_id,
              if(o.name = '', i.outlet_id, o.name) AS outlet, t.name AS territory,
              i.wholesaler_id AS wholesaler_id,
              {holder("i")},
              i.sku AS sku, if(i.closed_at IS NULL, 'open', 'refilled') AS state,
              i.opened_at AS since, i.closed_at AS refilled,
              dateDiff('second', i.opened_at, ifNull(i.closed_at, newest)) / 3600 AS hours
       FROM (SELECT * FROM stock_incidents_rows FINAL) AS i
       LEFT JOIN outlets AS o ON o.outlet_id = i.outlet_id
       LEFT JOIN territories AS t ON t.territory_id = o.territory_id
       LEFT JOIN wholesalers AS w ON w.wholesaler_id = i.wholesaler_id""",  # noqa: S608 - our own
    (
        Column("month", N_("Month (UTC)")),
        _OUTLET,
        Column("territory", N_("Territory")),
        replace(_WHOLESALER, kind="name"),
        Column("sku", N_("SKU")),
        Column("state", N_("State"), "word"),
        Column("since", N_("Since"), "time"),
        Column("refilled", N_("Refilled"), "time"),
        Column("hours", N_("Empty for (hours)"), "decimal"),
    ),
    "since",
    choices=("month", "state", "territory", "sku", "wholesaler"),
    first=True,
)

RANKING: Final = Listing(
    "/ranking",
    N_("Ranking"),
    N_("Sales, growth, stock-outs and cover of every shop, month by month."),
    _named("outlet_ranking"),
    (
        _PERIOD,
        _OUTLET,
        Column("sales_rank", N_("Rank"), "number"),
        Column("sales", N_("Sales (SIMs)"), "number"),
        _WHOLESALER,
        Column("growth", N_("Growth"), "share"),
        Column("deliveries", N_("Fetched (times)"), "number"),
        Column("stock_out_rate", N_("Days out"), "share", bar="stock_out_rate"),
        Column("lost_sales", N_("Lost sales (SIMs)"), "decimal"),
        Column("days_of_cover", N_("Cover (days)"), "decimal"),
        Column("status", N_("Status"), "word"),
        Column("reasons", N_("Why to promote"), "reasons"),
    ),
    "sales",
    filled_by=_CHANNEL,
    choices=("period", "status", "wholesaler"),
    first=True,
)

WHOLESALERS: Final = Listing(
    "/wholesalers",
    N_("Wholesalers"),
    N_("Delivery timeliness, papers, stock-outs and diversion of every wholesaler."),
    f"SELECT x.*, {_AS_WHOLESALER} FROM wholesaler_scorecard AS x {_WHOLESALER_NAMES}",  # noqa: S608
    (
        _PERIOD,
        _WHOLESALER,
        Column("timeliness", N_("In time"), "share", bar="timeliness"),
        Column("incidents", N_("Stock-outs"), "number"),
        Column("stock_outs_open", N_("Still open"), "number"),
        Column("activations", N_("New subscribers"), "number"),
        Column("completeness", N_("Papers complete"), "share", bar="completeness"),
        Column("diversion_cases", N_("Diversion cases"), "number"),
        Column("diverted_sims", N_("Diverted (SIMs)"), "number"),
    ),
    "activations",
    filled_by=_CHANNEL,
    choices=("period",),
    first=True,
)

DIVERSION: Final = Listing(
    "/diversion",
    N_("Diversion"),
    N_("Outlets whose SIMs are used away from where they were sold. Open one to see the evidence"
       " and to decide."),
    _named("diversion_cases"),
    (
        _PERIOD,
        Column("outlet", N_("Outlet"), link="/diversion/", to="case_id"),
        _WHOLESALER,
        Column("sims", N_("Sample (SIMs)"), "number"),
        Column("away", N_("Away (SIMs)"), "number"),
        Column("share", N_("Share"), "share", bar="share"),
        Column("low", N_("At least"), "share"),
        Column("level", N_("Level"), "word"),
        Column("status", N_("Status"), "word"),
        Column("decided_by", N_("Decided by")),
    ),
    "low",
    filled_by=_CHANNEL,
    choices=("period", "level", "status"),
)  # fmt: skip

COMMISSION: Final = Listing(
    "/commission",
    N_("Commission"),
    N_("What every seller earns, and why. Each amount opens down to the SIMs behind it."),
    f"SELECT x.*, {_AS_OUTLET} FROM commission AS x {_OUTLET_NAMES}",  # noqa: S608
    (
        _PERIOD,
        Column(
            "outlet",
            N_("Outlet"),
            link="/commission/lines?outlet_id=",
            to="outlet_id",
            carry="period",
        ),
        Column("role", N_("Role"), "word"),
        Column("activations", N_("Activations"), "number"),
        Column("base_fen", N_("Steps"), "fen"),
        Column("attainment", N_("Attainment"), "share"),
        Column("factor", N_("Factor"), "decimal"),
        Column("clawback_fen", N_("Taken back"), "fen"),
        Column("amount_fen", N_("Amount"), "fen"),
        Column("explanation", N_("Why"), "reasons"),
    ),
    "amount_fen",
    filled_by=_CHANNEL,
    choices=("period", "role"),
    first=True,
)

COMMISSION_LINES: Final = Listing(
    "/commission/lines",
    N_("Commission by SIM"),
    N_("A line a SIM: what it earned or gave back, and why."),
    f"SELECT x.*, {_AS_OUTLET} FROM commission_lines AS x {_OUTLET_NAMES}",  # noqa: S608
    (
        _PERIOD,
        _OUTLET,
        Column("outlet_id", N_("Number"), link="/outlets/"),
        Column("activated_at", N_("Activated"), "time"),
        Column("sku", N_("SKU")),
        Column("iccid", N_("Card"), "secret", link="/sims/"),
        Column("kind", N_("Kind"), "word"),
        Column("fee_fen", N_("Monthly fee"), "fen"),
        Column("amount_fen", N_("Amount"), "fen"),
        Column("explanation", N_("Why"), "reasons"),
    ),
    "activated_at",
    filled_by=_CHANNEL,
    choices=("period", "outlet_id", "kind"),
    first=True,
)

HALLS: Final = Listing(
    "/halls",
    N_("Halls"),
    N_("Sales against target and service, and the score of both."),
    f"SELECT x.*, {_AS_OUTLET} FROM hall_assessment AS x {_OUTLET_NAMES}",  # noqa: S608
    (
        _PERIOD,
        _OUTLET,
        Column("sales", N_("Sales (SIMs)"), "number"),
        Column("target", N_("Target (SIMs)"), "number"),
        Column("sales_score", N_("Sales score"), "decimal"),
        Column("inspection", N_("Inspection"), "decimal"),
        Column("satisfaction", N_("Satisfaction"), "decimal"),
        Column("complaints", N_("Complaints"), "decimal"),
        Column("service_score", N_("Service score"), "decimal"),
        Column("score", N_("Score"), "decimal"),
    ),
    "score",
    filled_by=_CHANNEL,
    choices=("period",),
    first=True,
)

SOON_EMPTY: Final = Listing(
    "/soon-empty",
    N_("Soon empty"),
    N_("Shelves that will probably run out before the next delivery."),
    _named("soon_empty"),
    (
        Column("as_of", N_("As of"), "day"),
        _OUTLET,
        _WHOLESALER,
        Column("sku", N_("SKU")),
        Column("on_hand", N_("On hand (SIMs)"), "number"),
        Column("sold_a_day", N_("Sold a day"), "decimal"),
        Column("days_of_cover", N_("Cover (days)"), "decimal"),
        Column("lead_days", N_("Delivery takes (days)"), "decimal"),
        Column("risk", N_("Risk"), "share", bar="risk"),
    ),
    "risk",
    filled_by="zerostock soon-empty --data DATA",
    choices=("as_of", "wholesaler"),
    first=True,
)

LOSS_SUSPECTS: Final = Listing(
    "/meter-suspects",
    N_("Suspect meters"),
    N_("Customers whose use broke from their own history while their neighbours' did not."),
    "SELECT * FROM meter_suspects",
    (
        _PERIOD,
        Column("meter_id", N_("Meter")),
        Column("customer_id", N_("Customer")),
        Column("unit_id", N_("Unit"), link="/loss/units/"),
        Column("kwh", N_("Used (kWh)"), "kwh"),
        Column("usual_kwh", N_("Usual (kWh)"), "kwh"),
        Column("change", N_("Change"), "share"),
        Column("score", N_("Score"), "decimal"),
        Column("reasons", N_("Why"), "reasons"),
    ),
    "score",
    filled_by="zerostock batch meter-suspects --period YYYY-MM --input DIR --data DATA",
    choices=("period",),
    first=True,
)

BILLS: Final = Listing(
    "/arrears/bills",
    N_("Open bills"),
    N_("Every open bill of a day; those of a bucket add up to it."),
    "SELECT * FROM arrears_bills",
    (
        Column("as_of", N_("As of"), "day"),
        Column("bill_id", N_("Bill")),
        Column("customer_id", N_("Customer")),
        Column("segment", N_("Segment"), "word"),
        Column("hall_id", N_("Hall")),
        Column("billing_period", N_("Billed for")),
        Column("due_on", N_("Due on"), "day"),
        Column("days", N_("Days past due"), "number"),
        Column("bucket", N_("Bucket"), "word"),
        Column("amount_fen", N_("Billed"), "fen"),
        Column("open_fen", N_("Open"), "fen"),
    ),
    "open_fen",
    filled_by="zerostock batch arrears --as-of YYYY-MM-DD --input DIR --data DATA",
    choices=("as_of", "segment", "hall_id", "bucket"),
    first=True,
)

CREDIT: Final = Listing(
    "/credit",
    N_("Credit grades"),
    N_("Every customer's grade, with the reasons in words."),
    "SELECT * FROM customer_credit",
    (
        Column("as_of", N_("As of"), "day"),
        Column("customer_id", N_("Customer"), link="/arrears/bills?q=", carry="as_of"),
        Column("grade", N_("Grade")),
        Column("score", N_("Score"), "decimal"),
        Column("open_fen", N_("Open"), "fen"),
        Column("overdue_fen", N_("Overdue"), "fen"),
        Column("reasons", N_("Why"), "reasons"),
    ),
    "score",
    down=False,
    filled_by="zerostock batch arrears --as-of YYYY-MM-DD --input DIR --data DATA",
    choices=("as_of", "grade"),
    first=True,
)

BATCH_RUNS: Final = Listing(
    "/batch-runs",
    N_("Batch runs"),
    N_("What the batch jobs read, refused and wrote."),
    """SELECT started_at, job, period, dateDiff('second', started_at, finished_at) AS seconds,
              toInt64(rows_read) AS rows_read, toInt64(rows_rejected) AS rows_rejected,
              toInt64(rows_written) AS rows_written, status, error
       FROM batch_runs""",
    (
        Column("started_at", N_("Started"), "time"),
        Column("job", N_("Job"), link="/batch-runs/refused?job=", carry="period"),
        Column("period", N_("Period")),
        Column("status", N_("Status"), "word"),
        Column("seconds", N_("Took (s)"), "number"),
        Column("rows_read", N_("Read (rows)"), "number"),
        Column("rows_rejected", N_("Refused (rows)"), "number"),
        Column("rows_written", N_("Written (rows)"), "number"),
        Column("error", N_("Error"), "long"),
    ),
    "started_at",
    filled_by="zerostock batch JOB",
    choices=("job", "status"),
)

BATCH_REJECTS: Final = Listing(
    "/batch-runs/refused",
    N_("Refused by batch jobs"),
    N_("Every row that a batch job could not use, and why."),
    "SELECT job, period, source, toInt64(row) AS row, reason FROM batch_rejects",
    (
        Column("job", N_("Job")),
        Column("period", N_("Period")),
        Column("source", N_("Source")),
        Column("row", N_("Row"), "number"),
        Column("reason", N_("Reason"), "long"),
    ),
    "source",
    down=False,
    filled_by="zerostock batch JOB",
    choices=("job", "period"),
)

TABLES: Final = (
    OUTLETS, STOCK_OUTS, SOON_EMPTY, RANKING, WHOLESALERS, DIVERSION, COMMISSION, COMMISSION_LINES,
    HALLS, LOSS_SUSPECTS, BILLS, CREDIT, BATCH_RUNS, BATCH_REJECTS,
)  # fmt: skip

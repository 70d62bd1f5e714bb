"""The views that are one table each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from infra.desk.parts import ColumnSpec
from infra.desk.tables import Listing
from infra.desk.translation import N_
from infra.desk.views.holder import holder

_CHANNEL: Final = "zerostock batch channel --period YYYY-MM --input DIR --data DATA"
_PERIOD: Final = ColumnSpec("period", N_("Period"))
_OUTLET: Final = ColumnSpec("outlet", N_("Outlet"), link="/outlets/", to="outlet_id")
_WHOLESALER: Final = ColumnSpec(
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
        ColumnSpec("outlet_id", N_("Number"), link="/outlets/"),
        ColumnSpec("outlet", N_("Outlet"), link="/outlets/", to="outlet_id"),
        ColumnSpec("on_hand", N_("On hand (SIMs)"), "number"),
        ColumnSpec("sku", N_("SKU")),
        ColumnSpec("territory", N_("Territory")),
        _WHOLESALER,
        ColumnSpec("as_of", N_("As of"), "time"),
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
        ColumnSpec("month", N_("Month (UTC)")),
        _OUTLET,
        ColumnSpec("territory", N_("Territory")),
        replace(_WHOLESALER, kind="name"),
        ColumnSpec("sku", N_("SKU")),
        ColumnSpec("state", N_("State"), "word"),
        ColumnSpec("since", N_("Since"), "time"),
        ColumnSpec("refilled", N_("Refilled"), "time"),
        ColumnSpec("hours", N_("Empty for (hours)"), "decimal"),
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
        ColumnSpec("sales_rank", N_("Rank"), "number"),
        ColumnSpec("sales", N_("Sales (SIMs)"), "number"),
        _WHOLESALER,
        ColumnSpec("growth", N_("Growth"), "share"),
        ColumnSpec("deliveries", N_("Fetched (times)"), "number"),
        ColumnSpec("stock_out_rate", N_("Days out"), "share", bar="stock_out_rate"),
        ColumnSpec("lost_sales", N_("Lost sales (SIMs)"), "decimal"),
        ColumnSpec("days_of_cover", N_("Cover (days)"), "decimal"),
        ColumnSpec("status", N_("Status"), "word"),
        ColumnSpec("reasons", N_("Why to promote"), "reasons"),
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
        ColumnSpec("timeliness", N_("In time"), "share", bar="timeliness"),
        ColumnSpec("incidents", N_("Stock-outs"), "number"),
        ColumnSpec("stock_outs_open", N_("Still open"), "number"),
        ColumnSpec("activations", N_("New subscribers"), "number"),
        ColumnSpec("completeness", N_("Papers complete"), "share", bar="completeness"),
        ColumnSpec("diversion_cases", N_("Diversion cases"), "number"),
        ColumnSpec("diverted_sims", N_("Diverted (SIMs)"), "number"),
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
        ColumnSpec("outlet", N_("Outlet"), link="/diversion/", to="case_id"),
        _WHOLESALER,
        ColumnSpec("sims", N_("Sample (SIMs)"), "number"),
        ColumnSpec("away", N_("Away (SIMs)"), "number"),
        ColumnSpec("share", N_("Share"), "share", bar="share"),
        ColumnSpec("low", N_("At least"), "share"),
        ColumnSpec("level", N_("Level"), "word"),
        ColumnSpec("status", N_("Status"), "word"),
        ColumnSpec("decided_by", N_("Decided by")),
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
        ColumnSpec(
            "outlet",
            N_("Outlet"),
            link="/commission/lines?outlet_id=",
            to="outlet_id",
            carry="period",
        ),
        ColumnSpec("role", N_("Role"), "word"),
        ColumnSpec("activations", N_("Activations"), "number"),
        ColumnSpec("base_fen", N_("Steps"), "fen"),
        ColumnSpec("attainment", N_("Attainment"), "share"),
        ColumnSpec("factor", N_("Factor"), "decimal"),
        ColumnSpec("clawback_fen", N_("Taken back"), "fen"),
        ColumnSpec("amount_fen", N_("Amount"), "fen"),
        ColumnSpec("explanation", N_("Why"), "reasons"),
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
        ColumnSpec("outlet_id", N_("Number"), link="/outlets/"),
        ColumnSpec("activated_at", N_("Activated"), "time"),
        ColumnSpec("sku", N_("SKU")),
        ColumnSpec("iccid", N_("Card"), "secret", link="/sims/"),
        ColumnSpec("kind", N_("Kind"), "word"),
        ColumnSpec("fee_fen", N_("Monthly fee"), "fen"),
        ColumnSpec("amount_fen", N_("Amount"), "fen"),
        ColumnSpec("explanation", N_("Why"), "reasons"),
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
        ColumnSpec("sales", N_("Sales (SIMs)"), "number"),
        ColumnSpec("target", N_("Target (SIMs)"), "number"),
        ColumnSpec("sales_score", N_("Sales score"), "decimal"),
        ColumnSpec("inspection", N_("Inspection"), "decimal"),
        ColumnSpec("satisfaction", N_("Satisfaction"), "decimal"),
        ColumnSpec("complaints", N_("Complaints"), "decimal"),
        ColumnSpec("service_score", N_("Service score"), "decimal"),
        ColumnSpec("score", N_("Score"), "decimal"),
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
        ColumnSpec("as_of", N_("As of"), "day"),
        _OUTLET,
        _WHOLESALER,
        ColumnSpec("sku", N_("SKU")),
        ColumnSpec("on_hand", N_("On hand (SIMs)"), "number"),
        ColumnSpec("sold_a_day", N_("Sold a day"), "decimal"),
        ColumnSpec("days_of_cover", N_("Cover (days)"), "decimal"),
        ColumnSpec("lead_days", N_("Delivery takes (days)"), "decimal"),
        ColumnSpec("risk", N_("Risk"), "share", bar="risk"),
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
        ColumnSpec("meter_id", N_("Meter")),
        ColumnSpec("customer_id", N_("Customer")),
        ColumnSpec("unit_id", N_("Unit"), link="/loss/units/"),
        ColumnSpec("kwh", N_("Used (kWh)"), "kwh"),
        ColumnSpec("usual_kwh", N_("Usual (kWh)"), "kwh"),
        ColumnSpec("change", N_("Change"), "share"),
        ColumnSpec("score", N_("Score"), "decimal"),
        ColumnSpec("reasons", N_("Why"), "reasons"),
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
        ColumnSpec("as_of", N_("As of"), "day"),
        ColumnSpec("bill_id", N_("Bill")),
        ColumnSpec("customer_id", N_("Customer")),
        ColumnSpec("segment", N_("Segment"), "word"),
        ColumnSpec("hall_id", N_("Hall")),
        ColumnSpec("billing_period", N_("Billed for")),
        ColumnSpec("due_on", N_("Due on"), "day"),
        ColumnSpec("days", N_("Days past due"), "number"),
        ColumnSpec("bucket", N_("Bucket"), "word"),
        ColumnSpec("amount_fen", N_("Billed"), "fen"),
        ColumnSpec("open_fen", N_("Open"), "fen"),
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
        ColumnSpec("as_of", N_("As of"), "day"),
        ColumnSpec("customer_id", N_("Customer"), link="/arrears/bills?q=", carry="as_of"),
        ColumnSpec("grade", N_("Grade")),
        ColumnSpec("score", N_("Score"), "decimal"),
        ColumnSpec("open_fen", N_("Open"), "fen"),
        ColumnSpec("overdue_fen", N_("Overdue"), "fen"),
        ColumnSpec("reasons", N_("Why"), "reasons"),
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
        ColumnSpec("started_at", N_("Started"), "time"),
        ColumnSpec("job", N_("Job"), link="/batch-runs/refused?job=", carry="period"),
        ColumnSpec("period", N_("Period")),
        ColumnSpec("status", N_("Status"), "word"),
        ColumnSpec("seconds", N_("Took (s)"), "number"),
        ColumnSpec("rows_read", N_("Read (rows)"), "number"),
        ColumnSpec("rows_rejected", N_("Refused (rows)"), "number"),
        ColumnSpec("rows_written", N_("Written (rows)"), "number"),
        ColumnSpec("error", N_("Error"), "long"),
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
        ColumnSpec("job", N_("Job")),
        ColumnSpec("period", N_("Period")),
        ColumnSpec("source", N_("Source")),
        ColumnSpec("row", N_("Row"), "number"),
        ColumnSpec("reason", N_("Reason"), "long"),
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

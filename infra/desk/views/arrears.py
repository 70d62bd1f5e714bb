"""*Arrears*: what customers owe and for how long, and how fast each month's bills are recovered."""

from __future__ import annotations

from collections import Counter
from typing import Final
from urllib.parse import urlencode

from infra.desk.freshness import of_job
from infra.desk.page import Page, ViewRequest
from infra.desk.parts import Chart, ColumnSpec, Figure, Figures, Row, TableSection
from infra.desk.translation import N_
from infra.desk.views.common import choose, of_values, unfilled
from infra.desk.views.lists import ARREARS

_JOB: Final = "zerostock batch arrears --as-of YYYY-MM-DD --input DIR --data DATA"
BUCKETS: Final = (
    N_("not_due"), N_("1-30"), N_("31-60"), N_("61-90"), N_("91-180"), N_("181-365"), N_("365+"),
)  # fmt: skip
_DAYS: Final = (
    "SELECT DISTINCT toString(as_of) AS day FROM arrears_ageing ORDER BY day DESC LIMIT 200"
)
_AGEING: Final = """
SELECT key, bucket, amount_fen, bills, customers FROM arrears_ageing
WHERE as_of = {day:Date32} AND dimension = {by:String} ORDER BY key, bucket
"""
_ALL: Final = """
SELECT sum(amount_fen) AS open_fen, sumIf(amount_fen, bucket != 'not_due') AS overdue_fen,
       toInt64(sum(bills)) AS bills
FROM arrears_ageing WHERE as_of = {day:Date32} AND dimension = 'all'
"""
# How many months after the month billed each run was.
_COHORTS: Final = """
SELECT billing_period, as_of, charged_fen, received_fen, cohort_rate, cash_rate,
       dateDiff('month', toDate(concat(billing_period, '-01')), as_of) AS age
FROM bill_recovery WHERE dimension = 'all' AND key = 'all' AND as_of <= {day:Date32}
ORDER BY billing_period, as_of
"""
_RUNS: Final = """
SELECT toString(as_of) AS day, sum(amount_fen) AS open_fen,
       sumIf(amount_fen, bucket != 'not_due') AS overdue_fen
FROM arrears_ageing WHERE dimension = 'all' GROUP BY day ORDER BY day
"""
_DIMENSIONS: Final = (N_("segment"), N_("hall"), N_("all"))


def page(request: ViewRequest) -> Page:
    """All that is open on one day."""
    days = [row["day"] for row in request.rows(_DAYS)]
    if not days:
        return unfilled(N_("Arrears"), _JOB)
    wanted, by = request.query.get("as_of", ""), request.query.get("by", "")
    day = wanted if wanted in days else days[0]
    by = by if by in _DIMENSIONS else _DIMENSIONS[0]
    rows = _greatest_first(request.rows(_AGEING, {"day": day, "by": by}))
    total = request.row(_ALL, {"day": day}) or {}
    due, overdue = total.get("open_fen") or 0, total.get("overdue_fen") or 0
    return Page(
        N_("Arrears"),
        [
            choose(
                of_values("as_of", N_("As of"), days, day),
                of_values("by", N_("By"), _DIMENSIONS, by),
            ),
            Figures([
                Figure(N_("Open"), due, "fen", link=f"/arrears/bills?{urlencode({'as_of': day})}"),
                Figure(N_("Overdue"), overdue, "fen", tone="bad" if overdue else "good"),
                Figure(N_("Overdue share"), overdue / due if due else None, "share"),
                Figure(N_("Open bills"), total.get("bills")),
            ]),
            _ageing(rows, by),
            TableSection(N_("Buckets, each with its bills"), (
                ColumnSpec("key", N_("Of"), "status"), ColumnSpec("bucket", N_("Bucket"), "status"),
                ColumnSpec("amount_fen", N_("Open"), "fen"),
                ColumnSpec("customers", N_("Customers"), "number"),
                ColumnSpec("bills", N_("Bills"), "number", link="/arrears/bills?", to="bills_of"),
            ), _opening(rows, day, by), N_("Nothing is open.")),
            *_recovery(request.rows(_COHORTS, {"day": day})),
            _course(request.rows(_RUNS)),
        ],
        freshness=of_job(request, ARREARS, day),
        about=N_("What customers owe, by how long they have owed it. Amounts are in yuan."),
    )  # fmt: skip


def _greatest_first(rows: list[Row]) -> list[Row]:
    """The keys that owe most first, the buckets of each in order."""
    owed = Counter[str]()
    for row in rows:
        owed[row["key"]] += row["amount_fen"]
    return sorted(
        rows, key=lambda row: (-owed[row["key"]], row["key"], BUCKETS.index(row["bucket"]))
    )


def _ageing(rows: list[Row], by: str) -> Chart:
    """A column a key, a colour a bucket, in yuan."""
    table: dict[str, dict[str, object]] = {}
    for row in rows:
        one = table.setdefault(row["key"], {"key": row["key"], **dict.fromkeys(BUCKETS, 0)})
        one[row["bucket"]] = row["amount_fen"]
    columns = (
        ColumnSpec("key", by, "status"),
        *(ColumnSpec(name, name, "fen") for name in BUCKETS),
    )
    return Chart(
        N_("Open by age"),
        "stack",
        columns,
        list(table.values()),
        N_("Nothing is open."),
        scale="age",
    )


def _opening(rows: list[Row], day: str, by: str) -> list[Row]:
    """Each bucket with the address of its bills."""
    field = {"segment": "segment", "hall": "hall_id"}.get(by)

    def bills(row: Row) -> str:
        of = {field: row["key"]} if field else {}
        return urlencode({"as_of": day, "bucket": row["bucket"], **of})

    return [{**row, "bills_of": bills(row)} for row in rows]


def _recovery(rows: list[Row]) -> list[Chart | TableSection]:
    """Curves by cohort where the job ran on several days; the newest of each month beneath."""
    newest = {row["billing_period"]: row for row in rows}
    cohorts = sorted(newest)[-8:]
    ages: dict[int, dict[str, object]] = {}
    for row in rows:
        if row["billing_period"] in cohorts and row["age"] >= 0:
            one = ages.setdefault(row["age"], {"age": row["age"], **dict.fromkeys(cohorts)})
            one[row["billing_period"]] = row["cohort_rate"]
    curves = Chart(
        N_("Recovered by months after the month billed, share of what was charged"),
        "line",
        (
            ColumnSpec("age", N_("Months after")),
            *(ColumnSpec(name, name, "share") for name in cohorts),
        ),
        [ages[age] for age in sorted(ages)] if len(ages) > 1 else [],
        N_("A curve needs runs in two months or more."),
    )
    months = TableSection(
        N_("By month billed"),
        (
            ColumnSpec("billing_period", N_("Billed for")),
            ColumnSpec("charged_fen", N_("Charged"), "fen"),
            ColumnSpec("received_fen", N_("Received of it"), "fen"),
            ColumnSpec("cohort_rate", N_("Recovered"), "share"),
            ColumnSpec("cash_rate", N_("Cash that month"), "share"),
        ),
        [newest[period] for period in sorted(newest, reverse=True)][:24],
        N_("Nothing was billed."),
    )
    return [curves, months]


def _course(rows: list[Row]) -> Chart:
    return Chart(
        N_("Open and overdue, by run"),
        "line",
        (
            ColumnSpec("day", N_("As of")),
            ColumnSpec("open_fen", N_("Open"), "fen"),
            ColumnSpec("overdue_fen", N_("Overdue"), "fen"),
        ),
        rows if len(rows) > 1 else [],
        N_("A chart needs runs on two days or more."),
    )

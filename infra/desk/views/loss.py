"""*Loss*: the grid as a tree, four ways to look at it, and a unit down to its readings."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from infra.desk.freshness import JobRun, of_job
from infra.desk.page import Answer, Page, ViewRequest
from infra.desk.parts import (
    Chart,
    ColumnSpec,
    CustomSection,
    Facts,
    Figure,
    Figures,
    Row,
    TableSection,
    column,
    columns,
    figure,
)
from infra.desk.tables import ListPage
from infra.desk.translation import N_
from infra.desk.views.common import choose, not_found, of_values, unfilled

_JOB: Final = "zerostock batch line-loss --period YYYY-MM --readings --input DIR --data DATA"
_PERIODS: Final = "SELECT DISTINCT period FROM line_loss ORDER BY period DESC LIMIT 60"
_UNIT: Final = (
    "period, level, unit_id, parent_id, supplied_kwh, transferred_kwh, sold_kwh, sold_total_kwh,"
    " own_loss_kwh, loss_kwh, loss_rate, estimated_share, theoretical_kwh, unexplained_kwh, status,"
    " reason"
)
# The top two levels; a page of each unit context those below it.
_TOP: Final = f"""
WITH tops AS (SELECT unit_id FROM line_loss WHERE period = {{period:String}} AND parent_id = '')
SELECT {_UNIT} FROM line_loss
WHERE period = {{period:String}} AND (parent_id = '' OR parent_id IN (SELECT unit_id FROM tops))
ORDER BY level, unit_id LIMIT 2001
"""  # noqa: S608 - names of our own
# Rates are sums divided last; a unit's own loss is counted where it arises, once.
_LEVELS: Final = """
SELECT level, toInt64(count()) AS units, sum(supplied_kwh) AS supplied,
       sumIf(loss_kwh, supplied_kwh IS NOT NULL) AS lost,
       lost / nullIf(supplied, 0) AS rate, sum(own_loss_kwh) AS own,
       toInt64(countIf(status = 'high')) AS high, toInt64(countIf(status = 'negative')) AS negative,
       toInt64(countIf(status = 'skipped')) AS skipped
FROM line_loss WHERE period = {period:String}
GROUP BY level
ORDER BY indexOf(['region', 'voltage', 'feeder', 'transformer_area'], level)
"""
_WORST: Final = f"""
SELECT {_UNIT} FROM line_loss
WHERE period = {{period:String}} AND status IN ('high', 'negative')
ORDER BY abs(own_loss_kwh) DESC NULLS LAST LIMIT 21
"""  # noqa: S608 - names of our own
_ONE: Final = f"SELECT {_UNIT} FROM line_loss WHERE unit_id = {{unit:String}} ORDER BY period"  # noqa: S608
_BELOW: Final = f"""
SELECT {_UNIT} FROM line_loss
WHERE parent_id = {{unit:String}} AND period = {{period:String}}
ORDER BY own_loss_kwh DESC NULLS LAST
LIMIT 501
"""  # noqa: S608 - names of our own
_READINGS: Final = """
SELECT side, toInt64(count()) AS readings, toInt64(uniqExact(meter_id)) AS meters,
       sum(kwh_in_period) AS kwh, toInt64(countIf(quality = 'estimated')) AS estimated
FROM line_loss_readings WHERE unit_id = {unit:String} AND period = {period:String}
GROUP BY side ORDER BY side
"""

_COLUMNS: Final = columns(
    "line_loss", column("line_loss", "unit_id", link="/loss/units/"), "level", "supplied_kwh",
    "sold_total_kwh", "loss_kwh", "loss_rate", "status",
)  # fmt: skip
_LINE_LOSS: Final = JobRun("line-loss")
UNITS: Final = ListPage(
    "/loss/units",
    N_("Units of the grid"),
    N_("Every unit of the grid, those that lose most first."),
    "SELECT * FROM line_loss",
    columns(
        "line_loss", "period", *_COLUMNS, "own_loss_kwh", "unexplained_kwh", "estimated_share",
    ),
    "own_loss_kwh",
    filled_by=_JOB,
    choices=("period", "status", "level"),
    first=True,
    job=_LINE_LOSS,
)  # fmt: skip
READINGS: Final = ListPage(
    "/loss/readings",
    N_("Readings"),
    N_("The readings behind a unit's figures, which are their sum."),
    "SELECT * FROM line_loss_readings",
    columns(
        "line_loss_readings",
        "period",
        column("line_loss_readings", "unit_id", link="/loss/units/"),
        "side",
        "meter_id",
        "start",
        "end",
        "kwh",
        "kwh_in_period",
        "quality",
        "source",
        "row",
    ),
    "kwh_in_period",
    filled_by=_JOB,
    job=_LINE_LOSS,
    choices=("period", "unit_id", "side", "quality"),
    first=True,
)


def page(request: ViewRequest) -> Page:
    """The grid in one month."""
    periods = [row["period"] for row in request.rows(_PERIODS)]
    if not periods:
        return unfilled(N_("Loss"), _JOB)
    wanted = request.query.get("period", "")
    period = wanted if wanted in periods else periods[0]
    this = {"period": period}
    top, levels = request.rows(_TOP, this), request.rows(_LEVELS, this)
    roots = [row for row in top if not row["parent_id"]]
    supplied = sum(row["supplied_kwh"] or 0 for row in roots)
    lost = sum(row["loss_kwh"] or 0 for row in roots)
    return Page(
        N_("Loss"),
        [
            choose(of_values("period", N_("Period"), periods, period)),
            Figures([
                Figure(N_("Supplied (kWh)"), supplied, "kwh"),
                Figure(N_("Lost (kWh)"), lost, "kwh"),
                Figure(N_("Loss"), lost / supplied if supplied else None, "share"),
                Figure(N_("Units over their limit"), sum(row["high"] for row in levels),
                       tone="bad" if any(row["high"] for row in levels) else ""),
            ]),
            Chart(N_("Where it is lost: own loss of each level (kWh)"), "bar", (
                ColumnSpec("level", N_("Level"), "status"), ColumnSpec("own",
                N_("Own loss (kWh)"), "kwh"),
            ), levels, ""),
            TableSection(N_("By level"), (
                ColumnSpec("level", N_("Level"), "status"), ColumnSpec("units",
                N_("Units"), "number"),
                ColumnSpec("supplied", N_("Supplied (kWh)"), "kwh"),
                ColumnSpec("own", N_("Own loss (kWh)"), "kwh"),
                ColumnSpec("lost", N_("Lost, with all units below (kWh)"), "kwh"),
                ColumnSpec("rate", N_("Loss, with all units below"), "share"),
                ColumnSpec("high", N_("Too high"), "number"),
                ColumnSpec("negative", N_("Negative"), "number"),
                ColumnSpec("skipped", N_("No reading"), "number"),
            ), levels, ""),
            CustomSection("tree.html.j2", {"rows": tree(top),
                "columns": _COLUMNS, "period": period}),
            TableSection(N_("Over the limit, or negative"), (
                *_COLUMNS, *columns("line_loss", "own_loss_kwh", "unexplained_kwh"),
            ), request.rows(_WORST, this), N_("No unit is over its limit."), limit=20,
                more=f"/loss/units?{urlencode({'period': period, 'status': 'high'})}"),
        ],
        freshness=of_job(request, _LINE_LOSS, period),
        about=N_("Energy supplied to the grid and sold, down to the readings."),
    )  # fmt: skip


def tree(rows: list[Row]) -> list[Row]:
    """Units under those that they are part of, each with its depth; nobody is left out."""
    below: dict[str, list[Row]] = {}
    names = {row["unit_id"] for row in rows}
    for row in rows:
        below.setdefault(row["parent_id"] if row["parent_id"] in names else "", []).append(row)
    found: list[Row] = []

    def add(parent: str, depth: int) -> None:
        for row in below.pop(parent, []):
            found.append({**row, "depth": depth})
            add(row["unit_id"], depth + 1)

    add("", 0)
    return found


def unit(request: ViewRequest) -> Answer:
    """One unit: its balance, those below it, its readings, its months."""
    this: dict[str, Any] = {"unit": request.path["unit"]}
    months = request.rows(_ONE, this)
    wanted = request.query.get("period", "")
    one = next((row for row in months if row["period"] == wanted), months[-1] if months else None)
    if one is None:
        return not_found(N_("Unit"), N_("See the whole grid"), "/loss")
    this["period"] = one["period"]
    return Page(
        N_("Unit of the grid"),
        [
            choose(of_values("period", N_("Period"), [row["period"] for row in months[::-1]],
                             one["period"])),
            Figures([
                Figure(N_("Supplied (kWh)"), one["supplied_kwh"], "kwh"),
                Figure(N_("Passed on (kWh)"), one["transferred_kwh"], "kwh"),
                Figure(N_("Sold here (kWh)"), one["sold_kwh"], "kwh"),
                figure("line_loss", "own_loss_kwh", one["own_loss_kwh"]),
                Figure(N_("Loss, with all units below"), one["loss_rate"], "share",
                       tone="bad" if one["status"] in ("high", "negative") else ""),
            ]),
            Facts([
                Figure(N_("Level"), one["level"], "status"),
                Figure(N_("Part of"), one["parent_id"], "text",
                       link=f"/loss/units/{one['parent_id']}" if one["parent_id"] else ""),
                Figure(N_("Status"), one["status"], "status"),
                Figure(N_("Note"), one["reason"], "reasons"),
                figure("line_loss", "estimated_share", one["estimated_share"]),
                Figure(N_("Expected by physics (kWh)"), one["theoretical_kwh"], "kwh"),
                Figure(N_("Unexplained (kWh)"), one["unexplained_kwh"], "kwh"),
            ]),
            TableSection(N_("Units below"), _COLUMNS, request.rows(_BELOW, this),
                N_("No unit is below it."), limit=500),
            TableSection(N_("Readings"), (
                ColumnSpec("side", N_("Side"), "name"), ColumnSpec("meters",
                N_("Meters"), "number"),
                ColumnSpec("readings", N_("Readings"), "number"),
                ColumnSpec("estimated", N_("Estimated"), "number"),
                ColumnSpec("kwh", N_("In the month (kWh)"), "kwh"),
            ), request.rows(_READINGS, this),
                N_("Readings were not kept: run the job with --readings."),
                more=f"/loss/readings?period={one['period']}&unit_id={one['unit_id']}"),
            Chart(N_("Loss by month"), "line", (
                ColumnSpec("period", N_("Period")), ColumnSpec("loss_rate", N_("Loss"), "share"),
            ), months if len(months) > 1 else [], N_("A chart needs two months or more.")),
        ],
        name=one["unit_id"],
        freshness=of_job(request, _LINE_LOSS, one["period"]),
    )  # fmt: skip

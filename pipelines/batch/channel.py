"""The channel's figures of a month: outlets, wholesalers, diversion, commission, halls.

What the warehouse knows (movements, stock-outs, papers) is asked when the pipeline is built.
Call records go through it: of each SIM activated lately the first calls are brought together by
SIM, each call once, and become a few sums; rankings and money follow from both. Rules are in
`pipelines.core`: shelf_days, ranking, scorecard, diversion, commission.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.channel_files import (
    CALLS,
    CASES,
    COMMISSION,
    EVIDENCE,
    HALLS,
    LINES,
    MARKS,
    RANKING,
    SCORECARD,
    TABLES,
)
from pipelines.batch.channel_plans import read_plans
from pipelines.batch.channel_stock import DAY, Stock
from pipelines.batch.columns import ORIGIN, REJECTS
from pipelines.batch.job import Job, Plan, month_span
from pipelines.batch.once import once
from pipelines.batch.sold_by import reference_of
from pipelines.batch.transforms import Group, Keyed, Piece, Results, Side, SumFrames, together
from pipelines.core import commission, diversion, ranking, scorecard, shelf_days
from pipelines.core.commission import ChannelFile
from schemas.errors import UsageError
from schemas.reference import Reference

_PLAN_FILE = "channel/channel.toml"

#: A call of a SIM's first days as it travels: `seconds_away` of it were outside the territory,
#: `calls` is 1 if it counts for diversion, `late` if it shows that the SIM lives. A day of which
#: there are any call records at all travels as the SIM of the day's number below zero.
_CALL = {
    "imsi": pl.Int64,
    "call": pl.UInt64,
    "seconds": pl.Int64,
    "seconds_away": pl.Int64,
    "calls": pl.Int64,
    "late": pl.Int64,
}
_MARK = {
    "period": pl.String,
    "outlet_id": pl.String,
    "target": pl.Int64,
    "inspection": pl.Float64,
    "satisfaction": pl.Float64,
    "complaints": pl.Float64,
    **ORIGIN,
}
_SUMS = ["imsi", "seconds", "seconds_away", "calls", "late"]
_SIM = ["outlet_id", "wholesaler_id", "imsi", "iccid", "sku", "activated_at"]


@dataclass(frozen=True, slots=True)
class _Month:
    """What the steps must know; frames that every worker needs."""

    period: str
    start: int
    end: int
    rules: ChannelFile
    sims: pl.DataFrame
    home: pl.DataFrame
    cells: pl.DataFrame
    confirmed: pl.DataFrame
    sales: pl.DataFrame
    parts: tuple[pl.DataFrame, ...]
    wholesalers: list[str]


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    if plan.warehouse is None:
        raise UsageError("channel wants a warehouse")
    reference, results = reference_of(plan), plan.results
    rules = _rules(plan)
    start, end = plan.span
    stock = Stock(plan.warehouse, plan.options.time_zone)
    newest = stock.newest(end)
    sales = _rank(stock, reference, plan, newest)
    paid = rules.plan_of(plan.period)
    reach = max(paid.dead_days if paid else 0, 0) * DAY
    sims = stock.first_uses(start - reach, end)
    now = stock.newest(end if plan.until else 1 << 42) or start
    incidents = stock.incidents(start, end)
    activated = sims.filter(pl.col("activated_at") >= start)
    month = _Month(
        plan.period,
        start,
        end,
        rules,
        sims,
        _home(reference, rules, start, end),
        _cells(reference, rules),
        stock.confirmed(start, end),
        sales,
        (
            scorecard.timeliness(incidents, now, round(rules.promised_hours * scorecard.HOUR)),
            scorecard.papers(activated, stock.complete_papers(1 << 42)),
        ),
        sorted(reference.wholesalers),
    )
    calls = Side("calls", "imsi", _CALL, plan.parts)
    marks = Side("marks", "outlet_id", _MARK)
    sums = together(
        "Calls once",
        [plan.read(pipeline, CALLS, partial(_first_calls, month=month, side=calls))],
        [calls],
        _sums,
    ) | "Add up" >> beam.CombineGlobally(SumFrames(["imsi"]))
    start_of_all = pipeline | "Once" >> beam.Create([(0, None)])
    together(
        "Figures",
        [
            plan.read(pipeline, MARKS, partial(_marks, side=marks)),
            start_of_all | "An empty mark" >> beam.FlatMap(_no_marks, side=marks),
        ],
        [marks],
        partial(_figures, month=month, results=results),
        [beam.pvalue.AsSingleton(sums)],
    )


def _no_marks(_: object, side: Side) -> Iterator[Keyed]:
    yield from side.split(pl.DataFrame(schema=_MARK))


def _rules(plan: Plan) -> ChannelFile:
    path = f"{plan.root.rstrip('/')}/{_PLAN_FILE}"
    if not FileSystems.exists(path):
        row = (_PLAN_FILE, 0, "missing: no commission is worked out without a plan file")
        plan.results.refuse("plan-file", pl.DataFrame([row], schema=REJECTS, orient="row"))
        return ChannelFile()
    with FileSystems.open(path) as stream:
        return read_plans(stream.read().decode(), _PLAN_FILE)


def _rank(stock: Stock, reference: Reference, plan: Plan, newest: int | None) -> pl.DataFrame:
    """Write the ranking; the sales by outlet, for others."""
    start, end = plan.span
    zone = plan.options.zone
    before = month_span(f"{_day(start - 1, zone):%Y-%m}", zone)[0]
    sales = stock.sales(before, start, end)
    # Days after the newest movement are not known.
    last = _day(end - 1 if newest is None else newest, zone)
    window = min(start, _midnight(last - timedelta(days=shelf_days.RECENT_DAYS - 1), zone))
    days = stock.days(window, min(end, _midnight(last + timedelta(days=1), zone)))
    outlets = pl.DataFrame(
        [
            (shop.outlet_id, shop.kind, shop.territory_id or "",
             reference.holder(shop.outlet_id, end - 1))
            for shop in reference.outlets.values()
        ],
        schema=dict.fromkeys(("outlet_id", "kind", "territory_id", "wholesaler_id"), pl.String),
        orient="row",
    )  # fmt: skip
    first = (_day(start, zone) - _day(window, zone)).days
    ranked = ranking.ranking(outlets, shelf_days.figures(days, first), sales)
    plan.results.put(RANKING.name, "all", _columns(ranked, RANKING.columns, plan.period))
    return sales


def _first_calls(piece: Piece, month: _Month, side: Side) -> Iterator[Keyed]:
    """The calls that tell something of SIMs activated lately."""
    rules, paid = month.rules.diversion, month.rules.plan_of(month.period)
    sims = month.sims.select("imsi", "activated_at", "wholesaler_id")
    dead, silent = (paid.dead_days * DAY, paid.silent_days * DAY) if paid else (0, 0)
    age = pl.col("start_time") - pl.col("activated_at")
    rows = (
        piece.frame.join(sims, on="imsi")
        .with_columns(
            early=(age >= 0) & (age < rules.days * DAY) & (pl.col("activated_at") >= month.start),
            late=((age >= dead - silent) & (age < dead)).cast(pl.Int64),
        )
        .filter(pl.col("early") | (pl.col("late") > 0))
        .join(month.cells, on="cell_id", how="left")
        .join(month.home, on=["wholesaler_id", "area"], how="left")
    )
    seconds = (
        pl.when(pl.col("early") & pl.col("area").is_not_null()).then("duration_s").otherwise(0)
    )
    calls = rows.select(
        "imsi",
        call=pl.col("call_id").hash(),
        seconds=seconds,
        seconds_away=pl.when(pl.col("own").is_null()).then(seconds).otherwise(0),
        calls=pl.col("early").cast(pl.Int64),
        late="late",
    )
    zero = pl.lit(0, pl.Int64)
    days = piece.frame.select(imsi=-(pl.col("start_time") // DAY)).unique()
    covered = days.with_columns(
        call=pl.lit(0, pl.UInt64), seconds=zero, seconds_away=zero, calls=zero, late=zero
    )
    yield from side.split(pl.concat([calls, covered]))


def _sums(group: Group) -> Iterator[pl.DataFrame]:
    once_each = group.frames["calls"].unique(["imsi", "call"])
    yield once_each.group_by("imsi").agg(pl.col(_SUMS[1:]).sum())


def _marks(piece: Piece, side: Side) -> Iterator[Keyed]:
    yield from side.split(piece.frame.select(*_MARK))


def _figures(group: Group, sums: pl.DataFrame, month: _Month, results: Results) -> Iterable[object]:
    """Everything that needs the calls."""
    if sums.is_empty():
        sums = pl.DataFrame(schema={name: _CALL[name] for name in _SUMS})
    covered = {-day for day in sums["imsi"] if day < 0}
    sims = month.sims.join(sums, on="imsi", how="left").with_columns(pl.col(_SUMS[1:]).fill_null(0))
    found, evidence = diversion.cases(
        sims.filter(pl.col("activated_at") >= month.start), month.rules.diversion
    )
    key = pl.format("{}/{}", "outlet_id", "wholesaler_id")
    named = [key.alias("case_key"), pl.format(month.period + "/{}", key).alias("case_id")]
    results.put(CASES.name, "all", _columns(found.with_columns(named), CASES.columns, month.period))
    told = evidence.with_columns(named).with_columns(_time("activated_at"))
    results.put(EVIDENCE.name, "all", _columns(told, EVIDENCE.columns, month.period))
    card = scorecard.scorecard(month.wholesalers, *month.parts, scorecard.diverted(found))
    results.put(SCORECARD.name, "all", _columns(card, SCORECARD.columns, month.period))
    marks, rejects = once(group.frames["marks"], ["period", "outlet_id"])
    marks = marks.filter((pl.col("period") == month.period) & (pl.col("target") > 0))
    results.refuse("marks", rejects)
    halls = commission.assessment(marks.drop("period"), month.sales, month.rules.assessment)
    results.put(HALLS.name, "all", _columns(halls, HALLS.columns, month.period))
    _pay(sims, covered, marks, month, results)
    return ()


def _pay(
    sims: pl.DataFrame, covered: set[int], marks: pl.DataFrame, month: _Month, results: Results
) -> None:
    """Commission; `covered` are the days, since the epoch, of which there are call records.

    A SIM is dead only if it was silent on days of which there are records: no record is no silence.
    """
    paid = month.rules.plan_of(month.period)
    if paid is None:
        return
    activated = pl.col("activated_at")
    trial_end = activated + paid.dead_days * DAY
    silent = sims.with_columns(last=(trial_end - 1) // DAY).filter(
        (pl.col("late") == 0) & (trial_end >= month.start) & (trial_end < month.end)
    )
    judged = [
        last
        for last in silent["last"].unique()
        if covered.issuperset(range(last - paid.silent_days, last + 1))
    ]
    dead = silent.filter(pl.col("last").is_in(judged))
    if silent.height > dead.height:
        count = silent.height - dead.height
        why = f"missing: call records of days on which {count} silent SIMs are to be judged"
        row = (CALLS.name, 0, f"{why}; not taken back")
        results.refuse("trials", pl.DataFrame([row], schema=REJECTS, orient="row"))
    diverted = sims.join(month.confirmed, on="imsi", how="semi")
    of_lines = commission.lines(
        sims.filter(activated >= month.start).select(_SIM), dead, diverted, paid
    )
    shown = of_lines.with_columns(_time("activated_at"))
    results.put(LINES.name, "all", _columns(shown, LINES.columns, month.period))
    targets = dict(marks.select("outlet_id", "target").iter_rows())
    rows = commission.totals(of_lines, targets, paid)
    if rows:
        total = pl.DataFrame(rows, infer_schema_length=None).with_columns(
            pl.col("target").cast(pl.Int64), pl.col("attainment").cast(pl.Float64)
        )
        results.put(COMMISSION.name, "all", _columns(total, COMMISSION.columns, month.period))


def _day(ms: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(ms / 1000, zone).date()


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def _columns(rows: pl.DataFrame, names: Iterable[str], period: str) -> pl.DataFrame:
    return rows.with_columns(period=pl.lit(period)).select(*names)


def _time(name: str) -> pl.Expr:
    return pl.from_epoch(name, time_unit="ms").dt.replace_time_zone("UTC")


def _areas(reference: Reference) -> dict[str, str]:
    """Territory → the one just below the root that it is part of: what a wholesaler is bound to."""
    found = {}
    for territory_id in reference.territories:
        chain, here = [territory_id], reference.territories[territory_id].parent_id
        while here and here not in chain and here in reference.territories:
            chain.append(here)
            here = reference.territories[here].parent_id
        found[territory_id] = chain[-2] if len(chain) > 1 else chain[0]
    return found


def _home(reference: Reference, rules: ChannelFile, start: int, end: int) -> pl.DataFrame:
    """wholesaler_id, area, own: where a wholesaler held outlets in the month, and neighbours."""
    areas = _areas(reference)
    pairs = set()
    by_outlet: dict[str, list[tuple[int, str]]] = {}
    for row in reference.assignments:
        by_outlet.setdefault(row.outlet_id, []).append((row.valid_from, row.wholesaler_id))
    for outlet_id, spans in by_outlet.items():
        spans.sort()
        shop = reference.outlets.get(outlet_id)
        area = areas.get(shop.territory_id or "", "") if shop else ""
        for number, (begins, who) in enumerate(spans):
            ends = spans[number + 1][0] if number + 1 < len(spans) else end
            if area and begins < end and ends > start:
                near = rules.diversion.neighbours.get(area, ())
                pairs |= {(who, area), *((who, other) for other in near)}
    return pl.DataFrame(
        [(*pair, True) for pair in sorted(pairs)],
        schema={"wholesaler_id": pl.String, "area": pl.String, "own": pl.Boolean},
        orient="row",
    )


def _cells(reference: Reference, rules: ChannelFile) -> pl.DataFrame:
    """cell_id, area; without cells that say nothing."""
    areas, ignored = _areas(reference), rules.diversion
    return pl.DataFrame(
        [
            (cell.cell_id, areas[cell.territory_id])
            for cell in reference.cells.values()
            if cell.territory_id in areas
            and cell.cell_id not in ignored.ignored_cells
            and not {cell.territory_id, areas[cell.territory_id]} & set(ignored.ignored_territories)
        ],
        schema={"cell_id": pl.String, "area": pl.String},
        orient="row",
    )


JOB = Job("channel", "either", (CALLS, MARKS), TABLES, _build)

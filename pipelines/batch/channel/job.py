"""The channel's figures of a month: outlets, wholesalers, diversion, commission, halls.

What the warehouse knows (movements, stock-outs, papers) is queried when the pipeline is built.
Call records go through it: of each SIM activated lately the first calls are brought together by
SIM, each call once, and become a few sums; rankings and money follow from both. Rules are in
`pipelines.core`: shelf_days, ranking, scorecard, diversion, commission, coverage.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.attribution import reference_of
from pipelines.batch.channel import places as channel_places
from pipelines.batch.channel.calls import QUARTERS, WatchedSims, calls_side, first_calls, sums_of
from pipelines.batch.channel.figures import ChannelMonth, figures, marks
from pipelines.batch.channel.files import CALLS, MARKS, RANKING, TABLES
from pipelines.batch.channel.plans import read_plans
from pipelines.batch.channel.stock import DAY, Stock
from pipelines.batch.engine.columns import REJECTS
from pipelines.batch.engine.job import Job, Plan, month_span
from pipelines.batch.engine.transforms import JoinInput, Keyed, SumFrames, together
from pipelines.core.channel import ranking, scorecard, shelf_days
from pipelines.core.channel.commission import ChannelFile, terms, under_plans
from schemas.errors import UsageError
from schemas.fields import TIME_END
from schemas.reference import Reference

_PLAN_FILE = "channel/channel.toml"

_OUTLET = dict.fromkeys(("outlet_id", "kind", "territory_id", "wholesaler_id"), pl.String) | {
    "closed": pl.Boolean
}


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    if plan.warehouse is None:
        raise UsageError("channel needs a warehouse")
    reference = reference_of(plan)
    rules = _rules(plan, reference)
    stock, keep = Stock(plan.warehouse, plan.options.time_zone), plan.results.keep
    month, watched = _query(stock, reference, rules, plan)
    calls, of_halls = calls_side(plan.parts), JoinInput("marks", "outlet_id", MARKS.schema)
    read = plan.read(
        pipeline,
        CALLS,
        partial(first_calls, kept=keep("watched", watched), side=calls),
        tags=[QUARTERS],
    )
    sums = together("Calls once", [read.main], [calls], sums_of) | (
        "Add up" >> beam.CombineGlobally(SumFrames(["imsi"]))
    )
    counted = SumFrames(["exchange", "quarter"])
    quarters = read[QUARTERS] | "Count records" >> beam.CombineGlobally(counted)
    start_of_all = pipeline | "Once" >> beam.Create([(0, None)])
    together(
        "Figures",
        [
            plan.read(pipeline, MARKS, partial(marks, side=of_halls)),
            start_of_all | "An empty mark" >> beam.FlatMap(_no_marks, side=of_halls),
        ],
        [of_halls],
        partial(figures, kept=keep("month", month), results=plan.results),
        [beam.pvalue.AsSingleton(sums), beam.pvalue.AsSingleton(quarters)],
    )


def _query(
    stock: Stock, reference: Reference, rules: ChannelFile, plan: Plan
) -> tuple[ChannelMonth, WatchedSims]:
    """All that the warehouse knows of the month; the ranking is written on the way."""
    start, end = plan.span
    newest = stock.newest(TIME_END)
    if newest is not None:
        plan.results.reach("stock_movements", "all", pl.Series([min(start, newest), newest]))
        newest = min(newest, end - 1)
    sales = _rank(stock, reference, plan, newest)
    # As of a day, nothing counts that came after it; of a month, what its SIMs did later does.
    known = end if plan.until else TIME_END
    trial = max((paid.dead_days for paid in rules.plan), default=0) * DAY
    of_plans = terms(rules.plan, lambda month: month_span(month, plan.options.zone)[0])
    sims = under_plans(stock.first_uses(start - trial, end), of_plans)
    now = stock.newest(known) or start
    activated = sims.filter(pl.col("activated_at") >= start)
    promised = round(rules.promised_hours * scorecard.HOUR)
    month = ChannelMonth(
        plan.period,
        plan.label,
        start,
        end,
        plan.options.time_zone,
        rules,
        sims,
        stock.decided(end),
        stock.taken_back(plan.period),
        sales,
        (
            scorecard.timeliness(stock.incidents(start, end), now, promised),
            scorecard.papers(activated, stock.complete_papers(known)),
        ),
        sorted(reference.wholesalers),
        list(reference.outlets),
    )
    home = channel_places.home(reference, rules.diversion, start, end)
    placed = pl.col("wholesaler_id").is_in(home["wholesaler_id"].unique().implode())
    watched = WatchedSims(
        sims.select(
            "imsi", "activated_at", "wholesaler_id", "dead_days", "silent_days", placed=placed
        ),
        home,
        channel_places.cells(reference, rules.diversion),
        start,
        known,
        rules.diversion.days,
    )
    return month, watched


def _no_marks(_: object, side: JoinInput) -> Iterator[Keyed]:
    yield from side.split(pl.DataFrame(schema=MARKS.schema))


def _rules(plan: Plan, reference: Reference) -> ChannelFile:
    path = f"{plan.root.rstrip('/')}/{_PLAN_FILE}"
    if FileSystems.exists(path):
        with FileSystems.open(path) as stream:
            rules = read_plans(stream.read().decode(), _PLAN_FILE)
        wrong = channel_places.unknown_ids(reference, rules.diversion)
    else:
        rules = ChannelFile()
        wrong = ["missing: no commission is worked out without a plan file"]
    rows = [(_PLAN_FILE, 0, reason) for reason in wrong]
    plan.results.refuse("plan-file", pl.DataFrame(rows, schema=REJECTS, orient="row"))
    return rules


def _rank(stock: Stock, reference: Reference, plan: Plan, newest: int | None) -> pl.DataFrame:
    """Write the ranking; the sales by outlet, for others."""
    start, end = plan.span
    zone = plan.options.zone
    # Days after the newest movement are not known.
    last = _day(end - 1 if newest is None else newest, zone)
    sales = stock.sales(_before(plan, last), start, end)
    window = min(start, _midnight(last - timedelta(days=shelf_days.RECENT_DAYS - 1), zone))
    days = stock.days(window, min(end, _midnight(last + timedelta(days=1), zone)))
    first, begin = _day(start, zone), _day(window, zone)
    sold = set(sales.filter(pl.col("sales") > 0)["outlet_id"])
    shops = [
        shop
        for shop in reference.outlets.values()
        if shop.closed_on is None or shop.closed_on > first or shop.outlet_id in sold
    ]
    closings = [(s.outlet_id, (s.closed_on - begin).days) for s in shops if s.closed_on]
    outlets = [
        (shop.outlet_id, shop.kind, shop.territory_id or "",
         reference.holder(shop.outlet_id, end - 1), bool(shop.closed_on and shop.closed_on <= last))
        for shop in shops
    ]  # fmt: skip
    ranked = ranking.ranking(
        pl.DataFrame(outlets, schema=_OUTLET, orient="row"),
        shelf_days.figures(shelf_days.while_open(days, closings), (first - begin).days),
        sales,
        until=last if first <= last < plan.last_day else None,
    )
    if newest is None or last < first:
        ranked = ranking.nothing_known(ranked)
    plan.results.put(RANKING.name, "all", ranked)
    return sales


def _before(plan: Plan, last: date) -> tuple[int, int]:
    """The month before; of a month whose days are known up to `last` only, as many days of it."""
    (start, _), zone = plan.span, plan.options.zone
    first = _day(start, zone)
    before = month_span(f"{_day(start - 1, zone):%Y-%m}", zone)[0]
    if last + timedelta(days=1) >= _day(month_span(plan.period, zone)[1], zone):
        return before, start
    days = max(timedelta(), last + timedelta(days=1) - first)
    return before, min(start, _midnight(_day(before, zone) + days, zone))


def _day(ms: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(ms / 1000, zone).date()


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


JOB = Job(
    "channel",
    "either",
    (CALLS, MARKS),
    TABLES,
    _build,
    also=("reference/*.csv", _PLAN_FILE),
)

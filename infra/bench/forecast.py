"""How good the evening's lists are, on simulated cities whose future is known.

Each city runs through the product. For every evening from the third week on, the list is made of
what was known by then, from several worths of a stop on and with as many stops as a van can do.
Figures: the share of the next day's stock-outs, on shelves that had cards in the evening, which the
list had (recall); the share of announced shelves that did run out within two days (precision); and
the share of stocked shelves that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from alerts.policy.policy import Policy
from infra.bench.common.cities import lived
from infra.bench.common.report import Measurement, of_runs
from infra.operations.soon_empty import make_lists
from infra.settings import load_settings
from infra.wiring import zone_of
from pipelines.core.channel.forecast import van_round
from pipelines.simulate import CityPlan
from pipelines.warehouse import Warehouse, open_for_reading

#: Days of a city before its lists count.
_LEARN = 14

_SHELF = ["outlet_id", "sku"]


class Score(NamedTuple):
    """Shelves: ran out the next day, and of those announced; announced, and of those ran out;
    stocked."""

    out: int
    foreseen: int
    announced: int
    came_true: int
    stocked: int


def run(
    *,
    outlets: int = 150,
    days: int = 42,
    runs: int = 3,
    worth: str = "0.25,0.5,1,2",
    stops: int = Policy().round_stops,
) -> Iterator[Measurement]:
    """The lines of the benchmark; `worth` in lost sales, `runs` cities of other seeds."""
    wanted = [float(least) for least in str(worth).split(",")]
    found = [_city(seed, outlets, days, wanted, stops) for seed in range(1, runs + 1)]
    for least in wanted:
        scores = [scores[least] for scores in found]
        for what, values in (
            ("recall", [s.foreseen / max(s.out, 1) for s in scores]),
            ("precision", [s.came_true / max(s.announced, 1) for s in scores]),
            ("named of stocked shelves", [s.announced / max(s.stocked, 1) for s in scores]),
        ):
            figure = of_runs([100 * value for value in values])
            yield Measurement("forecast", f"{what}, worth {least:g}", "%", *figure)


def _city(
    seed: int, outlets: int, days: int, worths: list[float], stops: int
) -> dict[float, Score]:
    zone = zone_of(load_settings())
    with lived(CityPlan(seed=seed, outlets=outlets, days=days, cdrs=outlets * days)) as (_, data):
        warehouse = open_for_reading(data=data)
        try:
            return _scores(warehouse, worths, stops, zone)
        finally:
            warehouse.close()


def _scores(
    warehouse: Warehouse, worths: list[float], stops: int, zone: ZoneInfo
) -> dict[float, Score]:
    day = pl.col("opened_at").dt.convert_time_zone(zone.key).dt.date()
    stock_outs = _frame(warehouse, "SELECT outlet_id, sku, opened_at FROM stock_incidents")
    stock_outs = stock_outs.with_columns(day=day)
    known: list[date] = sorted(stock_outs["day"].unique())
    totals = {least: Score(0, 0, 0, 0, 0) for least in worths}
    for evening in known[_LEARN:-2]:
        listed = make_lists(warehouse, evening, 0.0, zone, Policy()).risks
        next_day = _out(stock_outs, evening, 1).join(listed, on=_SHELF, how="semi")
        two_days = _out(stock_outs, evening, 2)
        for least in worths:
            announced = van_round(listed, least, stops)
            score = Score(
                next_day.height,
                next_day.join(announced, on=_SHELF, how="semi").height,
                announced.height,
                announced.join(two_days, on=_SHELF, how="semi").height,
                listed.height,
            )
            totals[least] = Score(*map(sum, zip(totals[least], score, strict=True)))
    return totals


def _out(stock_outs: pl.DataFrame, evening: date, days: int) -> pl.DataFrame:
    """Shelves that ran out within some days after an evening."""
    after = (pl.col("day") > evening) & (pl.col("day") <= evening + timedelta(days=days))
    return stock_outs.filter(after).select(_SHELF).unique()


def _frame(warehouse: Warehouse, sql: str) -> pl.DataFrame:
    frame = pl.from_arrow(warehouse.query(sql))
    assert isinstance(frame, pl.DataFrame)
    return frame

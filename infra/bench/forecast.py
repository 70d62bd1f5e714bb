"""How good the evening's lists are, on simulated cities whose future is known.

Each city runs through the product. For every evening from the third week on, the list is made of
what was known by then, for several targets. Figures: the share of the next day's stock-outs, on
shelves that had cards in the evening, which the list had; and the share of announced shelves that
did run out within two days.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from infra.bench.common.cities import lived
from infra.bench.common.report import Measurement, of_runs
from pipelines.core.channel.forecast import WINDOW, consumption, lead_times, soon_empty
from pipelines.simulate import CityPlan
from pipelines.warehouse import Warehouse, open_for_reading

#: Days of a city before its lists count.
_LEARN = 14

_SHELF = ["outlet_id", "sku"]


class Score(NamedTuple):
    """Shelves: ran out the next day, and of those announced; announced, and of those ran out."""

    out: int
    foreseen: int
    announced: int
    came_true: int


def run(
    *,
    outlets: int = 150,
    days: int = 42,
    runs: int = 3,
    targets: str = "20,30,40,50,60",
) -> Iterator[Measurement]:
    """The lines of the benchmark; `targets` in percent, `runs` cities of other seeds."""
    wanted = [int(target) for target in str(targets).split(",")]
    found = [_city(seed, outlets, days, wanted) for seed in range(1, runs + 1)]
    for target in wanted:
        scores = [scores[target] for scores in found]
        ahead = of_runs([100 * s.foreseen / max(s.out, 1) for s in scores])
        true = of_runs([100 * s.came_true / max(s.announced, 1) for s in scores])
        yield Measurement("forecast", f"announced a day ahead, risk > {target} %", "%", *ahead)
        yield Measurement("forecast", f"came true, risk > {target} %", "%", *true)


def _city(seed: int, outlets: int, days: int, targets: list[int]) -> dict[int, Score]:
    with lived(CityPlan(seed=seed, outlets=outlets, days=days, cdrs=outlets * days)) as (_, data):
        warehouse = open_for_reading(data=data)
        try:
            return _scores(warehouse, targets)
        finally:
            warehouse.close()


def _scores(warehouse: Warehouse, targets: list[int]) -> dict[int, Score]:
    daily = _frame(warehouse, "SELECT * FROM outlet_daily")
    stock_outs = _frame(warehouse, "SELECT * FROM stock_incidents")
    holders = _frame(warehouse, "SELECT outlet_id, sku, wholesaler_id FROM stock_on_hand")
    stock_outs = stock_outs.with_columns(day=pl.col("opened_at").dt.date())
    closed = stock_outs.filter(pl.col("closed_at").is_not_null())
    totals = {target: Score(0, 0, 0, 0) for target in targets}
    known: list[date] = sorted(daily["day"].unique())
    for evening in known[_LEARN:-2]:
        past = pl.col("day").is_between(evening - timedelta(days=WINDOW - 1), evening)
        shelves = consumption(daily.filter(past)).join(holders, on=_SHELF, how="left")
        listed = soon_empty(shelves, lead_times(closed.filter(_ended_by(evening))))
        next_day = _out(stock_outs, evening, 1).join(listed, on=_SHELF, how="semi")
        two_days = _out(stock_outs, evening, 2)
        for target in targets:
            announced = listed.filter(pl.col("risk") > target / 100)
            score = Score(
                next_day.height,
                next_day.join(announced, on=_SHELF, how="semi").height,
                announced.height,
                announced.join(two_days, on=_SHELF, how="semi").height,
            )
            totals[target] = Score(*map(sum, zip(totals[target], score, strict=True)))
    return totals


def _ended_by(evening: date) -> pl.Expr:
    return pl.col("closed_at").dt.date() <= evening


def _out(stock_outs: pl.DataFrame, evening: date, days: int) -> pl.DataFrame:
    """Shelves that ran out within some days after an evening."""
    after = (pl.col("day") > evening) & (pl.col("day") <= evening + timedelta(days=days))
    return stock_outs.filter(after).select(_SHELF).unique()


def _frame(warehouse: Warehouse, sql: str) -> pl.DataFrame:
    frame = pl.from_arrow(warehouse.query(sql))
    assert isinstance(frame, pl.DataFrame)
    return frame

"""Shelves day by day: what stood there, what came, what sold. A shelf is an outlet and SKU.

Whole arrays, one row a shelf and one column a day. Rankings are in `ranking`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: Consumption is averaged over the last so many days.
RECENT_DAYS = 28

SHELF = ["outlet_id", "sku"]


@dataclass(frozen=True, slots=True)
class ShelfDays:
    """`shelves` has SHELF; the arrays are shelves × days. `known`: from its first movement on, as
    long as the shop is open."""

    shelves: pl.DataFrame
    closing: Ints
    came: Ints
    sold: Ints
    known: Flags

    @property
    def opening(self) -> Ints:
        """What each day began with; the first day's follows from what moved then."""
        return np.concatenate([self.first, self.closing[:, :-1]], axis=1)

    first: Ints

    @property
    def stocked(self) -> Flags:
        """There was something to sell at some time of the day."""
        return self.known & ((self.opening > 0) | (self.came > 0))

    @property
    def out(self) -> Flags:
        """Nothing was left at the day's end."""
        return self.known & (self.closing <= 0)


def while_open(days: ShelfDays, closings: list[tuple[str, int]]) -> ShelfDays:
    """Without the days from an outlet's closing on: (outlet_id, the first of them)."""
    count = days.known.shape[1]
    ends = days.shelves["outlet_id"].replace_strict(
        [outlet for outlet, _ in closings],
        [day for _, day in closings],
        default=count,
        return_dtype=pl.Int64,
    )
    return replace(days, known=days.known & (np.arange(count) < ends.to_numpy()[:, None]))


def shelf_days(opening: pl.DataFrame, moved: pl.DataFrame, days: int) -> ShelfDays:
    """Days 0 … days-1 of all shelves.

    `opening`: SHELF, on_hand before day 0. `moved`: SHELF, day, net, came, sold, a row a shelf and
    day on which something moved.
    """
    shelves = (
        pl.concat([opening.select(SHELF), moved.select(SHELF)])
        .unique()
        .sort(SHELF)
        .with_row_index("shelf")
    )
    shape = (shelves.height, days)
    before = np.zeros((shelves.height, 1), np.int64)
    known = np.zeros(shape, np.bool_)
    old = opening.join(shelves, on=SHELF)
    before[old["shelf"].to_numpy(), 0] = old["on_hand"].to_numpy()
    known[old["shelf"].to_numpy()] = True
    rows = moved.join(shelves, on=SHELF)
    place = rows["shelf"].to_numpy(), rows["day"].to_numpy()
    filled = {}
    for name in ("net", "came", "sold"):
        filled[name] = np.zeros(shape, np.int64)
        filled[name][place] = rows[name].to_numpy()
    known[place] = True
    known = np.logical_or.accumulate(known, axis=1)
    closing = before + np.cumsum(filled["net"], axis=1)
    return ShelfDays(shelves.select(SHELF), closing, filled["came"], filled["sold"], known, before)


def figures(days: ShelfDays, first: int) -> pl.DataFrame:
    """SHELF, on_hand, and of the days from `first` on: shelf_days, shelf_days_out; daily_sales.

    daily_sales is over days with stock among the last RECENT_DAYS, NULL where there was none or
    nothing sold on them: how fast such a shelf sells cannot be known. lost_sales = days out ×
    daily_sales.
    """
    recent = slice(max(0, days.closing.shape[1] - RECENT_DAYS), None)
    stocked = days.stocked[:, recent].sum(axis=1)
    sold = np.where(days.stocked, days.sold, 0)[:, recent].sum(axis=1)
    daily = pl.when(pl.col("sold") > 0).then(pl.col("sold") / pl.col("stocked"))
    return (
        days.shelves.with_columns(
            on_hand=pl.Series(days.closing[:, -1]),
            shelf_days=pl.Series(days.known[:, first:].sum(axis=1)).cast(pl.Int64),
            shelf_days_out=pl.Series(days.out[:, first:].sum(axis=1)).cast(pl.Int64),
            stocked=pl.Series(stocked).cast(pl.Int64),
            sold=pl.Series(sold),
        )
        .with_columns(daily_sales=daily)
        .with_columns(lost_sales=pl.col("shelf_days_out") * pl.col("daily_sales").fill_null(0))
        .drop("stocked", "sold")
    )

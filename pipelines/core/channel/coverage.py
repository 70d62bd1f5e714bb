"""Which days there are call records of: where a record is missing, nobody was silent."""

from __future__ import annotations

import polars as pl

#: An exchange's day counts if it has at least so much of what its median day has.
ENOUGH = 0.5


def covered(counts: pl.DataFrame) -> set[int]:
    """The days of which every exchange has its records.

    `counts`: exchange, day, rows (any number of rows an exchange and day, which add up). A day on
    which an exchange has less than half of its own median day is not covered, and neither is one of
    which it has nothing: its files may be missing, late or cut short. A wrong "not covered" costs
    a claw-back that may be made up for; a wrong "covered" takes money from an honest seller.
    """
    if counts.is_empty():
        return set()
    days = counts.group_by("exchange", "day").agg(pl.col("rows").sum())
    enough = days.filter(pl.col("rows") >= pl.col("rows").median().over("exchange") * ENOUGH)
    full = enough.group_by("day").agg(exchanges=pl.col("exchange").n_unique())
    exchanges = days["exchange"].n_unique()
    return set(full.filter(pl.col("exchanges") == exchanges)["day"])

"""Energy of meter readings: which of them touch a month, and how much of each falls into it.

Energy is added as whole microwatt-hours (`Int128` in frames, `int` in the grid's tree), so that the
order of the rows and the number of chunks change nothing, and no unit is "negative" by a rounding
error.
"""

from __future__ import annotations

import polars as pl

#: Microwatt-hours in a kWh.
MICRO = 10**9

#: No single meter shows more in one reading (kWh): a 1 GW line for a year. Beyond is a bad value.
MOST_KWH = 9e9


def micro_within(start: int, end: int) -> pl.Expr:
    """The part of `kwh` that falls into [start, end), in µWh; rows must overlap the span.

    Works on columns start, end (ms, end > start) and kwh. A reading that straddles is shared out
    evenly over its time.
    """
    overlap = pl.min_horizontal("end", pl.lit(end)) - pl.max_horizontal("start", pl.lit(start))
    whole = pl.col("kwh")
    part = pl.col("kwh") * overlap / (pl.col("end") - pl.col("start"))
    inside = (pl.col("start") >= start) & (pl.col("end") <= end)
    return (pl.when(inside).then(whole).otherwise(part) * float(MICRO)).round().cast(pl.Int64)


def overlaps(start: int, end: int) -> pl.Expr:
    """Whether a reading has any of its time in [start, end)."""
    return (pl.col("start") < end) & (pl.col("end") > start)

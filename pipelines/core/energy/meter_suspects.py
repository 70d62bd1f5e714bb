"""Meters that break from their own history and from their neighbours': theft, or a broken meter."""

from __future__ import annotations

import polars as pl

from schemas import sentences as said

#: Months of history a meter must have, and how far back they are looked for.
LEAST_MONTHS, HISTORY_MONTHS = 3, 12

#: A month is out of line beyond so many standard deviations, and by so large a share of the usual.
DEVIATIONS, LEAST_CHANGE = 3.0, 0.5


def meter_suspects(months: pl.DataFrame) -> pl.DataFrame:
    """Meters whose month breaks from their own history and from their neighbours', with reasons.

    `months`: meter_id, customer_id, unit_id, age (0 for the month looked at, 1 for the one before,
    …), kwh; all meters of a unit. change is kwh / usual_kwh − 1; neighbours_change the median of
    it in the unit. The score is the part of the usual energy that is missing (or too much) after
    what the neighbours do as well.
    """
    usual = pl.col("kwh").filter(pl.col("age") > 0)
    meters = (
        months.sort("age")
        .group_by("meter_id")
        .agg(
            pl.col("customer_id", "unit_id").first(),
            kwh=pl.col("kwh").filter(pl.col("age") == 0).sum(),
            read=(pl.col("age") == 0).any(),
            usual_kwh=usual.mean(),
            spread=usual.std().fill_null(0),
            months=usual.len().cast(pl.Int64),
        )
        .filter("read", pl.col("months") >= LEAST_MONTHS, pl.col("usual_kwh") > 0)
        .with_columns(change=pl.col("kwh") / pl.col("usual_kwh") - 1)
        .with_columns(neighbours_change=pl.col("change").median().over("unit_id"))
    )
    own = pl.col("change")
    apart = own - pl.col("neighbours_change")
    beyond = (pl.col("kwh") - pl.col("usual_kwh")).abs() > DEVIATIONS * pl.col("spread")
    words = [
        pl.when(pl.col("kwh") == 0).then(pl.lit(said.NOTHING_USED)),
        pl.when((own < 0) & (pl.col("kwh") > 0)).then(
            pl.format(said.USED_LESS, _percent(-own), "months")
        ),
        pl.when(own > 0).then(pl.format(said.USED_MORE, _percent(own), "months")),
        pl.format(
            said.NEIGHBOURS,
            pl.format(
                "{}{}",
                pl.when(pl.col("neighbours_change") < 0).then(pl.lit("-")).otherwise(pl.lit("+")),
                _percent(pl.col("neighbours_change").abs()),
            ),
        ),
    ]
    return (
        meters.filter(beyond, own.abs() >= LEAST_CHANGE, apart.abs() >= LEAST_CHANGE)
        .with_columns(
            score=apart.abs(),
            reasons=pl.concat_str(words, separator=said.BETWEEN, ignore_nulls=True),
        )
        .drop("spread", "read")
    )


def _percent(share: pl.Expr) -> pl.Expr:
    return (share * 100).round().cast(pl.Int64)

"""How each outlet does: sales, growth, stock-outs, cover, status, and whom to promote.

From the figures of its shelves (`shelf_days`).
"""

from __future__ import annotations

from datetime import date

import polars as pl

from schemas import sentences as said

#: Days of cover below which an outlet is at risk, and above which it has too much.
AT_RISK_DAYS, OVER_DAYS = 3.0, 60.0

#: A candidate sells among the best so much, grows at least so much, and is empty at most so often.
PROMOTE_TOP, PROMOTE_GROWTH, PROMOTE_OUT = 0.1, 0.1, 0.2

#: Outlets of these kinds have been promoted already.
HALLS = ("own_hall", "hall", "partner_hall")


def ranking(
    outlets: pl.DataFrame,
    shelves: pl.DataFrame,
    sales: pl.DataFrame,
    *,
    until: date | None = None,
) -> pl.DataFrame:
    """One row an outlet, without the period.

    `outlets`: outlet_id, kind, territory_id, wholesaler_id, closed (by now). `shelves`: what
    `shelf_days.figures` gives. `sales`: outlet_id, sales, sales_before (NULL: not known),
    deliveries, received. `until` is the last day known, where that is not the last one asked for.
    """
    by_outlet = shelves.group_by("outlet_id").agg(
        pl.col("on_hand", "shelf_days", "shelf_days_out", "lost_sales").sum(),
        pl.when(pl.col("daily_sales").count() > 0).then(pl.col("daily_sales").sum()),
        (pl.col("on_hand") <= 0).any().alias("empty"),
    )
    counts = ["sales", "deliveries", "received", "shelf_days", "shelf_days_out"]
    growth = pl.when(pl.col("sales_before") > 0).then(pl.col("sales") / pl.col("sales_before") - 1)
    rows = (
        outlets.join(by_outlet, on="outlet_id", how="left")
        .join(sales, on="outlet_id", how="left")
        .with_columns(pl.col(counts).fill_null(0), pl.col("lost_sales").fill_null(0.0))
        .with_columns(
            growth=growth,
            sales_rank=pl.col("sales").rank("min", descending=True).cast(pl.Int64),
            stock_out_rate=pl.when(pl.col("shelf_days") > 0).then(
                pl.col("shelf_days_out") / pl.col("shelf_days")
            ),
            days_of_cover=pl.col("on_hand") / pl.col("daily_sales"),
        )
        .with_columns(status=status())
    )
    return promoted(rows, until).drop("kind", "empty", "closed").sort("outlet_id")


def nothing_known(ranked: pl.DataFrame) -> pl.DataFrame:
    """A ranking of a time of which nothing is known: no growth, no status, no candidates."""
    return ranked.with_columns(
        growth=pl.lit(None, pl.Float64),
        sales_before=pl.lit(None, pl.Int64),
        status=pl.lit("unknown"),
        promote=pl.lit(0, pl.UInt8),
        reasons=pl.lit(""),
    )


def status() -> pl.Expr:
    """out, at_risk, ok, over or unknown; the first that fits of: no shelf was ever filled, or the
    shop is closed → unknown, a shelf is empty → out, its sales are not known → unknown, then by
    cover."""
    cover = pl.col("days_of_cover")
    return (
        pl.when(pl.col("on_hand").is_null() | pl.col("closed"))
        .then(pl.lit("unknown"))
        .when("empty")
        .then(pl.lit("out"))
        .when(cover.is_null())
        .then(pl.lit("unknown"))
        .when(cover < AT_RISK_DAYS)
        .then(pl.lit("at_risk"))
        .when(cover > OVER_DAYS)
        .then(pl.lit("over"))
        .otherwise(pl.lit("ok"))
    )


def promoted(rows: pl.DataFrame, until: date | None = None) -> pl.DataFrame:
    """With promote (0 or 1) and reasons in words, "" for who is none.

    With figures known `until` some day only, nobody is promoted yet; the reasons say who may be.
    """
    places = max(1, int(rows.height * PROMOTE_TOP))
    best = (pl.col("sales_rank") <= places) & (pl.col("sales") > 0)
    grows = pl.col("growth") >= PROMOTE_GROWTH
    served = pl.col("stock_out_rate") <= PROMOTE_OUT
    promote = (best & (grows | pl.col("growth").is_null()) & served).fill_null(value=False)
    promote &= ~pl.col("kind").is_in(HALLS) & ~pl.col("closed")
    words = pl.format(
        said.BETWEEN.join([said.SELLS, "{}", said.EMPTY_ON]),
        "sales",
        "sales_rank",
        pl.lit(rows.height),
        pl.when(pl.col("growth").is_null())
        .then(pl.lit(said.GROWTH_NOT_KNOWN))
        .otherwise(pl.format(said.GREW, (pl.col("growth") * 100).round(0).cast(pl.Int64))),
        "shelf_days_out",
        "shelf_days",
    )
    if until is not None:
        words = pl.concat_str(pl.lit(said.KNOWN_UNTIL.format(until)), words, separator=said.BETWEEN)
    return rows.with_columns(
        (promote & pl.lit(until is None)).cast(pl.UInt8).alias("promote"),
        pl.when(promote).then(words).otherwise(pl.lit("")).alias("reasons"),
    )

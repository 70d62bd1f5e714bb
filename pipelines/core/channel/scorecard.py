"""How each wholesaler did for the outlets held at the time. Times in ms UTC."""

from __future__ import annotations

import polars as pl

HOUR = 3_600_000

#: What wholesalers promise: a delivery within so long after a stock-out.
PROMISED = 24 * HOUR


def timeliness(incidents: pl.DataFrame, now: int, promised: int = PROMISED) -> pl.DataFrame:
    """wholesaler_id, incidents, due, on_time, stock_outs_open.

    `incidents`: wholesaler_id, opened_at, closed_at (NULL: open), delivered (closed by a delivery).
    The clock starts with the incident. Due is one whose window has ended by `now`, closed or not;
    one that is still open then is late, and so is one that something else than a delivery closed.
    """
    ends = pl.col("opened_at") + promised
    due = ends <= now
    closed = pl.col("closed_at")
    on_time = due & pl.col("delivered") & (closed <= ends).fill_null(value=False)
    still_open = closed.is_null() | (closed > now)
    return incidents.group_by("wholesaler_id").agg(
        incidents=pl.len().cast(pl.Int64),
        due=due.sum().cast(pl.Int64),
        on_time=on_time.sum().cast(pl.Int64),
        stock_outs_open=still_open.sum().cast(pl.Int64),
    )


def papers(activated: pl.DataFrame, complete: pl.DataFrame) -> pl.DataFrame:
    """wholesaler_id, activations, complete_papers; `complete` has the imsi of complete papers."""
    back = complete.select("imsi").unique().with_columns(back=pl.lit(1, pl.Int64))
    return (
        activated.join(back, on="imsi", how="left")
        .group_by("wholesaler_id")
        .agg(
            activations=pl.len().cast(pl.Int64),
            complete_papers=pl.col("back").fill_null(0).sum(),
        )
    )


def diverted(cases: pl.DataFrame) -> pl.DataFrame:
    """wholesaler_id, diversion_cases, diversion_alarms, diverted_sims."""
    return cases.group_by("wholesaler_id").agg(
        diversion_cases=pl.len().cast(pl.Int64),
        diversion_alarms=(pl.col("level") == "alarm").sum().cast(pl.Int64),
        diverted_sims=pl.col("away").sum(),
    )


def scorecard(names: list[str], *parts: pl.DataFrame) -> pl.DataFrame:
    """One row a wholesaler of `names` or of any part; rates are divided last."""
    who = pl.concat(
        [pl.DataFrame({"wholesaler_id": names}, schema={"wholesaler_id": pl.String})]
        + [part.select("wholesaler_id") for part in parts]
    ).unique()
    for part in parts:
        who = who.join(part, on="wholesaler_id", how="left")
    rate = {
        "timeliness": ("on_time", "due"),
        "completeness": ("complete_papers", "activations"),
    }
    return (
        who.with_columns(pl.exclude("wholesaler_id").fill_null(0))
        .with_columns(
            pl.when(pl.col(of) > 0).then(pl.col(hits) / pl.col(of)).alias(name)
            for name, (hits, of) in rate.items()
        )
        .sort("wholesaler_id")
    )

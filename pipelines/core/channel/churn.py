"""Subscriber loss: who is in service, who is lost or about to be, and which shop won them.

Columns in, columns out, one row a SIM; times in ms UTC. Files and shuffles live in
`pipelines.batch`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.core.stock.placement import Placement, PlacementType

Int64s = npt.NDArray[np.int64]

DAY = 86_400_000

#: Key of a subscriber whose outlet (wholesaler, territory) is unknown.
UNKNOWN = "unknown"

#: Dimensions of subscriber_loss and the column that holds each one's key.
DIMENSIONS = {
    "territory": "territory_id",
    "outlet": "outlet_id",
    "wholesaler": "wholesaler_id",
    "cohort": "cohort",
}


def standing(start: int, end: int, inactive_days: int, silent_days: int) -> list[pl.Expr]:
    """base, lost and pre_lost as booleans, silent_days as a number.

    Works on first_use, seen_before (last chargeable event before `start`, null without one) and
    seen (the same before `end`). Being switched on counts as being seen. In the base is who was in
    service at the start: used before it, and not lost already by the same measure.
    """
    first, inactive = pl.col("first_use"), inactive_days * DAY
    seen_then = pl.max_horizontal("seen_before", first)
    seen_now = pl.max_horizontal("seen", first)
    base = (first < start) & (start - seen_then < inactive)
    silent = end - seen_now
    lost = silent >= inactive
    return [
        base.alias("base"),
        (base & lost).alias("lost"),
        (base & ~lost & (silent >= silent_days * DAY)).alias("pre_lost"),
        (silent // DAY).alias("silent_days"),
        (~lost).alias("in_service"),
    ]


def loss(subscribers: pl.DataFrame) -> pl.DataFrame:
    """base, lost, pre_lost by dimension and key, from the columns of DIMENSIONS and `standing`."""
    sums = [pl.col(name).sum().cast(pl.Int64) for name in ("base", "lost", "pre_lost")]
    based = subscribers.filter("base")
    keys = {"all": pl.lit("all")} | {name: pl.col(column) for name, column in DIMENSIONS.items()}
    return pl.concat(
        based.group_by(key.alias("key")).agg(sums).select(pl.lit(name).alias("dimension"), pl.all())
        for name, key in keys.items()
    )


def rates(sums: pl.DataFrame) -> pl.DataFrame:
    """Sums with loss_rate, pre_loss_rate and annualised_rate = 1 − (1 − loss_rate)¹²."""
    rate = pl.col("lost") / pl.col("base")
    return (
        sums.filter(pl.col("base") > 0)
        .with_columns(
            loss_rate=rate,
            pre_loss_rate=pl.col("pre_lost") / pl.col("base"),
            annualised_rate=1 - (1 - rate).pow(12),
        )
        .sort("dimension", "key")
    )


def retention(subscribers: pl.DataFrame) -> pl.DataFrame:
    """activated and in_service by dimension (all, outlet, wholesaler), key and cohort."""
    sums = [
        pl.len().cast(pl.Int64).alias("activated"),
        pl.col("in_service").sum().cast(pl.Int64),
    ]
    keys = {name: pl.col(DIMENSIONS[name]) for name in ("outlet", "wholesaler")}
    return pl.concat(
        subscribers.group_by(key.alias("key"), "cohort")
        .agg(sums)
        .select(pl.lit(name).alias("dimension"), pl.all())
        for name, key in ({"all": pl.lit("all")} | keys).items()
    )


def outlets_at_first_use(
    imsis: Int64s, first_use: Int64s, first_event: pl.Series, placements: Iterable[Placement]
) -> pl.Series:
    """outlet_id of each SIM when it was first used, "" where it was at none.

    `imsis` ascending, a SIM once; `first_event` is the id of the event at `first_use`. Placements
    in event order; one that comes after a SIM's first use does nothing to it (this is
    `placement.replay` for many SIMs at once).
    """
    number = {"": 0}
    place = np.zeros(len(imsis), np.int32)
    for event in placements:
        low, high = np.searchsorted(imsis, [event.first_imsi, event.first_imsi + event.count])
        if low == high:
            continue
        here, used = place[low:high], first_use[low:high]
        unused = used > event.at
        tied = np.flatnonzero(used == event.at)
        if len(tied):
            unused[tied] = (first_event[low + tied] > event.event_id).to_numpy()
        outlet = number.setdefault(event.outlet_id, len(number))
        if event.type == PlacementType.DELIVERY:
            here[unused] = outlet
        else:
            to = 0
            if event.type == PlacementType.TRANSFER:
                to = number.setdefault(event.to_outlet_id, len(number))
            here[unused & (here == outlet)] = to
    return pl.Series("outlet_id", list(number), dtype=pl.String)[place]

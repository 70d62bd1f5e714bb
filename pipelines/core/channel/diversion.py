"""Diversion: cards sold outside the territory of the wholesaler who held the outlet then.

A SIM was used elsewhere when most of its call time in its first days was. An outlet is suspected
by the low end of the share's interval, never by a count: big shops have many of everything.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated

import msgspec
import polars as pl
from msgspec import Meta

#: 95 % two-sided.
Z = 1.959963984540054

DAY = 86_400_000

KEY = ["outlet_id", "wholesaler_id"]


class DiversionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`away` is the share of call time from which a SIM counts as used elsewhere in its first
    `days`; `watch` and `alarm` are what the interval's low end must reach. Calls in cells of
    `ignored_cells` or territories of `ignored_territories` (commuters') are not counted; for each
    territory, those named in `neighbours` are as good as its own."""

    days: Annotated[int, Meta(ge=1, le=366)] = 7
    away: Annotated[float, Meta(gt=0, le=1)] = 0.7
    least_sims: Annotated[int, Meta(ge=1)] = 10
    watch: Annotated[float, Meta(ge=0, le=1)] = 0.15
    alarm: Annotated[float, Meta(ge=0, le=1)] = 0.3
    ignored_cells: tuple[str, ...] = ()
    ignored_territories: tuple[str, ...] = ()
    neighbours: dict[str, tuple[str, ...]] = {}


def wilson(hits: int, of: int, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson 1927); (0, 1) of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, spread = hits / of, z * z / of
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    scale = 1 + spread
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def cases(sims: pl.DataFrame, rules: DiversionRules) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(cases, evidence) of SIMs activated in a month.

    `sims`: imsi, KEY, seconds, seconds_away of the first days; a SIM without call time there says
    nothing. Cases: KEY, sims, away, share, low, high, level, evidence_hash; evidence: the SIMs
    used elsewhere, with the case's KEY and away_share.
    """
    known = sims.filter((pl.col("seconds") > 0) & (pl.col("wholesaler_id") != "")).with_columns(
        away_share=pl.col("seconds_away") / pl.col("seconds")
    )
    known = known.with_columns(carried=pl.col("away_share") >= rules.away)
    sums = known.group_by(KEY).agg(
        sims=pl.len().cast(pl.Int64),
        away=pl.col("carried").sum().cast(pl.Int64),
        evidence=pl.col("imsi").filter("carried").sort(),
    )
    bounds = [wilson(away, of) for away, of in sums.select("away", "sims").iter_rows()]
    found = sums.with_columns(
        pl.Series("low", [low for low, _ in bounds], dtype=pl.Float64),
        pl.Series("high", [high for _, high in bounds], dtype=pl.Float64),
        share=pl.col("away") / pl.col("sims"),
    ).filter((pl.col("sims") >= rules.least_sims) & (pl.col("low") >= rules.watch))
    hashes = [evidence_hash(imsis) for imsis in found["evidence"].to_list()]
    found = found.with_columns(
        pl.Series("evidence_hash", hashes, dtype=pl.String),
        level=pl.when(pl.col("low") >= rules.alarm)
        .then(pl.lit("alarm"))
        .otherwise(pl.lit("watch")),
    ).drop("evidence")
    evidence = known.filter("carried").join(found.select(KEY), on=KEY, how="semi")
    return found.sort(KEY), evidence.drop("carried").sort(*KEY, "imsi")


def evidence_hash(imsis: list[int]) -> str:
    """The same for the same SIMs, in whatever order."""
    return hashlib.sha256(" ".join(map(str, sorted(imsis))).encode()).hexdigest()[:16]

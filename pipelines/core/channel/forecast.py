"""What shelves will sell, when they run out, and which only seem to be stocked. Pure, in columns.

Consumption is averaged over the days on which there was something to sell: a starved shelf is not a
slow one. A shelf that never had anything to sell has no mean, which is not a mean of zero.

Demand over a delivery's lead time has mean L·d and variance L·σd² + d²·σL² (Silver, Pyke and
Thomas, Inventory and Production Management, section 6.7). Counted cards of that mean and variance
follow a negative binomial distribution, or a Poisson one where the variance is not the larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

#: Days of the past that count.
WINDOW: Final = 28

#: Below this chance that a stocked shelf would be silent for so long, its stock is doubted.
PHANTOM: Final = 0.01

#: Days a delivery takes while nothing is known of anybody's.
DEFAULT_LEAD: Final = 1.0

#: The list of shelves soon empty is made so often.
_REVIEW_DAYS = 1.0

#: No shelf holds more cards than the distribution is spelt out for.
_MOST_COUNTED: Final = 4_096


def daily_books(movements: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """What `consumption` wants of each shelf, a row for each day from `first` to `last`.

    `movements` has outlet_id, sku, day, net, received, transferred_in and activated, cards; what
    was before `first` is of the day before it.
    """
    shelf = ["outlet_id", "sku"]
    days = pl.date_range(first - timedelta(days=1), last, eager=True).alias("day").to_frame()
    begun = movements.group_by(shelf).agg(begun=pl.col("day").min())
    return (
        begun.join(days, how="cross")
        .filter(pl.col("day") >= pl.col("begun"))
        .join(movements, on=[*shelf, "day"], how="left")
        .with_columns(pl.col("net", "received", "transferred_in", "activated").fill_null(0))
        .sort("day")
        .with_columns(closing=pl.col("net").cum_sum().over(shelf))
        .with_columns(opening=pl.col("closing") - pl.col("net"))
        .filter(pl.col("day") >= first)
    )


def consumption(daily: pl.DataFrame) -> pl.DataFrame:
    """What each shelf sells on a day on which it has something to sell.

    `daily` has the last days of `outlet_daily`: outlet_id, sku, day, opening, received,
    transferred_in, activated, closing. Gives outlet_id, sku, on_hand (the last closing), sold_a_day
    and variance (cards a day; null without a stocked day), stocked_days, silent_days (days since
    the last sale or, without one, since the first day there is).
    """
    stocked = pl.col("opening") + pl.col("received") + pl.col("transferred_in") > 0
    sold = pl.col("activated").filter(stocked)
    return (
        daily.sort("day")
        .group_by("outlet_id", "sku", maintain_order=True)
        .agg(
            on_hand=pl.col("closing").last(),
            sold_a_day=sold.mean(),
            # A few days say little of how much they differ: never less than Poisson's.
            variance=pl.max_horizontal(sold.var(ddof=1).fill_null(0.0), sold.mean()),
            stocked_days=stocked.sum(),
            silent_days=(
                pl.col("day").last()
                - pl.coalesce(
                    pl.col("day").filter(pl.col("activated") > 0).last(), pl.col("day").first()
                )
            ).dt.total_days(),
        )
    )


def lead_times(closed: pl.DataFrame) -> pl.DataFrame:
    """How long each wholesaler takes to refill: lead_days and lead_variance (days, days²).

    `closed` has wholesaler_id, opened_at and closed_at of stock-outs that ended. One with fewer
    than five is given what all of them together took.
    """
    days = closed.select(
        "wholesaler_id",
        days=(pl.col("closed_at") - pl.col("opened_at")).dt.total_milliseconds() / 86_400_000,
    )
    everybody = (days["days"].mean(), days["days"].var() or 0.0) if days.height else (None, 0.0)
    return days.group_by("wholesaler_id").agg(
        lead_days=pl.when(pl.len() >= 5).then(pl.col("days").mean()).otherwise(everybody[0]),
        lead_variance=pl.when(pl.len() >= 5)
        .then(pl.col("days").var().fill_null(0.0))
        .otherwise(everybody[1]),
    )


def chance_of_running_out(on_hand: Floats, mean: Floats, variance: Floats) -> Floats:
    """P(demand ≥ on hand) by shelf, for demand of some mean and variance (cards, cards²).

    All arrays have one entry a shelf. An empty shelf has run out: 1. Without demand: 0.
    """
    return _running_out(on_hand, mean, variance)[0]


def lost_sales(on_hand: Floats, mean: Floats, variance: Floats) -> Floats:
    """E[demand − on hand, where that is more than nothing], cards, by shelf; arrays as above.

    The expected shortage of inventory management: Σ P(demand > k) over k ≥ on hand.
    """
    return _running_out(on_hand, mean, variance)[1]


def _running_out(on_hand: Floats, mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    held = np.minimum(np.maximum(on_hand, 0), _MOST_COUNTED).astype(np.int64)
    mean = np.maximum(np.asarray(mean, float), 1e-12)
    spread = np.maximum(np.asarray(variance, float), mean * (1 + 1e-9))
    # Negative binomial with r failures and success probability p = mean / variance.
    p = mean / spread
    r = mean * p / (1 - p)
    term = np.exp(r * np.log(p))
    below = np.zeros(len(held))
    short = mean.copy()
    for count in range(int(held.max(initial=0))):
        below += np.where(count < held, term, 0.0)
        short -= np.where(count < held, np.clip(1.0 - below, 0.0, 1.0), 0.0)
        term = term * (r + count) / (count + 1) * (1 - p)
    chance = np.where(held == 0, 1.0, np.clip(1.0 - below, 0.0, 1.0))
    return chance, np.maximum(short, 0.0)


def soon_empty(shelves: pl.DataFrame, leads: pl.DataFrame) -> pl.DataFrame:
    """The chance that each stocked shelf is empty before a delivery ordered now would come.

    `shelves` is what `consumption` gives, with wholesaler_id; `leads` what `lead_times` gives. The
    list is made every day, so demand counts over the lead time and until the next list.
    Adds lead_days, days_of_cover (null where nothing is sold), reorder_point (cards, for one
    chance in twenty), risk (0 to 1, null where sales are unknown) and lost_sales, the cards that
    will probably be asked for in vain in that time.
    """
    everybody = leads["lead_days"].mean() if leads.height else None
    fallback = float(everybody) if isinstance(everybody, float) else DEFAULT_LEAD
    found = shelves.join(leads, on="wholesaler_id", how="left").with_columns(
        pl.col("lead_days").fill_null(fallback), pl.col("lead_variance").fill_null(0.0)
    )
    span = pl.col("lead_days") + _REVIEW_DAYS
    d, variance = pl.col("sold_a_day"), pl.col("variance")
    found = found.with_columns(
        demand=span * d,
        demand_variance=span * variance + d.pow(2) * pl.col("lead_variance"),
        days_of_cover=pl.when(d > 0).then(pl.col("on_hand") / d),
    ).with_columns(reorder_point=pl.col("demand") + 1.645 * pl.col("demand_variance").sqrt())
    risk, lost = _running_out(
        found["on_hand"].to_numpy().astype(float),
        found["demand"].fill_null(0.0).to_numpy(),
        found["demand_variance"].fill_null(0.0).to_numpy(),
    )
    known = found["sold_a_day"].is_not_null()
    return (
        found.with_columns(risk=pl.Series(risk), lost_sales=pl.Series(lost))
        .with_columns(pl.when(known).then(pl.col("risk", "lost_sales")))
        .filter(pl.col("on_hand") > 0)
        .drop("demand", "demand_variance", "lead_variance")
    )


def van_round(
    shelves: pl.DataFrame, least: float, stops: int, own_stops: Mapping[str, int] | None = None
) -> pl.DataFrame:
    """What tomorrow's round is worth, of shelves as of `soon_empty`: the best stops first.

    A shelf is worth a visit from `least` lost sales (cards) on. Of the outlets with such shelves
    the round has those that save most, at most `stops` of them, or as many as `own_stops` says of
    a wholesaler.
    """
    worth = shelves.filter(pl.col("lost_sales") >= least)
    most = pl.col("wholesaler_id").replace_strict(
        dict(own_stops or {}), default=stops, return_dtype=pl.Int64
    )
    outlets = (
        worth.group_by("wholesaler_id", "outlet_id")
        .agg(saved=pl.col("lost_sales").sum())
        .sort("saved", "outlet_id", descending=[True, False])
        .filter(pl.int_range(pl.len()).over("wholesaler_id") < most)
    )
    return worth.join(outlets, on=["wholesaler_id", "outlet_id"], how="inner").sort(
        "saved", "outlet_id", "sku", descending=[True, False, False]
    )


def phantoms(shelves: pl.DataFrame) -> pl.DataFrame:
    """Shelves that have cards on the books but are silent for too long, most doubtful first.

    P(silence | stocked) = e^(−d·k), for d cards a day and k silent days. Gives the columns of
    `shelves` and chance (0 to 1), those under `PHANTOM`.
    """
    silence = (-pl.col("sold_a_day") * pl.col("silent_days")).exp()
    return (
        shelves.filter((pl.col("on_hand") > 0) & (pl.col("sold_a_day") > 0))
        .with_columns(chance=silence)
        .filter(pl.col("chance") < PHANTOM)
        .sort("chance", "outlet_id", "sku")
    )


def fill_levels(
    shelves: pl.DataFrame, leads: pl.DataFrame, *, cover_days: float = 14.0
) -> pl.DataFrame:
    """How many cards to fill each shelf up to: outlet_id, sku, fill_to (cards), where it sells any.

    `shelves` and `leads` as of `soon_empty`. The level lasts for `cover_days` and the wholesaler's
    lead time after that, but for one chance in twenty.
    """
    everybody = leads["lead_days"].mean() if leads.height else None
    fallback = float(everybody) if isinstance(everybody, float) else DEFAULT_LEAD
    d, span = pl.col("sold_a_day"), pl.col("lead_days").fill_null(fallback) + cover_days
    variance = span * pl.col("variance") + d.pow(2) * pl.col("lead_variance").fill_null(0.0)
    return (
        shelves.filter(d > 0)
        .join(leads, on="wholesaler_id", how="left")
        .select("outlet_id", "sku", fill_to=(span * d + 1.645 * variance.sqrt()).ceil())
        .with_columns(pl.col("fill_to").cast(pl.Int64))
    )

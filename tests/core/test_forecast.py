"""The forecast against plain sums: means over stocked days, tails of distributions, silence."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from statistics import fmean, variance

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.channel.forecast import (
    DEFAULT_LEAD,
    PHANTOM,
    chance_of_running_out,
    consumption,
    daily_books,
    fill_levels,
    lead_times,
    lost_sales,
    phantoms,
    soon_empty,
    van_round,
)

DAY = date(2026, 3, 1)

#: (had something to sell, sold) of each day
days = st.lists(
    st.tuples(st.booleans(), st.integers(0, 9)).map(lambda d: (d[0], d[1] if d[0] else 0)),
    min_size=1,
    max_size=28,
)


def daily(*shelves: list[tuple[bool, int]]) -> pl.DataFrame:
    rows = [
        {
            "outlet_id": f"o{number}",
            "sku": "c",
            "day": DAY + timedelta(days=n),
            "opening": 9 if stocked else 0,
            "received": 0,
            "transferred_in": 0,
            "activated": sold,
            "closing": 9 - sold if stocked else 0,
        }
        for number, shelf in enumerate(shelves)
        for n, (stocked, sold) in enumerate(shelf)
    ]
    return pl.DataFrame(rows)


@given(st.lists(days, min_size=1, max_size=4), st.randoms())
def test_consumption_is_the_mean_over_stocked_days(many, random) -> None:
    frame = daily(*many)
    order = list(range(frame.height))
    random.shuffle(order)
    found = {row["outlet_id"]: row for row in consumption(frame[order]).to_dicts()}
    for number, shelf in enumerate(many):
        row = found[f"o{number}"]
        sold = [count for stocked, count in shelf if stocked]
        assert row["stocked_days"] == len(sold)
        assert row["sold_a_day"] == (pytest.approx(fmean(sold)) if sold else None)
        if len(sold) > 1:
            assert row["variance"] == pytest.approx(max(variance(sold), fmean(sold)))
        last = max((n for n, (_, count) in enumerate(shelf) if count), default=0)
        assert row["silent_days"] == len(shelf) - 1 - last
        assert row["on_hand"] == (9 - shelf[-1][1] if shelf[-1][0] else 0)


def plain_tail(on_hand: int, mean: float, spread: float) -> float:
    """P(demand ≥ on hand), term by term from the definition."""
    if spread <= mean:
        log = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(on_hand)]
    else:
        p, r = mean / spread, mean * mean / (spread - mean)
        log = [
            math.lgamma(k + r) - math.lgamma(r) - math.lgamma(k + 1)
            + r * math.log(p) + k * math.log(1 - p)
            for k in range(on_hand)
        ]  # fmt: skip
    return 1 - math.fsum(math.exp(term) for term in log)


@given(
    st.lists(
        st.tuples(st.integers(0, 80), st.floats(0.01, 60), st.floats(1.0, 8)),
        min_size=1,
        max_size=9,
    )
)
def test_the_chance_is_the_distributions_tail(shelves) -> None:
    held, mean, over = (np.array(column, float) for column in zip(*shelves, strict=True))
    found = chance_of_running_out(held, mean, mean * over)
    for chance, (on_hand, m, times) in zip(found, shelves, strict=True):
        spread = m if times < 1 + 1e-6 else m * times
        assert chance == pytest.approx(plain_tail(on_hand, m, spread), abs=1e-5)
    assert ((found >= 0) & (found <= 1)).all()


@given(st.integers(1, 50), st.floats(0.1, 30))
def test_less_stock_and_more_demand_are_more_risk(on_hand: int, mean: float) -> None:
    def chance(held: float, demand: float) -> float:
        return float(
            chance_of_running_out(np.array([held]), np.array([demand]), np.array([demand * 2]))[0]
        )

    assert chance(on_hand, mean) <= chance(on_hand - 1, mean) + 1e-9
    assert chance(on_hand, mean) <= chance(on_hand, mean * 1.5) + 1e-9


def closed(*hours: tuple[str, float]) -> pl.DataFrame:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    rows = [(who, at, at + timedelta(hours=h)) for who, h in hours]
    schema = {
        "wholesaler_id": pl.String,
        "opened_at": pl.Datetime("ms", "UTC"),
        "closed_at": pl.Datetime("ms", "UTC"),
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_a_wholesaler_little_is_known_of_takes_as_long_as_all_do() -> None:
    known = [("w1", 12.0)] * 5 + [("w2", 24.0)] * 4
    found = {row["wholesaler_id"]: row for row in lead_times(closed(*known)).to_dicts()}
    assert found["w1"]["lead_days"] == pytest.approx(0.5)
    assert found["w2"]["lead_days"] == pytest.approx((5 * 0.5 + 4 * 1.0) / 9)
    assert lead_times(closed()).is_empty()


def test_soon_empty_knows_what_it_does_not_know() -> None:
    shelves = consumption(
        daily([(True, 8)] * 10, [(True, 0)] * 10, [(False, 0)] * 9 + [(True, 0)], [(False, 0)] * 9)
    ).with_columns(wholesaler_id=pl.lit("w1"))
    found = {row["outlet_id"]: row for row in soon_empty(shelves, lead_times(closed())).to_dicts()}
    assert found["o0"]["risk"] > 0.99
    assert found["o0"]["lead_days"] == DEFAULT_LEAD
    assert found["o0"]["days_of_cover"] == pytest.approx(1 / 8)
    assert found["o1"]["risk"] == 0.0
    assert found["o1"]["days_of_cover"] is None
    assert found["o2"]["risk"] == 0.0  # stocked for a day, and sold nothing: a mean of zero
    assert "o3" not in found  # empty already: its wholesaler was told
    never = shelves.with_columns(sold_a_day=pl.lit(None, pl.Float64), on_hand=pl.lit(5))
    assert soon_empty(never, lead_times(closed()))["risk"].to_list() == [None] * 4


@settings(max_examples=30)
@given(st.floats(0.1, 30), st.floats(1, 8), st.integers(0, 40))
def test_lost_sales_are_what_demand_exceeds_the_stock_by(
    mean: float, spread: float, held: int
) -> None:
    """The sum of the chances that demand reaches each card more than there is."""
    reached = held + 1.0 + np.arange(400)
    tails = chance_of_running_out(reached, np.full(400, mean), np.full(400, mean * spread))
    (lost,) = lost_sales(np.array([held]), np.array([mean]), np.array([mean * spread]))
    assert lost == pytest.approx(tails.sum(), abs=1e-3, rel=1e-3)


shelf_worths = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.sampled_from("xy"), st.floats(0, 4)),
    max_size=40,
    unique_by=lambda row: row[:3],
)


@given(shelf_worths, st.floats(0, 2), st.integers(1, 4), st.integers(1, 4))
def test_a_round_has_the_stops_that_save_most(
    rows: list[tuple[str, int, str, float]], least: float, stops: int, own: int
) -> None:
    frame = pl.DataFrame(
        [(w, f"{w}{n}", sku, lost) for w, n, sku, lost in rows],
        {"wholesaler_id": pl.String, "outlet_id": pl.String, "sku": pl.String,
         "lost_sales": pl.Float64},
        orient="row",
    )  # fmt: skip
    found = van_round(frame, least, stops, {"a": own})
    expected = set()
    for wholesaler in "abc":
        saved: dict[str, float] = {}
        for row in frame.filter(pl.col("wholesaler_id") == wholesaler).rows():
            if row[3] >= least:
                saved[row[1]] = saved.get(row[1], 0.0) + row[3]
        best = sorted(saved, key=lambda outlet: (-saved[outlet], outlet))
        visited = best[: own if wholesaler == "a" else stops]
        expected |= {row[1:3] for row in frame.rows() if row[1] in visited and row[3] >= least}
    assert set(found.select("outlet_id", "sku").rows()) == expected


moves = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(-3, 5)))


@given(moves, st.integers(1, 5), st.integers(0, 4))
def test_daily_books_open_with_all_that_was_before(
    rows: list[tuple[str, int, int]], first: int, more: int
) -> None:
    start, last = DAY + timedelta(days=first), DAY + timedelta(days=first + more)
    nets: dict[tuple[str, date], int] = {}
    for outlet, day, net in rows:
        on = max(DAY + timedelta(days=day), start - timedelta(days=1))
        if on <= last:
            nets[outlet, on] = nets.get((outlet, on), 0) + net
    frame = pl.DataFrame(
        [(o, "c", day, net, 0, 0, 0) for (o, day), net in nets.items()],
        {"outlet_id": pl.String, "sku": pl.String, "day": pl.Date, "net": pl.Int64,
         "received": pl.Int64, "transferred_in": pl.Int64, "activated": pl.Int64},
        orient="row",
    )  # fmt: skip
    expected = {}
    for outlet in {o for o, _ in nets}:
        begun = min(day for o, day in nets if o == outlet)
        for n in range((last - start).days + 1):
            day = start + timedelta(days=n)
            if day >= begun:
                before = sum(net for (o, d), net in nets.items() if o == outlet and d < day)
                expected[outlet, day] = before, before + nets.get((outlet, day), 0)
    found = daily_books(frame, start, last).select("outlet_id", "day", "opening", "closing")
    assert {(o, d): (opening, closing) for o, d, opening, closing in found.rows()} == expected


def test_phantoms_are_silent_for_longer_than_chance_allows() -> None:
    busy_then_silent = [(True, 2)] * 10 + [(True, 0)] * 6
    just_silent = [(True, 2)] * 10 + [(True, 0)] * 2
    found = phantoms(consumption(daily(busy_then_silent, just_silent, [(True, 0)] * 9)))
    (row,) = found.to_dicts()
    assert row["outlet_id"] == "o0"
    assert row["chance"] == pytest.approx(math.exp(-20 / 16 * 6))
    assert row["chance"] < PHANTOM


@given(
    st.floats(0.1, 50), st.floats(0.1, 400), st.floats(0, 10), st.floats(0, 20), st.floats(1, 60)
)
def test_a_fill_level_covers_the_days_and_the_delivery_after_them(
    sold: float, variance: float, lead: float, lead_variance: float, cover: float
) -> None:
    shelves = pl.DataFrame(
        {
            "outlet_id": ["o", "idle", "unknown"],
            "sku": ["s"] * 3,
            "wholesaler_id": ["w", "w", "v"],
            "sold_a_day": [sold, 0.0, None],
            "variance": [variance, 0.0, None],
        }
    )
    leads = pl.DataFrame(
        {"wholesaler_id": ["w"], "lead_days": [lead], "lead_variance": [lead_variance]}
    )
    (row,) = fill_levels(shelves, leads, cover_days=cover).to_dicts()
    days = lead + cover
    expected = sold * days + 1.645 * (days * variance + sold**2 * lead_variance) ** 0.5
    assert row["outlet_id"] == "o"
    assert expected - 1e-6 <= row["fill_to"] <= expected + 1 + 1e-6

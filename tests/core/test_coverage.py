"""Which days count as told of by call records."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.channel.commission import covered

SCHEMA = {"exchange": pl.String, "day": pl.Int64, "rows": pl.Int64}


def counts(*rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_nothing_covers_nothing() -> None:
    assert covered(counts()) == set()
    assert covered(pl.DataFrame()) == set()


def test_a_day_that_one_exchange_is_missing_of_is_not_covered() -> None:
    full = [(exchange, day, 100) for exchange in "ab" for day in range(5)]
    assert covered(counts(*full)) == set(range(5))
    assert covered(counts(*(row for row in full if row[:2] != ("b", 3)))) == {0, 1, 2, 4}


def test_a_day_that_was_cut_short_is_not_covered() -> None:
    days = [("a", day, 100) for day in range(6)]
    assert covered(counts(*days, ("a", 6, 1))) == set(range(6))
    assert covered(counts(*days, ("a", 6, 50))) == set(range(7))


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 1_000)), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_how_the_rows_were_split_and_ordered_changes_nothing(
    rows: list[tuple[str, int, int]], chance: object
) -> None:
    halves = [(e, d, part) for e, d, n in rows for part in (n // 2, n - n // 2)]
    chance.shuffle(halves)  # type: ignore[attr-defined]
    assert covered(counts(*halves)) == covered(counts(*rows))
    assert covered(counts(*rows)) <= {day for _, day, _ in rows}

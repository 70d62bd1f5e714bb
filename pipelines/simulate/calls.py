"""The bulk of the CDRs, in columns: subscribers of whom the shops know nothing, and SIMs whose
first use is past. No call made here changes any stock, and no row becomes a Python object.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.simulate.city import City
from pipelines.simulate.demand import CALLS
from pipelines.simulate.plan import DAY_MS, HOUR_MS, CityPlan
from pipelines.simulate.trade import FirstCall, Used

Ints = NDArray[np.int64]

#: Calls a SIM makes a day, if so many are made at all; they are shared out by the hour.
_CALLS_A_DAY = 8
#: How many of the calls are of SIMs that shops sold, at most.
_OUR_SHARE = 0.8
#: Share of SIMs that are given up, and after how long, on average.
_GIVEN_UP, _GIVEN_UP_AFTER_MS = 0.15, 10 * DAY_MS
_SLICE_ROWS = 400_000
_LONG_CALL_S = 90


class Subscribers:
    """Everybody who calls."""

    def __init__(self, plan: CityPlan, city: City) -> None:
        self._plan = plan
        self._city = city
        self._rng = np.random.default_rng([plan.seed, 2])
        self._imsi = _outsiders(plan, city, self._rng)
        self._home = self._rng.integers(0, len(city.cells), len(self._imsi))
        self._written = 0
        self._sold = _SoldSims(plan, city)

    def calls(self, rows: int, start: int, end: int, used: list[Used]) -> pl.DataFrame:
        """`rows` calls in [start, end), the SIMs that came into use before it among them.

        Columns: at (ms), call_id, imsi, msisdn, duration_s, cell (number), charge_fen.
        """
        rng = self._rng
        share = CALLS[(start - self._plan.start_ms) // HOUR_MS % 24] / sum(CALLS)
        wanted = _CALLS_A_DAY * share * (end - start) / HOUR_MS
        our_imsi, our_home = self._sold.callers(used, start, wanted, int(rows * _OUR_SHARE))
        # Squared: a few people do most of the talking.
        who = (rng.random(rows - len(our_imsi)) ** 2 * len(self._imsi)).astype(np.int64)
        frame = self._rows(
            rng.integers(start, end, rows),
            np.concatenate([self._imsi[who], our_imsi]),
            np.concatenate([self._home[who], our_home]),
        )
        number = pl.int_range(self._written, self._written + rows, dtype=pl.Int64)
        self._written += rows
        return frame.with_columns(
            call_id=pl.concat_str(pl.lit("C"), number.cast(pl.String).str.zfill(11))
        )

    def first_calls(self, calls: list[FirstCall]) -> pl.DataFrame:
        """The same columns for calls that were decided elsewhere."""
        at, ids, sims, cells = zip(*calls, strict=True) if calls else ((), (), (), ())
        imsi = np.array([self._city.imsi(sim) for sim in sims], np.int64)
        frame = self._rows(np.array(at, np.int64), imsi, np.array(cells, np.int64), roam=0)
        return frame.with_columns(call_id=pl.Series(ids, dtype=pl.String))

    def _rows(self, at: Ints, imsi: Ints, home: Ints, roam: float = 0.15) -> pl.DataFrame:
        """Durations, charges and cells; `roam` is the share of calls away from home."""
        rng, rows = self._rng, len(at)
        duration = 1 + rng.exponential(_LONG_CALL_S, rows).astype(np.int64)
        free = rng.random(rows) < 0.15
        cell = np.where(rng.random(rows) < roam, rng.integers(0, len(self._city.cells), rows), home)
        return pl.DataFrame(
            {
                "at": at,
                "imsi": imsi,
                "msisdn": 8_613_000_000_000 + imsi % 1_000_000_000,
                "duration_s": duration,
                "cell": cell,
                "charge_fen": np.where(free, 0, -(-duration // 60) * 19),
            }
        )


class _SoldSims:
    """The SIMs in use that shops sold, in the order of their first use, and whose turn it is.

    They call in turns, so that who falls silent has given the SIM up.
    """

    def __init__(self, plan: CityPlan, city: City) -> None:
        self._city = city
        self._rng = np.random.default_rng([plan.seed, 4])
        self._sims = np.empty((3, 0), np.int64)  # imsi, home, when it is given up
        self._turn = 0

    def callers(self, used: list[Used], start: int, each: float, most: int) -> tuple[Ints, Ints]:
        """(IMSIs, homes) of the next calls of SIMs in use before `start`: `each` as many, at most
        `most`."""
        new = self._sims.shape[1]
        fresh = []
        while new < len(used) and used[new].at < start:
            fresh.append((self._city.imsi(used[new].sim), used[new].cell, used[new].at))
            new += 1
        if fresh:
            more = np.array(fresh, np.int64).T
            after = DAY_MS + self._rng.exponential(_GIVEN_UP_AFTER_MS, len(fresh))
            stays = self._rng.random(len(fresh)) >= _GIVEN_UP
            more[2] = np.where(stays, np.iinfo(np.int64).max, more[2] + after.astype(np.int64))
            self._sims = np.concatenate([self._sims, more], axis=1)
        calling = self._sims[:2, self._sims[2] > start]
        count = min(int(calling.shape[1] * each), most)
        if not count:
            return self._sims[0, :0], self._sims[1, :0]
        turns = (self._turn + np.arange(count)) % calling.shape[1]
        self._turn = (self._turn + count) % calling.shape[1]
        return calling[0, turns], calling[1, turns]


def rows_a_slice(plan: CityPlan) -> list[tuple[int, int, int]]:
    """(start, end, rows) of each stretch of time that is made at once: an hour, or an even part
    of one where an hour has too many rows to hold. The rows add up to `plan.cdrs`."""
    busiest = plan.cdrs / plan.days * max(CALLS) / sum(CALLS)
    parts = next(n for n in (1, 2, 3, 4, 6, 12, 30, 60, 3_600) if busiest / n <= _SLICE_ROWS)
    weights = np.repeat(np.tile(np.array(CALLS, np.float64), plan.days), parts)
    upto = np.rint(np.cumsum(weights) / weights.sum() * plan.cdrs).astype(np.int64)
    rows = np.diff(upto, prepend=0).tolist()
    length = HOUR_MS // parts
    starts = range(plan.start_ms, plan.end_ms, length)
    return [(start, start + length, n) for start, n in zip(starts, rows, strict=True)]


def _outsiders(plan: CityPlan, city: City, rng: np.random.Generator) -> Ints:
    """IMSIs outside every batch: other ranges, other networks, and the very next to each batch."""
    wanted = max(500, min(2_000_000, plan.cdrs // 20))
    low, high = city.batches[0].first_imsi, city.batches[-1].first_imsi
    near = rng.integers(low - 200_000, high + 200_000, wanted * 6 // 10)
    other = 460_010_000_000_000 + rng.integers(0, 10**10, wanted * 3 // 10)
    abroad = 454_000_000_000_000 + rng.integers(0, 10**10, wanted // 10)
    edges = [b.first_imsi - 1 for b in city.batches]
    edges += [b.first_imsi + b.count for b in city.batches]
    every = np.concatenate([near, other, abroad, np.array(edges)])
    for batch in city.batches:
        every = every[(every < batch.first_imsi) | (every >= batch.first_imsi + batch.count)]
    # Mixed, so that the talkative are of every sort, but the edges call in any city.
    rng.shuffle(every)
    return every

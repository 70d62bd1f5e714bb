"""The bulk of the CDRs, in columns: subscribers of whom the shops know nothing, and SIMs whose
first use is past. No call made here changes any stock, and no row becomes a Python object.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.simulate.city import City
from pipelines.simulate.demand import CALLS
from pipelines.simulate.plan import HOUR_MS, CityPlan
from pipelines.simulate.trade import FirstCall, Used

Ints = NDArray[np.int64]

#: Calls a SIM makes on its first day, at most; it is shared out by the hour.
_CALLS_A_DAY = 8
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

    def calls(self, rows: int, start: int, end: int, used: list[Used]) -> pl.DataFrame:
        """`rows` calls in [start, end), the SIMs that came into use before it among them.

        Columns: at (ms), call_id, imsi, msisdn, duration_s, cell (number), charge_fen.
        """
        rng = self._rng
        before = len(used)
        while before and used[before - 1].at >= start:
            before -= 1
        share = CALLS[(start - self._plan.start_ms) // HOUR_MS % 24] / sum(CALLS)
        ours = before * _CALLS_A_DAY * share * (end - start) / HOUR_MS
        ours = min(int(ours), rows // 2)
        # Squared: a few people do most of the talking.
        who = (rng.random(rows - ours) ** 2 * len(self._imsi)).astype(np.int64)
        sims = rng.integers(0, before, ours) if ours else np.empty(0, np.int64)
        imsi, home = [self._imsi[who]], [self._home[who]]
        if ours:
            picked, at_row = np.unique(sims, return_inverse=True)
            imsi.append(np.array([self._city.imsi(used[i].sim) for i in picked])[at_row])
            home.append(np.array([used[i].cell for i in picked])[at_row])
        frame = self._rows(
            rng.integers(start, end, rows), np.concatenate(imsi), np.concatenate(home)
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

"""Call records as the channel job needs them: of each SIM activated lately, a few sums.

Each call counts once, however often it is on file. Of all records the days are counted besides,
by exchange: silence is only silence on days of which there are records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import polars as pl

from pipelines.batch.channel.stock import DAY
from pipelines.batch.engine.columns import SOURCE
from pipelines.batch.engine.transforms import FramePart, JoinedRows, JoinInput, Kept

#: A call of a SIM's first days as it travels: `seconds_away` of it were outside the territory,
#: `calls` is 1 if it counts for diversion, `late` if it shows that the SIM lives.
CALL = {
    "imsi": pl.Int64,
    "call": pl.UInt64,
    "seconds": pl.Int64,
    "seconds_away": pl.Int64,
    "calls": pl.Int64,
    "late": pl.Int64,
}
SUMS = ["imsi", "seconds", "seconds_away", "calls", "late"]

#: The output that counts records: exchange, quarter (of an hour, since the epoch), rows. Days of
#: every zone begin with one.
QUARTERS = "quarters"
QUARTER = 900_000


@dataclass(frozen=True, slots=True)
class WatchedSims:
    """The SIMs whose calls matter and when; frames that every worker needs.

    `sims`: imsi, activated_at, wholesaler_id, dead_days, silent_days, placed (it is known where the
    wholesaler is at home: of others nothing is outside of it). `home`: wholesaler_id, area,
    own. `cells`: cell_id, area. Diversion looks at the first `days` of SIMs activated from `start`
    on, at what was known by `known`; a trial at the silent_days before a SIM's day dead_days.
    """

    sims: pl.DataFrame
    home: pl.DataFrame
    cells: pl.DataFrame
    start: int
    known: int
    days: int


def first_calls(piece: FramePart, kept: Kept[WatchedSims], side: JoinInput) -> Iterator[object]:
    """The calls that tell something of SIMs activated lately; and how many records of which day."""
    watched = kept.value
    at, activated = pl.col("start_time"), pl.col("activated_at")
    age = at - activated
    dead, silent = pl.col("dead_days") * DAY, pl.col("silent_days") * DAY
    early = (age >= 0) & (age < watched.days * DAY) & (activated >= watched.start)
    rows = (
        piece.frame.select("call_id", "start_time", "imsi", "duration_s", "cell_id")
        .join(watched.sims, on="imsi")
        .with_columns(
            early=early & (at < watched.known) & pl.col("placed"),
            late=((age >= dead - silent) & (age < dead)).fill_null(value=False).cast(pl.Int64),
        )
        .filter(pl.col("early") | (pl.col("late") > 0))
        .join(watched.cells, on="cell_id", how="left")
        .join(watched.home, on=["wholesaler_id", "area"], how="left")
    )
    known_place = pl.col("early") & pl.col("area").is_not_null()
    seconds = pl.when(known_place).then(pl.col("duration_s").fill_null(0).round().cast(pl.Int64))
    calls = rows.select(
        "imsi",
        call=pl.col("call_id").hash(),
        seconds=seconds.otherwise(0),
        seconds_away=pl.when(pl.col("own").is_null()).then(seconds.otherwise(0)).otherwise(0),
        calls=pl.col("early").cast(pl.Int64),
        late="late",
    )
    yield from side.split(calls)
    quarter = pl.col("start_time") // QUARTER
    counted = piece.frame.group_by(SOURCE, quarter.alias("quarter")).agg(
        rows=pl.len().cast(pl.Int64)
    )
    # Files of an exchange lie in a folder of their own.
    exchange = pl.col(SOURCE).cast(pl.String).str.replace(r"[^/]*$", "")
    counted = counted.select(exchange.alias("exchange"), "quarter", "rows")
    yield beam.pvalue.TaggedOutput(QUARTERS, counted)


def sums_of(group: JoinedRows) -> Iterator[pl.DataFrame]:
    """SUMS a SIM, each call once; of copies that differ the least, whichever came first."""
    calls = group.frames["calls"]
    once_each = calls.sort(calls.columns).unique(["imsi", "call"], keep="first")
    yield once_each.group_by("imsi").agg(pl.col(SUMS[1:]).sum())


def calls_side(parts: int) -> JoinInput:
    """How calls travel: those of a SIM together."""
    return JoinInput("calls", "imsi", CALL, parts)

"""The channel's figures that need the calls: diversion, scorecards, halls, commission."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from pipelines.batch.channel.calls import CALL, SUMS
from pipelines.batch.channel.files import (
    CALLS,
    CASES,
    COMMISSION,
    EVIDENCE,
    HALLS,
    LINES,
    SCORECARD,
)
from pipelines.batch.channel.stock import DAY
from pipelines.batch.engine.columns import REJECTS, ROW, SOURCE
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.transforms import FramePart, JoinedRows, JoinInput, Kept, Keyed, Results
from pipelines.core.channel import commission, diversion, scorecard
from pipelines.core.channel.commission import ChannelFile, covered

_SIM = [
    "outlet_id", "wholesaler_id", "imsi", "iccid", "sku", "activated_at",
    "plan", "dead_days", "silent_days",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChannelMonth:
    """What the warehouse knew when the job began, and the rules."""

    period: str
    label: str
    start: int
    end: int
    rules: ChannelFile
    sims: pl.DataFrame
    decided: pl.DataFrame
    taken: pl.DataFrame
    sales: pl.DataFrame
    parts: tuple[pl.DataFrame, ...]
    wholesalers: list[str]
    outlets: list[str]


def marks(piece: FramePart, side: JoinInput) -> Iterator[Keyed]:
    yield from side.split(piece.frame)


def figures(
    group: JoinedRows,
    sums: pl.DataFrame,
    days: pl.DataFrame,
    kept: Kept[ChannelMonth],
    results: Results,
) -> Iterable[object]:
    """Everything that needs the calls."""
    month = kept.value
    if sums.is_empty():
        sums = pl.DataFrame(schema={name: CALL[name] for name in SUMS})
    sims = month.sims.join(sums, on="imsi", how="left").with_columns(pl.col(SUMS[1:]).fill_null(0))
    found, evidence = diversion.cases(
        sims.filter(pl.col("activated_at") >= month.start), month.rules.diversion
    )
    key = pl.format("{}/{}", "outlet_id", "wholesaler_id")
    named = [key.alias("case_key"), pl.format(month.label + "/{}", key).alias("case_id")]
    results.put(CASES.name, "all", found.with_columns(named))
    results.put(EVIDENCE.name, "all", evidence.with_columns(*named, _time("activated_at")))
    card = scorecard.scorecard(month.wholesalers, *month.parts, scorecard.diverted(found))
    results.put(SCORECARD.name, "all", card)
    of_halls, rejects = deduplicate(group.frames["marks"], ["period", "outlet_id"])
    of_halls = of_halls.filter(pl.col("period") == month.period)
    known = pl.col("outlet_id").is_in(month.outlets)
    nowhere = of_halls.filter(~known).select(
        SOURCE, ROW, pl.format("unknown_outlet: {}", "outlet_id").alias("reason")
    )
    of_halls = of_halls.filter(known)
    results.refuse("marks", rejects, nowhere)
    halls = commission.assessment(of_halls.drop("period"), month.sales, month.rules.assessment)
    results.put(HALLS.name, "all", halls)
    _pay(sims, covered(days), of_halls, month, results)
    return ()


def _pay(
    sims: pl.DataFrame,
    recorded: set[int],
    of_halls: pl.DataFrame,
    month: ChannelMonth,
    results: Results,
) -> None:
    """Commission; `recorded` are the days, since the epoch, of which there are call records.

    A SIM is dead only if it was silent on days of which there are records: no record is no silence.
    """
    paid = month.rules.plan_of(month.period)
    if paid is None:
        return
    activated = pl.col("activated_at")
    trial_end = activated + pl.col("dead_days") * DAY
    silent = sims.with_columns(last=(trial_end - 1) // DAY).filter(
        (pl.col("late") == 0) & (trial_end >= month.start) & (trial_end < month.end)
    )
    days = silent.select("last", "silent_days").unique()
    judged = days.filter(
        [recorded.issuperset(range(last - days, last + 1)) for last, days in days.iter_rows()]
    )
    dead = silent.join(judged, on=["last", "silent_days"], how="semi")
    if silent.height > dead.height:
        count = silent.height - dead.height
        why = f"missing: call records of days on which {count} silent SIMs are to be judged"
        row = (CALLS.name, 0, f"{why}; not taken back")
        results.refuse("trials", pl.DataFrame([row], schema=REJECTS, orient="row"))
    sold = sims.select(_SIM)
    of_lines = commission.lines(
        sold.filter(activated >= month.start),
        commission.taken_back(dead, sold, month.decided, month.taken),
        month.rules.plan,
    )
    shown = of_lines.with_columns(_time("activated_at"))
    results.put(LINES.name, "all", shown)
    targets = dict(of_halls.select("outlet_id", "target").iter_rows())
    rows = commission.totals(of_lines, targets, paid)
    if rows:
        total = pl.DataFrame(rows, infer_schema_length=None).with_columns(
            pl.col("target").cast(pl.Int64), pl.col("attainment").cast(pl.Float64)
        )
        results.put(COMMISSION.name, "all", total)


def _time(name: str) -> pl.Expr:
    return pl.from_epoch(name, time_unit="ms").dt.replace_time_zone("UTC")

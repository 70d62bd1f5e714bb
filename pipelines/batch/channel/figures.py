"""The channel's figures that need the calls: diversion, scorecards, halls, commission."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from pipelines.batch.channel.calls import CALL, QUARTER, SUMS
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
    zone: str
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
    quarters: pl.DataFrame,
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
    _pay(sims, quarters, of_halls, month, results)
    return ()


def _pay(
    sims: pl.DataFrame,
    quarters: pl.DataFrame,
    of_halls: pl.DataFrame,
    month: ChannelMonth,
    results: Results,
) -> None:
    """Commission; `quarters` counts the call records of each exchange.

    A SIM is dead only if its trial is over by what every exchange has written, and it was silent on
    days of which there are records: no record is no silence.
    """
    paid = month.rules.plan_of(month.period)
    if paid is None:
        return
    activated = pl.col("activated_at")
    trial_end = activated + pl.col("dead_days") * DAY
    silent = sims.with_columns(trial_end=trial_end).filter(
        (pl.col("late") == 0) & (trial_end >= month.start) & (trial_end < month.end)
    )
    dead = silent.filter(_judged(silent, quarters, month.zone))
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


def _judged(silent: pl.DataFrame, quarters: pl.DataFrame, zone: str) -> pl.Series:
    """Whether each SIM of `silent` (trial_end, silent_days) can be judged by the records."""
    if quarters.is_empty():
        return pl.repeat(value=False, n=silent.height, eager=True)
    reach = quarters.group_by("exchange").agg((pl.col("quarter").max() + 1) * QUARTER)
    day = _time("quarter", QUARTER).dt.convert_time_zone(zone).dt.date()
    recorded = covered(quarters.with_columns(day=day))
    over = silent["trial_end"] <= reach["quarter"].min()
    ends = pl.from_epoch(pl.col("trial_end") - 1, "ms").dt.replace_time_zone("UTC")
    last_days = silent.select(ends.dt.convert_time_zone(zone).dt.date()).to_series()
    told = [
        recorded.issuperset(last - timedelta(days=ago) for ago in range(days + 1))
        for last, days in zip(last_days, silent["silent_days"], strict=True)
    ]
    return over & pl.Series(told, dtype=pl.Boolean)


def _time(name: str, unit: int = 1) -> pl.Expr:
    return pl.from_epoch(pl.col(name) * unit, time_unit="ms").dt.replace_time_zone("UTC")

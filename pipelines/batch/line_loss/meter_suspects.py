"""Meters worth a visit: users whose month breaks from their own past and from their neighbours'.

Reads the same customer readings as line loss, of the month and the twelve before it. Every chunk
becomes sums by meter and month; those of a unit come together. What is out of line is said in
`pipelines.core.energy.meter_suspects`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial
from zoneinfo import ZoneInfo

import apache_beam as beam
import polars as pl

from pipelines.batch.engine.columns import Dataset, choice, number, text, time
from pipelines.batch.engine.job import Job, Plan, month_span
from pipelines.batch.engine.tables import ResultTable
from pipelines.batch.engine.transforms import (
    FramePart,
    JoinedRows,
    JoinInput,
    Keyed,
    Results,
    together,
)
from pipelines.core.energy.meter_suspects import HISTORY_MONTHS, meter_suspects
from pipelines.core.energy.proration import MICRO, MOST_KWH, micro_within, overlaps

READINGS = Dataset(
    "customer_readings",
    (
        text("meter_id"),
        text("customer_id"),
        text("unit_id"),
        time("start"),
        time("end"),
        number("kwh", most=MOST_KWH, required=False),
        choice("quality", ("measured", "estimated", "missing")),
    ),
)

SUSPECTS = ResultTable("meter_suspects")

_USED = {
    "unit_id": pl.String,
    "meter_id": pl.String,
    "customer_id": pl.String,
    "age": pl.Int64,
    "start": pl.Int64,
    "end": pl.Int64,
    "micro": pl.Int64,
}


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    spans = _months(plan.period, plan.options.zone)
    side = JoinInput("used", "unit_id", _USED, plan.parts)
    used = plan.read(pipeline, READINGS, partial(_by_month, spans=spans, side=side))
    together("Compare meters of a unit", [used], [side], partial(_compare, results=plan.results))


def _months(period: str, zone: ZoneInfo) -> list[tuple[int, int]]:
    """The spans of the month and of those before it, newest first."""
    year, month = map(int, period.split("-"))
    firsts = [
        date(year + (month - 1 - age) // 12, (month - 1 - age) % 12 + 1, 1)
        for age in range(HISTORY_MONTHS + 1)
    ]
    return [month_span(f"{first:%Y-%m}", zone) for first in firsts]


def _by_month(piece: FramePart, spans: list[tuple[int, int]], side: JoinInput) -> Iterator[Keyed]:
    """Readings cut at the borders of months; measured or estimated, whatever was read."""
    read = piece.frame.filter(
        pl.col("quality") != "missing", pl.col("kwh") >= 0, pl.col("end") > pl.col("start")
    )
    parts = [
        read.filter(overlaps(start, end)).select(
            "unit_id",
            "meter_id",
            "customer_id",
            pl.lit(age, pl.Int64).alias("age"),
            "start",
            "end",
            micro_within(start, end).alias("micro"),
        )
        for age, (start, end) in enumerate(spans)
    ]
    yield from side.split(pl.concat(parts))


def _compare(group: JoinedRows, results: Results) -> Iterator[object]:
    once = group.frames["used"].unique(["unit_id", "meter_id", "age", "start", "end"])
    months = once.group_by("unit_id", "meter_id", "customer_id", "age").agg(
        kwh=pl.col("micro").sum() / MICRO
    )
    results.put(SUSPECTS.name, group.name, meter_suspects(months))
    yield from ()


JOB = Job("meter-suspects", "period", (READINGS,), (SUSPECTS,), _build)

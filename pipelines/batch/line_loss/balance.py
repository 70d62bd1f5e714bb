"""The last step of line loss: units and their energy become rows, up the tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from pipelines.batch.engine.columns import ROW, SOURCE
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.job import Plan
from pipelines.batch.engine.transforms import JoinedRows, Results
from pipelines.batch.line_loss.files import CUSTOMER, LINE_LOSS, UNREAD
from pipelines.core.energy.line_loss import (
    THRESHOLDS,
    Conductor,
    Energy,
    GridNode,
    line_loss,
    to_columns,
)
from pipelines.core.energy.proration import MICRO
from schemas import sentences as said


@dataclass(frozen=True, slots=True)
class LossMonth:
    """What the balance must know of the run."""

    start: int
    end: int
    zone: str
    least_read: float

    @staticmethod
    def of(plan: Plan) -> LossMonth:
        """That of a run."""
        return LossMonth(*plan.span, plan.options.time_zone, plan.options.least_read)


def balance(group: JoinedRows, plan: LossMonth, results: Results) -> Iterator[object]:
    """All units and their energy → the rows of line_loss, and the meters that were not read."""
    units = {
        row["unit_id"]: GridNode(row["unit_id"], row["level"], row["parent_id"] or "")
        for row in group.frames["units"].sort("level", "unit_id").iter_rows(named=True)
    }
    meters = _meters_now(group.frames["meters"])
    unread = meters.filter(pl.col("read") == 0, pl.col("read_before") > 0)
    results.put(UNREAD.name, "all", unread.with_columns(kwh_before=pl.col("before") / MICRO))
    counts = meters.group_by("unit_id").agg(meters=pl.len(), read=(pl.col("read") > 0).sum())
    energy = {
        row["unit_id"]: Energy(
            row["supplied"] if row["readings"] else None,
            row["sold"] or 0,
            row["estimated"] or 0,
            row["meters"] or 0,
            row["read"] or 0,
        )
        for row in group.frames["energy"]
        .join(counts, on="unit_id", how="full", coalesce=True)
        .iter_rows(named=True)
    }
    own = group.frames["thresholds"]
    thresholds = {**THRESHOLDS, **dict(zip(own["level"], own["threshold"], strict=True))}
    known, rejects = deduplicate(group.frames["lines"], ["unit_id"])
    results.refuse("lines", rejects)
    rows = line_loss(
        units,
        energy,
        thresholds,
        least_read=plan.least_read,
        unfinished=_unfinished(group.frames["reach"], plan),
    )
    hours = (plan.end - plan.start) / 3_600_000
    results.put(LINE_LOSS.name, "all", LINE_LOSS.frame(to_columns(rows, _lines(known), hours)))
    yield from ()


def _meters_now(meters: pl.DataFrame) -> pl.DataFrame:
    """Each meter where it is now; one of which there are only rows of the month before, there."""
    moved = pl.col("rows").sum().over("meter_id") > 0
    return meters.filter((pl.col("rows") > 0) | ~moved)


def _unfinished(reach: pl.DataFrame, plan: LossMonth) -> str:
    """Why the balance is not final, in words: readings of one kind end before the month does, or
    there are none."""
    ends = dict(reach.drop_nulls().group_by("dataset").agg(pl.col("until").max()).iter_rows())
    if ends and CUSTOMER.name not in ends:
        return said.NO_CUSTOMER_READ
    until = min(ends.values(), default=plan.end)
    if until >= plan.end:
        return ""
    local = datetime.fromtimestamp(until / 1000, ZoneInfo(plan.zone))
    return said.READ_UNTIL.format(local.isoformat(timespec="minutes"))


def _lines(rows: pl.DataFrame) -> dict[str, Conductor]:
    default = Conductor(0, 1)
    filled = rows.with_columns(
        pl.col("power_factor").fill_null(default.power_factor),
        pl.col("shape_factor").fill_null(default.shape),
        pl.col("no_load_kw").fill_null(default.no_load_kw),
    ).filter(pl.col("voltage_kv") > 0, pl.col("power_factor") > 0)
    return {
        unit_id: Conductor(*figures) for unit_id, *figures in filled.drop(SOURCE, ROW).iter_rows()
    }

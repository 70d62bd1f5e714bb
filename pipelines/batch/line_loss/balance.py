"""The last step of line loss: units and their energy become rows, up the tree."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipelines.batch.engine.columns import ROW, SOURCE
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.transforms import JoinedRows, Results
from pipelines.batch.line_loss.files import LINE_LOSS
from pipelines.core.energy.line_loss import (
    THRESHOLDS,
    Conductor,
    Energy,
    GridNode,
    line_loss,
    to_columns,
)


def balance(group: JoinedRows, span: tuple[int, int], results: Results) -> Iterator[object]:
    """All units and their energy → the rows of line_"""
    units = {
        row["unit_id"]: GridNode(row["unit_id"], row["level"], row["parent_id"] or "")
        for row in group.frames["units"].sort("level", "unit_id").iter_rows(named=True)
    }
    energy = {
        row["unit_id"]: Energy(
            row["supplied"] if row["readings"] else None, row["sold"], row["estimated"]
        )
        for row in group.frames["energy"].iter_rows(named=True)
    }
    own = group.frames["thresholds"]
    thresholds = {**THRESHOLDS, **dict(zip(own["level"], own["threshold"], strict=True))}
    known, rejects = deduplicate(group.frames["lines"], ["unit_id"])
    results.refuse("lines", rejects)
    hours = (span[1] - span[0]) / 3_600_000
    rows = line_loss(units, energy, thresholds)
    results.put(LINE_LOSS.name, "all", LINE_LOSS.frame(to_columns(rows, _lines(known), hours)))
    yield from ()


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

"""The last step of line loss: units and their energy become rows, up the tree."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipelines.batch.engine.columns import ROW, SOURCE
from pipelines.batch.engine.deduplicate import once
from pipelines.batch.engine.tables import REAL
from pipelines.batch.engine.transforms import JoinedRows, Results
from pipelines.batch.line_loss.files import LINE_LOSS
from pipelines.core.energy import line_loss as loss


def balance(
    group: JoinedRows, period: str, span: tuple[int, int], results: Results
) -> Iterator[object]:
    """All units and their energy → the rows of line_loss."""
    units = {
        row["unit_id"]: loss.GridNode(row["unit_id"], row["level"], row["parent_id"] or "")
        for row in group.frames["units"].sort("level", "unit_id").iter_rows(named=True)
    }
    energy = {
        row["unit_id"]: loss.Energy(
            row["supplied"] if row["readings"] else None, row["sold"], row["estimated"]
        )
        for row in group.frames["energy"].iter_rows(named=True)
    }
    own = group.frames["thresholds"]
    thresholds = {**loss.THRESHOLDS, **dict(zip(own["level"], own["threshold"], strict=True))}
    known, rejects = once(group.frames["lines"], ["unit_id"])
    results.refuse("lines", rejects)
    hours = (span[1] - span[0]) / 3_600_000
    rows = loss.line_loss(units, energy, thresholds)
    columns = loss.to_columns(period, rows, _lines(known), hours)
    kinds = {
        name: pl.Float64 if kind == REAL else pl.String for name, kind in LINE_LOSS.columns.items()
    }
    results.put(LINE_LOSS.name, "all", pl.DataFrame(columns, schema=kinds))
    yield from ()


def _lines(rows: pl.DataFrame) -> dict[str, loss.Conductor]:
    usual = loss.Conductor(0, 1)
    filled = rows.with_columns(
        pl.col("power_factor").fill_null(usual.power_factor),
        pl.col("shape_factor").fill_null(usual.shape),
        pl.col("no_load_kw").fill_null(usual.no_load_kw),
    ).filter(pl.col("voltage_kv") > 0, pl.col("power_factor") > 0)
    return {
        unit_id: loss.Conductor(*figures)
        for unit_id, *figures in filled.drop(SOURCE, ROW).iter_rows()
    }

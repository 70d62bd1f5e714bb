"""What line loss reads and writes: data sets, frames, and the table."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import Dataset, choice, number, text, time
from pipelines.batch.engine.tables import ResultTable
from pipelines.core.energy.line_loss import LEVELS
from pipelines.core.energy.proration import MOST_KWH

GRID_UNITS = Dataset(
    "grid_units",
    (
        text("unit_id"),
        choice("level", LEVELS),
        text("parent_id", required=False),
        text("name", required=False, present=False),
    ),
)

THRESHOLDS = Dataset(
    "loss_thresholds",
    (choice("level", LEVELS), number("threshold", most=1)),
    optional=True,
)

LINES = Dataset(
    "grid_lines",
    (
        text("unit_id"),
        number("resistance_ohm", most=1e6),
        number("voltage_kv", most=2e3),
        number("power_factor", most=1, required=False),
        number("shape_factor", most=10, required=False),
        number("no_load_kw", most=1e6, required=False),
    ),
    optional=True,
)

_READING = (
    text("unit_id"),
    time("start"),
    time("end"),
    number("kwh", most=MOST_KWH, required=False),
    choice("quality", ("measured", "estimated", "missing")),
)

BOUNDARY = Dataset(
    "boundary_readings", (text("meter_id"), choice("direction", ("in", "out")), *_READING)
)

CUSTOMER = Dataset("customer_readings", (text("meter_id"), *_READING))

LINE_LOSS = ResultTable("line_loss")

#: Kept with --readings: what counts is in the first and not in the second.
READINGS = ResultTable("line_loss_readings")
UNCOUNTED = ResultTable("line_loss_uncounted")

#: Sums by unit as they travel, energies in µWh.
ENERGY = {
    "unit_id": pl.String,
    "supplied": pl.Int128,
    "readings": pl.Int64,
    "sold": pl.Int128,
    "estimated": pl.Int128,
}

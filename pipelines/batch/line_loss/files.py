"""What line loss reads and writes: data sets, frames, and the table."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import ORIGIN, Dataset, choice, number, text, time
from pipelines.batch.engine.tables import COUNT, REAL, TEXT, TIME, ResultTable
from pipelines.core.energy import line_loss as loss
from pipelines.core.energy.proration import MOST_KWH

GRID_UNITS = Dataset(
    "grid_units",
    (
        text("unit_id"),
        choice("level", loss.LEVELS),
        text("parent_id", required=False),
        text("name", required=False, present=False),
    ),
)

THRESHOLDS = Dataset(
    "loss_thresholds",
    (choice("level", loss.LEVELS), number("threshold", most=1)),
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

LINE_LOSS = ResultTable(
    "line_loss",
    ("period", "level", "unit_id"),
    {
        "period": TEXT,
        "level": TEXT,
        "unit_id": TEXT,
        "parent_id": TEXT,
        "supplied_kwh": REAL,
        "transferred_kwh": REAL,
        "sold_kwh": REAL,
        "own_loss_kwh": REAL,
        "sold_total_kwh": REAL,
        "loss_kwh": REAL,
        "loss_rate": REAL,
        "estimated_share": REAL,
        "status": TEXT,
        "reason": TEXT,
        "theoretical_kwh": REAL,
        "unexplained_kwh": REAL,
    },
)

#: Kept with --readings: what counts is in the first and not in the second.
READINGS = ResultTable(
    "line_loss_readings",
    ("unit_id", "side", "meter_id", "start", "source", "row"),
    {
        "period": TEXT,
        "unit_id": TEXT,
        "side": TEXT,
        "meter_id": TEXT,
        "start": TIME,
        "end": TIME,
        "kwh": REAL,
        "kwh_in_period": REAL,
        "quality": TEXT,
        "source": TEXT,
        "row": COUNT,
    },
)
UNCOUNTED = ResultTable(
    "line_loss_uncounted", ("source", "row"), {"period": TEXT, "source": TEXT, "row": COUNT}
)

# --- rows as they travel ------------------------------------------------------------------------

UNIT = {
    "unit_id": pl.String,
    "level": pl.String,
    "parent_id": pl.String,
    "name": pl.String,
    **ORIGIN,
}

LINE = {
    "unit_id": pl.String,
    "resistance_ohm": pl.Float64,
    "voltage_kv": pl.Float64,
    "power_factor": pl.Float64,
    "shape_factor": pl.Float64,
    "no_load_kw": pl.Float64,
    **ORIGIN,
}

THRESHOLD = {"level": pl.String, "threshold": pl.Float64, **ORIGIN}

ENERGY = {
    "unit_id": pl.String,
    "supplied": pl.Int128,
    "readings": pl.Int64,
    "sold": pl.Int128,
    "estimated": pl.Int128,
}

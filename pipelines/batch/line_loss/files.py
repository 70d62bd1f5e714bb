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

CUSTOMER = Dataset(
    "customer_readings",
    (
        text("meter_id"),
        *_READING,
        text("register", required=False, present=False),
        choice("direction", ("use", "feed_in"), required=False, present=False),
    ),
)

LINE_LOSS = ResultTable("line_loss")

#: Meters that were read in the month before and are not now.
UNREAD = ResultTable("unread_meters")

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

#: Customers' meters as they travel: how many rows of the month, of those that count, of readings of
#: the month before, and what these come to in µWh.
METER = {
    "meter_id": pl.String,
    "unit_id": pl.String,
    "rows": pl.Int64,
    "read": pl.Int64,
    "read_before": pl.Int64,
    "before": pl.Int64,
}

#: How far the readings of a data set reach, ms.
REACH = {"dataset": pl.String, "until": pl.Int64}

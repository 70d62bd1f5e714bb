"""Line loss of a month: what each unit of the grid was supplied with and what was sold below it.

Three passes in one pipeline:
- add up: every chunk of readings becomes sums by unit (`readings`);
- settle: what overlapping readings of one meter added too much is taken off again (`overlaps`);
- roll up: sums by unit become balances up the tree (`balance`).

Data sets and tables are in `files`, the rules in `pipelines.core.energy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import apache_beam as beam
import polars as pl

from pipelines.batch.engine.columns import Dataset
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.job import Job, Plan
from pipelines.batch.engine.transforms import (
    FramePart,
    JoinedRows,
    JoinInput,
    Results,
    SumFrames,
    to_bytes,
    together,
)
from pipelines.batch.line_loss.balance import LossMonth, balance
from pipelines.batch.line_loss.files import (
    BOUNDARY,
    CUSTOMER,
    ENERGY,
    GRID_UNITS,
    LINE_LOSS,
    LINES,
    METER,
    REACH,
    READINGS,
    THRESHOLDS,
    UNCOUNTED,
    UNREAD,
)
from pipelines.batch.line_loss.overlaps import Search, compared, counted_twice
from pipelines.batch.line_loss.readings import (
    SHOWN,
    SOUND,
    energy_by_unit,
    known_units,
    meters_of,
    of_known_units,
    shown,
    sound,
)


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    results = plan.results
    grid = JoinInput("units", "unit_id", GRID_UNITS.schema)
    units = together(
        "Units once",
        [plan.read(pipeline, GRID_UNITS, grid.of_piece)],
        [grid],
        partial(_units_once, results=results),
    )
    search = Search.of(plan, (BOUNDARY, CUSTOMER))
    sums, seen, meters, reach = [], {}, [], []
    for dataset in (BOUNDARY, CUSTOMER):
        then = partial(
            _add_up,
            dataset=dataset,
            search=search,
            before=plan.month_before,
            results=results,
            keep=plan.options.readings,
        )
        tags = ["seen", "meters", "reach"]
        added = plan.read(pipeline, dataset, then, [beam.pvalue.AsList(units)], tags)
        sums.append(added["main"])
        seen[dataset] = added["seen"]
        meters.append(added["meters"])
        reach.append(added["reach"])
    sums.append(counted_twice(pipeline, plan, search, seen, units))
    energy = JoinInput("energy", "unit_id", ENERGY)
    total = (
        sums
        | "Sums" >> beam.Flatten()
        | "Add up" >> beam.CombineGlobally(SumFrames(["unit_id"])).without_defaults()
        | "Total" >> beam.FlatMap(energy.split)
    )
    met, reached = JoinInput("meters", "meter_id", METER), JoinInput("reach", "dataset", REACH)
    every_meter = (
        meters
        | "Meters" >> beam.Flatten()
        | "Meters once"
        >> beam.CombineGlobally(SumFrames(["meter_id", "unit_id"])).without_defaults()
        | "All meters" >> beam.FlatMap(met.split)
    )
    thresholds, lines = (
        JoinInput("thresholds", "level", THRESHOLDS.schema),
        JoinInput("lines", "unit_id", LINES.schema),
    )
    together(
        "Balance",
        [
            total,
            every_meter,
            reach | "Reach" >> beam.Flatten() | "Reached" >> beam.FlatMap(reached.split),
            units | "Grid" >> beam.Map(lambda data: (0, (grid.name, data))),
            plan.read(pipeline, THRESHOLDS, thresholds.of_piece),
            plan.read(pipeline, LINES, lines.of_piece),
        ],
        [energy, met, reached, grid, thresholds, lines],
        partial(balance, plan=LossMonth.of(plan), results=results),
    )


def _units_once(group: JoinedRows, results: Results) -> Iterator[bytes]:
    """The grid, each unit once."""
    kept, rejects = deduplicate(group.frames["units"], ["unit_id"])
    results.refuse("units", rejects)
    yield to_bytes(kept)


def _add_up(
    piece: FramePart,
    units: Iterable[bytes],
    *,
    dataset: Dataset,
    search: Search,
    before: tuple[int, int],
    results: Results,
    keep: bool,
) -> Iterator[object]:
    """Readings → sums by unit; on the side what overlaps are found by, and rejects.

    With `keep` the readings go to results as well.
    """
    rows, unfit = sound(piece.frame, dataset, search.span, SHOWN if keep else SOUND)
    sums = energy_by_unit(rows, search.span)
    rows, sums, unknown = of_known_units(rows, sums, units)
    results.refuse(f"unfit-{piece.name}", unfit, unknown)
    if keep:
        results.put(READINGS.name, piece.name, shown(rows, search.span))
    yield sums
    if dataset.name == CUSTOMER.name:
        known = piece.frame.filter(pl.col("unit_id").is_in(known_units(units).implode()))
        meters = meters_of(known, rows, search.span, before)
        yield beam.pvalue.TaggedOutput("meters", meters)
    until = pl.DataFrame({"dataset": [dataset.name], "until": [rows["end"].max()]}, schema=REACH)
    yield beam.pvalue.TaggedOutput("reach", until)
    for prints in compared(rows, search):
        yield beam.pvalue.TaggedOutput("seen", prints)


JOB = Job(
    "line-loss",
    "period",
    (GRID_UNITS, THRESHOLDS, LINES, BOUNDARY, CUSTOMER),
    (LINE_LOSS, UNREAD, READINGS, UNCOUNTED),
    _build,
    # Sixteen bytes a reading and the rows of a few meters are all that comes together in one place.
    part_bytes=512 << 20,
)

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
from pipelines.batch.line_loss.balance import balance
from pipelines.batch.line_loss.files import (
    BOUNDARY,
    CUSTOMER,
    ENERGY,
    GRID_UNITS,
    LINE_LOSS,
    LINES,
    READINGS,
    THRESHOLDS,
    UNCOUNTED,
)
from pipelines.batch.line_loss.overlaps import Search, compared, counted_twice
from pipelines.batch.line_loss.readings import (
    SHOWN,
    SOUND,
    energy_by_unit,
    of_known_units,
    shown,
    sound,
)


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    results, span = plan.results, plan.span
    grid = JoinInput("units", "unit_id", GRID_UNITS.schema)
    units = together(
        "Units once",
        [plan.read(pipeline, GRID_UNITS, grid.of_piece)],
        [grid],
        partial(_units_once, results=results),
    )
    search = Search.of(plan, (BOUNDARY, CUSTOMER))
    sums, seen = [], {}
    for dataset in (BOUNDARY, CUSTOMER):
        then = partial(
            _add_up,
            dataset=dataset,
            search=search,
            results=results,
            keep=plan.options.readings,
        )
        added = plan.read(pipeline, dataset, then, [beam.pvalue.AsList(units)], ["seen"])
        sums.append(added["main"])
        seen[dataset] = added["seen"]
    sums.append(counted_twice(pipeline, plan, search, seen, units))
    energy = JoinInput("energy", "unit_id", ENERGY)
    total = (
        sums
        | "Sums" >> beam.Flatten()
        | "Add up" >> beam.CombineGlobally(SumFrames(["unit_id"])).without_defaults()
        | "Total" >> beam.FlatMap(energy.split)
    )
    thresholds, lines = (
        JoinInput("thresholds", "level", THRESHOLDS.schema),
        JoinInput("lines", "unit_id", LINES.schema),
    )
    together(
        "Balance",
        [
            total,
            units | "Grid" >> beam.Map(lambda data: (0, (grid.name, data))),
            plan.read(pipeline, THRESHOLDS, thresholds.of_piece),
            plan.read(pipeline, LINES, lines.of_piece),
        ],
        [energy, grid, thresholds, lines],
        partial(balance, span=span, results=results),
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
    for prints in compared(rows, search):
        yield beam.pvalue.TaggedOutput("seen", prints)


JOB = Job(
    "line-loss",
    "period",
    (GRID_UNITS, THRESHOLDS, LINES, BOUNDARY, CUSTOMER),
    (LINE_LOSS, READINGS, UNCOUNTED),
    _build,
    # Sixteen bytes a reading and the rows of a few meters are all that comes together in one place.
    part_bytes=512 << 20,
)

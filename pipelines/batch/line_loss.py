"""Line loss of a month: what each unit of the grid was supplied with and what was sold below it.

Three passes in one pipeline:
- add up: every chunk of readings becomes sums by unit, and 16 bytes a reading by which overlapping
  readings of one meter are found;
- settle: the rows of the meters found are read again, and those that do not count are taken off;
- roll up: sums by unit become balances up the tree.

Which reading counts and what a balance is, is in `pipelines.core.loss`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import apache_beam as beam
import numpy as np
import polars as pl

from pipelines.batch.columns import (
    ORIGIN,
    REJECTS,
    ROW,
    SOURCE,
    Dataset,
    check,
    choice,
    empty_rejects,
    number,
    text,
    time,
)
from pipelines.batch.job import Job, Plan
from pipelines.batch.once import once
from pipelines.batch.sources import Chunk, read
from pipelines.batch.tables import REAL, TEXT, ResultTable
from pipelines.batch.transforms import (
    Group,
    Keyed,
    Piece,
    Results,
    Side,
    SumFrames,
    from_bytes,
    to_bytes,
    together,
)
from pipelines.core import loss

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
    number("kwh", most=loss.MOST_KWH, required=False),
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

#: Chunks whose fingerprints are laid side by side at a time.
_SIDE_BY_SIDE = 4
_METER_MASK = (1 << loss.METER_BITS) - 1
_ENERGY = {
    "unit_id": pl.String,
    "supplied": pl.Int128,
    "readings": pl.Int64,
    "sold": pl.Int128,
    "estimated": pl.Int128,
}
_SUSPECT = {
    "meter": pl.String,
    "meter_id": pl.String,
    "unit_id": pl.String,
    "sign": pl.Int8,
    "start": pl.Int64,
    "end": pl.Int64,
    "kwh": pl.Float64,
    "estimated": pl.Boolean,
    **ORIGIN,
}


_UNIT = {
    "unit_id": pl.String,
    "level": pl.String,
    "parent_id": pl.String,
    "name": pl.String,
    **ORIGIN,
}
_LINE = {
    "unit_id": pl.String,
    "resistance_ohm": pl.Float64,
    "voltage_kv": pl.Float64,
    "power_factor": pl.Float64,
    "shape_factor": pl.Float64,
    "no_load_kw": pl.Float64,
    **ORIGIN,
}
_THRESHOLD = {"level": pl.String, "threshold": pl.Float64, **ORIGIN}


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    results, span = plan.results, plan.span
    bits = (plan.parts - 1).bit_length()
    grid = Side("units", "unit_id", _UNIT)
    units = together(
        "Units once",
        [plan.read(pipeline, GRID_UNITS, grid.of_piece)],
        [grid],
        partial(_units_once, results=results),
    )
    known = beam.pvalue.AsIter(units)
    sums, prints = [], []
    for dataset in (BOUNDARY, CUSTOMER):
        then = partial(_add_up, dataset=dataset, span=span, bits=bits, results=results)
        added = plan.read(pipeline, dataset, then, [known], ["prints"])
        sums.append(added["main"])
        prints.append(added["prints"])
    suspects = (
        prints
        | "Fingerprints" >> beam.Flatten()
        | "Lay side by side" >> beam.CombinePerKey(_Overlaps())
        | "Suspects" >> beam.FlatMap(_with_part)
    )
    found = beam.pvalue.AsIter(suspects)
    side = Side("rows", "meter", _SUSPECT, plan.parts)
    rows = [
        plan.chunk_list(pipeline, dataset, " again")
        | f"Read suspects of {dataset.name}"
        >> beam.ParDo(_ReadSuspects(dataset, span, bits, side), found, known)
        for dataset in (BOUNDARY, CUSTOMER)
    ]
    sums.append(together("Settle", rows, [side], partial(_settle, span=span, results=results)))
    energy = Side("energy", "unit_id", _ENERGY)
    total = (
        sums
        | "Sums" >> beam.Flatten()
        | "Add up" >> beam.CombineGlobally(SumFrames(["unit_id"])).without_defaults()
        | "Total" >> beam.FlatMap(energy.split)
    )
    thresholds, lines = Side("thresholds", "level", _THRESHOLD), Side("lines", "unit_id", _LINE)
    together(
        "Balance",
        [
            total,
            units | "Grid" >> beam.Map(lambda data: (0, (grid.name, data))),
            plan.read(pipeline, THRESHOLDS, thresholds.of_piece),
            plan.read(pipeline, LINES, lines.of_piece),
        ],
        [energy, grid, thresholds, lines],
        partial(_balance, period=plan.period, span=span, results=results),
    )


#: What is worked with; where a row came from is looked up only for those that are told about.
_FIT = ("hash", "unit_id", "sign", "start", "end", "kwh", "estimated")


def _units_once(group: Group, results: Results) -> Iterator[bytes]:
    """The grid, each unit once."""
    kept, rejects = once(group.frames["units"], ["unit_id"])
    results.refuse("units", rejects)
    yield to_bytes(kept)


def _meters(rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Both kinds of readings in one shape; `meter` is what may have one reading at a time.

    A boundary meter may stand between two units, in for one and out for the other.
    """
    if dataset.name == CUSTOMER.name:
        meters = rows.with_columns(meter="meter_id", sign=pl.lit(0, pl.Int8))
    else:
        meters = rows.with_columns(
            meter=pl.concat_str("meter_id", "unit_id", "direction", separator="\x1f"),
            sign=pl.when(direction="in").then(1).otherwise(-1).cast(pl.Int8),
        )
    return meters.with_columns(
        hash=pl.col("meter").hash(), estimated=pl.col("quality") == "estimated"
    )


def _fit(rows: pl.DataFrame, span: tuple[int, int]) -> tuple[pl.Series, pl.DataFrame]:
    """(which readings touch the month and tell an amount; rejects among those that touch it)."""
    backwards = pl.col("end") <= pl.col("start")
    amiss = backwards | pl.col("kwh").is_null() | (pl.col("kwh") < 0)
    told = (pl.col("quality") != "missing") & (loss.overlaps(*span) | backwards)
    judged = rows.select(fit=told & ~amiss, amiss=told & amiss)
    if not judged["amiss"].any():
        return judged["fit"], empty_rejects()
    reason = (
        pl.when(backwards)
        .then(pl.lit("invalid_field: end: not after start"))
        .when(pl.col("kwh").is_null())
        .then(pl.lit("invalid_field: kwh: missing"))
        .otherwise(pl.lit("negative_kwh: the meter ran backwards or rolled over"))
    )
    rejects = rows.filter(judged["amiss"]).select(SOURCE, ROW, reason.alias("reason"))
    return judged["fit"], rejects


def _energy(rows: pl.DataFrame, span: tuple[int, int]) -> pl.DataFrame:
    """Sums by unit of readings that touch the month."""
    # Of all kWh together below that, no sum can leave 64 bits, which are twice as fast.
    small = (rows["kwh"].sum() or 0) < loss.MOST_KWH
    micro = pl.col("micro").cast(pl.Int64 if small else pl.Int128)
    sums: dict[str, pl.Expr] = {
        "supplied": pl.lit(0),
        "readings": pl.lit(0),
        "sold": micro.sum(),
        "estimated": micro.filter(pl.col("estimated")).sum(),
    }
    if (rows["sign"] != 0).any():
        is_sale = pl.col("sign") == 0
        sums = {
            "supplied": (micro * pl.col("sign")).sum(),
            "readings": (~is_sale).sum(),
            "sold": micro.filter(is_sale).sum(),
            "estimated": micro.filter(is_sale & pl.col("estimated")).sum(),
        }
    return (
        rows.lazy()
        .select("unit_id", "sign", "estimated", micro=loss.micro_within(*span))
        .group_by("unit_id")
        .agg(**sums)
        .cast({name: kind for name, kind in _ENERGY.items() if name != "unit_id"})
        .collect()
        .select(*_ENERGY)
    )


def _add_up(
    piece: Piece,
    units: Iterable[bytes],
    *,
    dataset: Dataset,
    span: tuple[int, int],
    bits: int,
    results: Results,
) -> Iterator[object]:
    """Readings → sums by unit; on the side fingerprints by part, and rejects."""
    readings = _meters(piece.frame, dataset)
    fit, unfit = _fit(readings, span)
    rows = readings.select(_FIT)
    rows = rows if fit.all() else rows.filter(fit)
    sums = _energy(rows, span)
    strange = _strangers(sums, units)
    unknown = empty_rejects()
    if strange.height:
        unknown = (
            readings.filter(fit)
            .join(strange, on="unit_id", how="semi")
            .select(SOURCE, ROW, pl.format("unknown_unit: {}", "unit_id").alias("reason"))
        )
        rows = rows.join(strange, on="unit_id", how="anti")
        sums = sums.join(strange, on="unit_id", how="anti")
    results.refuse(f"unfit-{piece.name}", unfit, unknown)
    yield sums
    for part, prints in _fingerprints(rows, span, bits):
        yield beam.pvalue.TaggedOutput("prints", (part, prints.tobytes()))


def _strangers(rows: pl.DataFrame, units: Iterable[bytes]) -> pl.DataFrame:
    """The unit ids among the rows that the grid does not have."""
    known = [from_bytes(data).select("unit_id") for data in units]
    ids = rows.select("unit_id")
    return ids.join(pl.concat(known), on="unit_id", how="anti") if known else ids


def _hashes(rows: pl.DataFrame, bits: int) -> loss.UInt64s:
    """METER_BITS + `bits` of a hash of each row's meter; the upper `bits` are its part."""
    hashes = rows["hash"].to_numpy()
    return hashes >> np.uint64(64 - loss.METER_BITS - bits)


def _fingerprints(
    rows: pl.DataFrame, span: tuple[int, int], bits: int
) -> Iterator[tuple[int, loss.UInt64s]]:
    """(part, fingerprints) of the readings, as `loss.suspects` wants them."""
    start, end = span
    hashes = _hashes(rows, bits)
    times = rows.select(
        (pl.col("start").clip(start) - start) // loss.TICK,
        (pl.col("end").clip(None, end) - start + loss.TICK - 1) // loss.TICK,
    )
    begins, ends = times["start"].to_numpy(), times["end"].to_numpy()
    if bits == 0:
        yield 0, loss.fingerprints(hashes, begins, ends)
        return
    parts = (hashes >> np.uint64(loss.METER_BITS)).astype(np.uint16)
    for part in np.unique(parts):
        of = parts == part
        meters = hashes[of] & np.uint64(_METER_MASK)
        yield int(part), loss.fingerprints(meters, begins[of], ends[of])


class _Overlaps(beam.CombineFn):  # type: ignore[misc]
    """Fingerprints of all chunks, laid side by side → the hashes of suspect meters.

    Readings that meet become one as soon as they are seen, mostly before they travel.
    """

    def create_accumulator(self) -> tuple[list[loss.UInt64s], list[loss.UInt64s]]:
        """Fingerprints in sorted runs, and suspects found so far."""
        return [], []

    def add_input(
        self, seen: tuple[list[loss.UInt64s], list[loss.UInt64s]], prints: bytes
    ) -> tuple[list[loss.UInt64s], list[loss.UInt64s]]:
        """Keep them, and lay side by side what has gathered now and then."""
        seen[0].append(np.frombuffer(prints, np.uint64))
        return seen if len(seen[0]) < _SIDE_BY_SIDE else self._laid(*seen)

    def merge_accumulators(
        self, many: Iterable[tuple[list[loss.UInt64s], list[loss.UInt64s]]]
    ) -> tuple[list[loss.UInt64s], list[loss.UInt64s]]:
        """All of them side by side."""
        every = list(many)
        return self._laid(
            [prints for runs, _ in every for prints in runs],
            [found for _, suspects in every for found in suspects],
        )

    def compact(
        self, seen: tuple[list[loss.UInt64s], list[loss.UInt64s]]
    ) -> tuple[list[loss.UInt64s], list[loss.UInt64s]]:
        """As little as may travel."""
        return self._laid(*seen)

    def extract_output(self, seen: tuple[list[loss.UInt64s], list[loss.UInt64s]]) -> bytes:
        """The suspects' hashes."""
        _, found = self._laid(*seen)
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found])).tobytes()

    def _laid(
        self, runs: list[loss.UInt64s], found: list[loss.UInt64s]
    ) -> tuple[list[loss.UInt64s], list[loss.UInt64s]]:
        if not runs:
            return runs, found
        prints = np.concatenate(runs)
        prints.sort()
        return [loss.joined(prints)], [*found, loss.suspects(prints)]


def _with_part(found: tuple[int, bytes]) -> Iterator[bytes]:
    """The hashes of suspect meters, whole again."""
    part, meters = found
    if meters:
        whole = np.frombuffer(meters, np.uint64) | np.uint64(part << loss.METER_BITS)
        yield whole.tobytes()


class _ReadSuspects(beam.DoFn):  # type: ignore[misc]
    """Chunks → the rows of suspect meters; reads nothing where there is none."""

    def __init__(self, dataset: Dataset, span: tuple[int, int], bits: int, side: Side) -> None:
        self._dataset, self._span, self._bits, self._side = dataset, span, bits, side

    def process(
        self, chunk: Chunk, suspects: Iterable[bytes], units: Iterable[bytes]
    ) -> Iterator[Keyed]:
        hashes = [np.frombuffer(data, np.uint64) for data in suspects]
        if not hashes:
            return
        wanted = pl.Series(np.concatenate(hashes)).unique()
        known = list(units)
        for raw, _ in read(chunk, self._dataset):
            good, _ = check(raw, self._dataset)
            rows = _meters(good, self._dataset)
            rows = rows.filter(pl.Series(_hashes(rows, self._bits)).is_in(wanted.implode()))
            rows = rows.filter(_fit(rows, self._span)[0])
            rows = rows.join(_strangers(rows, known).unique(), on="unit_id", how="anti")
            yield from self._side.split(rows.select(*_SUSPECT))


def _settle(group: Group, span: tuple[int, int], results: Results) -> Iterator[pl.DataFrame]:
    """All readings of suspect meters → what to take off the sums by unit."""
    rows = group.frames["rows"].sort("meter", "start", "end").with_row_index("_n")
    before = pl.col("end").cum_max().shift().over("meter")
    clashing = rows.filter((pl.col("start") < before).any().over("meter"))
    off: list[int] = []
    rejects: dict[str, list[object]] = {SOURCE: [], ROW: [], "reason": []}
    for meter in clashing.partition_by("meter"):
        repeated, clashes = loss.settle(_readings(meter))
        off += [reading.place for reading in repeated]
        for reading, clash in clashes:
            off.append(reading.place)
            rejects[SOURCE].append(reading.source)
            rejects[ROW].append(reading.row)
            rejects["reason"].append(
                f"overlap: meter {meter['meter_id'][0]} has another reading"
                f" of that time in {clash.source} row {clash.row}"
            )
    results.refuse(f"overlap-{group.name}", pl.DataFrame(rejects, schema=REJECTS))
    energy = _energy(rows.filter(pl.col("_n").is_in(off)), span)
    yield energy.with_columns(pl.exclude("unit_id") * -1)


def _readings(rows: pl.DataFrame) -> list[loss.Reading]:
    columns = rows.select("estimated", "start", "end", "kwh", "unit_id", SOURCE, ROW, "_n")
    return [loss.Reading(*row) for row in columns.iter_rows()]


def _balance(
    group: Group, period: str, span: tuple[int, int], results: Results
) -> Iterator[object]:
    """All units and their energy → the rows of line_loss."""
    units = {
        row["unit_id"]: loss.Unit(row["unit_id"], row["level"], row["parent_id"] or "")
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


def _lines(rows: pl.DataFrame) -> dict[str, loss.Line]:
    usual = loss.Line(0, 1)
    filled = rows.with_columns(
        pl.col("power_factor").fill_null(usual.power_factor),
        pl.col("shape_factor").fill_null(usual.shape),
        pl.col("no_load_kw").fill_null(usual.no_load_kw),
    ).filter(pl.col("voltage_kv") > 0, pl.col("power_factor") > 0)
    return {
        unit_id: loss.Line(*figures) for unit_id, *figures in filled.drop(SOURCE, ROW).iter_rows()
    }


JOB = Job(
    "line-loss",
    "period",
    (GRID_UNITS, THRESHOLDS, LINES, BOUNDARY, CUSTOMER),
    (LINE_LOSS,),
    _build,
    # Sixteen bytes a reading and the rows of a few meters are all that comes together in one place.
    part_bytes=512 << 20,
)

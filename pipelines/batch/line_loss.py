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

import apache_beam as beam
import numpy as np
import polars as pl

from pipelines.batch.columns import (
    REJECTS,
    ROW,
    SOURCE,
    Dataset,
    check,
    choice,
    number,
    text,
    time,
)
from pipelines.batch.job import Job, Plan
from pipelines.batch.once import once
from pipelines.batch.sources import Chunk, read
from pipelines.batch.tables import REAL, TEXT, ResultTable
from pipelines.batch.transforms import (
    REJECTED,
    Group,
    Piece,
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
CUSTOMER = Dataset("customer_readings", (text("meter_id"), text("customer_id"), *_READING))

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
    },
)

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
    "owner": pl.String,
    "unit_id": pl.String,
    "sign": pl.Int8,
    "start": pl.Int64,
    "end": pl.Int64,
    "kwh": pl.Float64,
    "quality": pl.String,
    SOURCE: pl.String,
    ROW: pl.UInt64,
}


_UNIT = {
    "unit_id": pl.String,
    "level": pl.String,
    "parent_id": pl.String,
    "name": pl.String,
    SOURCE: pl.String,
    ROW: pl.UInt64,
}
_THRESHOLD = {"level": pl.String, "threshold": pl.Float64, SOURCE: pl.String, ROW: pl.UInt64}


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    bits = (plan.parts - 1).bit_length()
    grid = _units(plan.read(pipeline, GRID_UNITS), plan)
    units = beam.pvalue.AsIter(grid | "Units to bytes" >> beam.Map(lambda p: to_bytes(p.frame)))
    partial, prints = [], []
    for dataset in (BOUNDARY, CUSTOMER):
        added = plan.read(pipeline, dataset) | f"Add up {dataset.name}" >> beam.ParDo(
            _AddUp(dataset, plan.span, bits), units
        ).with_outputs(REJECTED, "prints", main="sums")
        _ = added[REJECTED] | f"Unfit {dataset.name}" >> plan.results.write(REJECTED, "unfit-")
        partial.append(added["sums"])
        prints.append(added["prints"])
    found = beam.pvalue.AsIter(
        prints
        | "Fingerprints" >> beam.Flatten()
        | "By meter" >> beam.GroupByKey()
        | "Suspects" >> beam.ParDo(_suspects)
    )
    clashing = [
        pipeline
        | f"Chunks of {dataset.name} again" >> beam.Create(list(plan.chunks[dataset.name]))
        | f"Read suspects of {dataset.name}"
        >> beam.ParDo(_ReadSuspects(dataset, plan.span, bits), found, units)
        for dataset in (BOUNDARY, CUSTOMER)
    ]
    side = Side(
        clashing | "Suspects' rows" >> beam.Flatten(), "meter", pl.DataFrame(schema=_SUSPECT)
    )
    settled = together("Settle", {"rows": side}, plan.parts) | "Settle" >> beam.ParDo(
        _Settle(plan.span)
    ).with_outputs(REJECTED, main="sums")
    _ = settled[REJECTED] | "Clashes" >> plan.results.write(REJECTED, "clash-")
    sums = (
        [*partial, settled["sums"]]
        | "Sums" >> beam.Flatten()
        | "Add up sums" >> beam.CombineGlobally(SumFrames(["unit_id"])).without_defaults()
        | "Name sums" >> beam.Map(lambda frame: Piece("sums", frame))
    )
    _ = (
        together(
            "Roll up",
            {
                "energy": Side(sums, "unit_id", pl.DataFrame(schema=_ENERGY)),
                "units": Side(grid, "unit_id", pl.DataFrame(schema=_UNIT)),
                "thresholds": Side(
                    plan.read(pipeline, THRESHOLDS), "level", pl.DataFrame(schema=_THRESHOLD)
                ),
            },
            parts=1,
        )
        | "Balance" >> beam.Map(lambda group: _balance(group, plan.period))
        | "Write" >> plan.results.write(LINE_LOSS.name)
    )


def _units(pieces: beam.PCollection, plan: Plan) -> beam.PCollection:
    """The grid, each unit once."""
    grouped = together(
        "Grid", {"units": Side(pieces, "unit_id", pl.DataFrame(schema=_UNIT))}, parts=1
    )

    def each_once(group: Group) -> Iterator[object]:
        kept, rejects = once(group.frames["units"], ["unit_id"])
        yield beam.pvalue.TaggedOutput(REJECTED, Piece(group.name, rejects))
        yield Piece(group.name, kept)

    parted = grouped | "Units once" >> beam.ParDo(each_once).with_outputs(REJECTED, main="units")
    _ = parted[REJECTED] | "Units twice" >> plan.results.write(REJECTED, "units-")
    return parted["units"]


def _meters(rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Both kinds of readings in one shape; `meter` is what may have one reading at a time.

    A boundary meter may stand between two units, in for one and out for the other.
    """
    if dataset.name == CUSTOMER.name:
        return rows.with_columns(
            meter="meter_id", owner="customer_id", sign=pl.lit(0, pl.Int8)
        )  # fmt: skip
    return rows.with_columns(
        meter=pl.concat_str("meter_id", "unit_id", "direction", separator="\x1f"),
        owner=pl.lit(""),
        sign=pl.when(direction="in").then(1).otherwise(-1).cast(pl.Int8),
    )


def _fit(rows: pl.DataFrame, span: tuple[int, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(readings that touch the month and tell an amount; rejects among those that touch it)."""
    start, end = span
    backwards = pl.col("end") <= pl.col("start")
    touching = rows.filter(loss.overlaps(start, end) | backwards)
    told = touching.filter(pl.col("quality") != "missing")
    reason = (
        pl.when(backwards)
        .then(pl.lit("invalid_field: end: not after start"))
        .when(pl.col("kwh").is_null())
        .then(pl.lit("invalid_field: kwh: missing"))
        .when(pl.col("kwh") < 0)
        .then(pl.lit("negative_kwh: the meter ran backwards or rolled over"))
    )
    unfit = backwards | pl.col("kwh").is_null() | (pl.col("kwh") < 0)
    rejects = told.filter(unfit).select(SOURCE, ROW, reason.alias("reason"))
    return (told.filter(~unfit) if rejects.height else told), rejects


def _energy(rows: pl.DataFrame, span: tuple[int, int]) -> pl.DataFrame:
    """Sums by unit of readings that touch the month."""
    micro = pl.col("micro").cast(pl.Int128)
    is_sale = pl.col("sign") == 0
    return (
        rows.lazy()
        .select("unit_id", "sign", "quality", micro=loss.micro_within(*span))
        .group_by("unit_id")
        .agg(
            supplied=(micro * pl.col("sign")).sum(),
            readings=(~is_sale).sum().cast(pl.Int64),
            sold=micro.filter(is_sale).sum(),
            estimated=micro.filter(is_sale & (pl.col("quality") == "estimated")).sum(),
        )
        .collect()
        .select(*_ENERGY)
    )


class _AddUp(beam.DoFn):  # type: ignore[misc]
    """Readings → sums by unit, fingerprints by part, rejects."""

    def __init__(self, dataset: Dataset, span: tuple[int, int], bits: int) -> None:
        self._dataset, self._span, self._bits = dataset, span, bits

    def process(self, piece: Piece, units: Iterable[bytes]) -> Iterator[object]:
        rows, rejects = _fit(_meters(piece.frame, self._dataset), self._span)
        sums = _energy(rows, self._span)
        strange = _strangers(sums, units)
        if strange.height:
            unknown = rows.join(strange, on="unit_id", how="semi").select(
                SOURCE, ROW, pl.format("unknown_unit: {}", "unit_id").alias("reason")
            )
            rejects = pl.concat([rejects, unknown])
            rows = rows.join(strange, on="unit_id", how="anti")
            sums = sums.join(strange, on="unit_id", how="anti")
        yield beam.pvalue.TaggedOutput(REJECTED, Piece(piece.name, rejects))
        yield sums
        for part, prints in _fingerprints(rows, self._span, self._bits):
            yield beam.pvalue.TaggedOutput("prints", (part, prints.tobytes()))


def _strangers(rows: pl.DataFrame, units: Iterable[bytes]) -> pl.DataFrame:
    """The unit ids among the rows that the grid does not have."""
    known = [from_bytes(data).select("unit_id") for data in units]
    ids = rows.select("unit_id")
    return ids.join(pl.concat(known), on="unit_id", how="anti") if known else ids


def _hashes(rows: pl.DataFrame, bits: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """METER_BITS + `bits` of a hash of each row's meter; the upper `bits` are its part."""
    hashes = rows["meter"].hash().to_numpy()
    return hashes >> np.uint64(64 - loss.METER_BITS - bits)


def _fingerprints(
    rows: pl.DataFrame, span: tuple[int, int], bits: int
) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.uint64]]]]:
    """(part, fingerprints) of the readings, as `loss.suspects` wants them."""
    start, end = span
    hashes = _hashes(rows, bits)
    begins = rows["start"].clip(lower_bound=start).to_numpy() - start
    ends = rows["end"].clip(upper_bound=end).to_numpy() - start
    prints = loss.fingerprints(hashes & np.uint64(_METER_MASK), begins, ends)
    if bits == 0:
        yield 0, prints
        return
    parts = np.tile((hashes >> np.uint64(loss.METER_BITS)).astype(np.uint16), 2)
    order = np.argsort(parts, kind="stable")
    ordered = parts[order]
    for part in np.unique(parts):
        first, last = np.searchsorted(ordered, [part, part + 1])
        yield int(part), prints[order[first:last]]


def _suspects(group: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
    """The hashes (with their part) of meters that may have overlapping readings."""
    part, prints = group
    found = loss.suspects(np.concatenate([np.frombuffer(data, np.uint64) for data in prints]))
    if len(found):
        yield (found | np.uint64(part << loss.METER_BITS)).tobytes()


class _ReadSuspects(beam.DoFn):  # type: ignore[misc]
    """Chunks → the rows of suspect meters; reads nothing where there is none."""

    def __init__(self, dataset: Dataset, span: tuple[int, int], bits: int) -> None:
        self._dataset, self._span, self._bits = dataset, span, bits

    def process(
        self, chunk: Chunk, suspects: Iterable[bytes], units: Iterable[bytes]
    ) -> Iterator[Piece]:
        hashes = [np.frombuffer(data, np.uint64) for data in suspects]
        if not hashes:
            return
        wanted = np.concatenate(hashes)
        known = list(units)
        for block, (raw, _) in enumerate(read(chunk, self._dataset)):
            good, _ = check(raw, self._dataset)
            rows, _ = _fit(_meters(good, self._dataset), self._span)
            rows = rows.filter(np.isin(_hashes(rows, self._bits), wanted))
            rows = rows.join(_strangers(rows, known).unique(), on="unit_id", how="anti")
            yield Piece(f"{self._dataset.name}-{chunk.number}-{block}", rows.select(*_SUSPECT))


class _Settle(beam.DoFn):  # type: ignore[misc]
    """All readings of suspect meters → what to take off the sums, and rejects."""

    def __init__(self, span: tuple[int, int]) -> None:
        self._span = span

    def process(self, group: Group) -> Iterator[object]:
        rows = group.frames["rows"].sort("meter", "start").with_row_index("_n")
        before = pl.col("end").cum_max().shift().over("meter")
        clashing = rows.filter((pl.col("start") < before).any().over("meter"))
        dropped: list[int] = []
        rejects: dict[str, list[object]] = {SOURCE: [], ROW: [], "reason": []}
        for meter in clashing.partition_by("meter"):
            repeated, refused = loss.settle(_readings(meter))
            dropped += [reading.place for reading in repeated]
            for reading, clash in refused:
                dropped.append(reading.place)
                rejects[SOURCE].append(reading.source)
                rejects[ROW].append(reading.row)
                rejects["reason"].append(
                    f"overlap: meter {meter['meter_id'][0]} has another reading"
                    f" of that time in {clash.source} row {clash.row}"
                )
        yield beam.pvalue.TaggedOutput(
            REJECTED, Piece(group.name, pl.DataFrame(rejects, schema=REJECTS))
        )
        off = _energy(rows.filter(pl.col("_n").is_in(dropped)), self._span)
        yield off.with_columns(pl.exclude("unit_id") * -1)


def _readings(rows: pl.DataFrame) -> list[loss.Reading]:
    return [
        loss.Reading(row["quality"] == "estimated", row["start"], row["end"], row["kwh"],
                     f"{row['owner']}\x1f{row['unit_id']}", row[SOURCE], row[ROW], row["_n"])
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip


def _balance(group: Group, period: str) -> Piece:
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
    named = group.frames["thresholds"]
    thresholds = {**loss.THRESHOLDS, **dict(zip(named["level"], named["threshold"], strict=True))}
    rows = loss.line_loss(units, energy, thresholds)
    kinds = {
        name: pl.Float64 if kind == REAL else pl.String for name, kind in LINE_LOSS.columns.items()
    }
    return Piece(group.name, pl.DataFrame(loss.to_columns(period, rows), schema=kinds))


JOB = Job("line-loss", "period", (GRID_UNITS, THRESHOLDS, BOUNDARY, CUSTOMER), (LINE_LOSS,), _build)

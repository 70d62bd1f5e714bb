"""Readings of one meter that overlap: found among all chunks, read again, and taken off the sums.

At most 16 bytes a reading come together to find them; the files are read again only where any are
found, and then only those meters' rows travel. The rules are in `pipelines.core.energy.overlaps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
import numpy as np
import polars as pl

from pipelines.batch.engine.columns import ORIGIN, REJECTS, ROW, SOURCE, Dataset, check
from pipelines.batch.engine.job import Plan
from pipelines.batch.engine.sources import FilePart, read
from pipelines.batch.engine.transforms import JoinedRows, JoinInput, Keyed, Results, together
from pipelines.batch.line_loss.files import UNCOUNTED
from pipelines.batch.line_loss.readings import energy_by_unit, of_known_units, sound
from pipelines.core.energy.overlaps import MeterReading, Prints, UInt64s, settle, tick_of

#: Fingerprints of so many chunks are compared at a time.
_COMPARE_EVERY = 4

#: Fingerprints in sorted runs, and the hashes of suspect meters found among them so far.
_Seen = tuple[list[UInt64s], list[UInt64s]]

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


@dataclass(frozen=True, slots=True)
class Search:
    """How overlaps are looked for: all of a run must do it the same way."""

    span: tuple[int, int]
    parts: int
    prints: Prints

    @staticmethod
    def of(plan: Plan, datasets: Sequence[Dataset]) -> Search:
        """One that suits the first readings of each data set."""
        first = [rows for dataset in datasets if (rows := plan.peek(dataset)) is not None]
        times = [rows[name].to_numpy() for rows in first for name in ("start", "end")]
        return Search(plan.span, plan.parts, Prints(tick_of(times)))

    @property
    def _part_bits(self) -> int:
        return (self.parts - 1).bit_length()

    def hashes(self, rows: pl.DataFrame) -> UInt64s:
        """Part and hash of each row's meter, from `hash`; the part is in the upper bits."""
        return rows["hash"].to_numpy() >> np.uint64(64 - self.prints.meter_bits - self._part_bits)

    def whole(self, part: int, meters: UInt64s) -> UInt64s:
        """`hashes` of meters that are in one part."""
        return meters | np.uint64(part << self.prints.meter_bits)

    def fingerprints(self, rows: pl.DataFrame) -> Iterator[tuple[int, UInt64s]]:
        """(part, fingerprints) of the readings."""
        (start, end), tick = self.span, self.prints.tick
        times = rows.select(
            (pl.col("start").clip(start) - start) // tick,
            (pl.col("end").clip(None, end) - start + tick - 1) // tick,
        )
        hashes = self.hashes(rows)
        begins, ends = times["start"].to_numpy(), times["end"].to_numpy()
        if self.parts == 1:
            yield 0, self.prints.of(hashes, begins, ends)
            return
        places = (hashes >> np.uint64(self.prints.meter_bits)).astype(np.uint16)
        mask = np.uint64((1 << self.prints.meter_bits) - 1)
        for part in np.unique(places):
            here = places == part
            yield int(part), self.prints.of(hashes[here] & mask, begins[here], ends[here])


def compared(rows: pl.DataFrame, search: Search) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    """Readings of a chunk → by part, what others need to know of them, and suspects among them."""
    for part, prints in search.fingerprints(rows):
        fewer, suspects = search.prints.compared(prints)
        yield part, (fewer.tobytes(), suspects.tobytes())


def counted_twice(
    pipeline: beam.Pipeline,
    plan: Plan,
    search: Search,
    seen: Mapping[Dataset, beam.PCollection],
    units: beam.PCollection,
) -> beam.PCollection:
    """Sums by unit, negative, of readings that must not count; what is refused goes to results.

    `seen` is what `compared` yields of each data set.
    """
    suspects = (
        # Each by itself, to be compared where it is read: moving it takes longer.
        tuple(
            some
            | f"Compare {dataset.name}" >> beam.CombinePerKey(_Overlaps(search.prints))
            | f"Suspects of {dataset.name}" >> beam.FlatMap(_with_part, search)
            for dataset, some in seen.items()
        )
        | "Suspects" >> beam.Flatten()
    )
    found, known = beam.pvalue.AsIter(suspects), beam.pvalue.AsIter(units)
    side = JoinInput("rows", "meter", _SUSPECT, plan.parts)
    rows = [
        plan.chunk_list(pipeline, dataset, " again")
        | f"Read suspects of {dataset.name}"
        >> beam.ParDo(_ReadSuspects(dataset, search, side), found, known)
        for dataset in seen
    ]
    settled = partial(_settle, span=plan.span, results=plan.results, keep=plan.options.readings)
    return together("Settle", rows, [side], settled)


class _Overlaps(beam.CombineFn):  # type: ignore[misc]
    """What chunks yield of their readings → the hashes of suspect meters of a part."""

    def __init__(self, prints: Prints) -> None:
        self._prints = prints

    def create_accumulator(self) -> _Seen:
        """Nothing yet."""
        return [], []

    def add_input(self, seen: _Seen, prints: tuple[bytes, bytes]) -> _Seen:
        """Keep it, and compare what has gathered now and then."""
        runs, found = seen
        runs.append(np.frombuffer(prints[0], np.uint64))
        found.append(np.frombuffer(prints[1], np.uint64))
        return seen if len(runs) < _COMPARE_EVERY else self._compared(*seen)

    def merge_accumulators(self, many: Iterable[_Seen]) -> _Seen:
        """All of them together."""
        every = list(many)
        return self._compared(
            [prints for runs, _ in every for prints in runs],
            [found for _, suspects in every for found in suspects],
        )

    def compact(self, seen: _Seen) -> _Seen:
        """As little as may travel."""
        return self._compared(*seen)

    def extract_output(self, seen: _Seen) -> bytes:
        """The suspects' hashes."""
        _, found = self._compared(*seen)
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found])).tobytes()

    def _compared(self, runs: list[UInt64s], found: list[UInt64s]) -> _Seen:
        if len(runs) < 2:
            return runs, found
        prints = np.concatenate(runs)
        prints.sort()
        fewer, suspects = self._prints.compared(prints)
        return [fewer], [*found, suspects]


def _with_part(found: tuple[int, bytes], search: Search) -> Iterator[bytes]:
    """The hashes of suspect meters, whole again."""
    part, meters = found
    if meters:
        yield search.whole(part, np.frombuffer(meters, np.uint64)).tobytes()


class _ReadSuspects(beam.DoFn):  # type: ignore[misc]
    """Chunks → the rows of suspect meters; reads nothing where there is none."""

    def __init__(self, dataset: Dataset, search: Search, side: JoinInput) -> None:
        self._dataset, self._search, self._side = dataset, search, side

    def process(
        self, chunk: FilePart, suspects: Iterable[bytes], units: Iterable[bytes]
    ) -> Iterator[Keyed]:
        hashes = [np.frombuffer(data, np.uint64) for data in suspects]
        if not hashes:
            return
        wanted = pl.Series(np.concatenate(hashes)).unique()
        known = list(units)
        for raw, _, _ in read(chunk, self._dataset):
            good, _ = check(raw, self._dataset)
            rows, _ = sound(good, self._dataset, self._search.span, ("hash", *_SUSPECT))
            rows = rows.filter(pl.Series(self._search.hashes(rows)).is_in(wanted.implode()))
            rows, _, _ = of_known_units(rows, rows.select("unit_id").unique(), known)
            yield from self._side.split(rows.select(*_SUSPECT))


def _settle(
    group: JoinedRows, span: tuple[int, int], results: Results, keep: bool
) -> Iterator[pl.DataFrame]:
    """All readings of suspect meters → what to take off the sums by unit."""
    rows = group.frames["rows"].sort("meter", "start", "end").with_row_index("_n")
    before = pl.col("end").cum_max().shift().over("meter")
    clashing = rows.filter((pl.col("start") < before).any().over("meter"))
    off: list[int] = []
    rejects: dict[str, list[object]] = {SOURCE: [], ROW: [], "reason": []}
    for meter in clashing.partition_by("meter"):
        repeated, clashes = settle(_readings(meter))
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
    uncounted = rows.filter(pl.col("_n").is_in(off))
    if keep:
        results.put(UNCOUNTED.name, group.name, uncounted.select(SOURCE, ROW))
    energy = energy_by_unit(uncounted, span)
    yield energy.with_columns(pl.exclude("unit_id") * -1)


def _readings(rows: pl.DataFrame) -> list[MeterReading]:
    columns = rows.select("estimated", "start", "end", "kwh", "unit_id", SOURCE, ROW, "_n")
    return [MeterReading(*row) for row in columns.iter_rows()]

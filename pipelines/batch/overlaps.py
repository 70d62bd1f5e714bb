"""Readings of one meter that overlap: found among all chunks, read again, and taken off the sums.

16 bytes a reading come together to find them; the files are read again only where any are found,
and then only those meters' rows travel. What overlaps is in `pipelines.core.overlapping`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import apache_beam as beam
import numpy as np
import polars as pl

from pipelines.batch.columns import ORIGIN, REJECTS, ROW, SOURCE, Dataset, check
from pipelines.batch.job import Plan
from pipelines.batch.readings import energy_by_unit, sound, without_strangers
from pipelines.batch.sources import Chunk, read
from pipelines.batch.transforms import Group, Keyed, Results, Side, together
from pipelines.core import overlapping
from pipelines.core.overlapping import METER_BITS, UInt64s

#: Chunks whose fingerprints are laid side by side at a time.
_SIDE_BY_SIDE = 4

_METER_MASK = (1 << METER_BITS) - 1

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


def fingerprints(
    rows: pl.DataFrame, span: tuple[int, int], parts: int
) -> Iterator[tuple[int, UInt64s]]:
    """(part, fingerprints) of the readings, as `overlapping.suspects` wants them."""
    (start, end), bits = span, _bits(parts)
    hashes = _hashes(rows, bits)
    times = rows.select(
        (pl.col("start").clip(start) - start) // overlapping.TICK,
        (pl.col("end").clip(None, end) - start + overlapping.TICK - 1) // overlapping.TICK,
    )
    begins, ends = times["start"].to_numpy(), times["end"].to_numpy()
    if bits == 0:
        yield 0, overlapping.fingerprints(hashes, begins, ends)
        return
    places = (hashes >> np.uint64(METER_BITS)).astype(np.uint16)
    for part in np.unique(places):
        of = places == part
        meters = hashes[of] & np.uint64(_METER_MASK)
        yield int(part), overlapping.fingerprints(meters, begins[of], ends[of])


def counted_twice(
    pipeline: beam.Pipeline,
    plan: Plan,
    datasets: Sequence[Dataset],
    prints: Sequence[beam.PCollection],
    units: beam.PCollection,
) -> beam.PCollection:
    """Sums by unit, negative, of readings that must not count; what is refused goes to results."""
    suspects = (
        prints
        | "Fingerprints" >> beam.Flatten()
        | "Lay side by side" >> beam.CombinePerKey(_Overlaps())
        | "Suspects" >> beam.FlatMap(_with_part)
    )
    found, known = beam.pvalue.AsIter(suspects), beam.pvalue.AsIter(units)
    side = Side("rows", "meter", _SUSPECT, plan.parts)
    rows = [
        plan.chunk_list(pipeline, dataset, " again")
        | f"Read suspects of {dataset.name}"
        >> beam.ParDo(_ReadSuspects(dataset, plan.span, _bits(plan.parts), side), found, known)
        for dataset in datasets
    ]
    settle = partial(_settle, span=plan.span, results=plan.results)
    return together("Settle", rows, [side], settle)


def _bits(parts: int) -> int:
    """Bits of a meter's hash that name its part."""
    return (parts - 1).bit_length()


def _hashes(rows: pl.DataFrame, bits: int) -> UInt64s:
    """METER_BITS + `bits` of a hash of each row's meter; the upper `bits` are its part."""
    hashes = rows["hash"].to_numpy()
    return hashes >> np.uint64(64 - METER_BITS - bits)


class _Overlaps(beam.CombineFn):  # type: ignore[misc]
    """Fingerprints of all chunks, laid side by side → the hashes of suspect meters.

    Readings that meet become one as soon as they are seen, mostly before they travel.
    """

    def create_accumulator(self) -> tuple[list[UInt64s], list[UInt64s]]:
        """Fingerprints in sorted runs, and suspects found so far."""
        return [], []

    def add_input(
        self, seen: tuple[list[UInt64s], list[UInt64s]], prints: bytes
    ) -> tuple[list[UInt64s], list[UInt64s]]:
        """Keep them, and lay side by side what has gathered now and then."""
        seen[0].append(np.frombuffer(prints, np.uint64))
        return seen if len(seen[0]) < _SIDE_BY_SIDE else self._laid(*seen)

    def merge_accumulators(
        self, many: Iterable[tuple[list[UInt64s], list[UInt64s]]]
    ) -> tuple[list[UInt64s], list[UInt64s]]:
        """All of them side by side."""
        every = list(many)
        return self._laid(
            [prints for runs, _ in every for prints in runs],
            [found for _, suspects in every for found in suspects],
        )

    def compact(
        self, seen: tuple[list[UInt64s], list[UInt64s]]
    ) -> tuple[list[UInt64s], list[UInt64s]]:
        """As little as may travel."""
        return self._laid(*seen)

    def extract_output(self, seen: tuple[list[UInt64s], list[UInt64s]]) -> bytes:
        """The suspects' hashes."""
        _, found = self._laid(*seen)
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found])).tobytes()

    def _laid(
        self, runs: list[UInt64s], found: list[UInt64s]
    ) -> tuple[list[UInt64s], list[UInt64s]]:
        if not runs:
            return runs, found
        prints = np.concatenate(runs)
        prints.sort()
        return [overlapping.joined(prints)], [*found, overlapping.suspects(prints)]


def _with_part(found: tuple[int, bytes]) -> Iterator[bytes]:
    """The hashes of suspect meters, whole again."""
    part, meters = found
    if meters:
        whole = np.frombuffer(meters, np.uint64) | np.uint64(part << METER_BITS)
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
            rows, _ = sound(good, self._dataset, self._span, ("hash", *_SUSPECT))
            rows = rows.filter(pl.Series(_hashes(rows, self._bits)).is_in(wanted.implode()))
            rows, _, _ = without_strangers(rows, rows.select("unit_id").unique(), known)
            yield from self._side.split(rows.select(*_SUSPECT))


def _settle(group: Group, span: tuple[int, int], results: Results) -> Iterator[pl.DataFrame]:
    """All readings of suspect meters → what to take off the sums by unit."""
    rows = group.frames["rows"].sort("meter", "start", "end").with_row_index("_n")
    before = pl.col("end").cum_max().shift().over("meter")
    clashing = rows.filter((pl.col("start") < before).any().over("meter"))
    off: list[int] = []
    rejects: dict[str, list[object]] = {SOURCE: [], ROW: [], "reason": []}
    for meter in clashing.partition_by("meter"):
        repeated, clashes = overlapping.settle(_readings(meter))
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
    energy = energy_by_unit(rows.filter(pl.col("_n").is_in(off)), span)
    yield energy.with_columns(pl.exclude("unit_id") * -1)


def _readings(rows: pl.DataFrame) -> list[overlapping.Reading]:
    columns = rows.select("estimated", "start", "end", "kwh", "unit_id", SOURCE, ROW, "_n")
    return [overlapping.Reading(*row) for row in columns.iter_rows()]

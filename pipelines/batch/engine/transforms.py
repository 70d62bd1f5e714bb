"""The Beam steps all jobs share: read and check, bring rows of a key together, add up, hand over.

Elements are whole Polars frames, never rows. Between workers a frame travels as Arrow IPC bytes.
What a job computes is in its own file; the arithmetic is in `pipelines.core`.
"""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows

from pipelines.batch.engine.columns import Dataset, check, empty_rejects, offsets
from pipelines.batch.engine.sources import FilePart, offsets_at_start, read

T = TypeVar("T")

#: Results that are not a table of the job: what was refused, how many rows were read, with
#: which offsets their times are written, and from when until when they reach.
REJECTED, COUNTED, OFFSETS, REACH = "batch_rejects", "_rows_read", "_offsets", "_reach"

#: How a reason begins that only remarks on a row which counts all the same.
NOTE = "note: "

#: Frames a running sum keeps before it adds them up.
_SUM_EVERY = 16

_PART = "_part"


@dataclass(frozen=True, slots=True)
class FramePart:
    """A frame and the name of the step and part it is of; a retry makes the same name again."""

    name: str
    frame: pl.DataFrame


def to_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as it travels."""
    stream = io.BytesIO()
    # As Polars has it in memory: text is not laid out anew for readers of older formats.
    newest = pl.CompatLevel.newest()
    frame.write_ipc_stream(stream, compression="lz4", compat_level=newest)
    return stream.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """`to_bytes` undone."""
    return pl.read_ipc_stream(data)


@dataclass(frozen=True, slots=True)
class Results:
    """The folder in which a pipeline leaves what it found, for the driver to load.

    Steps write there themselves, a file a piece. A step that is tried again writes the same file
    again, so nothing is there twice.
    """

    folder: str

    def put(self, table: str, name: str, *frames: pl.DataFrame) -> None:
        """Leave rows of `table`; the name is the same whenever the same piece comes by."""
        rows = pl.concat(frames)
        if rows.is_empty():
            return
        path = f"{self.folder}/{table}/{name}.arrow"
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            stream.write(to_bytes(rows))

    def refuse(self, name: str, *rejects: pl.DataFrame) -> None:
        """Leave rejects."""
        self.put(REJECTED, name, *rejects)

    def note(self, name: str, rows: pl.DataFrame) -> None:
        """Leave remarks on rows that count all the same; `reason` says what to look at."""
        remark = pl.concat_str(pl.lit(NOTE), "reason").alias("reason")
        self.refuse(f"note-{name}", rows.with_columns(remark))

    def count(self, name: str, source: str, rows: int) -> None:
        """Leave how many rows of a file were read."""
        self.put(COUNTED, name, pl.DataFrame({"source": [source], "rows": [rows]}))

    def reach(self, what: str, name: str, *times: pl.Series) -> None:
        """Leave from when until when some rows of a kind reach: columns of ms UTC."""
        known = [column for column in times if column.count()]
        if known:
            first, last = min(c.min() for c in known), max(c.max() for c in known)  # type: ignore[type-var]
            row = {"what": [what], "first": [first], "last": [last]}
            self.put(REACH, f"{what}-{name}", pl.DataFrame(row))

    def offsets(self, name: str, written: Sequence[str]) -> None:
        """Leave with which offsets from UTC some times are written."""
        rows = pl.DataFrame({"offset": list(written)}, schema={"offset": pl.String})
        self.put(OFFSETS, name, rows)

    def keep(self, name: str, value: T) -> Kept[T]:
        """Leave what steps need, for them to fetch, as it is made when the pipeline is built."""
        path = f"{self.folder}/_kept/{name}"
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            stream.write(pickle.dumps(value))
        return Kept(path)


class Kept(Generic[T]):
    """Something large in the folder; it travels as the name of its file.

    A step's own values travel packed by bzip2, several times over: seconds for some ten megabytes.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    @cached_property
    def value(self) -> T:
        """Fetched once wherever it is needed."""
        with FileSystems.open(self._path) as stream:
            found: T = pickle.loads(stream.read())  # noqa: S301 - a file of our own
        return found

    def __reduce__(self) -> tuple[type[Kept[T]], tuple[str]]:
        return Kept, (self._path,)


#: What to do with a piece where it is read, or with a group: (it, side inputs…) → elements.
Then = Callable[..., Iterable[object]]


class ReadDataset(beam.DoFn):  # type: ignore[misc]
    """Chunks of one data set → what `then` makes of the usable rows.

    `then` runs in the step that reads, so that rows which it sums up never travel. Counts and
    rejects go to the results. `at_once` Parquet chunks are worked on at a time, in as many threads:
    nearly all of the work is done outside of Python.
    """

    def __init__(self, dataset: Dataset, results: Results, then: Then, at_once: int = 1) -> None:
        self._dataset, self._results, self._then = dataset, results, then
        self._at_once = at_once

    def setup(self) -> None:
        """The threads."""
        self._threads = ThreadPoolExecutor(self._at_once, "chunk")
        self._under_way: deque[Future[list[object]]] = deque()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]
    def process(self, chunk: FilePart, *sides: object) -> Iterator[object]:
        """Read the chunk, a block at a time."""
        if self._at_once == 1 or not chunk.file.parquet:  # a CSV file is one chunk, however large
            yield from self._elements(chunk, *sides)
            return
        self._under_way.append(self._threads.submit(lambda: list(self._elements(chunk, *sides))))
        if len(self._under_way) > self._at_once:
            yield from self._under_way.popleft().result()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]
    def finish_bundle(self) -> Iterator[object]:
        """What is still under way."""
        while self._under_way:
            yield from map(_windowed, self._under_way.popleft().result())

    def teardown(self) -> None:
        """No more threads; what is under way when a run fails is of no use."""
        self._threads.shutdown(cancel_futures=True)

    def _elements(self, chunk: FilePart, *sides: object) -> Iterator[object]:
        for block, (raw, misfits, skipped) in enumerate(read(chunk, self._dataset)):
            name = f"{self._dataset.name}-{chunk.number:06d}-{block:06d}"
            if self._dataset.calls:  # checked as they were read
                good, rejects = raw, empty_rejects()
                written = offsets_at_start(chunk) if block == 0 else []
            else:
                good, rejects = check(raw, self._dataset)
                written = offsets(raw, self._dataset)
            self._results.offsets(name, written)
            self._results.count(name, chunk.file.source, raw.height + misfits.height + skipped)
            self._results.refuse(name, misfits, rejects)
            times = (good[n] for n in self._dataset.instants)
            self._results.reach(self._dataset.name, name, *times)
            if good.height:
                yield from self._then(FramePart(name, good), *sides)


def _windowed(element: object) -> object:
    """An element as `finish_bundle` must give it."""
    if isinstance(element, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(element.tag, GlobalWindows.windowed_value(element.value))
    return GlobalWindows.windowed_value(element)


#: What travels to where all rows of a key come together: the part, and whose rows these are.
Keyed = tuple[int, tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class JoinInput:
    """One kind of rows that `together` joins with others: its name, columns, and the key's column.

    Keys are split into `parts`; with one part nothing is hashed. Rows without a key (null) go
    together too.
    """

    name: str
    key: str
    schema: Mapping[str, Any]
    parts: int = 1

    def split(self, rows: pl.DataFrame) -> Iterator[Keyed]:
        """The rows, under the parts of their keys, ready to travel."""
        if self.parts == 1:
            yield 0, (self.name, to_bytes(rows))
            return
        parted = rows.with_columns(self.part().alias(_PART))
        groups = parted.partition_by(_PART, as_dict=True, include_key=False)
        for (number,), some in groups.items():
            yield int(number), (self.name, to_bytes(some))

    def part(self) -> pl.Expr:
        """The part of each row."""
        return pl.col(self.key).hash() % self.parts

    def of_piece(self, piece: FramePart) -> Iterator[Keyed]:
        """`split`, as the next step after reading."""
        return self.split(piece.frame)


@dataclass(frozen=True, slots=True)
class JoinedRows:
    """All rows of some keys: one frame a side, empty where a side has none of them."""

    name: str
    frames: Mapping[str, pl.DataFrame]


def gather(label: str, arriving: Sequence[beam.PCollection]) -> Any:
    """Bring what the sides' `split` made together by part, from any number of PCollections.

    Frames are never elements themselves: Beam would pickle each to learn its size.
    """
    return (
        tuple(arriving)
        | f"{label}: flatten" >> beam.Flatten()
        | f"{label}: group" >> beam.GroupByKey()
    )


def join(
    label: str,
    gathered: beam.PCollection,
    sides: Sequence[JoinInput],
    then: Then,
    inputs: Sequence[object] = (),
    tags: Sequence[str] = (),
) -> Any:
    """Do `then` with each group that `gather` brought together.

    `then` takes a `JoinedRows`, whose rows come in any order, and the side inputs; it yields
    elements, and `tags` besides.
    """
    empty = {side.name: to_bytes(pl.DataFrame(schema=side.schema)) for side in sides}
    step = beam.ParDo(_Join(empty, then), *inputs)
    return gathered | label >> (step.with_outputs(*tags, main="main") if tags else step)


def together(
    label: str,
    arriving: Sequence[beam.PCollection],
    sides: Sequence[JoinInput],
    then: Then,
    inputs: Sequence[object] = (),
    tags: Sequence[str] = (),
) -> Any:
    """Bring all rows of a key into one group, from every side, and do `then` with each group."""
    return join(label, gather(label, arriving), sides, then, inputs, tags)


class _Join(beam.DoFn):  # type: ignore[misc]
    def __init__(self, empty: Mapping[str, bytes], then: Then) -> None:
        self._empty, self._then = empty, then

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]
    def process(
        self, group: tuple[int, Iterable[tuple[str, bytes]]], *inputs: object
    ) -> Iterator[object]:
        number, arrived = group
        frames = {name: [from_bytes(data)] for name, data in self._empty.items()}
        for name, data in arrived:
            frames[name].append(from_bytes(data))
        joined = {name: pl.concat(some) for name, some in frames.items()}
        yield from self._then(JoinedRows(f"part-{number:06d}", joined), *inputs)


class SumFrames(beam.CombineFn):  # type: ignore[misc]
    """Frames of partial sums → one frame of sums, added up on the way through the shuffle."""

    def __init__(self, by: Sequence[str]) -> None:
        self._by = list(by)

    def create_accumulator(self) -> list[pl.DataFrame]:
        """Nothing yet."""
        return []

    def add_input(self, sums: list[pl.DataFrame], frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Keep it, and add up what has gathered now and then."""
        sums.append(frame)
        return sums if len(sums) < _SUM_EVERY else [self._total(sums)]

    def merge_accumulators(self, many: Iterable[list[pl.DataFrame]]) -> list[pl.DataFrame]:
        """One sum of them all."""
        frames = [frame for sums in many for frame in sums]
        return [self._total(frames)] if frames else []

    def extract_output(self, sums: list[pl.DataFrame]) -> pl.DataFrame:
        """The sums; a frame without columns where there were none."""
        return self._total(sums) if sums else pl.DataFrame()

    def _total(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        alike = [frame.select(*self._by, pl.exclude(self._by)) for frame in frames]
        return pl.concat(alike).group_by(self._by).agg(pl.all().sum())

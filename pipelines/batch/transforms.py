"""The Beam steps all jobs share: read and check, bring rows of a key together, add up, hand over.

Elements are whole Polars frames, never rows. Between workers a frame travels as Arrow IPC bytes.
What a job computes is in its own file; the arithmetic is in `pipelines.core`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.columns import Dataset, check
from pipelines.batch.sources import Chunk, read

#: Results that are not a table of the job: what was refused, and how many rows were read.
REJECTED, COUNTED = "batch_rejects", "_rows_read"

#: Frames a running sum keeps before it adds them up.
_SUM_EVERY = 16

_PART = "_part"


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame and the name of the step and part it is of; a retry makes the same name again."""

    name: str
    frame: pl.DataFrame


def to_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as it travels."""
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
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


#: What to do with usable rows where they are read: (piece, side inputs…) → elements.
Then = Callable[..., Iterable[object]]


class ReadDataset(beam.DoFn):  # type: ignore[misc]
    """Chunks of one data set → what `then` makes of the usable rows.

    `then` runs in the step that reads, so that rows which it sums up never travel. Counts and
    rejects go to the results.
    """

    def __init__(self, dataset: Dataset, results: Results, then: Then) -> None:
        self._dataset, self._results, self._then = dataset, results, then

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]
    def process(self, chunk: Chunk, *sides: object) -> Iterator[object]:
        """Read the chunk, a block at a time."""
        for block, (raw, misfits) in enumerate(read(chunk, self._dataset)):
            name = f"{self._dataset.name}-{chunk.number:06d}-{block:06d}"
            good, rejects = check(raw, self._dataset)
            self._results.put(COUNTED, name, pl.DataFrame({"rows": [raw.height + misfits.height]}))
            self._results.refuse(name, misfits, rejects)
            if good.height:
                yield from self._then(Piece(name, good), *sides)


def as_they_are(piece: Piece) -> Iterator[Piece]:
    """Hand usable rows on whole."""
    yield piece


@dataclass(frozen=True, slots=True)
class Side:
    """One of the inputs that `together` joins: pieces, the column of the key, all columns."""

    pieces: beam.PCollection
    key: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """All rows of some keys: one frame a side, empty where a side has none of them."""

    name: str
    frames: Mapping[str, pl.DataFrame]


def together(label: str, sides: Mapping[str, Side], parts: int) -> beam.PCollection:
    """Bring all rows of a key into one of `parts` groups, from every side.

    Rows without a key go together too. The rows of a group come in any order.
    """
    keyed = [
        side.pieces | f"{label}: split {name}" >> beam.ParDo(_Split(name, side.key, parts))
        for name, side in sides.items()
    ]
    empty = {name: to_bytes(pl.DataFrame(schema=side.schema)) for name, side in sides.items()}
    return (
        keyed
        | f"{label}: flatten" >> beam.Flatten()
        | f"{label}: group" >> beam.GroupByKey()
        | f"{label}: join" >> beam.ParDo(_Join(empty))
    )


class _Split(beam.DoFn):  # type: ignore[misc]
    def __init__(self, name: str, key: str, parts: int) -> None:
        self._name, self._key, self._parts = name, key, parts

    def process(self, piece: Piece) -> Iterator[tuple[int, tuple[str, bytes]]]:
        rows = piece.frame
        if self._parts == 1:
            yield 0, (self._name, to_bytes(rows))
            return
        part = pl.col(self._key).hash() % self._parts
        for (number,), some in rows.with_columns(part.alias(_PART)).partition_by(
            _PART, as_dict=True, include_key=False
        ).items():  # fmt: skip
            yield int(number), (self._name, to_bytes(some))


class _Join(beam.DoFn):  # type: ignore[misc]
    def __init__(self, empty: Mapping[str, bytes]) -> None:
        self._empty = empty

    def process(self, group: tuple[int, Iterable[tuple[str, bytes]]]) -> Iterator[Group]:
        number, sides = group
        frames = {name: [from_bytes(data)] for name, data in self._empty.items()}
        for name, data in sides:
            frames[name].append(from_bytes(data))
        yield Group(
            f"part-{number:06d}",
            {name: pl.concat(some, how="vertical") for name, some in frames.items()},
        )


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
        return pl.concat(frames).group_by(self._by).agg(pl.all().sum())

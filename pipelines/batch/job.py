"""What a job is: its name, what it reads, what it writes, and the pipeline that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import apache_beam as beam

from pipelines.batch.columns import Dataset
from pipelines.batch.sources import Chunk
from pipelines.batch.tables import ResultTable
from pipelines.batch.transforms import ReadDataset, Results
from schemas.errors import UsageError

#: Bytes of input for which one group of keys is kept in memory.
_PART_BYTES = 64 << 20
_MOST_PARTS = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """All a job's pipeline is built from. `period` is YYYY-MM or, for an `as_of` job, the day."""

    period: str
    chunks: Mapping[str, Sequence[Chunk]]
    results: Results
    parts: int

    def read(self, pipeline: beam.Pipeline, dataset: Dataset) -> beam.PCollection:
        """The usable rows of a data set, in pieces."""
        chunks = self.chunks[dataset.name]
        return pipeline | f"Read {dataset.name}" >> ReadDataset(dataset, chunks, self.results)

    @property
    def span(self) -> tuple[int, int]:
        """The month's start and end, ms UTC."""
        return month_span(self.period)

    @property
    def as_of(self) -> date:
        """The day as of which."""
        return date.fromisoformat(self.period)


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job. `build` adds its steps to a pipeline; results go to `plan.results`."""

    name: str
    when: Literal["period", "as_of"]
    datasets: tuple[Dataset, ...]
    tables: tuple[ResultTable, ...]
    build: Callable[[beam.Pipeline, Plan], None]


def month_span(period: str) -> tuple[int, int]:
    """(start, end) of a month YYYY-MM in ms UTC. Raises `UsageError`."""
    try:
        start = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(f"a period is a month like 2026-01, not {period!r}") from error
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp() * 1000), int(end.timestamp() * 1000)


def parts_for(size: int) -> int:
    """Into how many groups the keys of `size` bytes of input are split."""
    return min(_MOST_PARTS, 1 + size // _PART_BYTES)

"""What a job is: its name, what it reads, what it writes, and the pipeline that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import apache_beam as beam

from pipelines.batch.columns import Dataset
from pipelines.batch.sources import Chunk
from pipelines.batch.tables import ResultTable
from pipelines.batch.transforms import ReadDataset, Results, Then, as_they_are
from schemas.errors import UsageError

_MOST_PARTS = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """All a job's pipeline is built from. `period` is YYYY-MM or, for an `as_of` job, the day.

    `parts` is into how many groups keys are split; `spread` says that there are many workers.
    """

    period: str
    chunks: Mapping[str, Sequence[Chunk]]
    results: Results
    parts: int
    spread: bool = False

    def read(
        self,
        pipeline: beam.Pipeline,
        dataset: Dataset,
        then: Then = as_they_are,
        sides: Sequence[object] = (),
        tags: Sequence[str] = (),
    ) -> Any:
        """What `then` makes of the usable rows of a data set, given the side inputs `sides`.

        Where it yields `tags` besides the main output, PCollections by tag; else a PCollection.
        """
        reading = beam.ParDo(ReadDataset(dataset, self.results, then), *sides)
        chunks = self.chunk_list(pipeline, dataset)
        if tags:
            reading = reading.with_outputs(*tags, main="main")
        return chunks | f"Read {dataset.name}" >> reading

    def chunk_list(self, pipeline: beam.Pipeline, dataset: Dataset, why: str = "") -> Any:
        """The chunks of a data set, spread over the workers."""
        label = f"Chunks of {dataset.name}{why}"
        chunks = pipeline | label >> beam.Create(self.chunks[dataset.name], reshuffle=False)
        return chunks | f"Spread {label}" >> beam.Reshuffle() if self.spread else chunks

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
    """A batch job. `build` adds its steps to a pipeline; results go to `plan.results`.

    For every `part_bytes` of input there is one more group of keys, each held in memory whole.
    """

    name: str
    when: Literal["period", "as_of"]
    datasets: tuple[Dataset, ...]
    tables: tuple[ResultTable, ...]
    build: Callable[[beam.Pipeline, Plan], None]
    part_bytes: int = 16 << 20

    def parts(self, size: int) -> int:
        """Into how many groups the keys of `size` bytes of input are split."""
        return min(_MOST_PARTS, 1 + size // self.part_bytes)


def month_span(period: str) -> tuple[int, int]:
    """(start, end) of a month YYYY-MM in ms UTC. Raises `UsageError`."""
    try:
        start = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(f"a period is a month like 2026-01, not {period!r}") from error
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp() * 1000), int(end.timestamp() * 1000)

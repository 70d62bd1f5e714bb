"""What a job is: its name, what it reads, what it writes, and the pipeline that does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.batch.engine.columns import Dataset, check
from pipelines.batch.engine.sources import FilePart, peek
from pipelines.batch.engine.tables import ResultTable
from pipelines.batch.engine.transforms import ReadDataset, Results, Then
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

_MOST_PARTS = 512

#: Chunks that a run in this process works on at a time; workers of a cluster take one each.
_CHUNKS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """All a job's pipeline is built from. `period` is YYYY-MM or, for an `as_of` job, the day.

    `parts` is into how many groups keys are split; `root` is the input folder; `until` the last
    day looked at, where that is not the month's last; `spread` says that there are many workers.
    `warehouse` is there to ask while the pipeline is built; steps must not keep it.
    """

    period: str
    chunks: Mapping[str, Sequence[FilePart]]
    results: Results
    parts: int
    root: str
    options: JobOptions
    until: date | None = None
    spread: bool = False
    warehouse: Warehouse | None = None

    def read(
        self,
        pipeline: beam.Pipeline,
        dataset: Dataset,
        then: Then,
        sides: Sequence[object] = (),
        tags: Sequence[str] = (),
    ) -> Any:
        """What `then` makes of the usable rows of a data set, given the side inputs `sides`.

        No side may be an AsIter: it would be read where `then` runs, which may be another thread.

        Where it yields `tags` besides the main output, PCollections by tag; else a PCollection.
        """
        at_once = 1 if self.spread else _CHUNKS_AT_ONCE
        reading = beam.ParDo(ReadDataset(dataset, self.results, then, at_once), *sides)
        chunks = self.chunk_list(pipeline, dataset)
        if tags:
            reading = reading.with_outputs(*tags, main="main")
        return chunks | f"Read {dataset.name}" >> reading

    def chunk_list(self, pipeline: beam.Pipeline, dataset: Dataset, why: str = "") -> Any:
        """The chunks of a data set, spread over the workers."""
        label = f"Chunks of {dataset.name}{why}"
        chunks = pipeline | label >> beam.Create(self.chunks[dataset.name], reshuffle=False)
        return chunks | f"Spread {label}" >> beam.Reshuffle() if self.spread else chunks

    def peek(self, dataset: Dataset) -> pl.DataFrame | None:
        """The first few usable rows of a data set, read here and now; None where it has no file."""
        chunks = self.chunks[dataset.name]
        return check(peek(chunks[0], dataset), dataset)[0] if chunks else None

    @property
    def label(self) -> str:
        """What rows and the run are filed under: the day of a month that is looked at up to it."""
        return self.period if self.until is None else self.until.isoformat()

    @property
    def span(self) -> tuple[int, int]:
        """The start and end, ms UTC, of the month in the run's time zone."""
        start, end = month_span(self.period, self.options.zone)
        if self.until is not None:
            end = min(end, _midnight(self.until + timedelta(days=1), self.options.zone))
        return start, end

    @property
    def month_before(self) -> tuple[int, int]:
        """The span of the month before, ms UTC."""
        start = datetime.fromtimestamp(self.span[0] / 1000, self.options.zone)
        return month_span(f"{start - timedelta(days=1):%Y-%m}", self.options.zone)

    @property
    def last_day(self) -> date:
        """The last day that is looked at, in the run's time zone."""
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}", self.period):
            return datetime.fromtimestamp(self.span[1] / 1000 - 1, self.options.zone).date()
        return self.as_of

    @property
    def as_of(self) -> date:
        """The day as of which."""
        return date.fromisoformat(self.period)


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job. `build` adds its steps to a pipeline; results go to `plan.results`.

    A job that takes `either` does, as of a day, that day's month up to the day; its rows are filed
    under the day and stand beside those of the month.
    `also` are patterns of further files that it reads, below the input folder.
    For every `part_bytes` of input there is one more group of keys, each held in memory whole.
    """

    name: str
    when: Literal["period", "as_of", "either"]
    datasets: tuple[Dataset, ...]
    tables: tuple[ResultTable, ...]
    build: Callable[[beam.Pipeline, Plan], None]
    part_bytes: int = 16 << 20
    also: tuple[str, ...] = ()

    def constants(self, plan: Plan) -> dict[str, object]:
        """Values of columns that are the same in all rows of a run."""
        as_of = {"as_of": plan.as_of} if self.when == "as_of" else {}
        return {"job": self.name, "period": plan.label, **as_of}

    def parts(self, size: int) -> int:
        """Into how many groups the keys of `size` bytes of input are split."""
        return min(_MOST_PARTS, 1 + size // self.part_bytes)


def month_span(period: str, zone: ZoneInfo) -> tuple[int, int]:
    """(start, end) in ms UTC of a month YYYY-MM of a time zone. Raises `UsageError`."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", period):
            raise ValueError("another length")  # noqa: TRY301
        first = date.fromisoformat(f"{period}-01")
        after = (first + timedelta(days=31)).replace(day=1)
        return _midnight(first, zone), _midnight(after, zone)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"a period is a month like 2026-01, not {period!r}") from error


def known_until(span: tuple[int, int], zone: ZoneInfo, newest: int | None) -> int:
    """Up to when a span is known, all ms UTC: to the end of the day of its input's newest event."""
    start, end = span
    if newest is None:
        return start
    after = datetime.fromtimestamp(newest / 1000, zone).date() + timedelta(days=1)
    return max(start, min(end, _midnight(after, zone)))


def newest_of(times: Iterable[int | None]) -> int | None:
    """The newest of the times there are: what `known_until` is asked with."""
    return max((time for time in times if time is not None), default=None)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def _share(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(%?)", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text!r} is not a share: write it like 5% or 0.05")
    return share


def _days(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) == 0:
        raise UsageError(f"{text!r} is not a number of days: give it like --inactive-days=30")
    return int(text)


class JobOptions(PipelineOptions):  # type: ignore[misc]
    """What jobs take among the Beam options."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument(
            "--time-zone",
            default="Asia/Shanghai",
            help="the business's zone: whose days and months",
        )
        parser.add_argument(
            "--most-refused",
            type=_share,
            default=0.05,
            help="fail if a larger share of any one input is refused",
        )
        parser.add_argument(
            "--least-read",
            type=_share,
            default=0.98,
            help="line loss: with a smaller share of the meters read a unit is incomplete",
        )
        parser.add_argument(
            "--readings", action="store_true", help="line loss: keep what each unit opens down to"
        )
        parser.add_argument("--inactive-days", type=_days, default=30, help="silent so long: lost")
        parser.add_argument(
            "--use", choices=["any", "charged"], default="any", help="which calls count as use"
        )
        parser.add_argument("--silent-days", type=_days, default=5, help="silent so long: listed")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose months are meant. Raises `UsageError`."""
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(f"no time zone {self.time_zone!r}") from error

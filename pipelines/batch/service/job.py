"""The service side's figures of a month, from the events of cases, halls and call centres.

Openings of one matter come together and learn what they repeat, events of one case come together
and are folded as the stream folds them, and what each adds is summed by unit. The arithmetic is in
`core.service`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import apache_beam as beam
import polars as pl

from pipelines.batch.attribution import reference_of
from pipelines.batch.engine.columns import REJECTS, Dataset
from pipelines.batch.engine.job import Job, Plan, known_until, newest_of
from pipelines.batch.engine.sources import FilePart, read_accepted
from pipelines.batch.engine.tables import ResultTable
from pipelines.batch.engine.transforms import Results
from pipelines.core.service import figures
from pipelines.core.service.cases import Deadlines, Happened, fold
from pipelines.core.service.repeat_stage import matter_key, repeats
from pipelines.ingest.service.rows import as_happened
from pipelines.ingest.sim_ranges import sim_ranges
from schemas.errors import InputError
from schemas.events import Refused
from schemas.reference import Reference
from schemas.service.events import (
    CaseEvent,
    CustomerContact,
    Exam,
    Inspection,
    Rating,
    ServiceEvent,
)

EVENTS = Dataset("events", (), optional=True, folders=("",), events=True)
KPIS = ResultTable("service_kpis")

#: A case and something that happened to it.
_OfCase = tuple[str, Happened]


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    if not plan.chunks[EVENTS.name]:
        raise InputError(f"{plan.root} has nothing to read: it needs a folder events/")
    reference, results, span = reference_of(plan), plan.results, plan.span
    read = plan.chunk_list(pipeline, EVENTS) | "Read events" >> beam.ParDo(
        _Read(reference, results, span)
    ).with_outputs("openings", "cases", "newest", main="records")
    newest = read["newest"] | "Newest" >> beam.CombineGlobally(newest_of)
    openings = (
        read["openings"]
        | "By matter" >> beam.GroupByKey()
        | "Repeats" >> beam.FlatMap(_repeats, reference)
    )
    shares = (
        (read["cases"], openings)
        | "All of cases" >> beam.Flatten()
        | "By case" >> beam.GroupByKey()
        | "Fold"
        >> beam.FlatMap(
            _fold, reference, span, plan.options.zone, results, beam.pvalue.AsSingleton(newest)
        )
    )
    records = (
        read["records"]
        | "By event" >> beam.GroupByKey()
        | "Once" >> beam.FlatMap(lambda group: next(iter(group[1])))
    )
    _ = (
        (shares, records)
        | "All shares" >> beam.Flatten()
        | "Add up" >> beam.CombinePerKey(_Add())
        | "As a list" >> beam.combiners.ToList()
        | "Write" >> beam.Map(_write, reference, results)
    )


class _Read(beam.DoFn):  # type: ignore[misc]
    """Event files → shares of records by event; on the side openings by matter, events by case,
    and the newest time."""

    def __init__(self, reference: Reference, results: Results, span: tuple[int, int]) -> None:
        self._reference, self._results, self._span = reference, results, span

    def process(self, chunk: FilePart) -> Iterator[Any]:
        for block, some in enumerate(read_accepted(chunk)):
            name, source = f"events-{chunk.number:06d}-{block:06d}", chunk.file.source
            rejects = [(source, row, reason) for row, reason in some.refused]
            for row, event in some.others:
                try:
                    sim_ranges(event, self._reference)
                except Refused as reason:
                    rejects.append((source, row, str(reason)))
                    continue
                if isinstance(event, ServiceEvent) and event.at < self._span[1]:
                    yield from self._event(event, source, row)
            times = [event.at for _, event in some.others if isinstance(event, ServiceEvent)]
            yield beam.pvalue.TaggedOutput("newest", newest_of(times))
            self._results.reach("events", name, pl.Series(times, dtype=pl.Int64))
            self._results.count(name, source, some.count)
            self._results.refuse(name, pl.DataFrame(rejects, schema=REJECTS, orient="row"))

    def _event(self, event: ServiceEvent, source: str, row: int) -> Iterator[Any]:
        if isinstance(event, CaseEvent):
            one = as_happened(event, event.at, source, row)
            key = matter_key(one) if one.type == "case_opened" else None
            tag = "cases" if key is None else "openings"
            yield beam.pvalue.TaggedOutput(tag, (key or event.case_id, (event.case_id, one)))
        elif event.at >= self._span[0]:
            yield event.event_id, [((s.unit_id, s.kpi), s[2:]) for s in _shares(event)]


def _shares(event: ServiceEvent) -> Iterator[figures.Share]:
    if isinstance(event, CustomerContact) and event.direction == "in":
        taken = event.answered_after_s, event.duration_s
        yield from figures.of_contact(event.unit_id, *taken, second=event.second)
    elif isinstance(event, Inspection):
        yield from figures.of_inspection(event.unit_id, event.points, event.of)
    elif isinstance(event, Rating):
        yield from figures.of_rating(event.unit_id, event.satisfied)
    elif isinstance(event, Exam):
        exam = event.unit_id, event.kind, event.score
        yield from figures.of_exam(*exam, attended=event.attended)


def _repeats(
    group: tuple[str, Iterable[_OfCase]], reference: Reference
) -> Iterator[tuple[str, _OfCase]]:
    once = {event.event_id: (case_id, event) for case_id, event in group[1]}
    openings = sorted(once.values(), key=lambda one: one[1].order)
    for (case_id, event), repeat_of in zip(
        openings, repeats(openings, Deadlines(reference.service)), strict=True
    ):
        event.detail["repeat_of"] = repeat_of
        yield case_id, (case_id, event)


def _fold(
    group: tuple[str, Iterable[_OfCase]],
    reference: Reference,
    span: tuple[int, int],
    zone: ZoneInfo,
    results: Results,
    newest: int | None,
) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    case_id, events = group[0], {event.event_id: event for _, event in group[1]}
    result = fold(case_id, events.values(), Deadlines(reference.service), span[1])
    rejects = [
        (events[name].source, events[name].position, why) for name, why in result.refused.items()
    ]
    if rejects:
        results.refuse(f"case-{case_id}", pl.DataFrame(rejects, schema=REJECTS, orient="row"))
    known = known_until(span, zone, newest)
    for share in figures.of_case(result, *span, known):
        yield (share.unit_id, share.kpi), (float(share.numerator), float(share.denominator))


class _Add(beam.CombineFn):  # type: ignore[misc]
    """Numerators and denominators, each summed."""

    def create_accumulator(self) -> tuple[float, float]:
        """Nothing yet."""
        return 0.0, 0.0

    def add_input(self, sums: tuple[float, float], one: tuple[float, float]) -> tuple[float, float]:
        """One more."""
        return sums[0] + one[0], sums[1] + one[1]

    def merge_accumulators(self, many: Iterable[tuple[float, float]]) -> tuple[float, float]:
        """One sum of them all."""
        numerators, denominators = zip(*many, strict=True)
        return sum(numerators), sum(denominators)

    def extract_output(self, sums: tuple[float, float]) -> tuple[float, float]:
        """The sums."""
        return sums


def _write(
    sums: list[tuple[tuple[str, str], tuple[float, float]]], reference: Reference, results: Results
) -> None:
    rows = sorted(figures.figures(dict(sums), reference.service_targets), key=lambda row: row[:2])
    columns = (
        dict(zip(figures.ServiceFigure._fields, zip(*rows, strict=True), strict=True))
        if rows
        else {}
    )
    if columns:
        results.put(KPIS.name, "all", KPIS.frame(columns))


JOB = Job(
    "service",
    "period",
    (EVENTS,),
    (KPIS,),
    _build,
    also=("reference/*.csv", "reference/*.toml"),
)

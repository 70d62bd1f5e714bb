"""The service side's figures of a month, as sums that are divided last. Pure.

A figure is a numerator and a denominator by unit. Formulas and their defaults are those of one
operator's papers; targets are a reference table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pipelines.core.service.cases import Folded

#: Seconds within which a call is to be taken: three rings.
QUICK: Final = 12.0

#: What a complaint takes from the quality of calls, and an absence from the mark of training.
COMPLAINT: Final = 1.0
ABSENCE: Final = 1.0

#: Targets where the reference table says nothing.
TARGETS: Final = {"satisfaction": 0.8}


class Share(NamedTuple):
    """A part of a unit's figure. `kpi` may be a sum that only goes into others ('_' before it)."""

    unit_id: str
    kpi: str
    numerator: float
    denominator: float


def of_case(result: Folded, start: int, end: int, known: int) -> Iterator[Share]:
    """What a case adds to the figures of the month from `start` to `end`, which is known up to
    `known` (ms): whether a step that is due later will be in time nobody can tell yet."""
    case = result.case
    if case is None:
        return
    for step in result.steps:
        if step.due_at is not None and start <= step.due_at < min(end, known):
            kept = step.finished_at is not None and step.finished_at <= step.due_at
            yield Share(step.unit_id, f"on_time.{case.kind}.{step.step}", kept, 1)
    if start <= case.opened_at < end:
        yield Share(case.unit_id, "repeats", bool(case.repeat_of), 1)
        if case.kind == "complaint":
            yield Share(case.unit_id, "_complaints", 1, 0)
    if case.answered_at is not None and start <= case.answered_at < end:
        hours = (case.answered_at - case.opened_at) / 3_600_000
        yield Share(case.unit_id, "first_answer_h", hours, 1)
    if case.closed_at is not None and start <= case.closed_at < end:
        yield Share(case.unit_id, "commitments_kept", case.on_time == 1, 1)
        if case.satisfied is not None:
            yield Share(case.unit_id, "case_satisfaction", case.satisfied, 1)


def of_contact(unit_id: str, answered_after_s: float | None, duration_s: float | None,
               *, second: bool) -> Iterator[Share]:  # fmt: skip
    """What an incoming call adds."""
    taken = answered_after_s is not None
    yield Share(unit_id, "calls_quick", taken and answered_after_s <= QUICK, 1)  # type: ignore[operator]
    yield Share(unit_id, "calls_connected", taken, 1)
    if taken:
        yield Share(unit_id, "_calls_first", not second, 0)
        if duration_s is not None:
            yield Share(unit_id, "call_length_s", duration_s, 1)


def of_inspection(unit_id: str, points: float, of: float) -> Iterator[Share]:
    """What an item adds: points of points possible."""
    yield Share(unit_id, "inspection", points, of)


def of_rating(unit_id: str, satisfied: bool) -> Iterator[Share]:
    """What a rating adds: satisfied of answered."""
    yield Share(unit_id, "satisfaction", satisfied, 1)


def of_exam(unit_id: str, kind: str, score: float | None, *, attended: bool) -> Iterator[Share]:
    """What a mark adds to the mean of its kind; an absence counts apart."""
    if attended and score is not None:
        yield Share(unit_id, "test" if kind == "test" else f"_{kind}", score, 1)
    else:
        yield Share(unit_id, f"_absent_{kind}", 1, 0)


class ServiceFigure(NamedTuple):
    """A row of service_kpis, without its period."""

    unit_id: str
    kpi: str
    value: float | None
    target: float | None
    numerator: float
    denominator: float


def figures(
    sums: Mapping[tuple[str, str], tuple[float, float]], targets: Mapping[tuple[str, str], float]
) -> Iterator[ServiceFigure]:
    """The figures of sums by (unit, kpi); `targets` by the same, '' for all units."""

    def target(unit_id: str, kpi: str) -> float | None:
        return targets.get((unit_id, kpi), targets.get(("", kpi), TARGETS.get(kpi)))

    for (unit_id, kpi), (numerator, denominator) in sums.items():
        if not kpi.startswith("_"):
            value = numerator / denominator if denominator else None
            goal = target(unit_id, kpi)
            yield ServiceFigure(unit_id, kpi, value, goal, numerator, denominator)
    for unit_id in dict.fromkeys(unit_id for unit_id, _ in sums):

        def total(kpi: str, unit_id: str = unit_id) -> float:
            return sums.get((unit_id, kpi), (0.0, 0.0))[0]

        def mean(kpi: str, unit_id: str = unit_id) -> float | None:
            numerator, denominator = sums.get((unit_id, kpi), (0.0, 0.0))
            return numerator / denominator if denominator else None

        quota = target(unit_id, "calls")
        if quota and (unit_id, "calls_connected") in sums:
            done = total("_calls_first") - total("_complaints")
            yield ServiceFigure(
                unit_id, "call_quota", done / quota, target(unit_id, "call_quota"), done, quota
            )
        marks = [mark for kind in ("_monitoring", "_test_call") if (mark := mean(kind)) is not None]
        if marks:
            mark = sum(marks) / len(marks) - COMPLAINT * total("_complaints")
            goal = target(unit_id, "call_quality")
            yield ServiceFigure(unit_id, "call_quality", mark, goal, mark, 1.0)
        if (trained := mean("_training")) is not None:
            mark = trained - ABSENCE * total("_absent_training")
            goal = target(unit_id, "call_training")
            yield ServiceFigure(unit_id, "call_training", mark, goal, mark, 1.0)

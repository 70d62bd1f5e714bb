"""What `calendars.toml` and `cases.toml` say, checked: calendars, kinds of cases, their limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, tzinfo
from typing import NamedTuple

#: From and to within a day, minutes after midnight by the clock on the wall.
Hours = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Calendar:
    """When somebody works: hours by weekday (Monday first), in a time zone.

    A holiday has none; a shifted working day has Monday's. `day` is what a working day is worth,
    ms.
    """

    name: str
    zone: tzinfo
    week: tuple[Hours, Hours, Hours, Hours, Hours, Hours, Hours]
    holidays: frozenset[date]
    workdays: frozenset[date]
    day: int


class Limit(NamedTuple):
    """A time within which something is owed, ms: of the kind's calendar, or by the clock."""

    length: int
    working: bool


@dataclass(frozen=True, slots=True)
class StepRule:
    """A step of a kind of case: limits by severity, lowest first, that of green cases, and after
    which share of a limit somebody is warned (None: nobody is)."""

    name: str
    within: tuple[Limit, ...]
    green: Limit | None = None
    warn: float | None = None


@dataclass(frozen=True, slots=True)
class CaseKind:
    """A kind of case; `calendar` is '' where all limits are by the clock."""

    name: str
    calendar: str
    severities: tuple[str, ...]
    repeat_within: Limit | None
    steps: tuple[StepRule, ...]

    @property
    def step_names(self) -> tuple[str, ...]:
        """The steps in their order."""
        return tuple(step.name for step in self.steps)

    @property
    def middle(self) -> int:
        """The place of the severity that a case has when nobody gives it one."""
        return (len(self.severities) - 1) // 2


@dataclass(frozen=True)
class ServiceRules:
    """All of it; equal files have one `fingerprint`."""

    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    kinds: Mapping[str, CaseKind] = field(default_factory=dict)
    fingerprint: str = ""

    def has_step(self, name: str) -> bool:
        """Whether any kind has such a step."""
        return any(name in kind.step_names for kind in self.kinds.values())

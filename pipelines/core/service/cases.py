"""What becomes of a case: the fold of its events, in event time. Pure.

Due times are computed each time from the events, the calendar and the limits, never kept: so late
and doubled events, and changed rules, give what they would have given had they been known. What
cannot be (a step out of turn, an answer to a closed case) is refused, with the reason, and changes
nothing. Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from pipelines.core.service.calendars import WorkTime
from schemas.fields import TIME_END
from schemas.service.rules import CaseKind, Limit, ServiceRules, StepRule


class Happened(msgspec.Struct, array_like=True, frozen=True):
    """An event of a case: `detail` has what its type says besides; for an opening, `repeat_of` too.

    `source` and `position` are where it stands, for a dead letter.
    """

    at: int
    event_id: str
    type: str
    known_at: int
    detail: dict[str, Any]
    source: str
    position: int

    @property
    def order(self) -> tuple[int, bool, str]:
        """Events of one moment: an opening first, then by their ids."""
        return self.at, self.type != "case_opened", self.event_id


class StepState(NamedTuple):
    """A step that was begun for the `n`-th time; `due_at` is None while the case is paused before
    its limit is over, `warn_at` where nobody is warned; `late_s` is None until it is finished."""

    case_id: str
    step: str
    n: int
    unit_id: str
    started_at: int
    due_at: int | None
    warn_at: int | None
    finished_at: int | None
    paused_s: float
    late_s: float | None


class CaseState(NamedTuple):
    """A case; `step` is the current one ('' when there is none), `due_at` when that is due.

    `on_time` is 0 once a step is late, 1 when the case is closed with none late, else None.
    `paused_s` counts pauses that are over.
    """

    case_id: str
    kind: str
    unit_id: str
    severity: str
    green: bool
    step: str
    customer_id: str
    about: str
    opened_at: int
    due_at: int | None
    answered_at: int | None
    closed_at: int | None
    paused_s: float
    on_time: int | None
    repeat_of: str
    reopened: int
    satisfied: int | None
    outcome: str


class Folded(NamedTuple):
    """What the events of a case come to; `case` is None where none of them opened it."""

    case: CaseState | None
    steps: list[StepState]
    refused: dict[str, str]


class Deadlines:
    """When limits are over, by the calendars of the rules."""

    def __init__(self, rules: ServiceRules) -> None:
        self.rules = rules
        self._work = {name: WorkTime(calendar) for name, calendar in rules.calendars.items()}

    def due(
        self,
        kind: CaseKind,
        limit: Limit,
        start: int,
        pauses: Iterable[tuple[int, int | None]] = (),
    ) -> int | None:
        """When a limit is over that began at `start`; None if a pause that lasts comes before.

        `pauses` are in order and do not overlap.
        """
        left = limit.length
        work = self._work[kind.calendar] if limit.working else None
        for begun, over in pauses:
            if over is not None and over <= start:
                continue
            passed = 0
            if begun > start:
                passed = work.between(start, begun) if work is not None else begun - start
            if passed >= left:
                break
            if over is None:
                return None
            left, start = left - passed, over
        return work.after(start, left) if work is not None else min(start + left, TIME_END)


def fold(case_id: str, events: Iterable[Happened], deadlines: Deadlines, until: int) -> Folded:
    """What all events of a case come to, as known before `until` (ms): later ones may follow.

    An event given twice (by its id) counts once. The rules must have the case's kind.
    """
    ledger = _Ledger(case_id, deadlines)
    known = {event.event_id: event for event in events}
    for event in sorted(known.values(), key=lambda event: event.order):
        if reason := ledger.take(event):
            ledger.refused[event.event_id] = reason
    return ledger.result(until)


#: How the reasons begin for which a case refuses events. It takes a refusal back by itself, once
#: what is known of the case by then lets the event in.
CASE_REFUSALS: Final = ("unknown_case:", "closed_case:", "out_of_turn:", "unknown_step: a ")


class _Work:
    """A step under way or done."""

    def __init__(self, rule: StepRule, place: int, n: int, unit_id: str, started_at: int) -> None:
        self.rule, self.place, self.n = rule, place, n
        self.unit_id, self.started_at = unit_id, started_at
        self.finished_at: int | None = None


class _Ledger:
    """A case while its events are taken in their order."""

    def __init__(self, case_id: str, deadlines: Deadlines) -> None:
        self.case_id, self.deadlines = case_id, deadlines
        self.refused: dict[str, str] = {}
        self.opened: Happened | None = None
        self.kind: CaseKind
        self.severity = self.reopened = 0
        self.green = False
        self.unit_id = self.outcome = ""
        self.steps: list[_Work] = []
        self.times: Counter[str] = Counter()
        self.current: _Work | None = None
        self.pauses: list[tuple[int, int | None]] = []
        self.answered_at: int | None = None
        self.closed_at: int | None = None
        self.satisfied: bool | None = None

    def take(self, event: Happened) -> str | None:
        """Let an event change the case; the reason if it cannot."""
        if event.type == "case_opened":
            return self._open(event)
        if self.opened is None:
            return f"unknown_case: nobody had opened {self.case_id}"
        if self.closed_at is not None and event.type not in ("case_reopened", "case_followed_up"):
            return f"closed_case: {self.case_id} was closed before"
        return _VERBS[event.type](self, event)

    def _open(self, event: Happened) -> str | None:
        if self.opened is not None:
            return f"out_of_turn: {self.case_id} was opened before"
        self.opened, detail = event, event.detail
        self.kind = self.deadlines.rules.kinds[detail["kind"]]
        self.unit_id, self.green = detail["unit_id"], detail.get("green", False)
        severity = detail.get("severity")
        known = self.kind.severities
        self.severity = known.index(severity) if severity in known else self.kind.middle
        if detail.get("repeat_of"):
            self.severity = min(self.severity + 1, len(known) - 1)
        self._begin(0, event.at)
        return None

    def _begin(self, place: int, at: int) -> None:
        self.current = None
        if place < len(self.kind.steps):
            rule = self.kind.steps[place]
            self.times[rule.name] += 1
            self.current = _Work(rule, place, self.times[rule.name], self.unit_id, at)
            self.steps.append(self.current)

    def _step(self, event: Happened) -> str | None:
        name = event.detail["step"]
        if name not in self.kind.step_names:
            return f"unknown_step: a {self.kind.name} has no step {name}"
        place = self.kind.step_names.index(name)
        if self.current is None or place < self.current.place:
            now = self.current.rule.name if self.current is not None else "none"
            return f"out_of_turn: {name} is done, the current step is {now}"
        while self.current is not None and self.current.place <= place:
            self._finish(event.at, event.detail.get("unit_id"))
        return None

    def _finish(self, at: int, unit_id: str | None = None) -> None:
        assert self.current is not None
        self.current.finished_at = at
        self.current.unit_id = unit_id or self.current.unit_id
        self._begin(self.current.place + 1, at)

    def _assign(self, event: Happened) -> None:
        self.unit_id = event.detail["unit_id"]
        if self.current is not None:
            self.current.unit_id = self.unit_id

    def _pause(self, event: Happened) -> None:
        if not self._paused:
            self.pauses.append((event.at, None))

    def _resume(self, event: Happened) -> None:
        if self._paused:
            self.pauses[-1] = (self.pauses[-1][0], event.at)

    @property
    def _paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    def _answer(self, event: Happened) -> None:
        if self.answered_at is None:
            self.answered_at = event.at

    def _follow_up(self, event: Happened) -> None:
        self.satisfied = event.detail["satisfied"]

    def _close(self, event: Happened) -> None:
        self._resume(event)
        if self.current is not None:
            self.current.finished_at = event.at
            self.current = None
        self.closed_at, self.outcome = event.at, event.detail.get("outcome") or ""

    def _reopen(self, event: Happened) -> str | None:
        if self.closed_at is None:
            return f"out_of_turn: {self.case_id} is not closed"
        self.closed_at, self.outcome = None, ""
        self.reopened += 1
        if self.steps:
            self._begin(self.steps[-1].place, event.at)
        return None

    def result(self, until: int) -> Folded:
        """The case as it stands, and when its steps were and are due."""
        if self.opened is None:
            return Folded(None, [], self.refused)
        steps = [self._state(work) for work in self.steps]
        late = any(
            step.due_at is not None
            and (
                step.due_at < until if step.finished_at is None else step.finished_at > step.due_at
            )
            for step in steps
        )
        case = CaseState(
            self.case_id,
            self.kind.name,
            self.unit_id,
            self.kind.severities[self.severity],
            self.green,
            self.current.rule.name if self.current is not None else "",
            self.opened.detail.get("customer_id") or "",
            self.opened.detail.get("about") or "",
            self.opened.at,
            steps[-1].due_at if self.current is not None else None,
            self.answered_at,
            self.closed_at,
            sum(over - begun for begun, over in self.pauses if over is not None) / 1_000,
            0 if late else 1 if self.closed_at is not None else None,
            self.opened.detail.get("repeat_of") or "",
            self.reopened,
            None if self.satisfied is None else int(self.satisfied),
            self.outcome,
        )
        return Folded(case, steps, self.refused)

    def _state(self, work: _Work) -> StepState:
        limit = work.rule.within[self.severity]
        if self.green and work.rule.green is not None:
            limit = work.rule.green
        due_at = self.deadlines.due(self.kind, limit, work.started_at, self.pauses)
        warn_at = None
        if work.rule.warn is not None:
            sooner = limit._replace(length=max(1, round(limit.length * work.rule.warn)))
            warn_at = self.deadlines.due(self.kind, sooner, work.started_at, self.pauses)
        finished = work.finished_at
        paused = 0
        for begun, over in self.pauses:
            ends = over if finished is None else min(over or finished, finished)
            if ends is not None:
                paused += max(0, ends - max(begun, work.started_at))
        late_s = None
        if finished is not None:
            late_s = max(0, finished - due_at) / 1_000 if due_at is not None else 0.0
        return StepState(
            self.case_id,
            work.rule.name,
            work.n,
            work.unit_id,
            work.started_at,
            due_at,
            warn_at,
            finished,
            paused / 1_000,
            late_s,
        )


#: What each type of event does to a case that is open.
_VERBS: Final[dict[str, Callable[[_Ledger, Happened], str | None]]] = {
    "case_step": _Ledger._step,
    "case_assigned": _Ledger._assign,
    "case_paused": _Ledger._pause,
    "case_resumed": _Ledger._resume,
    "case_answered": _Ledger._answer,
    "case_followed_up": _Ledger._follow_up,
    "case_closed": _Ledger._close,
    "case_reopened": _Ledger._reopen,
}

"""The life of a stock-out, from its opening to its end: who is told, when, and why not. Pure.

State, rules and a watermark go in, messages and news come out. All of it is decided in the order
of event time, and no id is made of the moment at which it was decided: so arrival order,
repetition, batching and restarts change nothing. Answers count at the watermark they met.

Without a policy this is the plain gathering of the contract, and an account of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from alerts.answers.statuses import LOST
from alerts.delivery.ports import FALLBACK
from alerts.lifecycle.grouping import Change, Gathering, Group, in_order, message_id
from alerts.lifecycle.outcome import Outcome
from alerts.lifecycle.state import Answered, Case, WholesalerState
from alerts.lifecycle.timing import Timing
from alerts.policy.rules import CHANNEL, PHONE, Rules
from schemas.alert_events import AlertNews
from schemas.answers import News
from schemas.fields import TIME_END

#: Answers that say what somebody will do about a stock-out.
ANSWERS = ("acknowledged", "delivering", "cannot")


class Steps(NamedTuple):
    """What follows from one advance, in order."""

    groups: list[Group]
    news: list[AlertNews]


def advance(
    state: WholesalerState,
    watermark: int,
    rules: Rules,
    *,
    final: bool = False,
    now: int | None = None,
) -> Steps:
    """Decide all that a watermark allows.

    The watermark promises that every change with `at` below it is held. `final` says that the
    input has ended: everything held is decided and the group being gathered is due, but nothing
    that would only fall due later. `now` (wall ms) matters only where event time follows it: what
    comes late is not told in quiet hours.
    """
    life = _Life(state, rules, now if rules.wall else None)
    life.times.follow_policy()
    reached = max(watermark, state.folded)
    known = sorted((c for c in state.held if final or c.at < reached), key=in_order)
    state.held.difference_update(known)
    answers, state.answers = state.answers, []
    for change in known:
        while answers and answers[0].at <= change.at:
            life.answer(answers.pop(0))
        life.until(change.at)
        life.fold(change)
    for answered in answers:
        life.answer(answered)
    if final and known:
        reached = max(reached, known[-1].at + 1)
    life.until(reached)
    if final:
        life.gathered()
    state.folded = reached
    life.times.forget()
    state.look_ahead()
    return Steps(life.outcome.groups, life.outcome.news)


class _Life:
    """One advance of one wholesaler's stock-outs."""

    def __init__(self, state: WholesalerState, rules: Rules, now: int | None) -> None:
        self.state = state
        self.rules = rules
        self.times = Timing(state, rules, now)
        self.outcome = Outcome(state.wholesaler_id)

    # What happened

    def fold(self, change: Change) -> None:
        """A shelf ran empty or was refilled."""
        if change.closed_at is not None:
            self._close(change)
            return
        state = self.state
        case = Case(change.incident_id, change.outlet_id, change.sku, change.opened_at)
        state.cases[case.incident_id] = case
        if state.gathering is None:
            state.gathering = Gathering(change.at, change.incident_id, {})
        state.gathering.open[case.incident_id] = case.listed
        if (flapping := self.rules.policy.flapping) is not None:
            emptied = self.times.shelf(case).emptied
            emptied.append(change.at)
            del emptied[: -flapping.incidents]

    def _close(self, change: Change) -> None:
        case = self.state.cases.pop(change.incident_id, None)
        if self.state.gathering is not None:
            self.state.gathering.open.pop(change.incident_id, None)
        if case is None:
            return
        if case.phase == "open":
            why = case.held or "group_wait"
            self.outcome.tell_of(case, change.at, "refilled_in_time", {"waited_for": why})
            return
        self.outcome.tell_of(case, change.at, "resolved", {"was": case.phase})
        if case.told and self.rules.resolved_notes(self.state.wholesaler_id):
            self.state.cases[case.incident_id] = case
            case.phase = "resolved"
            self.times.set_due(case, self.rules.on_grid(change.at))

    def answer(self, answered: Answered) -> None:
        """Somebody, or a provider, says something about a message."""
        self.until(answered.at)
        news = answered.news
        detail = _detail(news)
        met = [
            case
            for case in self.state.cases.values()
            if case.phase not in ("open", "resolved")
            and case.about(news.message_id)
            and news.incident_id in ("", case.incident_id)
        ]
        lost = []
        for case in met:
            if news.news_id not in case.news:
                case.news.append(news.news_id)
                if news.kind in ANSWERS:
                    self._answered(case, news, answered.at, detail)
                elif detail.get("status") in LOST and case.phase == "notified":
                    # Of a lost message a provider may tell in several ways.
                    mark = f"lost/{news.message_id}"
                    if mark not in case.news:
                        case.news.append(mark)
                        lost.append(case)
        for case in met:
            self.outcome.heard(case.incident_id, news, detail)
        if not met:
            self.outcome.heard("", news, detail)
        self._lost(lost, news.message_id, answered.at)

    def _answered(self, case: Case, news: News, at: int, detail: dict[str, Any]) -> None:
        case.phase, case.due, case.held = news.kind, None, ""
        policy = self.rules.policy
        if news.kind == "delivering":
            by = detail.get("by")
            case.by = at + policy.on_the_way
            if isinstance(by, int) and 0 < by < TIME_END:
                case.by = by
            self.times.set_due(case, self.rules.on_grid(max(at, case.by + policy.grace)))
        elif news.kind == "cannot":
            self.times.escalate_now(case, at)

    def _lost(self, cases: list[Case], name: str, at: int) -> None:
        """A message that was accepted did not arrive: the next step need not wait."""
        alone = [case for case in cases if not self.times.escalate_now(case, at)]
        if alone:
            to = CHANNEL + FALLBACK
            self.outcome.send(self.outcome.later(0, f"lost {name}", to), at, at, alone, "lost", to)

    # What falls due

    def until(self, moment: int) -> None:
        """Decide all that falls due before a moment, in order."""
        state = self.state
        while True:
            if state.wake is not None and state.wake < moment:
                state.look_ahead()  # of a case that is over it may be too early
            gathering = state.gathering
            due = moment if state.wake is None else min(state.wake, moment)
            if gathering is not None and self._end_of(gathering) <= min(due, moment - 1):
                self.gathered()
            elif due < moment:
                self._fire(due)
            else:
                return

    def _end_of(self, gathering: Gathering) -> int:
        return gathering.started_at + self.rules.group_wait(self.state.wholesaler_id)

    def gathered(self) -> None:
        """End the gathering: whoever is still out of stock is told of, or waits."""
        gathering, self.state.gathering = self.state.gathering, None
        if gathering is None:
            return
        due_at = self._end_of(gathering)
        cases = [self.state.cases[name] for name in gathering.open]
        name = message_id(self.state.wholesaler_id, gathering.started_at, gathering.first_id)
        fit = [case for case in cases if self._may_tell(case, due_at)]
        for to, some in self._by_target(fit, due_at).items():
            first = name if to == PHONE else self.outcome.later(due_at, "stock_out", to)
            self._tell(first, due_at, some, "stock_out", to, gathering.started_at)

    def _fire(self, due_at: int) -> None:
        """Deal with every case whose time has come."""
        told: dict[str, list[Case]] = defaultdict(list)
        escalated: dict[tuple[int, str], list[Case]] = defaultdict(list)
        for case in list(self.state.cases.values()):
            if case.due is None or case.due > due_at:
                continue
            case.due = None
            if case.phase == "resolved":
                self._note(case, due_at)
                continue
            rested, overdue = case.held == "quiet_hours", False
            if not self._may_tell(case, due_at):
                continue
            if case.phase == "delivering":
                case.phase = "notified"
                self.outcome.tell_of(case, due_at, "overdue", {"by": case.by})
                self.times.escalate_from(case, due_at)
                rested, overdue = False, True
            if case.phase == "open" or (rested and case.phase == "notified"):
                told["digest" if rested else "delayed"].append(case)
                continue
            step = self.times.step_of(case)
            if step is not None and step[0] <= due_at:
                to = self.rules.addressee(step[1], case.listed)
                escalated[case.step, to].append(case)
            repeats = case.phase == "notified" and self.times.repeats_at(case) <= due_at
            if overdue or repeats:
                told["reminder"].append(case)
            elif step is None or step[0] > due_at:
                self.times.plan(case)
        for kind in ("digest", "delayed", "reminder"):
            for to, cases in self._by_target(told[kind], due_at).items():
                self._tell(self.outcome.later(due_at, kind, to), due_at, cases, kind, to, due_at)
        for (number, to), cases in sorted(escalated.items(), key=lambda found: found[0]):
            self._escalate(due_at, number, to, cases)
        self._send_notes(due_at)

    def _may_tell(self, case: Case, at: int) -> bool:
        """Whether a case may be told of now; otherwise it waits, and news say why."""
        held = self.times.held(case, at)
        case.held = ""
        if held is None:
            return True
        case.held = held.why
        self.times.set_due(case, held.until)
        detail = {"why": held.why, "until": case.due, "note": held.note}
        self.outcome.tell_of(case, at, "waiting", detail, held.by)
        return False

    def _by_target(self, cases: Iterable[Case], at: int) -> dict[str, list[Case]]:
        found: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            found[self.rules.target(self.state.wholesaler_id, case.listed, at)].append(case)
        return dict(sorted(found.items()))

    # Telling

    def _tell(
        self, name: str, due_at: int, cases: list[Case], kind: str, to: str, started_at: int
    ) -> None:
        """Tell the wholesaler, or who stands in for them."""
        for case in cases:
            if kind != "reminder":
                case.since = due_at
            case.reminders += kind == "reminder"
            case.phase, case.told_at = "notified", due_at
            case.told.setdefault(to, []).append(name)
            if self.rules.policy.flapping is not None:
                self.times.shelf(case).told_at = due_at
            self.times.plan(case)
        self.outcome.send(name, started_at, due_at, cases, kind, to)

    def _escalate(self, due_at: int, number: int, to: str, cases: list[Case]) -> None:
        name = self.outcome.later(due_at, f"escalation {number}", to)
        for case in cases:
            self.times.escalate_from(case, due_at)
            case.step += 1
            case.told.setdefault(to, []).append(name)
            self.times.plan(case)
        self.outcome.send(name, due_at, due_at, cases, "escalation", to)

    def _note(self, case: Case, due_at: int) -> None:
        """Let who was told of a case hear that it is over, unless they sleep."""
        if self.times.quiet(case, due_at) is not None:
            del self.state.cases[case.incident_id]
            detail = {"why": "quiet_hours", "what": "resolved"}
            self.outcome.tell_of(case, due_at, "never_told", detail)

    def _send_notes(self, due_at: int) -> None:
        over = [
            case
            for case in self.state.cases.values()
            if case.phase == "resolved" and case.due is None
        ]
        for to in sorted({to for case in over for to in case.told}):
            cases = [case for case in over if to in case.told]
            name = self.outcome.later(due_at, "resolved", to)
            after = {case.incident_id: tuple(case.told[to]) for case in cases}
            self.outcome.send(name, due_at, due_at, cases, "resolved", to, after)
        for case in over:
            del self.state.cases[case.incident_id]


def note_name(
    state: WholesalerState, message_id: str, incident_ids: Iterable[str], to: str
) -> None:
    """Note under which name a message really went out: answers will bear it."""
    for name in incident_ids:
        case = state.cases.get(name)
        if case is not None and case.told and not case.about(message_id):
            case.told.setdefault(to, []).append(message_id)


def _detail(news: News) -> dict[str, Any]:
    """What news say besides; foreign programs may have written anything."""
    try:
        found = msgspec.json.decode(news.detail)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}

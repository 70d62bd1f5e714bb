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
from alerts.lifecycle.grouping import AlertGroup, Change, Gathering, in_order, message_id
from alerts.lifecycle.outcome import Decisions
from alerts.lifecycle.state import Alert, HeardAnswer, WholesalerState
from alerts.lifecycle.timing import Timing
from alerts.policy.rules import CHANNEL, PHONE, AlertRules
from schemas.alert_events import AlertEvent
from schemas.answers import Answer
from schemas.fields import TIME_END

#: Answers that say what somebody will do about a stock-out.
ANSWERS = ("acknowledged", "delivering", "cannot")


class Steps(NamedTuple):
    """What follows from one advance, in order."""

    groups: list[AlertGroup]
    news: list[AlertEvent]


def advance(
    state: WholesalerState,
    watermark: int,
    rules: AlertRules,
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
    life = _Lifecycle(state, rules, now if rules.wall else None)
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


class _Lifecycle:
    """One advance of one wholesaler's stock-outs."""

    def __init__(self, state: WholesalerState, rules: AlertRules, now: int | None) -> None:
        self.state = state
        self.rules = rules
        self.times = Timing(state, rules, now)
        self.outcome = Decisions(state.wholesaler_id)

    # What happened

    def fold(self, change: Change) -> None:
        """A shelf ran empty or was refilled, or late events changed what was known of that."""
        if change.withdrawn:
            self._withdraw(change)
            return
        if change.closed_at is not None:
            self._close(change)
            return
        state = self.state
        alert = state.alerts.get(change.incident_id)
        if alert is not None and alert.phase != "resolved":
            alert.opened_at = change.opened_at  # What was said of it stays said.
            if state.gathering is not None and alert.incident_id in state.gathering.open:
                state.gathering.open[alert.incident_id] = alert.listed
            return
        if alert is None:
            alert = Alert(change.incident_id, change.outlet_id, change.sku, change.opened_at)
            state.alerts[alert.incident_id] = alert
        if self.times.shelf(alert).over.pop(alert.incident_id, None) is not None:
            alert.phase, alert.since, alert.told_at = "notified", change.at, change.at
            self.times.plan(alert)
            return
        if state.gathering is None:
            state.gathering = Gathering(change.at, change.incident_id, {})
        state.gathering.open[alert.incident_id] = alert.listed
        if (flapping := self.rules.policy.flapping) is not None:
            emptied = self.times.shelf(alert).emptied
            emptied.append(change.at)
            del emptied[: -flapping.incidents]

    def _withdraw(self, change: Change) -> None:
        """Late events show that the shelf was never empty: nothing is due about it any more."""
        alert = self.state.alerts.pop(change.incident_id, None)
        if self.state.gathering is not None:
            self.state.gathering.open.pop(change.incident_id, None)
        was = alert.phase if alert is not None else None
        never = Alert(change.incident_id, change.outlet_id, change.sku, change.opened_at)
        self.outcome.tell_of(alert or never, change.at, "withdrawn", {"was": was})

    def _close(self, change: Change) -> None:
        alert = self.state.alerts.pop(change.incident_id, None)
        if self.state.gathering is not None:
            self.state.gathering.open.pop(change.incident_id, None)
        if alert is None:
            return
        if alert.phase == "resolved":  # It was closed at another time: that it is over was said.
            self.state.alerts[alert.incident_id] = alert
            return
        if alert.phase == "open":
            why = alert.held or "group_wait"
            self.outcome.tell_of(alert, change.at, "refilled_in_time", {"waited_for": why})
            return
        self.outcome.tell_of(alert, change.at, "resolved", {"was": alert.phase})
        self.times.shelf(alert).over[alert.incident_id] = change.at
        if alert.told and self.rules.resolved_notes(self.state.wholesaler_id):
            self.state.alerts[alert.incident_id] = alert
            alert.phase = "resolved"
            self.times.set_due(alert, self.rules.on_grid(change.at))

    def answer(self, answered: HeardAnswer) -> None:
        """Somebody, or a provider, says something about a message."""
        self.until(answered.at)
        news = answered.news
        detail = _detail(news)
        met = [
            alert
            for alert in self.state.alerts.values()
            if alert.phase not in ("open", "resolved")
            and alert.about(news.message_id)
            and news.incident_id in ("", alert.incident_id)
        ]
        lost = []
        for alert in met:
            if news.answer_id not in alert.news:
                alert.news.append(news.answer_id)
                if news.kind in ANSWERS:
                    self._answered(alert, news, answered.at, detail)
                elif detail.get("status") in LOST and alert.phase == "notified":
                    # Of a lost message a provider may tell in several ways.
                    mark = f"lost/{news.message_id}"
                    if mark not in alert.news:
                        alert.news.append(mark)
                        lost.append(alert)
        for alert in met:
            self.outcome.heard(alert.incident_id, news, detail)
        if not met:
            self.outcome.heard("", news, detail)
        self._lost(lost, news.message_id, answered.at)

    def _answered(self, alert: Alert, news: Answer, at: int, detail: dict[str, Any]) -> None:
        alert.phase, alert.due, alert.held = news.kind, None, ""
        policy = self.rules.policy
        if news.kind == "delivering":
            by = detail.get("by")
            alert.by = at + policy.on_the_way
            if isinstance(by, int) and 0 < by < TIME_END:
                alert.by = by
            self.times.set_due(alert, self.rules.on_grid(max(at, alert.by + policy.grace)))
        elif news.kind == "cannot":
            self.times.escalate_now(alert, at)

    def _lost(self, alerts: list[Alert], name: str, at: int) -> None:
        """A message that was accepted did not arrive: the next step need not wait."""
        alone = [alert for alert in alerts if not self.times.escalate_now(alert, at)]
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
        alerts = [self.state.alerts[name] for name in gathering.open]
        name = message_id(self.state.wholesaler_id, gathering.started_at, gathering.first_id)
        fit = [alert for alert in alerts if self._may_tell(alert, due_at)]
        for to, some in self._by_target(fit, due_at).items():
            first = name if to == PHONE else self.outcome.later(due_at, "stock_out", to)
            self._tell(first, due_at, some, "stock_out", to, gathering.started_at)

    def _fire(self, due_at: int) -> None:
        """Deal with every case whose time has come."""
        told: dict[str, list[Alert]] = defaultdict(list)
        escalated: dict[tuple[int, str], list[Alert]] = defaultdict(list)
        for alert in list(self.state.alerts.values()):
            if alert.due is None or alert.due > due_at:
                continue
            alert.due = None
            if alert.phase == "resolved":
                self._note(alert, due_at)
                continue
            rested, overdue = alert.held == "quiet_hours", False
            if not self._may_tell(alert, due_at):
                continue
            if alert.phase == "delivering":
                alert.phase = "notified"
                self.outcome.tell_of(alert, due_at, "overdue", {"by": alert.by})
                self.times.escalate_from(alert, due_at)
                rested, overdue = False, True
            if alert.phase == "open" or (rested and alert.phase == "notified"):
                told["digest" if rested else "delayed"].append(alert)
                continue
            step = self.times.step_of(alert)
            if step is not None and step[0] <= due_at:
                to = self.rules.addressee(step[1], alert.listed)
                escalated[alert.step, to].append(alert)
            repeats = alert.phase == "notified" and self.times.repeats_at(alert) <= due_at
            if overdue or repeats:
                told["reminder"].append(alert)
            elif step is None or step[0] > due_at:
                self.times.plan(alert)
        for kind in ("digest", "delayed", "reminder"):
            for to, alerts in self._by_target(told[kind], due_at).items():
                self._tell(self.outcome.later(due_at, kind, to), due_at, alerts, kind, to, due_at)
        for (number, to), alerts in sorted(escalated.items(), key=lambda found: found[0]):
            self._escalate(due_at, number, to, alerts)
        self._send_notes(due_at)

    def _may_tell(self, alert: Alert, at: int) -> bool:
        """Whether a case may be told of now; otherwise it waits, and news say why."""
        held = self.times.held(alert, at)
        alert.held = ""
        if held is None:
            return True
        alert.held = held.why
        self.times.set_due(alert, held.until)
        detail = {"why": held.why, "until": alert.due, "note": held.note}
        self.outcome.tell_of(alert, at, "waiting", detail, held.by)
        return False

    def _by_target(self, alerts: Iterable[Alert], at: int) -> dict[str, list[Alert]]:
        found: dict[str, list[Alert]] = defaultdict(list)
        for alert in alerts:
            found[self.rules.target(self.state.wholesaler_id, alert.listed, at)].append(alert)
        return dict(sorted(found.items()))

    # Telling

    def _tell(
        self, name: str, due_at: int, alerts: list[Alert], kind: str, to: str, started_at: int
    ) -> None:
        """Tell the wholesaler, or who stands in for them."""
        for alert in alerts:
            if kind != "reminder":
                alert.since = due_at
            alert.reminders += kind == "reminder"
            alert.phase, alert.told_at = "notified", due_at
            alert.told.setdefault(to, []).append(name)
            if self.rules.policy.flapping is not None:
                self.times.shelf(alert).told_at = due_at
            self.times.plan(alert)
        self.outcome.send(name, started_at, due_at, alerts, kind, to)

    def _escalate(self, due_at: int, number: int, to: str, alerts: list[Alert]) -> None:
        name = self.outcome.later(due_at, f"escalation {number}", to)
        for alert in alerts:
            self.times.escalate_from(alert, due_at)
            alert.step += 1
            alert.told.setdefault(to, []).append(name)
            self.times.plan(alert)
        self.outcome.send(name, due_at, due_at, alerts, "escalation", to)

    def _note(self, alert: Alert, due_at: int) -> None:
        """Let who was told of a case hear that it is over, unless they sleep."""
        if self.times.quiet(alert, due_at) is not None:
            del self.state.alerts[alert.incident_id]
            detail = {"why": "quiet_hours", "what": "resolved"}
            self.outcome.tell_of(alert, due_at, "never_told", detail)

    def _send_notes(self, due_at: int) -> None:
        over = [
            alert
            for alert in self.state.alerts.values()
            if alert.phase == "resolved" and alert.due is None
        ]
        for to in sorted({to for alert in over for to in alert.told}):
            alerts = [alert for alert in over if to in alert.told]
            name = self.outcome.later(due_at, "resolved", to)
            after = {alert.incident_id: tuple(alert.told[to]) for alert in alerts}
            self.outcome.send(name, due_at, due_at, alerts, "resolved", to, after)
        for alert in over:
            del self.state.alerts[alert.incident_id]


def note_name(
    state: WholesalerState, message_id: str, incident_ids: Iterable[str], to: str
) -> None:
    """Note under which name a message really went out: answers will bear it."""
    for name in incident_ids:
        alert = state.alerts.get(name)
        if alert is not None and alert.told and not alert.about(message_id):
            alert.told.setdefault(to, []).append(message_id)


def _detail(news: Answer) -> dict[str, Any]:
    """What news say besides; foreign programs may have written anything."""
    try:
        found = msgspec.json.decode(news.detail)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}

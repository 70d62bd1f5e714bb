"""A stock-out's alert from its opening to its end: who is notified, when, and why not. Pure.

State, rules and a watermark go in, messages and events come out. All of it is decided in the order
of event time, and no id is made of the moment at which it was decided: so arrival order,
repetition, batching and restarts change nothing. Answers count at the watermark they met.

Without a policy this is the plain gathering of the contract, with an event for each decision.
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
from alerts.lifecycle.state import Alert, HeardAnswer, ShelfHistory, WholesalerState
from alerts.lifecycle.timing import Timing
from alerts.policy.rules import CHANNEL, PHONE, AlertRules
from schemas.alert_events import AlertEvent
from schemas.answers import Answer
from schemas.fields import TIME_END

#: Answers that say what somebody will do about a stock-out.
ANSWERS = ("acknowledged", "delivering", "cannot")


class Steps(NamedTuple):
    """What one advance decided, in order."""

    groups: list[AlertGroup]
    events: list[AlertEvent]


def advance(
    state: WholesalerState,
    watermark: int,
    rules: AlertRules,
    *,
    final: bool = False,
    now: int | None = None,
) -> Steps:
    """Decide all that a watermark allows.

    The watermark says that every change with `at` below it is held. `final` says that the input
    has ended: everything held is decided and the group being gathered is due, but nothing that
    would only fall due later. `now` (wall ms) matters only where event time follows it: what comes
    late does not go out in quiet hours.
    """
    lifecycle = _Lifecycle(state, rules, now if rules.wall else None)
    lifecycle.follow_policy()
    reached = max(watermark, state.folded)
    known = sorted((c for c in state.held if final or c.at < reached), key=in_order)
    state.held.difference_update(known)
    answers = [heard for heard in state.answers if final or heard.at <= reached]
    state.answers = state.answers[len(answers) :]
    for change in known:
        while answers and answers[0].at <= change.at:
            lifecycle.answer(answers.pop(0))
        lifecycle.until(change.at)
        lifecycle.fold(change)
    for heard in answers:
        lifecycle.answer(heard)
    if final and known:
        reached = max(reached, known[-1].at + 1)
    lifecycle.until(reached)
    if final:
        lifecycle.gathered()
    state.folded = reached
    lifecycle.forget_shelves()
    state.look_ahead()
    return Steps(lifecycle.outcome.groups, lifecycle.outcome.events)


class _Lifecycle:
    """One advance of one wholesaler's alerts."""

    def __init__(self, state: WholesalerState, rules: AlertRules, now: int | None) -> None:
        self.state = state
        self.rules = rules
        self.timing = Timing(state.wholesaler_id, rules, now)
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
        if self._shelf(alert).over.pop(alert.incident_id, None) is not None:
            alert.phase, alert.since, alert.notified_at = "notified", change.at, change.at
            self._plan(alert, change.at)
            return
        if state.gathering is None:
            state.gathering = Gathering(change.at, change.incident_id, {})
        state.gathering.open[alert.incident_id] = alert.listed
        if (flapping := self.rules.policy.flapping) is not None:
            emptied = self._shelf(alert).emptied
            emptied.append(change.at)
            del emptied[: -flapping.incidents]

    def _withdraw(self, change: Change) -> None:
        """Late events show that the shelf was never empty: nothing is due about it any more."""
        alert = self.state.alerts.pop(change.incident_id, None)
        if self.state.gathering is not None:
            self.state.gathering.open.pop(change.incident_id, None)
        was = alert.phase if alert is not None else None
        never = Alert(change.incident_id, change.outlet_id, change.sku, change.opened_at)
        self.outcome.decided(alert or never, change.at, "withdrawn", {"was": was})

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
            self.outcome.decided(alert, change.at, "refilled_in_time", {"waited_for": why})
            return
        self.outcome.decided(alert, change.at, "resolved", {"was": alert.phase})
        self._shelf(alert).over[alert.incident_id] = change.at
        if alert.messages and self.rules.resolved_notes(self.state.wholesaler_id):
            self.state.alerts[alert.incident_id] = alert
            alert.phase = "resolved"
            self._plan(alert, change.at)

    def answer(self, heard: HeardAnswer) -> None:
        """A person, or a provider, says something about a message."""
        self.until(heard.at)
        answer = heard.answer
        detail = _detail(answer)
        met = [
            alert
            for alert in self.state.alerts.values()
            if alert.phase not in ("open", "resolved")
            and alert.about(answer.message_id)
            and answer.incident_id in ("", alert.incident_id)
        ]
        lost = []
        for alert in met:
            if answer.answer_id not in alert.answers:
                alert.answers.append(answer.answer_id)
                if answer.kind in ANSWERS:
                    self._answered(alert, answer, heard.at, detail)
                elif detail.get("status") in LOST and alert.phase == "notified":
                    # A provider may report a lost message in several ways.
                    mark = f"lost/{answer.message_id}"
                    if mark not in alert.answers:
                        alert.answers.append(mark)
                        lost.append(alert)
        for incident_id in [alert.incident_id for alert in met] or [""]:
            self.outcome.answered(incident_id, answer, detail, heard.at)
        self._lost(lost, answer.message_id, heard.at)

    def _answered(self, alert: Alert, answer: Answer, at: int, detail: dict[str, Any]) -> None:
        alert.phase, alert.held = answer.kind, ""
        if answer.kind == "delivering":
            alert.by = at + self.rules.policy.on_the_way
            by = detail.get("by")
            if isinstance(by, int) and 0 < by < TIME_END:
                alert.by = by
        elif answer.kind == "acknowledged":
            alert.by = at + self.rules.policy.acknowledged_for
        else:
            alert.since = self.timing.since_for_step_at(alert, at)
        self._plan(alert, at)

    def _lost(self, alerts: list[Alert], name: str, at: int) -> None:
        """A message that was accepted did not arrive: the next step need not wait."""
        last = [alert for alert in alerts if self.timing.step_at(alert) is None]
        for alert in alerts:
            if alert not in last:
                alert.since = self.timing.since_for_step_at(alert, at)
                self._plan(alert, at)
        if last:
            to = CHANNEL + FALLBACK
            self.outcome.send(self.outcome.later(0, f"lost {name}", to), at, at, last, "lost", to)

    # What falls due

    def until(self, moment: int) -> None:
        """Decide all that falls due before a moment, in order."""
        state = self.state
        while True:
            if state.wake is not None and state.wake < moment:
                state.look_ahead()  # The alert it was set for may be over.
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
        """End the gathering: what is still out of stock goes out, or waits."""
        gathering, self.state.gathering = self.state.gathering, None
        if gathering is None:
            return
        due_at = self._end_of(gathering)
        alerts = [self.state.alerts[name] for name in gathering.open]
        name = message_id(self.state.wholesaler_id, gathering.started_at, gathering.first_id)
        fit = [alert for alert in alerts if self._may_notify(alert, due_at)]
        for to, some in self._by_target(fit, due_at).items():
            first = name if to == PHONE else self.outcome.later(due_at, "stock_out", to)
            self._notify(first, due_at, some, "stock_out", to, gathering.started_at)

    def _fire(self, due_at: int) -> None:
        """Deal with every alert that is due."""
        notified: dict[str, list[Alert]] = defaultdict(list)
        escalated: dict[tuple[int, str], list[Alert]] = defaultdict(list)
        for alert in list(self.state.alerts.values()):
            if alert.due is None or alert.due > due_at:
                continue
            alert.due = None
            if alert.phase == "resolved":
                self._drop_at_night(alert, due_at)
                continue
            rested, overdue = alert.held in ("quiet_hours", "stale"), False
            if not self._may_notify(alert, due_at):
                continue
            if alert.phase in ("acknowledged", "delivering"):
                detail = {"by": alert.by, "was": alert.phase}
                self.outcome.decided(alert, due_at, "overdue", detail)
                alert.since = self.timing.since_for_step_at(alert, due_at)
                # The next step follows a mere "got it"; without one it is repeated. Who said that
                # they would come is reminded in any case.
                rested = False
                overdue = alert.phase == "delivering" or self.timing.step_at(alert) is None
                alert.phase = "notified"
            if alert.phase == "open" or (rested and alert.phase == "notified"):
                notified["digest" if rested else "delayed"].append(alert)
                continue
            step_at, repeats_at = self.timing.step_at(alert), self.timing.repeats_at(alert)
            steps = step_at is not None and step_at <= due_at
            if steps:
                to = self.rules.addressee(self.rules.policy.escalation[alert.step].to, alert.listed)
                escalated[alert.step, to].append(alert)
            if overdue or (repeats_at is not None and repeats_at <= due_at):
                notified["reminder"].append(alert)
            elif not steps:
                self._plan(alert, due_at)
        for kind in ("digest", "delayed", "reminder"):
            for to, alerts in self._by_target(notified[kind], due_at).items():
                name = self.outcome.later(due_at, kind, to)
                self._notify(name, due_at, alerts, kind, to, due_at)
        for (number, to), alerts in sorted(escalated.items(), key=lambda found: found[0]):
            self._escalate(due_at, number, to, alerts)
        self._send_notes(due_at)

    def _may_notify(self, alert: Alert, at: int) -> bool:
        """Whether an alert may be sent now; otherwise it waits, and an event says why."""
        held = self.timing.held(alert, self._shelf(alert), at)
        alert.held = ""
        if held is None:
            return True
        alert.held = held.why
        self._look_at(alert, held.until)
        detail = {"why": held.why, "until": alert.due, "note": held.note}
        if self.rules.changed is not None and self.rules.changed[0] > alert.opened_at:
            detail["policy_at"] = self.rules.changed[1]
        self.outcome.decided(alert, at, "waiting", detail, held.by)
        return False

    def _by_target(self, alerts: Iterable[Alert], at: int) -> dict[str, list[Alert]]:
        found: dict[str, list[Alert]] = defaultdict(list)
        for alert in alerts:
            found[self.rules.target(self.state.wholesaler_id, alert.listed, at)].append(alert)
        return dict(sorted(found.items()))

    # Messages

    def _notify(
        self, name: str, due_at: int, alerts: list[Alert], kind: str, to: str, started_at: int
    ) -> None:
        """Tell the wholesaler, or who stands in for them."""
        for alert in alerts:
            if kind != "reminder":
                alert.since = due_at
            alert.reminders += kind == "reminder"
            alert.phase, alert.notified_at = "notified", due_at
            alert.messages.setdefault(to, []).append(name)
            if self.rules.policy.flapping is not None:
                self._shelf(alert).notified_at = due_at
            self._plan(alert, due_at)
        self.outcome.send(name, started_at, due_at, alerts, kind, to)

    def _escalate(self, due_at: int, number: int, to: str, alerts: list[Alert]) -> None:
        name = self.outcome.later(due_at, f"escalation {number}", to)
        for alert in alerts:
            alert.since = self.timing.since_for_step_at(alert, due_at)
            alert.step += 1
            alert.messages.setdefault(to, []).append(name)
            self._plan(alert, due_at)
        self.outcome.send(name, due_at, due_at, alerts, "escalation", to)

    def _drop_at_night(self, alert: Alert, due_at: int) -> None:
        """Nobody is woken to hear that a stock-out is over."""
        if self.timing.quiet(alert, due_at) is not None:
            del self.state.alerts[alert.incident_id]
            detail = {"why": "quiet_hours", "what": "resolved"}
            self.outcome.decided(alert, due_at, "not_notified", detail)

    def _send_notes(self, due_at: int) -> None:
        over = [
            alert
            for alert in self.state.alerts.values()
            if alert.phase == "resolved" and alert.due is None
        ]
        for to in sorted({to for alert in over for to in alert.messages}):
            alerts = [alert for alert in over if to in alert.messages]
            name = self.outcome.later(due_at, "resolved", to)
            after = {alert.incident_id: tuple(alert.messages[to]) for alert in alerts}
            self.outcome.send(name, due_at, due_at, alerts, "resolved", to, after)
        for alert in over:
            del self.state.alerts[alert.incident_id]

    # What is written down of times

    def _plan(self, alert: Alert, at: int) -> None:
        self._look_at(alert, self.timing.due(alert, at))

    def _look_at(self, alert: Alert, at: int | None) -> None:
        alert.due = at
        if at is not None and (self.state.wake is None or at < self.state.wake):
            self.state.wake = at

    def _shelf(self, alert: Alert) -> ShelfHistory:
        return self.state.shelves.setdefault(f"{alert.outlet_id}\0{alert.sku}", ShelfHistory())

    def follow_policy(self) -> None:
        """Look anew at every alert that waits if the policy has changed."""
        state = self.state
        if state.policy == self.rules.fingerprint:
            return
        state.policy = self.rules.fingerprint
        for alert in state.alerts.values():
            due = alert.due
            if alert.held and alert.phase != "resolved":
                self._look_at(alert, state.folded)
            elif alert.phase in ("notified", "cannot"):
                self._plan(alert, state.folded)
            if self.rules.changed is not None and alert.due != due:
                detail = {"changed_at": self.rules.changed[1], "was_due": due, "due": alert.due}
                self.outcome.decided(alert, state.folded, "policy_changed", detail)

    def forget_shelves(self) -> None:
        """Drop what no longer matters of shelves that ran empty often."""
        shelves = self.state.shelves
        for key, shelf in list(shelves.items()):
            kept = self.timing.remembered(shelf, self.state.folded)
            if kept is None:
                del shelves[key]
            else:
                shelves[key] = kept


def defer(state: WholesalerState, incident_ids: Iterable[str], rules: AlertRules, at: int) -> None:
    """Gather what was not sent while it was of use into one digest of what is still empty.

    `at` (wall ms) is when that became known: the digest is due when event time comes to it.
    """
    for name in incident_ids:
        alert = state.alerts.get(name)
        if alert is not None and alert.phase == "notified":
            alert.phase, alert.held = "open", "stale"
            alert.due = rules.on_grid(max(at, state.folded))
    state.look_ahead()


def note_id(state: WholesalerState, message_id: str, incident_ids: Iterable[str], to: str) -> None:
    """Note under which id a message really went out: answers will bear it."""
    for name in incident_ids:
        alert = state.alerts.get(name)
        if alert is not None and alert.messages and not alert.about(message_id):
            alert.messages.setdefault(to, []).append(message_id)


def _detail(answer: Answer) -> dict[str, Any]:
    """What an answer says besides; foreign programs may have written anything."""
    try:
        found = msgspec.json.decode(answer.detail)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}

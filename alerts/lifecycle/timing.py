"""When something is to be decided about a stock-out, and whether anybody may be notified now. Pure.

Reads alerts and rules and returns times (ms); writing them down is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

from alerts.lifecycle.state import Alert, ShelfHistory
from alerts.policy.rules import AlertRules, Held


class Timing:
    """The times of one wholesaler's alerts, by the rules; `now` as in `lifecycle.advance`."""

    def __init__(self, wholesaler_id: str, rules: AlertRules, now: int | None) -> None:
        self._wholesaler_id = wholesaler_id
        self._rules = rules
        self._now = now

    def due(self, alert: Alert, at: int) -> int | None:
        """When to look at an alert next, as decided at a time; None: when something happens.

        What is due already is due at once; all else on the grid, so that many are one message.
        """
        policy = self._rules.policy
        if alert.phase == "resolved":
            return self._rules.on_grid(at)
        if alert.phase == "delivering":
            return self._rules.on_grid(max(at, alert.by + policy.grace))
        if alert.phase == "acknowledged":
            ends = self._rules.on_grid(max(at, alert.by))
            return None if self.step_at(alert) is None and not self._repeats(alert) else ends
        if alert.phase not in ("notified", "cannot"):
            return None
        times = [self.step_at(alert), self.repeats_at(alert)]
        first = min((time for time in times if time is not None), default=None)
        if first is None or first == at:
            return first
        return self._rules.on_grid(max(first, at))

    def step_at(self, alert: Alert) -> int | None:
        """When the next step of the escalation is due; None after the last."""
        steps = self._rules.policy.escalation
        return alert.since + steps[alert.step].after if alert.step < len(steps) else None

    def repeats_at(self, alert: Alert) -> int | None:
        """When its message is repeated; None if it is not."""
        interval = self._rules.policy.repeat_interval
        if alert.phase != "notified" or interval is None or not self._repeats(alert):
            return None
        return alert.notified_at + interval

    def _repeats(self, alert: Alert) -> bool:
        policy = self._rules.policy
        return policy.repeat_interval is not None and alert.reminders < policy.repeat_limit

    def since_for_step_at(self, alert: Alert, at: int) -> int:
        """Where the escalation must begin for its next step to fall due at a time."""
        steps = self._rules.policy.escalation
        return at - steps[alert.step].after if alert.step < len(steps) else alert.since

    def held(self, alert: Alert, shelf: ShelfHistory, at: int) -> Held | None:
        """Why nobody may be notified of an alert that is due at a time; None when they may."""
        return (
            self._rules.held(self._wholesaler_id, alert.listed, at)
            or self._flapping(alert, shelf, at)
            or self.quiet(alert, at)
        )

    def quiet(self, alert: Alert, at: int) -> Held | None:
        """The quiet hours in which a message that is due would be read."""
        for moment in (at, self._now):
            if moment is not None:
                held = self._rules.quiet(self._wholesaler_id, alert.listed, moment)
                if held is not None and held.until is not None and held.until > at:
                    return held
        return None

    def _flapping(self, alert: Alert, shelf: ShelfHistory, at: int) -> Held | None:
        """A shelf that runs empty again and again is notified of only now and then."""
        flapping = self._rules.policy.flapping
        if flapping is None or alert.phase != "open":
            return None
        lately = sum(then > at - flapping.within for then in shelf.emptied)
        again = self._rules.on_grid(shelf.notified_at + self._rules.damped_for)
        if lately < flapping.incidents or not shelf.notified_at or at >= again:
            return None
        return Held("flapping", again, f"emptied {lately} times or more lately")

    def remembered(self, shelf: ShelfHistory, folded: int) -> ShelfHistory | None:
        """What still matters of a shelf's history once all before `folded` is decided."""
        flapping = self._rules.policy.flapping
        since = folded - (flapping.within if flapping is not None else 0)
        emptied = [then for then in shelf.emptied if then > since]
        damped = shelf.notified_at + self._rules.damped_for > since
        # For as long as late events may open them again.
        remembered = folded - self._rules.restate_within
        over = {name: at for name, at in shelf.over.items() if at > remembered}
        return ShelfHistory(emptied, shelf.notified_at, over) if emptied or damped or over else None

"""When something is to be decided about a stock-out next, and whether it may be told now. Pure.

What is told then is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

from typing import Final

from alerts.lifecycle.state import Alert, ShelfHistory, WholesalerState
from alerts.policy.rules import AlertRules, Held

#: How long (ms) a stock-out that was told and is over is remembered.
OVER_REMEMBERED: Final = 7 * 86_400_000


class Timing:
    """The times of one wholesaler's stock-outs, by the rules; `now` as in `lifecycle.advance`."""

    def __init__(self, state: WholesalerState, rules: AlertRules, now: int | None) -> None:
        self.state = state
        self.rules = rules
        self.now = now

    def set_due(self, alert: Alert, at: int | None) -> None:
        """Let a case be looked at at a time; None: when something happens."""
        alert.due = at
        wake = self.state.wake
        if at is not None and (wake is None or at < wake):
            self.state.wake = at

    def plan(self, alert: Alert) -> None:
        """Say when a case that waits for an answer is looked at next."""
        step = self.step_of(alert)
        times = [step[0]] if step is not None else []
        repeats_at = self.repeats_at(alert)
        if alert.phase == "notified" and repeats_at != float("inf"):
            times.append(int(repeats_at))
        self.set_due(alert, self.rules.on_grid(min(times)) if times else None)

    def step_of(self, alert: Alert) -> tuple[int, str] | None:
        """When the next step of the escalation is due, and whom it tells."""
        steps = self.rules.policy.escalation
        if alert.step >= len(steps):
            return None
        return alert.since + steps[alert.step].after, steps[alert.step].to

    def repeats_at(self, alert: Alert) -> float:
        """When its message is said again; infinity if it is not."""
        policy = self.rules.policy
        if policy.repeat_interval is None or alert.reminders >= policy.repeat_limit:
            return float("inf")
        return alert.told_at + policy.repeat_interval

    def escalate_from(self, alert: Alert, at: int) -> None:
        """Let the next step be due at a time, and those after it follow as they stand apart."""
        steps = self.rules.policy.escalation
        if alert.step < len(steps):
            alert.since = at - steps[alert.step].after

    def escalate_now(self, alert: Alert, at: int) -> bool:
        """Let the next step be due at once; False if there is none."""
        if self.step_of(alert) is None:
            return False
        self.escalate_from(alert, at)
        self.set_due(alert, at)
        return True

    def held(self, alert: Alert, at: int) -> Held | None:
        """Why a case that is due at a time may not be told of then; None when it may."""
        return (
            self.rules.held(self.state.wholesaler_id, alert.listed, at)
            or self._flapping(alert, at)
            or self.quiet(alert, at)
        )

    def quiet(self, alert: Alert, at: int) -> Held | None:
        """The quiet hours in which a message that is due would be read."""
        for moment in (at, self.now):
            if moment is not None:
                held = self.rules.quiet(self.state.wholesaler_id, alert.listed, moment)
                if held is not None and held.until is not None and held.until > at:
                    return held
        return None

    def _flapping(self, alert: Alert, at: int) -> Held | None:
        """Of a shelf that runs empty again and again its wholesaler hears only now and then."""
        flapping = self.rules.policy.flapping
        if flapping is None or alert.phase != "open":
            return None
        shelf = self.shelf(alert)
        lately = sum(then > at - flapping.within for then in shelf.emptied)
        again = self.rules.on_grid(shelf.told_at + self.rules.damped_for)
        if lately < flapping.incidents or not shelf.told_at or at >= again:
            return None
        return Held("flapping", again, f"emptied {lately} times or more lately")

    def shelf(self, alert: Alert) -> ShelfHistory:
        """What is remembered of the shelf, where restless ones are told less often."""
        return self.state.shelves.setdefault(f"{alert.outlet_id}\0{alert.sku}", ShelfHistory())

    def follow_policy(self) -> None:
        """Look at every case anew that waits, when the policy has changed since it was told to."""
        state = self.state
        if state.policy == self.rules.fingerprint:
            return
        state.policy = self.rules.fingerprint
        for alert in state.alerts.values():
            if alert.held and alert.phase != "resolved":
                self.set_due(alert, state.folded)
            elif alert.phase in ("notified", "cannot"):
                self.plan(alert)
                if alert.due is not None:
                    self.set_due(alert, max(alert.due, state.folded))

    def forget(self) -> None:
        """Drop what no longer matters of shelves that were restless."""
        flapping = self.rules.policy.flapping
        since = self.state.folded - (flapping.within if flapping is not None else 0)
        for key, shelf in list(self.state.shelves.items()):
            shelf.emptied = [then for then in shelf.emptied if then > since]
            damped = shelf.told_at + self.rules.damped_for > since
            oldest = self.state.folded - OVER_REMEMBERED
            shelf.over = {name: then for name, then in shelf.over.items() if then > oldest}
            if not shelf.emptied and not damped and not shelf.over:
                del self.state.shelves[key]

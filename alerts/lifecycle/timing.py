"""When something is to be decided about a stock-out next, and whether it may be told now. Pure.

What is told then is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

from alerts.lifecycle.state import Case, Shelf, WholesalerState
from alerts.policy.rules import Held, Rules


class Timing:
    """The times of one wholesaler's stock-outs, by the rules; `now` as in `alerts.lifecycle.lifecycle.advance`."""

    def __init__(self, state: WholesalerState, rules: Rules, now: int | None) -> None:
        self.state = state
        self.rules = rules
        self.now = now

    def set_due(self, case: Case, at: int | None) -> None:
        """Let a case be looked at at a time; None: when something happens."""
        case.due = at
        wake = self.state.wake
        if at is not None and (wake is None or at < wake):
            self.state.wake = at

    def plan(self, case: Case) -> None:
        """Say when a case that waits for an answer is looked at next."""
        step = self.step_of(case)
        times = [step[0]] if step is not None else []
        repeats_at = self.repeats_at(case)
        if case.phase == "notified" and repeats_at != float("inf"):
            times.append(int(repeats_at))
        self.set_due(case, self.rules.on_grid(min(times)) if times else None)

    def step_of(self, case: Case) -> tuple[int, str] | None:
        """When the next step of the escalation is due, and whom it tells."""
        steps = self.rules.policy.escalation
        if case.step >= len(steps):
            return None
        return case.since + steps[case.step].after, steps[case.step].to

    def repeats_at(self, case: Case) -> float:
        """When its message is said again; infinity if it is not."""
        policy = self.rules.policy
        if policy.repeat_interval is None or case.reminders >= policy.repeat_limit:
            return float("inf")
        return case.told_at + policy.repeat_interval

    def escalate_from(self, case: Case, at: int) -> None:
        """Let the next step be due at a time, and those after it follow as they stand apart."""
        steps = self.rules.policy.escalation
        if case.step < len(steps):
            case.since = at - steps[case.step].after

    def escalate_now(self, case: Case, at: int) -> bool:
        """Let the next step be due at once; False if there is none."""
        if self.step_of(case) is None:
            return False
        self.escalate_from(case, at)
        self.set_due(case, at)
        return True

    def held(self, case: Case, at: int) -> Held | None:
        """Why a case that is due at a time may not be told of then; None when it may."""
        return (
            self.rules.held(self.state.wholesaler_id, case.listed, at)
            or self._flapping(case, at)
            or self.quiet(case, at)
        )

    def quiet(self, case: Case, at: int) -> Held | None:
        """The quiet hours in which a message that is due would be read."""
        for moment in (at, self.now):
            if moment is not None:
                held = self.rules.quiet(self.state.wholesaler_id, case.listed, moment)
                if held is not None and held.until is not None and held.until > at:
                    return held
        return None

    def _flapping(self, case: Case, at: int) -> Held | None:
        """Of a shelf that runs empty again and again its wholesaler hears only now and then."""
        flapping = self.rules.policy.flapping
        if flapping is None or case.phase != "open":
            return None
        shelf = self.shelf(case)
        lately = sum(then > at - flapping.within for then in shelf.emptied)
        again = self.rules.on_grid(shelf.told_at + self.rules.damped_for)
        if lately < flapping.incidents or not shelf.told_at or at >= again:
            return None
        return Held("flapping", again, f"emptied {lately} times or more lately")

    def shelf(self, case: Case) -> Shelf:
        """What is remembered of the shelf, where restless ones are told less often."""
        return self.state.shelves.setdefault(f"{case.outlet_id}\0{case.sku}", Shelf())

    def follow_policy(self) -> None:
        """Look at every case anew that waits, when the policy has changed since it was told to."""
        state = self.state
        if state.policy == self.rules.fingerprint:
            return
        state.policy = self.rules.fingerprint
        for case in state.cases.values():
            if case.held and case.phase != "resolved":
                self.set_due(case, state.folded)
            elif case.phase in ("notified", "cannot"):
                self.plan(case)
                if case.due is not None:
                    self.set_due(case, max(case.due, state.folded))

    def forget(self) -> None:
        """Drop what no longer matters of shelves that were restless."""
        flapping = self.rules.policy.flapping
        since = self.state.folded - (flapping.within if flapping is not None else 0)
        for key, shelf in list(self.state.shelves.items()):
            shelf.emptied = [then for then in shelf.emptied if then > since]
            damped = shelf.told_at + self.rules.damped_for > since
            if not shelf.emptied and not damped:
                del self.state.shelves[key]

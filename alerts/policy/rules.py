"""What a policy means for one stock-out at one moment. Pure: questions in, answers out.

What follows from the answers, and when they are asked, is `alerts.lifecycle.lifecycle`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from alerts.policy.policy import EVERYWHERE, Matcher, Policy, QuietHours
from pipelines.core.stage import RESTATE_WITHIN
from schemas.messages import ListedIncident

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: Whom a message goes to: the wholesaler's numbers in turn, the second number alone, or the
#: channel named after the slash.
PHONE: Final = "phone"
BACKUP: Final = "backup_phone"
CHANNEL: Final = "channel/"


class Places(Protocol):
    """Where outlets are, as the reference tables say."""

    def territories(self, outlet_id: str) -> tuple[str, ...]:
        """The outlet's territory and those it is part of, the smallest first."""

    def closed_on(self, outlet_id: str) -> date | None:
        """The first day on which the outlet is no longer there, if that is known."""


class Nowhere:
    """Places that nobody knows."""

    def territories(self, outlet_id: str) -> tuple[str, ...]:
        """See `Places`."""
        del outlet_id
        return ()

    def closed_on(self, outlet_id: str) -> date | None:
        """See `Places`."""
        del outlet_id
        return None


class Held(NamedTuple):
    """Why nobody is notified now, until when (ms; None: as long as it lasts), and whose word it is.

    `why` is outlet_closed, on_leave, maintenance, silenced, flapping or quiet_hours.
    """

    why: str
    until: int | None = None
    note: str = ""
    by: str = "policy"


class AlertRules:
    """A policy, bound to what it speaks of.

    `group_wait` in ms holds where the policy says nothing; `zone` is the readers'. `wall` says
    that event times are those of the clock on the wall, so that what comes late must not go out
    in quiet hours either. `changed` says since when the policy holds (event time) and when it was
    read (wall), both in ms, if there was another before. `restate_within` is how long (ms) late
    events may change what somebody was notified of.
    """

    def __init__(
        self,
        group_wait: int,
        policy: Policy | None = None,
        *,
        zone: tzinfo,
        places: Places | None = None,
        wall: bool = False,
        changed: tuple[int, int] | None = None,
        restate_within: int = RESTATE_WITHIN,
    ) -> None:
        self.policy = policy or Policy()
        self._minds_closing = policy is not None
        self.places = places or Nowhere()
        self.wall = wall
        self.changed = changed
        self.restate_within = restate_within
        written = self.policy.model_dump_json().encode() + b"-" * (policy is None)
        self.fingerprint = blake2b(written, digest_size=4).hexdigest()
        self._zone = zone
        self._group_wait = group_wait

    def by(
        self,
        policy: Policy | None,
        changed: tuple[int, int] | None = None,
        group_wait: int | None = None,
    ) -> AlertRules:
        """The same by another policy; see the class for what can be said besides."""
        return AlertRules(
            self._group_wait if group_wait is None else group_wait,
            policy,
            zone=self._zone,
            places=self.places,
            wall=self.wall,
            changed=changed,
            restate_within=self.restate_within,
        )

    def group_wait(self, wholesaler_id: str) -> int:
        """How long a wholesaler's stock-outs are gathered, in ms."""
        own = self.policy.wholesalers.get(wholesaler_id)
        for wait in (own.group_wait if own is not None else None, self.policy.group_wait):
            if wait is not None:
                return wait
        return self._group_wait

    def resolved_notes(self, wholesaler_id: str) -> bool:
        """Whether who was notified of a stock-out is notified of its end."""
        own = self.policy.wholesalers.get(wholesaler_id)
        if own is not None and own.resolved_notes is not None:
            return own.resolved_notes
        return self.policy.resolved_notes

    def on_grid(self, at: int) -> int:
        """The next moment, not before `at`, at which reminders go out: many are one message."""
        interval = self.policy.group_interval
        return -(-at // interval) * interval

    @property
    def damped_for(self) -> int:
        """How far apart the messages about a flapping shelf are at least, in ms."""
        flapping = self.policy.flapping
        return self.policy.repeat_interval or (flapping.within if flapping is not None else 0)

    def target(self, wholesaler_id: str, incident: ListedIncident, at: int) -> str:
        """Whom the wholesaler's messages go to: to somebody else while they are away."""
        for leave in self.policy.leave:
            if wholesaler_id in leave.wholesaler and _holds(leave.from_, leave.until, at):
                return self.addressee(leave.instead or PHONE, incident)
        return PHONE

    def addressee(self, target: str, incident: ListedIncident) -> str:
        """A target of the policy as the address of a message; `CHANNEL` alone if there is none."""
        if target != "territory_manager":
            return target
        managers = self.policy.managers
        around = (*self.places.territories(incident.outlet_id), EVERYWHERE)
        return CHANNEL + next((managers[name] for name in around if name in managers), "")

    def held(self, wholesaler_id: str, incident: ListedIncident, at: int) -> Held | None:
        """Why nobody is notified of a stock-out at a time, apart from quiet hours."""
        policy = self.policy
        closed_on = self.places.closed_on(incident.outlet_id) if self._minds_closing else None
        if closed_on is not None and at >= _midnight(closed_on, self._zone):
            return Held("outlet_closed", None, f"closed on {closed_on}", "outlets.csv")
        for leave in policy.leave:
            if (
                leave.instead is None
                and wholesaler_id in leave.wholesaler
                and _holds(leave.from_, leave.until, at)
            ):
                return Held("on_leave", leave.until, leave.why, leave.by or "policy")
        for work in policy.maintenance:
            if _holds(work.from_, work.until, at) and self._within(incident, work.territory):
                return Held("maintenance", work.until, work.why, work.by or "policy")
        for silence in policy.silences:
            if _holds(silence.from_, silence.until, at) and self._matches(
                silence, wholesaler_id, incident
            ):
                return Held("silenced", silence.until, silence.why, silence.by or "policy")
        return None

    def quiet(self, wholesaler_id: str, incident: ListedIncident, at: int) -> Held | None:
        """The quiet hours that `at` is in, unless it is notified of all the same."""
        hours = self.policy.quiet_hours
        own = self.policy.wholesalers.get(wholesaler_id)
        if own is not None and own.quiet_hours is not None:
            hours = _as_different(hours, own.quiet_hours) if own.quiet_hours else None
        if hours is None or any(self._matches(m, wholesaler_id, incident) for m in hours.except_):
            return None
        for start, end in self._spans(hours, at):
            if start <= at < end:
                return Held("quiet_hours", end)
        return None

    def _spans(self, hours: QuietHours, at: int) -> Iterator[tuple[int, int]]:
        """The quiet hours that start on the day of `at` and on the day before."""
        zone = ZoneInfo(hours.zone) if hours.zone is not None else self._zone
        today = datetime.fromtimestamp(at / 1_000, zone).date()
        for day in (today - timedelta(days=1), today):
            if _DAYS[day.weekday()] in hours.days:
                last = day + timedelta(days=hours.end <= hours.start)
                yield _moment(day, hours.start, zone), _moment(last, hours.end, zone)

    def _matches(self, matcher: Matcher, wholesaler_id: str, incident: ListedIncident) -> bool:
        return (
            (matcher.outlet is None or incident.outlet_id in matcher.outlet)
            and (matcher.sku is None or incident.sku in matcher.sku)
            and (matcher.wholesaler is None or wholesaler_id in matcher.wholesaler)
            and (matcher.territory is None or self._within(incident, matcher.territory))
        )

    def _within(self, incident: ListedIncident, territories: tuple[str, ...]) -> bool:
        around = self.places.territories(incident.outlet_id)
        return any(territory in territories for territory in around)


def _as_different(hours: QuietHours | None, own: QuietHours) -> QuietHours:
    """Quiet hours with what is written otherwise for one wholesaler."""
    if hours is None:
        return own
    return hours.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _holds(start: int, end: int | None, at: int) -> bool:
    return start <= at and (end is None or at < end)


@lru_cache(maxsize=4_096)
def _moment(day: date, minutes: int, zone: tzinfo) -> int:
    local = datetime.combine(day, time(minutes // 60, minutes % 60), zone)
    return round(local.timestamp() * 1_000)


def _midnight(day: date, zone: tzinfo) -> int:
    return _moment(day, 0, zone)

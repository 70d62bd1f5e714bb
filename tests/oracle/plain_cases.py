"""Cases worked out minute by minute, without arithmetic of the product: slow, and plain."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from functools import lru_cache

from schemas.service.rules import Calendar, CaseKind, Limit, ServiceRules

MINUTE = 60_000


class PlainCalendar:
    """Whether a minute is worked, by the clock on the wall."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.works = lru_cache(maxsize=None)(self._works)

    def _works(self, minute: int) -> bool:
        wall = datetime.fromtimestamp(minute * 60, self.calendar.zone)
        if wall.date() in self.calendar.holidays:
            return False
        weekday = 0 if wall.date() in self.calendar.workdays else wall.weekday()
        now = wall.hour * 60 + wall.minute
        return any(opens <= now < closes for opens, closes in self.calendar.week[weekday])

    def between(self, start: int, end: int) -> int:
        return sum(self.works(m) for m in range(start // MINUTE, end // MINUTE)) * MINUTE

    def after(self, start: int, length: int) -> int:
        minute, left = start // MINUTE, length // MINUTE
        while left:
            left -= self.works(minute)
            minute += 1
        return minute * MINUTE


class PlainCases:
    """All cases of a history, from all of its events at once."""

    def __init__(self, rules: ServiceRules) -> None:
        self.rules = rules
        self.calendars = {name: PlainCalendar(c) for name, c in rules.calendars.items()}

    def repeats(self, events: list[dict]) -> dict[str, str]:
        """Case → the newest earlier one of the same matter, within the kind's time."""
        found = {}
        first: dict[str, dict] = {}
        for event in sorted(events, key=lambda e: (e["at"], e["event_id"])):
            if event["type"] == "case_opened":
                first.setdefault(event["case_id"], event)
        for case, event in first.items():
            kind = self.rules.kinds[event["kind"]]
            if not event.get("customer_id") or kind.repeat_within is None:
                continue
            same = [
                (other["at"], other["event_id"], other["case_id"])
                for other in first.values()
                if all(other.get(k) == event.get(k) for k in ("kind", "customer_id", "about"))
                and (other["at"], other["event_id"]) < (event["at"], event["event_id"])
                and self.due(kind, kind.repeat_within, other["at"], []) >= event["at"]
            ]
            if same:
                found[case] = max(same)[2]
        return found

    def due(self, kind: CaseKind, limit: Limit, start: int, pauses: list) -> int | None:
        minute, left = start // MINUTE, limit.length // MINUTE
        while left:
            for begun, over in pauses:
                if begun // MINUTE <= minute and (over is None or minute < over // MINUTE):
                    if over is None:
                        return None
                    break
            else:
                left -= not limit.working or self.calendars[kind.calendar].works(minute)
            minute += 1
        return minute * MINUTE

    def all(self, events: list[dict], until: int) -> tuple[dict, dict, set]:
        """(cases by id, steps by (case, step, n), ids of refused events)."""
        once = list({event["event_id"]: event for event in events}.values())
        repeats = self.repeats(once)
        by_case = defaultdict(list)
        for event in once:
            by_case[event["case_id"]].append(event)
        cases, steps, refused = {}, {}, set()
        for name, some in by_case.items():
            some.sort(key=lambda e: (e["at"], e["type"] != "case_opened", e["event_id"]))
            self._one(name, some, repeats.get(name, ""), until, cases, steps, refused)
        return cases, steps, refused

    def _one(self, name, events, repeat_of, until, cases, steps, refused) -> None:
        case = None
        rows: list[dict] = []
        pauses: list[list] = []
        for event in events:
            kind_of, at = event["type"], event["at"]
            if kind_of == "case_opened" and case is None:
                kind = self.rules.kinds[event["kind"]]
                known = list(kind.severities)
                rank = (len(known) - 1) // 2
                if event.get("severity"):
                    rank = known.index(event["severity"])
                if repeat_of:
                    rank = min(len(known) - 1, rank + 1)
                case = {
                    "unit_id": event["unit_id"],
                    "severity": known[rank],
                    "green": bool(event.get("green")),
                    "opened_at": at,
                    "answered_at": None,
                    "closed_at": None,
                    "repeat_of": repeat_of,
                    "reopened": 0,
                    "at": 0,
                }
                rows.append({"place": 0, "start": at, "end": None, "unit": case["unit_id"]})
                continue
            if case is None or kind_of == "case_opened":
                refused.add(event["event_id"])
                continue
            closed = case["closed_at"] is not None
            open_row = rows[-1] if rows and rows[-1]["end"] is None else None
            if kind_of == "case_reopened":
                if not closed:
                    refused.add(event["event_id"])
                    continue
                case["closed_at"] = None
                case["reopened"] += 1
                again = {"place": rows[-1]["place"], "start": at, "end": None}
                rows.append(again | {"unit": case["unit_id"]})
            elif kind_of == "case_followed_up":
                pass
            elif closed:
                refused.add(event["event_id"])
            elif kind_of == "case_step":
                names = [step.name for step in kind.steps]
                place = names.index(event["step"]) if event["step"] in names else -1
                if open_row is None or place < open_row["place"]:
                    refused.add(event["event_id"])
                    continue
                for done in range(open_row["place"], place + 1):
                    rows[-1]["end"] = at
                    rows[-1]["unit"] = event.get("unit_id") or rows[-1]["unit"]
                    if done + 1 < len(names):
                        row = {"place": done + 1, "start": at, "end": None}
                        rows.append(row | {"unit": case["unit_id"]})
            elif kind_of == "case_assigned":
                case["unit_id"] = event["unit_id"]
                if open_row is not None:
                    open_row["unit"] = event["unit_id"]
            elif kind_of == "case_paused":
                if not pauses or pauses[-1][1] is not None:
                    pauses.append([at, None])
            elif kind_of == "case_resumed":
                if pauses and pauses[-1][1] is None:
                    pauses[-1][1] = at
            elif kind_of == "case_answered":
                case["answered_at"] = case["answered_at"] or at
            elif kind_of == "case_closed":
                case["closed_at"] = at
                if pauses and pauses[-1][1] is None:
                    pauses[-1][1] = at
                if open_row is not None:
                    open_row["end"] = at
        if case is None:
            return
        times: dict[str, int] = defaultdict(int)
        late = False
        rank = kind.severities.index(case["severity"])
        for row in rows:
            rule = kind.steps[row["place"]]
            times[rule.name] += 1
            limit = rule.green if case["green"] and rule.green else rule.within[rank]
            due = self.due(kind, limit, row["start"], pauses)
            over = row["end"] if row["end"] is not None else until - 1
            late |= due is not None and due < over + (row["end"] is None)
            steps[name, rule.name, times[rule.name]] = (row["unit"], row["start"], due, row["end"])
        current = rows[-1] if rows[-1]["end"] is None else None
        case["step"] = kind.steps[current["place"]].name if current else ""
        case["due_at"] = due if current else None
        case["paused_s"] = sum(b - a for a, b in pauses if b is not None) / 1_000
        case["on_time"] = 0 if late else 1 if case["closed_at"] is not None else None
        del case["at"]
        cases[name] = case

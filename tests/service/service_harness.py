"""Calendars of three countries, kinds of cases, and random histories of them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from hypothesis import strategies as st

from pipelines.ingest.service.rules import load_service_rules
from schemas.fields import parse_time
from schemas.service.rules import ServiceRules

CALENDARS = """
[office]
zone = "Asia/Shanghai"
mon = ["08:30-12:00", "13:30-17:30"]
tue = ["08:30-12:00", "13:30-17:30"]
wed = ["08:30-12:00", "13:30-17:30"]
thu = ["08:30-12:00", "13:30-17:30"]
fri = ["08:30-12:00", "13:30-17:30"]
holidays = [2026-03-24, 2026-03-25]
workdays = [2026-03-28]
day = "7h30m"

[hotline]
zone = "Europe/Berlin"
mon = ["00:00-24:00"]
tue = ["00:00-24:00"]
fri = ["20:00-24:00"]
sat = ["00:00-06:00", "22:30-24:00"]
sun = ["00:00-02:30", "02:45-04:00"]
day = "8h"

[southern]
zone = "America/Santiago"
mon = ["09:00-18:00"]
wed = ["09:00-13:00"]
sat = ["22:00-24:00"]
sun = ["00:00-01:30", "08:00-12:00"]
holidays = [2026-04-03]
"""

# TOML keeps an inline table on one line.
CASES = """
[complaint]
calendar = "office"
severities = ["low", "normal", "high"]
repeat_within = "3d"
step = [{ name = "accept", within = "30min" },
        { name = "answer", warn = "80%", green = "1wh",\
 within = { low = "2wd", normal = "1wd", high = "2wh" } },
        { name = "follow_up", within = "1wd" }]

[connection]
calendar = "hotline"
severities = ["plain", "urgent"]
step = [{ name = "take_in", within = "1wd", green = "20min" },
        { name = "offer", within = "3h" }]

[visit]
calendar = "southern"
step = [{ name = "go", within = "0.5wd" }]
"""


def rules_of(folder: Path, calendars: str = CALENDARS, cases: str = CASES) -> ServiceRules:
    """The rules that two files say."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calendars.toml").write_text(calendars)
    (folder / "cases.toml").write_text(cases)
    return load_service_rules(folder)


#: A Friday before clocks change in Germany; in Chile they do a week later.
START = parse_time("2026-03-20T00:00:00Z")
MINUTE = 60_000
DAYS = 17

moments = st.integers(0, DAYS * 1_440).map(lambda minute: START + minute * MINUTE)

_TYPES = [
    *("case_step", "case_step", "case_assigned", "case_paused", "case_resumed", "case_paused"),
    *("case_resumed", "case_answered", "case_followed_up", "case_closed", "case_reopened"),
]
_STEPS = ["accept", "answer", "follow_up", "take_in", "offer", "go"]


@st.composite
def histories(draw: st.DrawFn, most: int = 25) -> list[dict]:
    """Events of a few cases, in no order: openings given twice, steps out of turn and all."""
    cases = draw(st.integers(1, 4))
    events = []
    for number in range(cases):
        kind = draw(st.sampled_from(["complaint", "complaint", "connection", "visit"]))
        customer = draw(st.sampled_from(["k1", "k1", "k2", ""])) or None
        about = draw(st.sampled_from(["bill", "bill", "noise"]))
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            ranks = {"complaint": ["low", "high"], "connection": ["urgent"], "visit": []}[kind]
            events.append(
                {
                    "type": "case_opened",
                    "case_id": f"c{number}",
                    "at": draw(moments),
                    "kind": kind,
                    "unit_id": draw(st.sampled_from(["u1", "u2"])),
                    "customer_id": customer,
                    "about": about,
                    "severity": draw(st.sampled_from([None, None, *ranks])),
                    "green": draw(st.sampled_from([False, False, True])),
                }
            )
    for _ in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(_TYPES))
        event = {"type": kind, "case_id": f"c{draw(st.integers(0, cases))}", "at": draw(moments)}
        if kind == "case_step":
            event["step"] = draw(st.sampled_from(_STEPS))
            event["unit_id"] = draw(st.sampled_from([None, None, "u3"]))
        elif kind == "case_assigned":
            event["unit_id"] = draw(st.sampled_from(["u1", "u2", "u3"]))
        elif kind == "case_followed_up":
            event["satisfied"] = draw(st.booleans())
        events.append(event)
    for number, event in enumerate(events):
        event["event_id"] = f"e{number}"
    return draw(st.permutations(events))


def days(first: date, count: int) -> list[date]:
    """So many days from one on."""
    return [first + timedelta(days=i) for i in range(count)]

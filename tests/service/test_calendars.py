"""Working time and its inverse equal counting minutes on the clock on the wall."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle.plain_cases import PlainCalendar
from service_harness import CALENDARS, CASES, MINUTE, moments, rules_of

from pipelines.core.service.calendars import WorkTime
from schemas.errors import InputError
from schemas.fields import parse_time


@pytest.fixture(scope="module")
def calendars(tmp_path_factory: pytest.TempPathFactory):
    rules = rules_of(tmp_path_factory.mktemp("rules"))
    return {n: (WorkTime(c), PlainCalendar(c)) for n, c in rules.calendars.items()}


@given(st.sampled_from(["office", "hotline", "southern"]), moments, moments)
def test_between_counts_the_minutes_worked(calendars, name: str, start: int, end: int) -> None:
    work, plain = calendars[name]
    assert work.between(start, end) == plain.between(start, end)


@given(st.sampled_from(["office", "hotline", "southern"]), moments, st.integers(1, 1_500))
def test_after_is_when_so_much_was_worked(calendars, name: str, start: int, minutes: int) -> None:
    work, plain = calendars[name]
    found = work.after(start, minutes * MINUTE)
    assert found == plain.after(start, minutes * MINUTE)
    assert work.between(start, found) == minutes * MINUTE


def test_years_may_be_asked_for_in_any_order(calendars) -> None:
    work, _ = calendars["office"]
    spans = [(f"{year}-05-0{day}T00:00:00Z", f"{year}-05-0{day + 2}T00:00:00Z")
             for year in (2031, 2019, 2024) for day in (1, 5)]  # fmt: skip
    known = [work.between(parse_time(a), parse_time(b)) for a, b in spans]
    for (a, b), found in zip(spans, known, strict=True):
        fresh = WorkTime(work.calendar)
        assert fresh.between(parse_time(a), parse_time(b)) == found


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("Asia/Shanghai", "Asia/Nowhere", "calendars.toml:3: office.zone", "no time zone"),
        ('zone = "Asia/Shanghai"', "", "calendars.toml:2: office.zone", "no time zone None"),
        ("08:30-12:00", "8:30-12", "calendars.toml:4: office.mon", "no span of a day"),
        ("13:30-17:30", "17:30-13:30", "calendars.toml:4: office.mon", "ends before it begins"),
        ("13:30-17:30", "11:30-17:30", "calendars.toml:4: office.mon", "not after the span"),
        ("00:00-24:00", "00:00-24:30", "calendars.toml:15: hotline.mon", "ends before"),
        ("holidays = [2026-03-24,", 'holidays = ["2026-03-24",', "calendars.toml:9", "no date"),
        ("[2026-03-28]", "[2026-03-24]", "calendars.toml:10: office.workdays", "a holiday too"),
        ('day = "7h30m"', 'day = "26h"', "calendars.toml:11: office.day", "length of a day"),
        ("tue = ", "tues = ", "office.tues: not known here", "not known"),
        ("[hotline]", "[hotline", "calendars.toml: not TOML", "line 13"),
        ('calendar = "office"', 'calendar = "ofice"', "cases.toml:3: complaint.calendar", "ofice"),
        ('within = "30min"', 'within = "30m"', "cases.toml:6: complaint.step", "no limit"),
        ('within = "30min"', 'within = "0h"', "cases.toml:6: complaint.step", "no limit"),
        ('normal = "1wd", ', "", "cases.toml:6: complaint.step.1", "no limit for normal"),
        ('warn = "80%"', 'warn = "0.8"', "complaint.step.1.warn", "no share"),
        ('name = "answer"', 'name = "accept"', "complaint.step", "stands there twice"),
        ('"low", "normal"', '"low", "low"', "complaint.severities", "stands there twice"),
        ('calendar = "southern"\n', "", "visit.step.0.within", "name a calendar"),
        ('step = [{ name = "go", within = "0.5wd" }]', "", "visit.step", "write its steps"),
    ],
)
def test_each_fault_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, place: str, what: str
) -> None:
    assert old in CALENDARS + CASES
    with pytest.raises(InputError) as found:
        rules_of(tmp_path, CALENDARS.replace(old, new, 1), CASES.replace(old, new, 1))
    first = str(found.value).splitlines()[0]
    assert place in first
    assert what in first


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        rules_of(tmp_path, CALENDARS.replace("08:30", "8:30"), CASES)
    assert len(str(found.value).splitlines()) == 5

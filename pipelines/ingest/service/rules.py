"""Reads `calendars.toml` and `cases.toml`, and says where each fault in them stands."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from pipelines.core.toml_lines import line_of
from schemas.errors import InputError
from schemas.fields import ID_LENGTH
from schemas.service.rules import Calendar, CaseKind, Hours, Limit, ServiceRules, StepRule

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
_LIMIT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(min|h|d|wh|wd)", re.ASCII)
_LENGTH = re.compile(r"(?:(\d{1,2})h)?(?:(\d{1,4})m(?:in)?)?", re.ASCII)
_SHARE = re.compile(r"(\d{1,2}(?:\.\d+)?) ?%", re.ASCII)
_CLOCK: Final = {"min": 60_000, "h": 3_600_000, "d": 86_400_000}
_LIMIT_FORM: Final = 'a limit is like "30min", "2h", "5d", "2wh" or "1wd"'


def load_service_rules(folder: Path) -> ServiceRules:
    """The rules beside the reference tables; a file that is not there says nothing.

    Raises `InputError` with one line for each fault: file, line, and what would be right.
    """
    faults: list[str] = []
    calendars: dict[str, Calendar] = {}
    kinds: dict[str, CaseKind] = {}
    digest = hashlib.blake2b(digest_size=8)
    for name in ("calendars.toml", "cases.toml"):
        file = _File.read(folder / name, faults)
        if file is None:
            continue
        digest.update(f"{name}\0{file.text}\0".encode())
        for key, value in file.rows.items():
            if not isinstance(value, dict):
                file.fault((key,), f"write a table, [{key}]")
            elif name == "calendars.toml":
                calendars[key] = _calendar(file, key, value)
            else:
                kinds[key] = _kind(file, key, value, calendars)
    if faults:
        raise InputError("\n".join(faults))
    return ServiceRules(calendars, kinds, digest.hexdigest() if calendars or kinds else "")


@dataclass
class _File:
    """One of the two files, and what is wrong with it so far."""

    path: Path
    text: str
    faults: list[str]
    rows: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, faults: list[str]) -> _File | None:
        try:
            file = cls(path, path.read_bytes().decode("utf-8-sig"), faults)
            file.rows = tomllib.loads(file.text)
        except FileNotFoundError:
            return None
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            faults.append(f"{path}: not UTF-8")
        except tomllib.TOMLDecodeError as error:
            faults.append(f"{path}: not TOML: {error}")
        else:
            return file
        return None

    def fault(self, place: Sequence[str | int], what: str) -> None:
        name = ".".join(str(part) for part in place)
        self.faults.append(f"{self.path}:{line_of(self.text, place)}: {name}: {what}")

    def unknown(self, place: Sequence[str | int], row: Mapping[str, Any], known: set[str]) -> None:
        for key in row.keys() - known:
            self.fault((*place, key), f"not known here; there are {', '.join(sorted(known))}")


# Calendars


def _calendar(file: _File, name: str, row: Mapping[str, Any]) -> Calendar:
    file.unknown((name,), row, {"zone", "holidays", "workdays", "day", *_DAYS})
    week = tuple(_day(file, (name, day), row.get(day, [])) for day in _DAYS)
    if not any(week):
        file.fault((name,), f"open on no day: give hours like {_DAYS[0]} = ['08:30-17:30']")
    holidays = _dates(file, (name, "holidays"), row.get("holidays", []))
    workdays = _dates(file, (name, "workdays"), row.get("workdays", []))
    for both in sorted(holidays & workdays):
        file.fault((name, "workdays"), f"{both} is a holiday too")
    if workdays and not week[0]:
        file.fault((name, "workdays"), "they have the hours of mon, and mon is closed")
    day = sum(closes - opens for opens, closes in week[0]) * 60_000
    if "day" in row:
        day = _length(file, (name, "day"), row["day"])
    zone = _zone(file, (name, "zone"), row.get("zone"))
    return Calendar(name, zone, week, holidays, workdays, day)  # type: ignore[arg-type]


def _zone(file: _File, place: Sequence[str], name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except Exception:
        file.fault(place, f"no time zone {name!r}: use a name like Asia/Shanghai")
        return ZoneInfo("UTC")


def _day(file: _File, place: Sequence[str], value: Any) -> Hours:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        file.fault(place, 'write a list of hours, like ["08:30-12:00", "13:30-17:30"]')
        return ()
    found: list[tuple[int, int]] = []
    for text in value:
        match = _HOURS.fullmatch(text)
        if match is None:
            file.fault(place, f"{text!r} is no span of a day like 08:30-12:00")
            continue
        opens, closes = (int(match[i]) * 60 + int(match[i + 1]) for i in (1, 3))
        if closes > 1_440 or opens >= closes:
            file.fault(
                place, f"{text!r} ends before it begins; what goes past midnight is two days"
            )
        elif found and opens < found[-1][1]:
            file.fault(place, f"{text!r} is not after the span before it")
        else:
            found.append((opens, closes))
    return tuple(found)


def _dates(file: _File, place: Sequence[str], value: Any) -> frozenset[date]:
    listed = value if isinstance(value, list) else [value]
    for one in listed:
        if not isinstance(one, date) or isinstance(one, datetime):
            file.fault(place, f"{str(one)!r} is no date: write it like 2026-10-01, without quotes")
    return frozenset(d for d in listed if isinstance(d, date) and not isinstance(d, datetime))


def _length(file: _File, place: Sequence[str], value: Any) -> int:
    match = _LENGTH.fullmatch(value) if isinstance(value, str) else None
    length = int(match[1] or 0) * 60 + int(match[2] or 0) if match else 0
    if not 0 < length <= 1_440:
        file.fault(place, f"{value!r} is not the length of a day, like 7h30m")
    return length * 60_000


# Kinds of cases


def _kind(
    file: _File, name: str, row: Mapping[str, Any], calendars: Mapping[str, Calendar]
) -> CaseKind:
    file.unknown((name,), row, {"calendar", "severities", "repeat_within", "step"})
    calendar = calendars.get(str(row.get("calendar", "")))
    if "calendar" in row and calendar is None:
        known = ", ".join(calendars) or "none"
        file.fault((name, "calendar"), f"no calendar {row['calendar']!r}; there are {known}")
    severities = _names(file, (name, "severities"), row.get("severities", ["normal"]))
    repeat = None
    if "repeat_within" in row:
        repeat = _limit(file, (name, "repeat_within"), row["repeat_within"], calendar)
    steps = row.get("step", [])
    if not isinstance(steps, list) or not steps:
        file.fault((name, "step"), 'write its steps: step = [{ name = "answer", within = "1wd" }]')
        steps = []
    found = [
        _step(file, (name, "step", i), some, severities, calendar) for i, some in enumerate(steps)
    ]
    _names(file, (name, "step"), [step.name for step in found])
    calendar_name = "" if calendar is None else calendar.name
    return CaseKind(name, calendar_name, severities, repeat, tuple(found))


def _names(file: _File, place: Sequence[str], value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    texts = [text for text in listed if isinstance(text, str) and 0 < len(text) <= ID_LENGTH]
    if len(texts) < len(listed) or not (texts or place[-1] == "step"):
        file.fault(place, "write names, like low and high")
    for text in sorted({text for text in texts if texts.count(text) > 1}):
        file.fault(place, f"{text!r} stands there twice")
    return tuple(texts)


def _step(
    file: _File,
    place: Sequence[str | int],
    row: Any,
    severities: tuple[str, ...],
    calendar: Calendar | None,
) -> StepRule:
    row = row if isinstance(row, dict) else {}
    file.unknown(place, row, {"name", "within", "green", "warn"})
    if not isinstance(row.get("name"), str):
        file.fault(place, "a step needs a name")
    within = row.get("within")
    limits: list[Limit] = []
    if isinstance(within, dict):
        for severity in within.keys() - set(severities):
            file.fault(
                place, f"within: no severity {severity!r}; there are {', '.join(severities)}"
            )
        for severity in severities:
            if severity in within:
                limits.append(
                    _limit(file, (*place, "within", severity), within[severity], calendar)
                )
            else:
                file.fault(place, f"within: no limit for {severity}")
    elif within is None:
        file.fault(place, f"within is missing: {_LIMIT_FORM}")
    else:
        limits = [_limit(file, (*place, "within"), within, calendar)] * len(severities)
    green = _limit(file, (*place, "green"), row["green"], calendar) if "green" in row else None
    warn = None
    if "warn" in row:
        share = _SHARE.fullmatch(row["warn"]) if isinstance(row["warn"], str) else None
        warn = float(share[1]) / 100 if share else None
        if not warn:
            file.fault((*place, "warn"), f'{row["warn"]!r} is no share like "80%"')
    return StepRule(str(row.get("name", "")), tuple(limits), green, warn)


def _limit(file: _File, place: Sequence[str | int], value: Any, calendar: Calendar | None) -> Limit:
    match = _LIMIT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not float(match[1]):
        file.fault(place, f"{value!r} is no limit: {_LIMIT_FORM}")
        return Limit(1, False)
    amount, unit = float(match[1]), match[2]
    if unit in _CLOCK:
        return Limit(round(amount * _CLOCK[unit]), False)
    if calendar is None:
        file.fault(place, f"{value!r} is working time: name a calendar of calendars.toml")
        return Limit(1, True)
    length = calendar.day if unit == "wd" else _CLOCK["h"]
    if not length:
        file.fault(place, f"{value!r}: {calendar.name} is closed on mon: say what its day is worth")
    return Limit(round(amount * length), True)

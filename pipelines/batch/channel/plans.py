"""The channel's plan file (TOML): read and checked whole, errors name the line."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import msgspec

from pipelines.core.channel.commission import ChannelFile, CommissionPlan
from schemas.errors import InputError

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])$")


def read_plans(text: str, name: str = "channel.toml") -> ChannelFile:
    """The file's meaning. Raises `InputError` naming the line of what is wrong."""
    try:
        found = msgspec.convert(tomllib.loads(text), ChannelFile)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: {error}") from error
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise InputError(f"{name}, line {_line(text, path.rstrip('`'), what)}: {what}") from error
    for number, plan in enumerate(found.plan):
        wrong = _wrong(plan, [other.from_ for other in found.plan[:number]])
        if wrong:
            raise InputError(f"{name}, line {_line(text, f'.plan[{number}]', '')}: {wrong}")
    return found


def _wrong(plan: CommissionPlan, earlier: list[str]) -> str:
    if not _MONTH.match(plan.from_):
        return f"from: {plan.from_!r} is not a month like 2026-01"
    if plan.from_ in earlier:
        return f"two plans begin in {plan.from_}"
    steps = sorted(plan.steps, key=lambda step: step.from_)
    if any(step.to < step.from_ for step in steps):
        return "a step ends before it begins"
    if any(later.from_ <= one.to for one, later in pairwise(steps)):
        return "two steps cover one fee"
    if not 0 < plan.silent_days <= plan.dead_days:
        return "silent_days must be between 1 and dead_days"
    return ""


def _line(text: str, path: str, what: str) -> int:
    """The line of the nth [[plan]] and, after it, of the last key named in path or message."""
    lines = text.splitlines()
    start = 0
    if nth := re.match(r"\.plan\[(\d+)\]", path):
        heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*plan\s*\]\]", line)]
        start = heads[int(nth[1])] if int(nth[1]) < len(heads) else 0
    keys = re.findall(r"[A-Za-z_][\w\-]*", path) + re.findall(r"field `(\w+)`", what)
    for key in reversed(keys):
        for number in range(start, len(lines)):
            if re.match(rf"\s*\[*[\w.\s\"]*\b{re.escape(key)}\b\"?\s*[=\]]", lines[number]):
                return number + 1
    return start + 1

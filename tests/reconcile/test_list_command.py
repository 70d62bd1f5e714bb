"""`zerostock dead-letters list` after a run: counts, filters, lines that stay lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.dead_letters.listing import DeadLetterFilter
from infra.text import counted, printable
from pipelines.simulate import read_truth
from schemas.errors import UsageError


def listed(zerostock, ran: Path, *options: object) -> tuple[dict[str, int], list[str]]:
    """Lines by reason, and each letter as `file:line: reason`."""
    done = zerostock("dead-letters", "list", "--data", ran, *options)
    assert done.returncode == 0, done.stderr
    table, _, rest = done.stdout.partition("\n\n")
    counts = {
        found[1]: int(found[2].replace(",", ""))
        for found in re.finditer(r"^ (\w+) +([\d,]+) +[\d,]+ +2\d{3}-", table, re.MULTILINE)
    }
    return counts, re.findall(r"^((?:cdr|events)/\S+:\d+: .*)$", rest, re.MULTILINE)


def test_counts_and_lines_are_those_of_the_truth(zerostock, city: Path, ran: Path) -> None:
    wrong = {f"{letter.file}:{letter.line}" for letter in read_truth(city).dead_letters}
    counts, letters = listed(zerostock, ran, "--limit", 9_999)
    assert {letter.split(": ")[0] for letter in letters} == wrong
    assert sum(counts.values()) == len(wrong) == len(letters)
    for reason, count in counts.items():
        assert sum(f": {reason}" in letter for letter in letters) == count


def test_filters_by_reason_source_and_time(zerostock, ran: Path) -> None:
    counts, letters = listed(zerostock, ran, "--limit", 9_999)
    reason = min(counts, key=lambda why: counts[why])
    some, of_reason = listed(zerostock, ran, "--reason", reason, "--limit", 9_999)
    assert some == {reason: counts[reason]}
    assert set(of_reason) == {letter for letter in letters if f": {reason}" in letter}
    _, of_source = listed(zerostock, ran, "--source", "events/", "--limit", 9_999)
    assert of_source
    assert set(of_source) == {letter for letter in letters if letter.startswith("events/")}
    assert listed(zerostock, ran, "--since", "1h", "--limit", 9_999) == (counts, letters)
    assert listed(zerostock, ran, "--until", "2020-01-01T00:00:00Z") == ({}, [])
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    done = zerostock("dead-letters", "list", "--data", ran, "--since", ahead)
    assert done.stdout == "no dead letters like that\n"


def test_the_rest_is_counted(zerostock, ran: Path) -> None:
    counts, _ = listed(zerostock, ran)
    total = sum(counts.values())
    done = zerostock("dead-letters", "list", "--data", ran, "--limit", 1)
    assert f"{total - 1:,} of {total:,} not shown" in done.stdout
    assert len(listed(zerostock, ran, "--limit", 1)[1]) == 1


def test_no_time_is_bad_usage(zerostock, ran: Path) -> None:
    done = zerostock("dead-letters", "list", "--data", ran, "--since", "yesterday")
    assert done.returncode == 2
    assert done.stderr.startswith("zerostock: 'yesterday' is no time: write 2h for")


def test_times_are_how_long_ago_or_when() -> None:
    at = DeadLetterFilter.of(None, None, "2026-03-01T08:00:00+08:00", None)
    assert at == DeadLetterFilter(since=1_772_323_200_000)
    ago = DeadLetterFilter.of("x", "y", None, "2h").until
    assert abs(datetime.now(UTC).timestamp() * 1_000 - 7_200_000 - ago) < 600_000
    with pytest.raises(UsageError):
        DeadLetterFilter.of(None, None, "\x1b[2J", None)


def test_words() -> None:
    assert [counted(n, "shelf", "shelves") for n in (0, 1, 2_000)] == [
        "0 shelves", "1 shelf", "2,000 shelves"
    ]  # fmt: skip
    assert printable("呼 \x1b[2J\n\x9b") == "呼 \\x1b[2J\\n\\x9b"

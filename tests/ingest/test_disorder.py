"""How far rows come out of order is measured as it is, in bounded memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operations.sources import advice
from pipelines.ingest.feeds.messages import MessageFormat, check_messages
from pipelines.ingest.mapping.mapping import DurationField, Export, Fields
from pipelines.ingest.pack import pack_chunk
from pipelines.ingest.source_clock import Disorder, SourceClock
from schemas.cards import CardList
from schemas.envelope import NO_WATERMARK
from schemas.fields import TIME_END, format_duration, parse_duration
from schemas.reference import Reference

NOON = 1_772_409_600_000

times = st.lists(
    st.integers(0, 40 * 86_400_000) | st.integers(0, 100_000), min_size=1, max_size=200
)


@given(at=times, cut=st.integers(0, 200), bound=st.sampled_from([0, 1_000, 60_000, 3_600_000]))
def test_what_is_measured_is_what_a_plain_count_finds(at: list[int], cut: int, bound: int) -> None:
    clock = SourceClock(bound)
    rows = np.array(at, np.int64) + NOON
    for some in (rows[:cut], rows[cut:]):
        clock.known_at(some)
    newest, behind = -1, []
    for time in at:
        behind.append(max(newest - time, 0))
        newest = max(newest, time)
    measured = clock.measured
    assert measured.rows == len(at)
    assert measured.most == max(behind)
    assert measured.late == sum(b > bound for b in behind)
    for share in (0.5, 0.99, 0.999):
        exact = sorted(behind)[max(0, int(np.ceil(share * len(behind))) - 1)]
        assert exact <= measured.quantile(share) <= exact * 1.1 + 1
    again = SourceClock(measured.fitting)
    again.known_at(rows)
    assert not again.measured.excessive


def test_its_memory_is_bounded() -> None:
    clock = SourceClock(0)
    random = np.random.default_rng(1)
    for _ in range(20):
        clock.known_at(NOON + random.integers(0, 366 * 86_400_000, 10_000))
    assert clock.measured.rows == 200_000
    assert len(clock.measured.bins) < 300


def test_a_source_of_which_one_row_in_a_thousand_is_late_is_named_with_a_bound_that_fits() -> None:
    quiet, loud = Disorder(), Disorder()
    quiet.add(np.array([0] * 999 + [120_000]), 1)
    loud.add(np.array([0] * 997 + [120_000, 130_000, 3_000_000]), 3)
    found = advice({"cdr/quiet": (quiet, 60_000), "cdr/loud": (loud, 60_000)})
    assert found == [
        "cdr/loud: 3 rows of 1,000 came too late, up to 50m out of order: --disorder 5m would fit"
    ]


def test_a_source_without_rows_has_no_disorder() -> None:
    clock = SourceClock(60_000)
    clock.known_at(np.empty(0, np.int64))
    assert (clock.watermark, clock.measured.rows) == (NO_WATERMARK, 0)
    assert clock.measured.quantile(0.5) == 0


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (1, "1ms"), (1_500, "1500ms"), (60_000, "1m"), (90_000, "90s"), (5_400_000, "90m"),
     (86_400_000, "1d"), (3_600_001, "3601s"), (9_000_000_001, "105d")],
)  # fmt: skip
def test_a_duration_is_written_as_it_is_read(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text
    assert parse_duration(text) >= milliseconds


@pytest.mark.parametrize("kind", ["json", "csv", "mapped json"])
def test_messages_of_a_topic_say_how_long_calls_lasted(kind: str) -> None:
    calls = [
        (f"c{n}", f"2026-03-02T0{n}:00:00Z", 460_001_000_000_000 + n, 60 * n) for n in range(4)
    ]
    names = ["call_id", "start_time", "imsi", "duration_s"]
    fields = Fields(duration_s=DurationField(column="duration_s"))
    export = Export(columns=names if kind == "csv" else None, fields=fields)
    values = [
        ",".join(map(str, call)).encode()
        if kind == "csv"
        else json.dumps({"type": "call"} | dict(zip(names, call, strict=True)), default=str)
        .replace(str(call[2]), f'"{call[2]}"')
        .encode()
        for call in calls
    ]
    how = MessageFormat("csv" if kind == "csv" else "json", None if kind == "json" else export)
    rows, checked = check_messages(values, np.arange(4), how, TIME_END, detail=True)
    assert (rows, checked.refused) == (4, [])
    clock = SourceClock(0, by_end=True)
    reference = Reference(cards=CardList())
    pack_chunk(checked, "s", clock, reference, 1)
    assert (clock.longest, clock.newest) == (180_000, int(checked.at[3]) + 180_000)

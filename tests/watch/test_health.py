"""When a worker is well, when it is ready, and what its pages say."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from infra.health import Gauges, Pulse, WatermarkPulse, application, held_by, open_marks
from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.core.watermarks import Watermarks
from pipelines.stream import metrics
from pipelines.stream.faust_fixes.stall_guard import Offset
from schemas.envelope import NO_WATERMARK, Header

PART = ("sim-events", 0)


class Worker:
    """A worker that says what it is told to say."""

    def __init__(self, committed: int = 0, end: int = 0, settled: bool = True) -> None:
        self.now, self.is_settled = Offset(committed, end), settled

    def offsets(self):
        return {PART: self.now}

    def settled(self) -> bool:
        return self.is_settled


def test_an_offset_that_stands_still_with_messages_waiting_is_a_stall() -> None:
    pulse = Pulse(60)
    assert pulse.stalled({PART: Offset(5, 9)}, 0) == {}
    assert pulse.stalled({PART: Offset(5, 12)}, 60) == {}
    assert pulse.stalled({PART: Offset(5, 12)}, 61) == {PART: 61}
    assert pulse.stalled({PART: Offset(6, 12)}, 62) == {}
    assert pulse.stalled({PART: Offset(6, 12)}, 122) == {}


def test_a_long_silence_is_no_stall_when_messages_come_at_last() -> None:
    pulse = Pulse(60)
    assert pulse.stalled({PART: Offset(5, 5)}, 0) == {}
    assert pulse.stalled({PART: Offset(5, 6)}, 10_000) == {}
    assert pulse.stalled({}, 10_030) == {}, "taken away: another worker has it"
    assert pulse.stalled({PART: Offset(5, 6)}, 10_061) == {}


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_the_limit_counts_from_the_first_message_waiting_at_an_offset(steps) -> None:
    pulse, now, offset = Pulse(60), 0.0, Offset(0, 0)
    waiting_since: float | None = None
    for seconds, done, came in steps:
        now += seconds
        moved = min(done, offset.end - offset.committed)
        offset = Offset(offset.committed + moved, offset.end + came)
        if offset.end == offset.committed:
            waiting_since = None
        elif moved or waiting_since is None:
            waiting_since = now
        stalled = pulse.stalled({PART: offset}, now)
        assert bool(stalled) == (waiting_since is not None and now - waiting_since > 60)


@pytest.mark.parametrize(
    ("worker", "limit", "health", "ready"),
    [
        (Worker(4, 4), 60, 200, 200),
        (Worker(4, 9), 60, 200, 200),
        (Worker(4, 9), -1, 503, 503),
        (Worker(4, 4, settled=False), 60, 200, 503),
    ],
)
def test_the_pages_answer(worker: Worker, limit: float, health: int, ready: int) -> None:
    async def ask() -> None:
        async with TestClient(TestServer(application(worker, Pulse(limit)))) as client:
            answers = [await client.get(page) for page in ("/healthz", "/readyz", "/metrics")]
            assert [answer.status for answer in answers] == [health, ready, 200]
            if health == 503:
                assert "sim-events/0 has not moved" in await answers[0].text()
            assert "zerostock_candidates_total" in await answers[2].text()

    asyncio.run(ask())


def test_gauges_tell_lag_and_the_delay_of_each_open_source() -> None:
    stage = SimStage(0, 1, SimRegistry([]), lambda outlet, at: "")
    for header in (
        Header("none", "events", NO_WATERMARK),
        Header("none", "cdr/a", 5_000),
        Header("none", "cdr/b", 9_000, True),
        Header("none", "kafka://elsewhere:9092/calls/0", absent=True),
    ):
        stage.process(header, None)
    other = SimStage(1, 2, SimRegistry([]), lambda outlet, at: "")
    other.process(Header("none", "cdr/a", 4_000), None)
    assert open_marks([stage, other]) == {"cdr/a": 4_000}
    found = {
        (metric.name, *sample.labels.values()): sample.value
        for metric in Gauges(Worker(4, 9), Pulse(60), lambda: [stage]).collect()
        for sample in metric.samples
    }
    assert found[metrics.CONSUMER_LAG, "sim-events", "0"] == 5
    assert found[metrics.WATERMARK_DELAY, "cdr/a"] > 1_700_000_000
    assert (metrics.WATERMARK_AGE, "events") not in found, "nothing is decided yet"
    assert (metrics.WATERMARK_DELAY, "cdr/b") not in found
    assert found[metrics.SOURCE_ABSENT, "kafka://elsewhere:9092/calls/0"] == 1
    assert found[(metrics.STALLED,)] == 0


def stage_with(**marks: int) -> SimStage:
    """A stage whose sources have come so far; those that begin with `ended` have ended."""
    stage = SimStage(0, 1, SimRegistry([]), lambda outlet, at: "")
    ended = {source for source in marks if source.startswith("ended")}
    reached = min((mark for source, mark in marks.items() if source not in ended), default=1_000)
    stage.watermarks = Watermarks(marks, ended, reached)
    return stage


def test_the_watermark_is_held_by_the_least_source_that_has_not_ended() -> None:
    stage = stage_with(ended=1_000, b=7_000, a=5_000)
    assert held_by([stage]) == {"a": 5_000}
    assert held_by([stage, stage_with(b=4_000, c=9_000)]) == {"a": 5_000, "b": 4_000}
    assert held_by([stage_with(ended=1_000)]) == {}


def test_a_held_watermark_is_trouble_only_while_events_are_read() -> None:
    pulse, stages = WatermarkPulse(60), [stage_with(a=5_000, b=7_000)]

    def trouble(read: int, now: float) -> str:
        return pulse.trouble(stages, {("sim-events", 0): Offset(read, read)}, now)

    assert trouble(10, 0) == trouble(10, 61) == "", "nothing is read: that is no fault of a source"
    assert trouble(11, 60) == "", "not for long enough"
    assert trouble(12, 75) == (
        "the watermark has not moved for 75 s although events are read: held back by a\n"
    )
    stages[:] = [stage_with(a=6_000, b=7_000)]
    assert trouble(13, 80) == "", "it moved"
    assert "held back by a" in trouble(14, 141)
    stages[:] = [stage_with(ended=6_000)]
    assert trouble(15, 300) == ""


def test_a_worker_whose_watermark_is_held_is_healthy_but_not_ready() -> None:
    worker, watermark = Worker(4, 4), WatermarkPulse(-1)
    stages = [stage_with(a=5_000, b=7_000)]
    watermark.trouble(stages, worker.offsets(), 0)
    worker.now = Offset(5, 5)

    async def ask() -> None:
        pages = application(worker, Pulse(60), lambda: stages, watermark)
        async with TestClient(TestServer(pages)) as client:
            assert (await client.get("/healthz")).status == 200
            answer = await client.get("/readyz")
            assert answer.status == 503
            assert "held back by a" in await answer.text()

    asyncio.run(ask())

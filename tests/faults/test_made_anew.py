"""A topic that was deleted and made anew below what was read of it is never passed over."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stream.faust_fixes.offsets import Offsets, Turn
from schemas.errors import BrokerError, LostState

PART = TP("sim-events", 1)


class Log:
    """A partition as Faust's consumer shows it: where it ends, and what its group has committed.

    Asked for the end, the embedded broker may say too little; what a fetch said is right.
    """

    def __init__(self, end: int, committed: int | None, says: int) -> None:
        self.end, self.group, self.says = end, committed, says
        self.consumer_generation_id = 1
        self.consumer = self._thread = self

    def highwater(self, tp: TP) -> int:
        return self.end

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, self.says)

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 0)

    async def call_thread(self, work: Any, *arguments: Any) -> Any:
        return await work(*arguments)

    def _ensure_consumer(self) -> Any:
        return self

    async def committed(self, part: object) -> int | None:
        return self.group

    async def commit(self, offsets: dict[object, int]) -> None:
        (self.group,) = offsets.values()


def message(offset: int) -> Any:
    return SimpleNamespace(
        tp=PART, topic=PART.topic, partition=PART.partition, offset=offset, generation_id=1
    )


def taken(log: Log, reached: int | None, start: int) -> list[Turn]:
    """What is made of all that the log has, from where the consumer begins to fetch."""
    offsets = Offsets(log, None if reached is None else lambda _: (reached, "changelog"))  # type: ignore[arg-type]

    async def take() -> list[Turn]:
        return [await offsets.turn(message(n)) for n in range(start, log.end)]

    return asyncio.run(take())


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 3), st.integers(0, 5))
def test_a_log_that_goes_on_is_read_on_and_what_comes_twice_is_seen(
    end: int, committed: int, ahead: int, again: int
) -> None:
    committed = min(committed, end)
    reached = min(committed + ahead, end) - 1
    start = max(committed - again, 0)
    for state in (reached, None):
        turns = taken(Log(end, committed, end - min(3, end)), state, start)
        assert turns == [Turn.SEEN] * (committed - start) + [Turn.NEXT] * (end - committed)


@given(st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_one_that_was_made_anew_stops_a_worker_with_state(
    end: int, lost: int, forgotten: bool
) -> None:
    """Also where Kafka forgot with the topic what was committed: the state knows."""
    log = Log(end, None if forgotten else end + lost, end)
    with pytest.raises(LostState, match=r"deleted and made anew.*zerostock rebuild"):
        taken(log, end + lost - 1, 0)


@given(st.integers(1, 20), st.integers(1, 20))
def test_and_is_read_from_its_beginning_by_one_without(end: int, lost: int) -> None:
    log = Log(end, end + lost, end)
    with pytest.raises(BrokerError, match="made anew; the next start reads it from its beginning"):
        taken(log, None, 0)
    assert taken(log, None, 0) == [Turn.NEXT] * end


def test_it_is_noticed_under_a_worker_that_runs() -> None:
    log = Log(9, 0, 9)
    offsets = Offsets(log, lambda _: (-1, "changelog"))  # type: ignore[arg-type]

    async def work() -> None:
        for n in range(9):
            assert await offsets.turn(message(n)) is Turn.NEXT
        log.end = log.says = 2
        await offsets.turn(message(0))

    with pytest.raises(LostState, match="was read up to offset 8 and ends at 1"):
        asyncio.run(work())

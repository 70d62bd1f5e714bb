"""When a worker counts as standing still."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from pipelines.stream.faust_fixes import stall_guard
from pipelines.stream.faust_fixes.stall_guard import StallDetector, StallGuard

HERE, THERE = TopicPartition("t", 0), TopicPartition("t", 1)


def looks(*seen: tuple[dict[TopicPartition, tuple[int, int]], int]) -> list[int]:
    still = StallDetector()
    return [still.look(offsets, loaded) for offsets, loaded in seen]


def test_messages_that_wait_with_nothing_moving_count_each_look() -> None:
    assert looks(({HERE: (3, 5)}, 0), ({HERE: (3, 5)}, 0), ({HERE: (3, 9)}, 0)) == [0, 1, 2]


def test_one_partition_that_moves_is_progress() -> None:
    first, second = {HERE: (3, 5), THERE: (0, 1)}, {HERE: (4, 5), THERE: (0, 1)}
    assert looks((first, 0), (first, 0), (second, 0), (second, 0)) == [0, 1, 0, 1]


def test_state_that_is_read_back_is_progress() -> None:
    assert looks(({HERE: (3, 5)}, 0), ({HERE: (3, 5)}, 7), ({HERE: (3, 5)}, 7)) == [0, 0, 1]


def test_nothing_waits() -> None:
    assert looks(*[({HERE: (5, 5)}, 0)] * 3, *[({}, 0)] * 3) == [0] * 6


def test_partitions_that_come_and_go_are_progress() -> None:
    assert looks(({HERE: (3, 5)}, 0), ({HERE: (3, 5), THERE: (1, 2)}, 0)) == [0, 0]


def test_messages_on_their_way_are_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that answers 500 for hours keeps an envelope unacknowledged, and kills nobody."""
    deaths: list[str] = []

    class App:
        looks = 40
        on_partitions_assigned = on_before_shutdown = SimpleNamespace(connect=lambda _: None)

        @property
        def should_stop(self) -> bool:
            self.looks -= 1
            return self.looks < 0 or bool(deaths)

    async def offsets(_: StallGuard) -> dict[TopicPartition, tuple[int, int]]:
        return {HERE: (3, 4)}

    monkeypatch.setattr(stall_guard, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(stall_guard, "die", deaths.append)
    monkeypatch.setattr(StallGuard, "_offsets", offsets)
    guard = StallGuard(App(), 5)
    guard.held = True
    asyncio.run(guard._watch())
    assert deaths == []
    guard._app = App()
    guard.held = False
    asyncio.run(guard._watch())
    assert len(deaths) == 1

"""When a worker counts as stalled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from pipelines.stream.faust_fixes import stall_guard
from pipelines.stream.faust_fixes.stall_guard import Offset, StallDetector, StallGuard

HERE, THERE = "here", "there"


def looks(*seen: dict[str, Offset]) -> list[dict[str, float]]:
    """What a look a second sees."""
    detector: StallDetector[str] = StallDetector()
    return [detector.look(offsets, float(now)) for now, offsets in enumerate(seen)]


def test_messages_that_wait_at_the_same_offset_count_the_time() -> None:
    seen = looks({HERE: Offset(3, 5)}, {HERE: Offset(3, 5)}, {HERE: Offset(3, 9)})
    assert seen == [{HERE: 0.0}, {HERE: 1.0}, {HERE: 2.0}]


def test_a_partition_that_moves_begins_anew_and_others_go_on_counting() -> None:
    first = {HERE: Offset(3, 5), THERE: Offset(0, 1)}
    second = {HERE: Offset(4, 5), THERE: Offset(0, 1)}
    assert looks(first, first, second)[-1] == {HERE: 0.0, THERE: 2.0}


def test_nothing_waits() -> None:
    assert looks(*[{HERE: Offset(5, 5)}] * 3, *[{}] * 3) == [{}] * 6


def test_a_partition_that_was_away_begins_anew() -> None:
    there = {THERE: Offset(1, 2)}
    assert looks(there, {}, there) == [{THERE: 0.0}, {}, {THERE: 0.0}]


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

    async def offsets(_: StallGuard) -> dict[str, Offset]:
        return {HERE: Offset(3, 4)}

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

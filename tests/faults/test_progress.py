"""When a worker counts as stalled."""

from __future__ import annotations

from pipelines.stream.faust_fixes.stall_guard import Offset, StallDetector

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

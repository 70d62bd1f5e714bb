"""How fast a reader went, from the times at which it said things about rows it had done with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import ZerostockError

#: The share of rows that warms caches and code up and is not counted.
WARM_UP = 0.1


@dataclass(frozen=True)
class Mark:
    """At `at` (wall ms) a reader had done with `rows` rows of `partition`."""

    at: int
    partition: int
    rows: int


def rate(marks: Sequence[Mark]) -> float:
    """Rows a second between the end of the warm-up and the last mark."""
    done: dict[int, int] = {}
    curve: list[tuple[int, int]] = []
    for mark in sorted(marks, key=lambda m: m.at):
        done[mark.partition] = max(mark.rows, done.get(mark.partition, 0))
        curve.append((mark.at, sum(done.values())))
    if not curve:
        raise ZerostockError("the reader said nothing that could be timed")
    end, rows = next(point for point in curve if point[1] == curve[-1][1])
    start, before = next(point for point in curve if point[1] >= rows * WARM_UP)
    return (rows - before) * 1_000 / max(end - start, 1)

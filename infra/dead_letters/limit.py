"""Stops the reading of a feed that is wholly wrong before all of it is dead letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pipelines.ingest import IngestProgress
from schemas.errors import InputError

#: Lines read together count as wholly wrong from this share of refused ones on.
_WRONG: Final = 0.9

#: Good lines that make up for one bad one: a feed that is a hundredth of all is still noticed.
_PER_BAD: Final = 100


class FeedRefused(InputError):
    """Too many lines of a feed were refused: what is wrong is not the lines."""


class DeadLetterLimit:
    """Hands progress on, and raises `FeedRefused` once `most` lines came wholly wrong (0: never).

    Progress is told after each chunk, which is lines of one file: what it grew by is that chunk.
    Single bad lines among good ones do not count.
    """

    def __init__(self, most: int, then: Callable[[IngestProgress], None]) -> None:
        self._most = most
        self._then = then
        self._rows = self._refused = 0
        self._wrong = 0.0

    def __call__(self, now: IngestProgress) -> None:
        """Take the next progress."""
        self._then(now)
        rows, refused = now.rows - self._rows, now.dead_letters - self._refused
        self._rows, self._refused = now.rows, now.dead_letters
        if refused >= _WRONG * max(rows, 1):
            self._wrong += refused
        else:
            self._wrong = max(0.0, self._wrong - (rows - refused) / _PER_BAD)
        if self._most and self._wrong >= self._most:
            why = max(now.refused, key=now.refused.__getitem__)
            raise FeedRefused(
                f"stopped: {self._wrong:,.0f} lines of a feed that is wholly wrong were refused,"
                f" most as {why}; look at `zerostock dead-letters list`, put the mapping or the"
                " export right, or raise ZEROSTOCK_DEAD_LETTER_LIMIT"
            )

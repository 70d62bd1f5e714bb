"""Stops a worker whose topic is wholly wrong before all of it is dead letters."""

from __future__ import annotations

from typing import Final

from schemas.errors import EnvelopeError

#: Messages refused in a row that end a worker: somebody else writes to its topic.
MOST_REFUSED: Final = 1_000


class RefusedInARow:
    """Counts messages that are no envelopes; a good one makes up for all before it."""

    def __init__(self, most: int = MOST_REFUSED) -> None:
        self._most = most
        self._count = 0

    def good(self) -> None:
        """A message was an envelope."""
        self._count = 0

    def bad(self, topic: str, why: EnvelopeError) -> None:
        """A message was none. Raises `EnvelopeError` when it was the last that may be."""
        self._count += 1
        if self._count >= self._most:
            raise EnvelopeError(
                f"{self._count:,} messages in a row on {topic} were refused, the last because"
                f" {why}: see who writes there (`zerostock dead-letters list --source {topic}`)"
            ) from why

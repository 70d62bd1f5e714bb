"""Which messages of a partition have been seen since it was assigned."""

from __future__ import annotations

from faust.types import Message

from schemas.errors import EnvelopeError


class Offsets:
    """Drops what is delivered twice, and refuses to go on where something is missing.

    After a recovery Faust seeks back although some messages are already queued, so a message may
    come twice in a row. A gap would be a lost message: better to end and read again from the last
    committed offset.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], int] = {}

    def fresh(self, message: Message) -> bool:
        """Whether a message is the next of its partition; False for one seen before.

        Raises `EnvelopeError` if messages between it and the one before were never delivered.
        """
        part = (message.topic, message.partition)
        last = self._last.get(part, message.offset - 1)
        if message.offset > last + 1:
            raise EnvelopeError(
                f"{message.topic}/{message.partition}: offsets {last + 1} to {message.offset - 1}"
                " were not delivered"
            )
        self._last[part] = max(last, message.offset)
        fresh: bool = message.offset > last
        return fresh

    def forget(self) -> None:
        """Partitions were taken away; whatever comes next is a first message."""
        self._last.clear()

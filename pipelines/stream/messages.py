"""From messages to envelopes. What is none becomes a dead letter; too many end the worker."""

from __future__ import annotations

import time
from typing import Final

import pyarrow as pa
from faust.types import Message

from pipelines.core.effects import RowBuilder
from schemas.envelope import Header, unpack
from schemas.errors import EnvelopeError

#: Messages refused in a row that end a worker: somebody else writes to its topic.
MOST_REFUSED: Final = 1_000

#: Bytes of a refused message that are kept: all of it may not fit into a dead letter.
LONGEST_PAYLOAD: Final = 256 * 1024


class EnvelopeReader:
    """Opens the messages of a worker, one after the other."""

    def __init__(self, most: int = MOST_REFUSED) -> None:
        self._most = most
        self._refused = 0

    def open(self, message: Message) -> tuple[Header, pa.RecordBatch | None]:
        """Header and rows of a message; if it is no envelope, a dead letter of kind `dead_letters`.

        Raises `EnvelopeError` at the last of `most` refused in a row: a topic that is wholly wrong
        shall not become dead letters. `NewerVersion` for an envelope of a version to come.
        """
        try:
            opened = unpack(message.value, message.topic)
        except EnvelopeError as why:
            self._refused += 1
            if self._refused >= self._most:
                raise EnvelopeError(
                    f"{self._refused:,} messages in a row on {message.topic} were refused, the last"
                    f" because {why}: see who writes there"
                    f" (`zerostock dead-letters list --source {message.topic}`)"
                ) from why
            return Header("dead_letters"), _dead_letter(message, why)
        self._refused = 0
        return opened


def _dead_letter(message: Message, why: EnvelopeError) -> pa.RecordBatch:
    rows = RowBuilder("dead_letters")
    rows.add(
        source=f"{message.topic}/{message.partition}",
        position=message.offset,
        received_at=time.time_ns() // 1_000_000,
        reason=f"malformed: {why}",
        payload=(message.value or b"")[:LONGEST_PAYLOAD],
    )
    return rows.batch()

"""How far each file was read: kept in a compacted topic, beside what was read from it."""

from __future__ import annotations

import msgspec

from pipelines.ingest.files import SourceFile
from schemas.envelope import NO_WATERMARK


class Position(msgspec.Struct, frozen=True):
    """The lines of a file up to `lines` (byte `end` in a plain one) are on the topics.

    `newest` is the newest event time (ms) of the whole source then, which lateness depends on.
    """

    source: str
    size: int
    fingerprint: str
    lines: int = 0
    end: int = 0
    newest: int = NO_WATERMARK
    done: bool = False


def encode(position: Position) -> bytes:
    """JSON, so that an operator can read it with any tool."""
    return msgspec.json.encode(position)


def decode(data: bytes) -> Position:
    """What `encode` wrote."""
    return msgspec.json.decode(data, type=Position)


def has_more(file: SourceFile, position: Position | None) -> bool:
    """Whether a file holds anything that was not read up to its position."""
    return position is None or not position.done or position.size != file.size()

"""How far each file was read: kept in a compacted topic, beside what was read from it."""

from __future__ import annotations

import hashlib
import logging
from typing import Annotated, Final

import msgspec

from pipelines.ingest.reading.files import SourceFile
from pipelines.ingest.sources import SourceState
from schemas.envelope import NO_WATERMARK
from schemas.fields import TIME_END

log = logging.getLogger(__name__)

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Position(msgspec.Struct, frozen=True):
    """The lines of a file up to `lines` (byte `end` in a plain one) are on the topics.

    `size` (bytes) and `modified` (ns) are the file's then; `fingerprint` is of its first `hashed`
    bytes. `newest` is the newest event time (ms) of the whole source then, which lateness depends
    on. With `done` there was no more.
    """

    source: str
    size: _Count
    fingerprint: str
    lines: _Count = 0
    end: _Count = 0
    newest: Annotated[int, msgspec.Meta(le=TIME_END)] = NO_WATERMARK
    done: bool = False
    modified: int = 0
    hashed: _Count = 0


def encode(position: Position) -> bytes:
    """JSON, so that an operator can read it with any tool."""
    return msgspec.json.encode(position)


def decode(data: bytes) -> Position:
    """What `encode` wrote. Raises `msgspec.MsgspecError` for anything else."""
    return msgspec.json.decode(data, type=Position)


#: Begins the key of a source's state; the others are names of files.
_SOURCE: Final = b"source:"


def source_key(name: str) -> bytes:
    """The key under which a source's state is kept."""
    return _SOURCE + name.encode()


def noted_source(key: bytes | None, value: bytes | None) -> tuple[str, SourceState] | None:
    """A source and its state as a message tells them; None for a message of anything else."""
    if key is None or not key.startswith(_SOURCE):
        return None
    try:
        state = msgspec.json.decode(value or b"", type=SourceState)
        return key.removeprefix(_SOURCE).decode(), state
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the record of source %r cannot be read (%s): it is ignored", key, error)
        return None


def noted(key: bytes | None, value: bytes | None) -> tuple[str, Position] | None:
    """A file and its position as a message tells them.

    None for a source's state, and for a message that is none of ours: the file it may be about is
    read again, which changes nothing.
    """
    if key is not None and key.startswith(_SOURCE):
        return None
    try:
        return (key or b"").decode(), decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("what was noted of %r cannot be read (%s): it is passed over", key, error)
        return None


def fingerprint(head: bytes) -> str:
    """A hash that tells a file that grew from one that was replaced."""
    return hashlib.blake2b(head, digest_size=8).hexdigest()


def has_more(file: SourceFile, position: Position | None) -> bool:
    """Whether a file holds anything that was not read up to its position.

    A file that was only copied or touched does not.
    """
    if position is None or not position.done:
        return True
    size, modified = file.state()
    if size != position.size:
        return True
    return modified != position.modified and not is_same(file, position)


def was_useless(position: Position | None) -> bool:
    """Whether nothing of a file could be read, which another mapping may change."""
    return (
        position is not None
        and position.done
        and position.lines == position.end == 0 < (position.size)
    )


def position_of_all(file: SourceFile, like: Position) -> Position:
    """The position of a file that was read to its end, of the same source as another."""
    size, modified = file.state()
    head = file.head()
    end = size if file.plain else 0
    return msgspec.structs.replace(
        like,
        size=size,
        fingerprint=fingerprint(head),
        lines=0,
        end=end,
        done=True,
        modified=modified,
        hashed=len(head),
    )


def is_same(file: SourceFile, position: Position) -> bool:
    """Whether a file begins as it did."""
    try:
        head = file.head()
    except OSError:
        return False
    return fingerprint(head[: position.hashed]) == position.fingerprint

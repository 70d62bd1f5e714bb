"""What the reader asks of a feed, and what it gets: checked chunks, on their way to the topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from pipelines.ingest.check import Checked, RefusedLine
from pipelines.ingest.positions import Position
from pipelines.ingest.reading.files import Chunk


@dataclass(frozen=True)
class Item:
    """A checked chunk of `source`; `last` if it is its file's, `read` the bytes it took.

    Its dead letters are of `name`, and so is its position: what to remember once all of it is sent,
    by the newest event time (ms) of the source then. `safe` is called with the refused lines once
    everything is on the topics and noted.
    """

    source: str
    name: str
    chunk: Chunk
    checked: Checked
    position: Callable[[int], Position]
    read: int = 0
    last: bool = False
    safe: Callable[[list[RefusedLine]], None] | None = None


@dataclass(frozen=True)
class Checking:
    """How rows are to be checked: in which threads, where times end (ms) by now, and of which
    sources all columns are wanted, whose rows come in the order in which calls end."""

    threads: Executor
    before: Callable[[], int]
    by_end: Callable[[str], bool]


class Feed(Protocol):
    """Sources that are no files. The reader calls `open` first, and `close` whatever happens."""

    @property
    def name(self) -> str:
        """What it is, as a user gave it."""

    async def open(self, positions: Mapping[str, Position], arrived: asyncio.Event) -> None:
        """Go on from the positions; set `arrived` when a look is worth while before its time.

        Raises `ZerostockError` for a feed that cannot be read at all.
        """

    async def look(self) -> Mapping[str, bool]:
        """The sources there are, and which of them must not count as looked at in vain."""

    def items(self, checking: Checking) -> AsyncIterator[Item]:
        """What there is to read by now, in the order of each source."""

    def troubles(self) -> Mapping[str, str]:
        """The sources that cannot be read at present, and why."""

    def is_gone(self, source: str) -> bool:
        """Whether this was a source of the feed and will not be one again."""

    async def close(self) -> None:
        """Let go of connections."""

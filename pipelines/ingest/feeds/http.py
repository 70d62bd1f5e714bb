"""Events that come by HTTP as a feed: each feeder is a source, its lines count on for ever.

Whoever brings lines waits until all that follows from them is on the topics, and hears which were
refused. What arrives meanwhile goes on together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pipelines.ingest.check import Format, RefusedLine, check
from pipelines.ingest.feeds import HTTP
from pipelines.ingest.feeds.feed import Checking, Item
from pipelines.ingest.positions import Position
from pipelines.ingest.reading.files import Chunk
from schemas.errors import BrokerDown

#: Bytes that may wait until they are on the topics, and bytes that are checked together.
MOST_WAITING: Final = 64 * 1024 * 1024
_TOGETHER: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class _Post:
    """Some lines of a feeder, each with its newline, and who waits for what becomes of them."""

    lines: bytes
    count: int
    answer: asyncio.Future[list[tuple[int, str]]]


@dataclass
class HttpFeed:
    """See `Feed`. `feeders` says who may send by now."""

    feeders: Callable[[], frozenset[str]]
    name: str = "http"
    _waiting: dict[str, list[_Post]] = field(default_factory=dict)
    _under_way: dict[str, list[_Post]] = field(default_factory=dict)
    _bytes: int = 0
    _lines: dict[str, int] = field(default_factory=dict)
    _arrived: asyncio.Event | None = None

    @property
    def ready(self) -> bool:
        """Whether the broker is there to take anything."""
        return self._arrived is not None

    async def take(self, feeder: str, lines: bytes, count: int) -> list[tuple[int, str]]:
        """Bring lines, each with its newline; which of them (from 1) were refused, and why.

        Raises `BrokerDown` when they cannot be taken now: bringing them again is harmless.
        """
        if self._arrived is None:
            raise BrokerDown("Kafka does not answer")
        if self._bytes + len(lines) > MOST_WAITING:
            raise BrokerDown("Kafka takes less than what comes")
        post = _Post(lines, count, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(feeder, []).append(post)
        self._bytes += len(lines)
        self._arrived.set()
        return await post.answer

    async def open(self, positions: Mapping[str, Position], arrived: asyncio.Event) -> None:
        """See `Feed`."""
        self._lines = {
            name.removeprefix(HTTP): position.lines
            for name, position in positions.items()
            if name.startswith(HTTP)
        }
        self._arrived = arrived

    async def look(self) -> Mapping[str, bool]:
        """See `Feed`."""
        waiting, self._waiting, self._under_way = self._waiting, {}, {}
        for feeder, posts in waiting.items():
            # Whoever gave up waiting sends it again.
            self._bytes -= sum(len(post.lines) for post in posts if post.answer.cancelled())
            if still := [post for post in posts if not post.answer.cancelled()]:
                self._under_way[feeder] = still
        known = self.feeders()
        silent = {HTTP + name: False for name in self._lines if name in known}
        return silent | {HTTP + name: True for name in self._under_way}

    async def items(self, checking: Checking) -> AsyncIterator[Item]:
        """See `Feed`."""
        loop = asyncio.get_running_loop()
        for feeder, posts in self._under_way.items():
            for some in _together(posts):
                start = self._lines.get(feeder, 0) + 1
                count = sum(post.count for post in some)
                chunk = Chunk(start, count, data=b"".join(post.lines for post in some))
                # Numbered from the feeder's first line, which no byte order mark stands before.
                source = HTTP + feeder
                detail = checking.by_end(source)
                judge = partial(check, chunk, Format("ndjson"), checking.before(), detail=detail)
                checked = await loop.run_in_executor(checking.threads, judge)
                self._lines[feeder] = start + count - 1
                yield Item(
                    source,
                    source,
                    Chunk(start, count),
                    checked,
                    partial(_position, source, start + count - 1),
                    sum(len(post.lines) for post in some),
                    safe=partial(self._answer, some, start),
                )

    def troubles(self) -> Mapping[str, str]:
        """See `Feed`. Who sends nothing has nothing to say."""
        return {}

    def is_gone(self, source: str) -> bool:
        """See `Feed`. A feeder without a token is."""
        return source.startswith(HTTP) and source.removeprefix(HTTP) not in self.feeders()

    async def close(self) -> None:
        """Tell all who wait that their lines may not have been taken."""
        self._arrived = None
        for posts in [*self._under_way.values(), *self._waiting.values()]:
            for post in posts:
                if not post.answer.done():
                    post.answer.set_exception(BrokerDown("Kafka did not take it"))
        self._under_way, self._waiting, self._bytes = {}, {}, 0

    def _answer(self, posts: list[_Post], start: int, refused: list[RefusedLine]) -> None:
        """Tell each of the posts what was refused of it."""
        lines = sorted((line, why) for line, why, _ in refused)
        for post in posts:
            end = start + post.count
            own = [(line - start + 1, why) for line, why in lines if start <= line < end]
            start = end
            self._bytes -= len(post.lines)
            if not post.answer.done():
                post.answer.set_result(own)


def _together(posts: list[_Post]) -> list[list[_Post]]:
    """The posts in groups that are checked together, in their order."""
    groups: list[list[_Post]] = []
    size = _TOGETHER
    for post in posts:
        if size + len(post.lines) > _TOGETHER:
            groups.append([])
            size = 0
        groups[-1].append(post)
        size += len(post.lines)
    return groups


def _position(source: str, lines: int, newest: int) -> Position:
    return Position(source, 0, "", lines=lines, newest=newest)

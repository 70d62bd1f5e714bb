"""The last guard: a worker that stalls, for whatever reason, ends itself.

Each way in which Faust or aiokafka were seen to stall is mended where it happens. This is for those
that nobody has seen yet: messages wait, the broker answers, no other system is waited for, and
still neither is an offset committed nor any state loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Hashable, Iterator, Mapping, Set
from typing import Generic, NamedTuple, TypeVar

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipelines.stream.faust_fixes.exit import die

log = logging.getLogger(__name__)

#: Seconds between two looks, and how long an answer may take.
LOOK_EVERY = 5.0

#: Names a partition.
P = TypeVar("P", bound=Hashable)


class Offset(NamedTuple):
    """How far a partition is done with, and how far it goes."""

    committed: int
    end: int


class StallDetector(Generic[P]):
    """How long each partition has not moved although messages wait."""

    def __init__(self) -> None:
        self._since: dict[P, tuple[int, float]] = {}

    def look(self, offsets: Mapping[P, Offset], now: float) -> dict[P, float]:
        """The partitions with messages waiting, and for how many seconds at the same offset."""
        since: dict[P, tuple[int, float]] = {}
        for part, offset in offsets.items():
            if offset.end > offset.committed:
                known = self._since.get(part)
                still = known is not None and known[0] == offset.committed
                since[part] = known if known is not None and still else (offset.committed, now)
        self._since = since
        return {part: now - at for part, (_, at) in since.items()}


class StallGuard:
    """Watches one application; `limit` in ms."""

    def __init__(self, app: faust.App, limit: int) -> None:
        self._app = app
        self._limit = limit / 1_000
        self._loaded = 0
        self._outside = 0
        #: Whether the worker keeps envelopes unacknowledged because messages are on their way.
        self.held = False
        self._watching: asyncio.Task[None] | None = None
        # Not `app.task`: Faust starts those when the first recovery is over, if it ever is.
        app.on_partitions_assigned.connect(self._start)
        app.on_before_shutdown.connect(self._stop)

    def loaded(self, entries: int) -> None:
        """State was read back: a recovery that gets on."""
        self._loaded += entries

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """While it lasts, another system is waited for: a warehouse, a provider."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    async def _start(self, *_: object, **__: object) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _stop(self, *_: object, **__: object) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        detector: StallDetector[TopicPartition] = StallDetector()
        # Not a clock's time: while the process did not run, nothing was seen to stand still.
        now, loaded = 0.0, 0
        while not self._app.should_stop:
            await asyncio.sleep(LOOK_EVERY)
            try:
                offsets = await asyncio.wait_for(self._offsets(), LOOK_EVERY)
            except (TimeoutError, KafkaError, RuntimeError) as error:
                log.info("the broker does not say how far this worker is: %r", error)
                continue
            now += LOOK_EVERY
            if self._outside or self.held or self._loaded != loaded:
                detector, loaded = StallDetector(), self._loaded
            waiting = detector.look(offsets, now)
            if waiting and min(waiting.values()) >= self._limit:
                die(f"messages wait and nothing has moved for {self._limit:.0f} s")

    async def _offsets(self) -> dict[TopicPartition, Offset]:
        thread = self._app.consumer._thread
        client = thread._ensure_consumer()
        changelogs: Set[str] = self._app.tables.changelog_topics
        parts = [tp for tp in client.assignment() if tp.topic not in changelogs]
        # Not through Faust's queue of calls, which may be what stands still.
        found = asyncio.run_coroutine_threadsafe(_read_offsets(client, parts), thread.thread_loop)
        return await asyncio.wrap_future(found)


async def _read_offsets(
    client: AIOKafkaConsumer, parts: list[TopicPartition]
) -> dict[TopicPartition, Offset]:
    if not parts:
        return {}
    ends = await client.end_offsets(parts)
    committed = await client._coordinator.fetch_committed_offsets(parts)
    return {
        part: Offset(max(committed[part].offset, 0) if part in committed else 0, end)
        for part, end in ends.items()
    }

"""The last guard: a worker that stands still, for whatever reason, ends itself.

Each way in which Faust or aiokafka were seen to stand still is mended where it happens. This is for
those that nobody has seen yet: messages wait, the broker answers, nothing outside is waited for,
and still neither is an offset committed nor any state loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping, Set

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipelines.stream.faust_fixes.exit import die

log = logging.getLogger(__name__)

#: Seconds between two looks, and how long an answer may take.
LOOK_EVERY = 5.0

#: How far each partition is worked off: the committed offset, and the end.
Reached = Mapping[TopicPartition, tuple[int, int]]


class StallDetector:
    """How long nothing has moved although messages wait.

    Counted in looks, not by a clock: a process that was busy, or did not run at all, between two
    looks has not been seen to stand still.
    """

    def __init__(self) -> None:
        self.looks = 0
        self._seen: tuple[int, dict[TopicPartition, int]] | None = None

    def look(self, offsets: Reached, loaded: int) -> int:
        """Take a look; the number of them in a row at which nothing had moved."""
        waits = any(end > committed for committed, end in offsets.values())
        seen = loaded, {part: committed for part, (committed, _) in offsets.items()}
        self.looks = self.looks + 1 if waits and seen == self._seen else 0
        self._seen = seen
        return self.looks


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
        """While it lasts, what is waited for is somebody else: a warehouse, a provider."""
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
        still = StallDetector()
        while not self._app.should_stop:
            await asyncio.sleep(LOOK_EVERY)
            try:
                offsets = await asyncio.wait_for(self._offsets(), LOOK_EVERY)
            except (TimeoutError, KafkaError, RuntimeError) as error:
                log.info("the broker does not say how far this worker is: %r", error)
                continue
            if self._outside or self.held:
                still = StallDetector()
            elif still.look(offsets, self._loaded) * LOOK_EVERY >= self._limit:
                die(f"messages wait and nothing has moved for {self._limit:.0f} s")

    async def _offsets(self) -> Reached:
        thread = self._app.consumer._thread
        client = thread._ensure_consumer()
        changelogs: Set[str] = self._app.tables.changelog_topics
        parts = [tp for tp in client.assignment() if tp.topic not in changelogs]
        # Not through Faust's queue of calls, which may be what stands still.
        asked = asyncio.run_coroutine_threadsafe(_ask(client, parts), thread.thread_loop)
        return await asyncio.wrap_future(asked)


async def _ask(client: AIOKafkaConsumer, parts: list[TopicPartition]) -> Reached:
    if not parts:
        return {}
    ends = await client.end_offsets(parts)
    committed = await client._coordinator.fetch_committed_offsets(parts)
    return {
        part: (max(committed[part].offset, 0) if part in committed else 0, end)
        for part, end in ends.items()
    }

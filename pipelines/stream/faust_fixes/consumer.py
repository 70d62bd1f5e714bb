"""A Faust consumer without the holes through which messages, or whole workers, get lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from mode import Service

from pipelines.stream.faust_fixes.exit import die

log = logging.getLogger(__name__)

#: Seconds between two looks at how the consumer's group membership is doing.
LOOK_EVERY = 1.0


class SteadyConsumer(Consumer):  # type: ignore[misc]  # faust ships no types
    """A consumer whose fetches and seeks never overlap, and which always seeks.

    Faust fetches with the live set of partitions that flow, and aiokafka takes an empty set for all
    partitions: a fetch that waits while a recovery pauses the changelogs drains the sources. What
    it brings is dropped, and the seek that ends a recovery leaves out partitions of which nothing
    was committed: their messages would be lost. In the same way a changelog is drained after its
    seek, and the recovery waits for it for ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._one_at_a_time = asyncio.Lock()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        async with self._one_at_a_time:
            wanted = set(active_partitions or ())
            if not wanted:
                return {}
            # A seek waits for it: better often than long.
            return await super()._getmany(wanted, min(timeout, 0.2))

    async def seek_wait(self, partitions: Any) -> None:
        """Seek to offsets, with no fetch under way."""
        async with self._one_at_a_time:
            await super().seek_wait(partitions)

    async def seek_to_committed(self) -> Any:
        """Seek to what is committed, or to the beginning where nothing is."""
        async with self._one_at_a_time:
            committed = await super().seek_to_committed()
            never = [
                TopicPartition(tp.topic, tp.partition)
                for tp, offset in committed.items()
                if not offset and not self._is_changelog_tp(tp)
            ]
            if never:
                await self._thread.seek_to_beginning(*never)
            return committed

    async def verify_all_partitions_active(self) -> None:
        """Nothing: `StallGuard` watches for that.

        Faust's own look only writes to the log, and ends the worker when it comes while the
        position in a partition that was just assigned is not known yet.
        """

    @Service.task  # type: ignore[untyped-decorator]
    async def _look_after_membership(self) -> None:
        """What aiokafka leaves to its own `getmany`, which Faust goes around."""
        while not self.should_stop:
            await self.sleep(LOOK_EVERY)
            self._thread.thread_loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """In the consumer's thread: see that its group is alive, and that its topics are known.

        A broker that has just started may answer that it has no such topics. The leader of the
        group then gives nobody anything, and would not ask again for five minutes.
        """
        client = self._thread._consumer
        if client is None or client._closed:
            return
        try:
            client._coordinator.check_errors()
        except Exception:
            die("membership of the consumer group is broken")
        subscription = client._subscription.subscription
        topics = subscription.topics if subscription is not None else ()
        unknown = [t for t in topics if not client._client.cluster.partitions_for_topic(t)]
        if unknown:
            log.warning("the broker did not know %d topics; asking again", len(unknown))
            client._client.force_metadata_update()

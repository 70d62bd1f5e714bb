"""The one loop behind every stateful agent: effects first, state last, offset after both.

A step is: take envelopes, fold, send what follows, write what changed, acknowledge the envelopes.
Each part waits until the one before is acknowledged by the broker, so a death at any point repeats
work but never loses any, and repeated work is harmless (see `pipelines.core`). Anything that goes
wrong ends the process: Faust would restart the agent and forget the envelopes in hand.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.types import TP, EventT, StreamT

from pipelines.core.effects import Effect
from pipelines.core.stage import Stage
from pipelines.stream.app import hasten_fetches
from pipelines.stream.faust_fixes.exit import die
from pipelines.stream.faust_fixes.offsets import Offsets, Turn
from pipelines.stream.faust_fixes.stall_guard import StallGuard
from pipelines.stream.faust_fixes.suspension_guard import SuspensionGuard
from pipelines.stream.messages import EnvelopeReader
from schemas import topics
from schemas.envelope import pack
from schemas.errors import NewerVersion

#: Seconds for which a stage that took something waits for more before it folds, and for which it
#: does not fold while more comes; longer where folding itself takes long, so that most of the time
#: goes into reading.
GATHER = 0.003
TICK = 0.02
LONGEST_REST = 0.1

#: Bytes of envelopes taken before the state is written even if the commit interval is not over.
MOST_TAKEN = 128 * 1024 * 1024

#: Before each entry: the offset of the message up to which it is true, and the state's version.
_STAMP = struct.Struct(">qB")
STATE_VERSION = 1

#: The entry that says, with each commit, how far a partition's state reaches.
_REACHED = b"\0reached"


#: Partition, key and value of an entry of the state table.
_Entry = tuple[int, bytes, bytes]

Act = Callable[[Any, int], Awaitable[list[Effect]]]


def now_ms() -> int:
    """Wall time in ms."""
    return time.time_ns() // 1_000_000


class StateTable(faust.Table):  # type: ignore[misc]  # faust ships no types
    """A changelog whose entries live in the stages: nothing is kept twice.

    Faust reads a partition it keeps through a rebalance only from where the last recovery ended,
    and never clears its memory. Here a rebalance forgets all stages and reads each changelog from
    its start, so what is in memory is always what was written, whoever wrote it.
    """

    agent: StatefulAgent

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Start from nothing; recovery follows."""
        self.agent.reset()
        offsets = self.app.tables.recovery.active_offsets
        for tp in [tp for tp in offsets if tp.topic == self.changelog_topic_name]:
            del offsets[tp]
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        """Give each entry to the stage it came from."""
        for event in batch:
            self.agent.restore(event.message.partition, event.message.key, event.message.value)
            self.agent.progress.loaded(1)


class StatefulAgent:
    """The stages of one agent, what they have taken, and when to write it down."""

    def __init__(
        self,
        app: faust.App,
        name: str,
        partitions: int,
        make_stage: Callable[[int], Stage[Any]],
        act: Act,
        commit_interval: int,
        longest_suspension: int,
        progress: StallGuard,
        on_reset: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self.progress = progress
        self.make_stage = make_stage
        self.act = act
        self.on_reset = on_reset
        self.commit_interval = commit_interval / 1_000
        self.table = StateTable(
            app,
            name=name,
            partitions=partitions,
            key_type=bytes,
            value_type=bytes,
        )
        self.table.agent = self
        app.tables.add(self.table)
        app.task(self._tick)
        app.task(self._watch)
        self.stages: dict[int, Stage[Any]] = {}
        self._stamps: dict[tuple[int, bytes], int] = {}
        self._taken: list[tuple[StreamT[bytes], EventT]] = []
        self._weight = 0
        self._sent: list[Awaitable[Any]] = []
        self._stamp: dict[int, int] = {}
        self._offsets = Offsets(app, self._reached)
        self._suspension = SuspensionGuard(longest_suspension / 1_000)
        self._generation = 0
        self._messages = EnvelopeReader()
        self._lock = asyncio.Lock()
        self._commit: asyncio.Task[None] | None = None
        self._rested = self._committed = time.monotonic()

    # Recovery

    def reset(self) -> None:
        """Drop all stages and everything in hand: the broker will send it again."""
        self._generation += 1
        self.on_reset()
        self.progress.held = False
        self.stages.clear()
        self._stamps.clear()
        self._taken.clear()
        self._weight = 0
        self._sent.clear()
        self._stamp.clear()
        self._offsets = Offsets(self.app, self._reached)

    def restore(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take one entry of the changelog, unless it is older than what is there.

        A worker that hung may write after its successor did; the offset each entry is stamped with
        says which of the two knew more. An entry without a value was taken away by `rebuild`.
        Raises `NewerVersion` for state that this version cannot read.
        """
        if value is None:
            return
        stamp, version = _STAMP.unpack_from(value)
        if version != STATE_VERSION:
            raise NewerVersion(
                f"{self.table.changelog_topic_name} holds state of version {version}; this"
                f" zerostock reads version {STATE_VERSION}: upgrade it"
            )
        if stamp < self._stamps.get((partition, key), -1):
            return
        self._stamps[partition, key] = stamp
        self._stamp[partition] = max(stamp, self._stamp.get(partition, -1))
        if key != _REACHED:
            self._stage(partition).restore(key, value[_STAMP.size :])

    def _reached(self, partition: int) -> tuple[int, str]:
        """The offset up to which the state of a partition is true, and where it was read."""
        return self._stamp.get(partition, -1), self.table.changelog_topic_name

    def _stamped(self, partition: int, value: bytes) -> bytes:
        return stamped(max(self._stamp.get(partition, 0), 0), value)

    def _stage(self, partition: int) -> Stage[Any]:
        stage = self.stages.get(partition)
        if stage is None:
            stage = self.stages[partition] = self.make_stage(partition)
        return stage

    # Work

    async def run(self, stream: StreamT[bytes]) -> None:
        """The body of the agent."""
        try:
            gathered = False
            async for event in stream.noack().events():
                async with self._lock:
                    await self._take(stream, event)
                waiting = stream.channel.queue
                if waiting.empty() and not gathered:
                    await asyncio.sleep(max(GATHER, self._rested - time.monotonic()))
                    gathered = True
                if waiting.empty() or time.monotonic() >= self._rested + TICK:
                    await self._step_if_whole()
                    gathered = False
        except Exception:
            die("an agent failed")

    async def _tick(self) -> None:
        """Folds and commits what the last envelopes left, when no others come."""
        try:
            while not self.app.should_stop:
                if self._offsets.overdue:
                    die("messages that came out of turn were not delivered again")
                await asyncio.sleep(TICK)
                if self.stages:
                    hasten_fetches(self.app)
                if time.monotonic() >= self._rested + TICK:
                    await self._step_if_whole()
        except Exception:
            die("a worker's clock failed")

    async def _watch(self) -> None:
        await self._suspension.beat()
        die("this process was suspended and may have been replaced")

    def _refuse_if_suspended(self) -> None:
        if self._suspension.suspended:
            die("this process was suspended and may have been replaced")

    async def _take(self, stream: StreamT[bytes], event: EventT) -> None:
        message = event.message
        generation = self._generation
        # Faust delivers before its recovery is over, and not all of that again. Once the state is
        # whole the message can be done; if the partitions change hands it is somebody else's.
        while not self.app.tables.actives_ready and generation == self._generation:
            await asyncio.sleep(TICK)
        turn = (
            Turn.OUT_OF_ORDER
            if generation != self._generation
            else await self._offsets.turn(message)
        )
        if generation != self._generation:
            return  # Taken away while it was in hand.
        if turn is not Turn.OUT_OF_ORDER:
            self._taken.append((stream, event))
            self._weight += len(message.value or b"")
        if turn is not Turn.NEXT:
            return
        header, rows = self._messages.open(message)
        if header.kind == "dead_letters":
            self._refuse_if_suspended()
            await self._send(Effect(topics.DEAD_LETTERS, message.partition, header, rows))
        else:
            self._stage(message.partition).process(header, rows)
        self._stamp[message.partition] = message.offset

    async def write_through(self, partition: int, key: bytes, value: bytes) -> None:
        """Write one entry of the state by itself, now; it is on the broker when this returns."""
        self._refuse_if_suspended()
        topic = self.table.changelog_topic_name
        entry = self._stamped(partition, value)
        sent = await self.app.producer.send(topic, key, entry, partition, None, None)
        await sent

    async def _step_if_whole(self) -> None:
        async with self._lock:
            if self.stages and self.app.tables.actives_ready:
                await self._step()

    async def _step(self) -> None:
        generation = self._generation
        started, sent = time.monotonic(), len(self._sent)
        for stage in list(self.stages.values()):
            with self.progress.outside():
                effects = await self.act(stage, now_ms())
            if effects:
                self._refuse_if_suspended()
            for effect in effects:
                await self._send(effect)
            if generation != self._generation:
                return
        now = time.monotonic()
        if len(self._sent) > sent:
            self._rested = now + min(2 * (now - started), LONGEST_REST)
        full = self._weight >= MOST_TAKEN
        if full and self._commit is not None:
            await self._commit
        due = now - self._committed >= self.commit_interval and (self._taken or self._sent)
        free = self._commit is None or self._commit.done()
        if free and (due or full) and generation == self._generation:
            self._begin_commit(generation)

    async def _send(self, effect: Effect) -> None:
        data = pack(effect.header, effect.rows)
        # What `send` returns waits for the broker's acknowledgement.
        self._sent.append(
            await self.app.producer.send(effect.topic, None, data, effect.partition, None, None)
        )

    def _begin_commit(self, generation: int) -> None:
        """Set a commit of all that was done going; folding goes on while the broker takes it."""
        sent, self._sent = self._sent, []
        # The last envelope of a stage that is busy stays: whoever asks the broker how far this
        # group is sees that it is not done.
        held = {
            event.message.partition: (stream, event)
            for stream, event in self._taken
            if getattr(self.stages.get(event.message.partition), "busy", False)
        }
        self.progress.held = bool(held)
        taken = [pair for pair in self._taken if pair not in held.values()]
        self._taken, self._weight = list(held.values()), 0
        facts: list[_Entry] = []
        watermark_entries: list[_Entry] = []
        for partition, stage in self.stages.items():
            entries = [(partition, k, self._stamped(partition, v)) for k, v in stage.snapshot()]
            facts += entries[:-1]
            watermark_entries += entries[-1:]
        for partition in {event.message.partition for _, event in taken}:
            watermark_entries.append((partition, _REACHED, self._stamped(partition, b"")))
        self._committed = time.monotonic()
        self._commit = asyncio.create_task(
            self._finish_commit(generation, sent, facts, watermark_entries, taken)
        )

    async def _finish_commit(
        self,
        generation: int,
        sent: list[Awaitable[Any]],
        facts: list[_Entry],
        watermark_entries: list[_Entry],
        taken: list[tuple[StreamT[bytes], EventT]],
    ) -> None:
        try:
            # 1. Effects: everything sent since the last commit is on the broker.
            for effect in sent:
                await effect
            self._refuse_if_suspended()
            # 2. State: the facts first, then, by themselves, the watermarks they are complete for.
            # (The embedded broker reports as the end of a log the start of its last batch, and a
            # recovery would stop there: watermarks in a batch of their own are always read.)
            await self._write(facts)
            await self._write(watermark_entries)
            # 3. Offset: in order, only now.
            for stream, event in taken:
                if generation != self._generation:
                    return
                await stream.ack(event)
        except Exception:
            die("a commit failed")

    async def _write(self, entries: list[_Entry]) -> None:
        """Write entries to the changelog, in as few requests as hold them, and wait for all.

        A block's recent uses are a hundred bytes: one by one, most of a commit would be futures.
        """
        topic = self.table.changelog_topic_name
        producer = self.app.producer._ensure_producer()
        full: list[tuple[int, BatchBuilder]] = []
        filling: dict[int, BatchBuilder] = {}
        for partition, key, value in entries:
            batch = filling.get(partition)
            if batch is None or batch.append(timestamp=None, key=key, value=value) is None:
                if batch is not None:
                    full.append((partition, batch))
                batch = filling[partition] = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
        full.extend(filling.items())
        written = [await producer.send_batch(b, topic, partition=p) for p, b in full]
        for batch in written:
            await batch


def stamped(offset: int, value: bytes) -> bytes:
    """A state entry as it is written; -1 for a broker whose offsets begin anew."""
    return _STAMP.pack(offset, STATE_VERSION) + value


def unstamped(value: bytes) -> bytes:
    """What stands in a state entry."""
    return value[_STAMP.size :]

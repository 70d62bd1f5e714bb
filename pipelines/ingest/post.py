"""The way to Kafka: sends envelopes and positions, and waits when the readers are far behind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipelines.core.effects import Effect
from pipelines.ingest.positions import Position, encode, noted, noted_source, source_key
from pipelines.ingest.sources import SourceState
from pipelines.kafka import check_login, compress_lightly, read_to_end
from schemas.envelope import pack
from schemas.errors import BrokerError
from schemas.topics import INGEST_POSITIONS, SIM_EVENTS

#: Envelopes of one partition that may wait for the stock worker.
MOST_AHEAD = 64

#: Seconds that the clients get to stop after something broke: it may have been the broker.
_STOP_WITHIN: Final = 5.0


class EnvelopeSink(Protocol):
    """Where ingest puts what it has read."""

    partitions: int

    async def positions(self) -> dict[str, Position]:
        """The newest position of each file, by its name."""

    async def sources(self) -> dict[str, SourceState]:
        """The newest state of each source on record by now, whoever reads it."""

    async def send(self, effects: list[Effect]) -> None:
        """Take envelopes; order is kept within a partition."""

    async def keep(
        self, positions: dict[str, Position], sources: Mapping[str, SourceState] | None = None
    ) -> None:
        """Note how far files were read, and what is on record of sources.

        After everything sent before is safe; returns when the notes are.
        """


class KafkaSink:
    """A Kafka producer, with the positions topic and, if asked, back-pressure.

    All methods raise `BrokerError` when Kafka cannot be reached or refuses.
    """

    def __init__(
        self, broker: str, security: Mapping[str, Any], throttle_group: str | None
    ) -> None:
        self._broker = broker
        self._security = dict(security)
        self._group = throttle_group
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._sent: dict[int, int] = {}
        self._sources: dict[str, SourceState] = {}
        self._at_end = False
        self.partitions = 0

    async def __aenter__(self) -> KafkaSink:
        await check_login(self._broker, self._security)
        compress_lightly()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._broker,
            acks="all",
            compression_type="lz4",
            linger_ms=5,
            max_batch_size=1024 * 1024,
            max_request_size=4 * 1024 * 1024,
            **self._security,
        )
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._broker,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **self._security,
        )
        try:
            await self._producer.start()
            await self._consumer.start()
            self.partitions = len(await self._producer.partitions_for(SIM_EVENTS))
        except KafkaError as error:
            await self._stop()
            raise BrokerError(f"Kafka at {self._broker} cannot be reached: {error}") from None
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            await self._stop()
            return
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self._stop(), _STOP_WITHIN)
        for sent in self._waiting:
            sent.cancel()

    async def _stop(self) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def positions(self) -> dict[str, Position]:
        """See `EnvelopeSink`."""
        found: dict[str, Position] = {}
        try:
            async for message in read_to_end(self._consumer, INGEST_POSITIONS, 0):
                self._note(message)
                if (note := noted(message.key, message.value)) is not None:
                    found[note[0]] = note[1]
        except KafkaError as error:
            raise self._lost(error) from None
        self._at_end = True
        return found

    async def sources(self) -> dict[str, SourceState]:
        """See `EnvelopeSink`."""
        if not self._at_end:
            await self.positions()
        try:
            for messages in (await self._consumer.getmany(timeout_ms=0)).values():
                for message in messages:
                    self._note(message)
        except KafkaError as error:
            raise self._lost(error) from None
        return self._sources

    def _note(self, message: ConsumerRecord) -> None:
        if (note := noted_source(message.key, message.value)) is not None:
            self._sources[note[0]] = note[1]

    async def send(self, effects: list[Effect]) -> None:
        """See `EnvelopeSink`."""
        try:
            for effect in effects:
                data = pack(effect.header, effect.rows)
                self._waiting.append(
                    await self._producer.send(effect.topic, data, partition=effect.partition)
                )
            await self._throttle()
        except KafkaError as error:
            raise self._lost(error) from None

    async def _flush(self) -> None:
        """Wait until all is acknowledged.

        If this is cut short, what is not acknowledged is waited for next time: a position noted
        before would skip it.
        """
        while self._waiting:
            # Unlike awaiting it, this leaves the acknowledgement alone when it is cancelled.
            await asyncio.wait([self._waiting[0]])
            record = self._waiting.popleft().result()
            if record.topic == SIM_EVENTS:
                self._sent[record.partition] = record.offset + 1

    async def keep(
        self, positions: dict[str, Position], sources: Mapping[str, SourceState] | None = None
    ) -> None:
        """See `EnvelopeSink`."""
        # Sources first: from a position on their longest call must be known.
        notes = [(source_key(n), msgspec.json.encode(s)) for n, s in (sources or {}).items()]
        notes += [(name.encode(), encode(position)) for name, position in positions.items()]
        try:
            await self._flush()
            for key, note in notes:
                await self._producer.send(INGEST_POSITIONS, note, key=key, partition=0)
            await self._producer.flush()
        except KafkaError as error:
            raise self._lost(error) from None

    async def _throttle(self) -> None:
        """Wait while the group is too far behind what was sent."""
        if len(self._waiting) < MOST_AHEAD:
            return
        await self._flush()
        if self._group is None:
            return
        for partition, sent in self._sent.items():
            part = TopicPartition(SIM_EVENTS, partition)
            while sent - max(await self._consumer.committed(part) or 0, 0) > MOST_AHEAD:
                await asyncio.sleep(0.05)

    def _lost(self, error: KafkaError) -> BrokerError:
        return BrokerError(f"Kafka at {self._broker} does not take what is sent: {error}")

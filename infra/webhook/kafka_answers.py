"""Answers on their way to Kafka: to their wholesaler's partition, safe once `publish` returns."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas import topics
from schemas.answers import Answer, pack_answers
from schemas.errors import BrokerDown, BrokerError

#: Seconds that Kafka gets to take answers: Twilio waits fifteen for ours.
PATIENCE: Final = 8.0


class KafkaAnswers:
    """A producer that connects when it is needed, and again after Kafka was away."""

    def __init__(self, broker: str, partitions: int, security: Mapping[str, Any]) -> None:
        self._broker = broker
        self._partitions = partitions
        self._security = dict(security)
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        #: Whether Kafka took what it was last given.
        self.connected = False

    async def connect(self) -> AIOKafkaProducer:
        """The producer, started. Raises `BrokerError`."""
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._broker,
                    acks="all",
                    enable_idempotence=False,
                    request_timeout_ms=round(PATIENCE * 1_000 / 2),
                    retry_backoff_ms=200,
                    **self._security,
                )
                try:
                    async with asyncio.timeout(PATIENCE):
                        await producer.start()
                        found = len(await producer.partitions_for(topics.STOCK_INCIDENTS) or ())
                except (KafkaError, TimeoutError, OSError) as error:
                    await _end(producer)
                    raise BrokerDown(
                        f"Kafka at {self._broker} cannot be reached: {error!r}"
                    ) from None
                if found not in (0, self._partitions):
                    await _end(producer)
                    raise BrokerError(
                        f"topic {topics.STOCK_INCIDENTS} has {found} partitions, the setting says "
                        f"{self._partitions}: set ZEROSTOCK_PARTITIONS to what the topic has"
                    )
                self._producer = producer
                self.connected = True
            return self._producer

    async def publish(self, rows: Sequence[Answer]) -> None:
        """Return when Kafka has all rows for good; raises `BrokerError` when it may not."""
        by_partition: dict[int, list[Answer]] = defaultdict(list)
        for row in rows:
            at = topics.partition_of_key(row.wholesaler_id, self._partitions)
            by_partition[at].append(row)
        producer = await self.connect()
        try:
            async with asyncio.timeout(PATIENCE):
                for partition, some in by_partition.items():
                    await producer.send_and_wait(
                        topics.STOCK_INCIDENTS, pack_answers(some), partition=partition
                    )
        except (KafkaError, TimeoutError, OSError) as error:
            self.connected = False
            raise BrokerDown(f"Kafka at {self._broker} did not take answers: {error!r}") from None
        self.connected = True

    async def close(self) -> None:
        """Give back the connection."""
        if self._producer is not None:
            await _end(self._producer)
            self._producer = None


async def _end(producer: AIOKafkaProducer) -> None:
    """Stop a producer, also one whose broker is gone."""
    try:
        async with asyncio.timeout(2.0):
            await producer.stop()
    except (KafkaError, TimeoutError, OSError):
        return

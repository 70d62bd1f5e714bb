"""What the contract tests say to a broker, in plain blocking calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

T = TypeVar("T")

#: The embedded broker does not wake a waiting fetch when data arrive.
FETCH_WAIT_MS = 50


@dataclass(frozen=True)
class Row:
    """A message to write."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0


def with_admin(bootstrap: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    """What an administrator's request returns."""

    async def main() -> T:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            return await ask(admin)
        finally:
            await admin.close()

    return asyncio.run(main())


def create_topic(
    bootstrap: str, topic: str, *, partitions: int = 1, config: Mapping[str, str] | None = None
) -> None:
    """Create a topic."""
    new = NewTopic(topic, partitions, 1, topic_configs=dict(config or {}))
    response = with_admin(bootstrap, lambda admin: admin.create_topics([new]))
    errors = [code for _, code, *_ in response.topic_errors if code]
    assert not errors, f"creating {topic}: {response}"


def write(
    bootstrap: str, topic: str, rows: Iterable[Row], *, each: bool = False, **settings: Any
) -> list[int]:
    """Write with acks=all; the offsets given. `each` waits for one before the next is sent."""

    async def main() -> list[int]:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **settings)
        await producer.start()
        try:
            sent = []
            for row in rows:
                future = await producer.send(topic, row.value, row.key, partition=row.partition)
                if each:
                    await future
                sent.append(future)
            return [(await future).offset for future in sent]
        finally:
            await producer.stop()

    return asyncio.run(main())


def read(
    bootstrap: str, topic: str, *, partition: int = 0, offset: int = 0, **settings: Any
) -> list[ConsumerRecord]:
    """All messages of a partition from an offset to the present end."""

    async def main() -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, fetch_max_wait_ms=FETCH_WAIT_MS, **settings
        )
        await consumer.start()
        try:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            consumer.seek(place, offset)
            records: list[ConsumerRecord] = []
            # The embedded broker gives the start of the last batch as the end: only a read that
            # finds nothing shows that nothing follows.
            while True:
                fetched = await consumer.getmany(place, timeout_ms=300)
                records += fetched.get(place, [])
                if not fetched and await consumer.position(place) >= end:
                    return records
        finally:
            await consumer.stop()

    return asyncio.run(main())


def committed(bootstrap: str, group: str, topic: str, *, partition: int = 0) -> int | None:
    """The offset a group has committed, as one sees it who is no member; None: none yet."""

    async def main() -> int | None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            place = TopicPartition(topic, partition)
            consumer.assign([place])  # by hand, so that the group does not rebalance
            offset: int | None = await consumer.committed(place)
            return offset
        finally:
            await consumer.stop()

    return asyncio.run(main())

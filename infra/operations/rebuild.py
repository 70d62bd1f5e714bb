"""`zerostock rebuild`: the workers fold the whole log again, after state was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from alerts.lifecycle.stage import RECEIPTS
from infra.settings import Settings
from infra.topics import CHANGELOGS, FOLDED, ensure_topics, group_members
from infra.wiring import kafka_security
from pipelines.kafka import open_consumer, read_to_end, write_state
from pipelines.stream.app import group_id
from schemas.errors import BrokerError, InputError


async def rebuild(settings: Settings) -> None:
    """Take the state of the stock and alerts workers away, and put their groups at the start.

    Receipts stay: no message is sent again. Whatever is folded a second time has the same ids, so
    the warehouse shows each row once. May be run again, also after it was interrupted.

    Raises `InputError` when the log is not whole any more, `BrokerError` while workers run.
    """
    broker, security = settings.broker, kafka_security(settings)
    await ensure_topics(broker, settings.partitions, settings.replication, security)
    try:
        await _refuse_if_running(broker, security)
        async with open_consumer(broker, security) as consumer:
            await _refuse_if_cut(consumer, settings.partitions)
            gone = [
                (topic, partition, sorted(await _keys(consumer, topic, partition)))
                for topic in CHANGELOGS
                for partition in range(settings.partitions)
            ]
        # State first: a worker that had the old state and the new offsets would fold it twice.
        producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", **(security or {}))
        await producer.start()
        try:
            for topic, partition, keys in gone:
                await write_state(producer, topic, partition, ((key, None) for key in keys))
        finally:
            await producer.stop()
        for worker, names in FOLDED.items():
            parts = [TopicPartition(n, p) for n in names for p in range(settings.partitions)]
            async with open_consumer(broker, security, group_id=group_id(worker)) as consumer:
                consumer.assign(parts)
                await consumer.commit(dict.fromkeys(parts, 0))
    except KafkaError as error:
        raise BrokerError(f"Kafka at {broker} refused: {error!r}") from None
    print(
        f"{sum(len(keys) for _, _, keys in gone):,} entries of state were taken away; start the"
        " workers: they fold the log from its beginning, and send no message twice"
    )


async def _refuse_if_running(broker: str, security: Mapping[str, Any] | None) -> None:
    for worker in FOLDED:
        if members := await group_members(broker, worker, security):
            raise BrokerError(f"{members} {worker} workers run: stop them first")


async def _refuse_if_cut(consumer: AIOKafkaConsumer, partitions: int) -> None:
    names = [name for some in FOLDED.values() for name in some]
    parts = [TopicPartition(name, p) for name in names for p in range(partitions)]
    begins = await consumer.beginning_offsets(parts)
    for part in parts:
        if begins[part] > 0:
            raise InputError(
                f"Kafka has deleted the first {begins[part]:,} messages of {part.topic}/"
                f"{part.partition}, so the state cannot be made from the log: feed all files again"
                " into topics of their own (docs/operations.md, When something fails)"
            )


async def _keys(consumer: AIOKafkaConsumer, topic: str, partition: int) -> set[bytes]:
    return {
        message.key
        async for message in read_to_end(consumer, topic, partition)
        if message.key is not None and not message.key.startswith(RECEIPTS)
    }

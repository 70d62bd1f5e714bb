"""The same core in a bare consumer loop: no framework, the same effects, state and commits.

python -m infra.bench.peers.bare BROKER REFERENCE PARTITIONS
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.ingest.reference import load_reference
from pipelines.kafka import read_to_end
from pipelines.stream.stateful import unstamped
from schemas import topics
from schemas.envelope import pack, unpack

TICK = 0.02
COMMIT = 1.0
_CHANGELOG = "zerostock-stock-{}-changelog"


async def follow(broker: str, reference: Path, partitions: int) -> None:
    """Recover, then work until killed."""
    found = load_reference(reference).reference
    registry = SimRegistry(
        [SimRange(int(b.first_imsi), b.count, b.sku, b.first_iccid, b.luhn) for b in found.batches]
    )
    stages: dict[TopicPartition, tuple[str, Any]] = {}
    for p in range(partitions):
        sims = SimStage(p, partitions, registry, found.holder)
        stages[TopicPartition(topics.SIM_EVENTS, p)] = ("sims", sims)
        outlets = OutletStage(p, partitions, found.holder)
        stages[TopicPartition(topics.STOCK_MOVEMENTS, p)] = ("outlets", outlets)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        group_id="zerostock-bare",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=broker,
        acks="all",
        compression_type="lz4",
        linger_ms=2,
        max_request_size=4 * 1024 * 1024,
    )
    await consumer.start()
    await producer.start()
    await recover(consumer, stages)
    consumer.assign(list(stages))
    await consumer.seek_to_beginning()
    sent: list[Awaitable[Any]] = []
    taken: dict[TopicPartition, int] = {}
    committed = time.monotonic()
    while True:
        start = time.monotonic()
        while time.monotonic() - start < TICK:
            for part, messages in (await consumer.getmany(timeout_ms=10, max_records=8)).items():
                for message in messages:
                    header, rows = unpack(message.value)
                    stages[part][1].process(header, rows)
                    taken[part] = message.offset + 1
        for _, stage in stages.values():
            for effect in stage.advance():
                data = pack(effect.header, effect.rows)
                sent.append(await producer.send(effect.topic, data, partition=effect.partition))
        if taken and time.monotonic() - committed >= COMMIT:
            await asyncio.gather(*sent)
            writes = [
                await producer.send(_CHANGELOG.format(name), value, key, part.partition)
                for part, (name, stage) in stages.items()
                for key, value in stage.snapshot()
            ]
            await asyncio.gather(*writes)
            await consumer.commit(taken)
            sent.clear()
            taken.clear()
            committed = time.monotonic()


async def recover(
    consumer: AIOKafkaConsumer, stages: dict[TopicPartition, tuple[str, Any]]
) -> None:
    """Give each stage its entries back."""
    for part, (name, stage) in stages.items():
        async for message in read_to_end(consumer, _CHANGELOG.format(name), part.partition):
            stage.restore(message.key, unstamped(message.value))


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))

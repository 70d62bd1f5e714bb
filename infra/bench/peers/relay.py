"""The least that a message's way through topics costs: bare loops that pass each message on.

python -m infra.bench.peers.relay BROKER FROM TO TO …: from each topic to the next.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import pairwise

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def relay(broker: str, source: str, target: str) -> None:
    """Pass on whatever comes, until killed; clients are set up as the workers' are."""
    consumer = AIOKafkaConsumer(
        source, bootstrap_servers=broker, enable_auto_commit=False, fetch_max_wait_ms=20
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, acks="all", compression_type="lz4", linger_ms=2
    )
    await consumer.start()
    await producer.start()
    async for message in consumer:
        await producer.send(target, message.value, partition=message.partition)


async def relays(broker: str, *topics: str) -> None:
    """All relays of a chain of topics, in one process as the stock worker's stages are."""
    async with asyncio.TaskGroup() as group:
        for source, target in pairwise(topics):
            group.create_task(relay(broker, source, target))


if __name__ == "__main__":
    asyncio.run(relays(*sys.argv[1:]))

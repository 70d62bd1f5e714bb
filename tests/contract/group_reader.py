"""A member of a consumer group that a test can kill: it reads, says what, and commits now and then.

Arguments: bootstrap, group, topic, how many messages between two commits.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiokafka import AIOKafkaConsumer


async def main() -> None:
    """Read until killed."""
    bootstrap, group, topic, every = sys.argv[1:]
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=2_000,
        rebalance_timeout_ms=2_000,
        heartbeat_interval_ms=500,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    since = 0
    async for record in consumer:
        os.write(1, f"read {record.offset}\n".encode())
        since += 1
        if since == int(every):
            since = 0
            await consumer.commit()
            os.write(1, f"committed {record.offset + 1}\n".encode())


if __name__ == "__main__":
    asyncio.run(main())

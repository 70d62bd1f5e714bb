"""Processes and topics of a benchmark: a broker, workers as the product starts them, their state.

The broker is the embedded one, or "kafka": Apache Kafka from the jars in a folder.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from infra.bench.common.kafka import Kafka
from infra.bench.common.seeded_state import SeededState
from infra.stack.broker import EmbeddedBroker
from infra.stack.children import Child
from infra.topics import ensure_topics
from pipelines.stream.app import group_id
from pipelines.stream.stateful import stamped
from schemas.envelope import Header, unpack
from schemas.errors import ZerostockError

T = TypeVar("T")

_READY = 180.0


@dataclass
class Harness:
    """A broker with the topics of a state, and children that end with the block."""

    state: SeededState
    broker: str | None = None
    folder: Path = field(init=False)
    address: str = field(init=False)
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Harness:
        self.folder = Path(tempfile.mkdtemp(prefix="zerostock-bench-"))
        self.state.write_reference(self.folder / "reference")
        server = Kafka(self.folder) if self.broker == "kafka" else EmbeddedBroker(self.folder)
        server.start()
        self.children.append(server)
        self.address = server.bootstrap
        asyncio.run(ensure_topics(self.address, self.state.partitions))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self.children):
            child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # Children

    def start(self, name: str, argv: list[str], env: Mapping[str, str] | None = None) -> Child:
        """Start a child of the harness."""
        child = Child(name, argv, self.folder / f"{name}.log", env=env)
        child.start()
        self.children.append(child)
        return child

    def start_worker(self, name: str = "stock", **settings: str) -> Child:
        """A worker of the product, as `zerostock worker NAME` is one."""
        env = {
            "ZEROSTOCK_BROKER": self.address,
            "ZEROSTOCK_REFERENCE": str(self.folder / "reference"),
            "ZEROSTOCK_DATA": str(self.folder / "data"),
            "ZEROSTOCK_PARTITIONS": str(self.state.partitions),
            # The embedded broker lets a worker in after about half of it.
            "ZEROSTOCK_SESSION_TIMEOUT": "6s",
            "ZEROSTOCK_CLOCK": "event",
            **{f"ZEROSTOCK_{key.upper()}": value for key, value in settings.items()},
        }
        return self.start(name, [sys.executable, "-m", "infra.cli", "worker", name], env)

    def check(self) -> None:
        """Raises `ZerostockError` if a child ended."""
        for child in self.children:
            if child.ended:
                raise ZerostockError(f"{child.name} ended: {child.last_words()}")

    async def until(self, done: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask until there is an answer; raises `ZerostockError` when it takes too long."""
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            found = await done()
            if found is not None:
                return found
            self.check()
            await asyncio.sleep(0.05)
        raise ZerostockError(f"{what} did not come within {_READY:.0f} s")

    # Topics

    async def anything(self, consumer: AIOKafkaConsumer) -> ConsumerRecord | None:
        """The first message there is, if there is one."""
        some = await consumer.getmany(timeout_ms=10, max_records=1)
        return next((messages[0] for messages in some.values() if messages), None)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """A producer set up as ingest's is."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address,
            acks="all",
            compression_type="lz4",
            linger_ms=2,
            max_batch_size=1024 * 1024,
            max_request_size=4 * 1024 * 1024,
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    @asynccontextmanager
    async def consumer(self, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer at the start of all partitions of some topics."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            **options,
        )
        await consumer.start()
        parts = [TopicPartition(t, p) for t in topics for p in range(self.state.partitions)]
        consumer.assign(parts)
        await consumer.seek_to_beginning()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def fill(self, topic: str, messages: Iterable[tuple[int, bytes | None, bytes]]) -> int:
        """Write (partition, key, value) in order; the bytes of the values."""
        size = 0
        async with self.producer() as producer:
            sent: list[Awaitable[Any]] = []
            for partition, key, value in messages:
                sent.append(await producer.send(topic, value, key, partition))
                size += len(value)
                if len(sent) == 1_000:
                    await asyncio.gather(*sent)
                    sent.clear()
            await asyncio.gather(*sent)
        return size

    async def fill_state(self) -> int:
        """The state's state into the stock worker's tables; the bytes of it."""
        size = 0
        for table, entries in (
            ("sims", self.state.sim_state()),
            ("outlets", self.state.outlet_state()),
        ):
            topic = f"{group_id('stock')}-{table}-changelog"
            fresh = [(p, k, stamped(-1, v)) for p, k, v in entries]
            # The watermarks last and by themselves: the embedded broker reports as the end of a log
            # the start of its last batch.
            for some in (fresh[: -self.state.partitions], fresh[-self.state.partitions :]):
                size += await self.fill(topic, some)
        return size

    async def read_to_end(
        self, topic: str
    ) -> AsyncIterator[tuple[ConsumerRecord, Header, pa.RecordBatch | None]]:
        """All envelopes of a topic until every writer has said in every partition that it ended."""
        ended: set[tuple[int, str]] = set()
        deadline = time.monotonic() + _READY
        async with self.consumer(topic) as consumer:
            while len(ended) < self.state.partitions**2:
                some = await consumer.getmany(timeout_ms=200)
                for messages in some.values():
                    for message in messages:
                        header, rows = unpack(message.value)
                        yield message, header, rows
                        if header.ended:
                            ended.add((message.partition, header.source))
                if not some:
                    self.check()
                    if time.monotonic() > deadline:
                        raise ZerostockError(f"{topic} did not end within {_READY:.0f} s")


def resident(child: Child) -> int:
    """Bytes of memory a child has now (Linux)."""
    assert child.process is not None
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    (line,) = (x for x in status.splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def cpu_seconds(child: Child) -> float:
    """Processor time a child has had so far, all its threads (Linux)."""
    assert child.process is not None
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

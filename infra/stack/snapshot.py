"""What outlives the embedded broker: the state of the workers and how far the files were read.

A snapshot holds the newest value of each key of the compacted topics, and it replaces the one
before in a single rename. It is taken at the end of a run, and every so often while one goes on, in
the way of the data: how far the files were read, then the state of each stage once it has done with
all that the stage before had said when its own was read. So no stage is behind what the one before
said, and one that is ahead meets things it knows. After a kill the input is read again from there
on; results have deterministic ids, so nothing comes out twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.topics import CHANGELOGS, changelog
from pipelines.files import replace_file
from pipelines.ingest.mapping.mapping import Mapping
from pipelines.ingest.positions import has_more, noted, was_useless
from pipelines.ingest.reading.files import find_sources
from pipelines.ingest.reference import reference_fingerprint
from pipelines.kafka import open_consumer, read_parts_to_end, write_state
from pipelines.stream.stateful import stamped, unstamped
from pipelines.stream.warehouse_worker import RESULT_TOPICS
from schemas import topics
from schemas.errors import InputError, NewerVersion
from schemas.topics import INGEST_POSITIONS

_VERSION: Final = 1

#: In the way of the data: a worker, what its stages read, and the tables of their state.
_STAGES: Final = (
    ("stock", (topics.SIM_EVENTS, topics.CASE_EVENTS), ("sims", "repeats")),
    ("stock", (topics.STOCK_MOVEMENTS, topics.CASES), ("outlets", "cases")),
    ("alerts", (topics.STOCK_INCIDENTS,), ("wholesalers",)),
)


class Snapshot(msgspec.Struct):
    """Newest values of compacted topics: topic → partition → key → value."""

    partitions: int
    entries: dict[str, list[dict[bytes, bytes]]]
    reference: str = ""
    version: int = _VERSION

    def covers(self, directory: Path, mapping: Mapping | None = None) -> bool:
        """Whether all there is in an exchange directory was read, with these reference tables."""
        if self.reference != reference_fingerprint(directory / "reference"):
            return False
        (positions,) = self.entries[INGEST_POSITIONS]
        read = dict(filter(None, (noted(*entry) for entry in positions.items())))
        return not any(
            has_more(file, read.get(file.name)) or was_useless(read.get(file.name))
            for files in find_sources(
                directory, mapping.names if mapping else None
            ).sources.values()
            for file in files
        )


def load_snapshot(path: Path, partitions: int) -> Snapshot | None:
    """The snapshot at `path`, if there is one.

    Raises `InputError` if it cannot be read or was taken with another number of partitions.
    """
    if not path.exists():
        return None
    try:
        snapshot = msgspec.msgpack.decode(path.read_bytes(), type=Snapshot)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{path} is damaged ({error}); remove it to read the input again"
        ) from None
    if snapshot.version > _VERSION:
        raise NewerVersion(f"{path} was written by a newer zerostock: upgrade this one")
    if snapshot.partitions != partitions:
        raise InputError(
            f"{path} was taken with {snapshot.partitions} partitions, now {partitions} are set:"
            f" use --partitions {snapshot.partitions}, or another --data"
        )
    return snapshot


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot at `path` in one step."""
    replace_file(path, msgspec.msgpack.encode(snapshot))


async def take_snapshot(
    broker: str, partitions: int, directory: Path, done: Callable[..., Awaitable[None]]
) -> Snapshot:
    """Read the compacted topics of a broker that is fed from `directory`.

    `done(worker, *topics)` returns once a worker has done with all that is in these topics. When
    this returns, all that the state says is in the warehouse, too.
    """
    reference = reference_fingerprint(directory / "reference")
    entries: dict[str, list[dict[bytes, bytes]]] = {}
    async with open_consumer(broker) as consumer:
        await _read(consumer, [INGEST_POSITIONS], 1, entries)
        for worker, read, tables in _STAGES:
            await done(worker, *read)
            names = [changelog(worker, table) for table in tables]
            await _read(consumer, names, partitions, entries)
    await done("warehouse", *RESULT_TOPICS)
    return Snapshot(partitions, entries, reference)


async def _read(
    consumer: AIOKafkaConsumer,
    names: Sequence[str],
    partitions: int,
    entries: dict[str, list[dict[bytes, bytes]]],
) -> None:
    """The newest values of some topics, all together: ends are waited for once."""
    entries |= {name: [{} for _ in range(partitions)] for name in names}
    parts = [TopicPartition(name, n) for name in names for n in range(partitions)]
    async for message in read_parts_to_end(consumer, parts):
        entries[message.topic][message.partition][message.key] = message.value


async def restore_snapshot(broker: str, snapshot: Snapshot) -> None:
    """Write a snapshot into an empty broker, before any worker starts."""
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, acks="all", max_request_size=16 * 1024 * 1024
    )
    await producer.start()
    try:
        for topic, parts in snapshot.entries.items():
            state = topic in CHANGELOGS
            for partition, entries in enumerate(parts):
                some = ((k, stamped(-1, unstamped(v)) if state else v) for k, v in entries.items())
                await write_state(producer, topic, partition, some)
    finally:
        await producer.stop()

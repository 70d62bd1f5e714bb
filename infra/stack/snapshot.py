"""What outlives the embedded broker: the state of the workers and how far the files were read.

A snapshot is taken when nothing is under way: every message has been dealt with by every worker.
It holds the newest value of each key of the compacted topics, and it replaces the one before in a
single rename. Without one, or after a kill since, the input is read again from there on; results
have deterministic ids, so nothing comes out twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from infra.topics import CHANGELOGS
from pipelines.files import replace_file
from pipelines.ingest.mapping.mapping import Mapping
from pipelines.ingest.positions import has_more, noted, was_useless
from pipelines.ingest.reading.files import find_sources
from pipelines.ingest.reference import reference_fingerprint
from pipelines.kafka import open_consumer, read_parts_to_end, write_state
from pipelines.stream.stateful import stamped, unstamped
from schemas.errors import InputError, NewerVersion
from schemas.topics import INGEST_POSITIONS

_VERSION: Final = 1


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


async def take_snapshot(broker: str, partitions: int, directory: Path) -> Snapshot:
    """Read the compacted topics of a broker at rest, after it was fed from `directory`."""
    counts = {**dict.fromkeys(CHANGELOGS, partitions), INGEST_POSITIONS: 1}
    entries: dict[str, list[dict[bytes, bytes]]] = {
        topic: [{} for _ in range(count)] for topic, count in counts.items()
    }
    # Together: an end that has to be waited for is waited for once.
    parts = [TopicPartition(topic, n) for topic, count in counts.items() for n in range(count)]
    async with open_consumer(broker) as consumer:
        async for message in read_parts_to_end(consumer, parts):
            entries[message.topic][message.partition][message.key] = message.value
    return Snapshot(partitions, entries, reference_fingerprint(directory / "reference"))


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

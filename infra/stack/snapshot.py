"""What outlives the embedded broker: the state of the workers and how far the files were read.

A snapshot is taken when nothing is under way: every message has been dealt with by every worker.
It holds the newest value of each key of the compacted topics, and it replaces the one before in a
single rename. Without one, or after a kill since, the input is read again from there on; results
have deterministic ids, so nothing comes out twice.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.topics import CHANGELOGS
from pipelines.ingest.files import find_sources
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.positions import decode, has_more
from pipelines.stream.stateful import unstamped
from schemas.errors import InputError
from schemas.topics import INGEST_POSITIONS


class Snapshot(msgspec.Struct):
    """Newest values of compacted topics: topic → partition → key → value."""

    partitions: int
    entries: dict[str, list[dict[bytes, bytes]]]
    reference: str = ""

    def covers(self, directory: Path, mapping: Mapping | None = None) -> bool:
        """Whether all there is in an exchange directory was read, with these reference tables."""
        if self.reference != reference_fingerprint(directory):
            return False
        (positions,) = self.entries[INGEST_POSITIONS]
        read = {name.decode(): decode(value) for name, value in positions.items()}
        return not any(
            has_more(file, read.get(file.name))
            for files in find_sources(
                directory, mapping.names if mapping else None
            ).sources.values()
            for file in files
        )


def reference_fingerprint(directory: Path) -> str:
    """A hash of the reference tables."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted((directory / "reference").glob("*.csv")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


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
    if snapshot.partitions != partitions:
        raise InputError(
            f"{path} was taken with {snapshot.partitions} partitions, now {partitions} are set:"
            f" use --partitions {snapshot.partitions}, or another --data"
        )
    return snapshot


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot at `path` in one step."""
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.msgpack.encode(snapshot))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


async def take_snapshot(broker: str, partitions: int, directory: Path) -> Snapshot:
    """Read the compacted topics of a broker at rest, after it was fed from `directory`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        entries: dict[str, list[dict[bytes, bytes]]] = {}
        for topic in (*CHANGELOGS, INGEST_POSITIONS):
            parts = 1 if topic == INGEST_POSITIONS else partitions
            entries[topic] = [await _newest(consumer, topic, p) for p in range(parts)]
    finally:
        await consumer.stop()
    return Snapshot(partitions, entries, reference_fingerprint(directory))


async def _newest(consumer: AIOKafkaConsumer, topic: str, partition: int) -> dict[bytes, bytes]:
    part = TopicPartition(topic, partition)
    consumer.assign([part])
    (end,) = (await consumer.end_offsets([part])).values()
    found: dict[bytes, bytes] = {}
    position = 0
    await consumer.seek_to_beginning(part)
    while True:
        # The embedded broker may report an end too low, so an empty read has the last word.
        some = await consumer.getmany(part, timeout_ms=200)
        messages = some.get(part, [])
        for message in messages:
            found[message.key] = message.value
            position = message.offset + 1
        if not messages and position >= end:
            return found


async def restore_snapshot(broker: str, snapshot: Snapshot) -> None:
    """Write a snapshot into an empty broker, before any worker starts."""
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, acks="all", max_request_size=16 * 1024 * 1024
    )
    await producer.start()
    try:
        for topic, parts in snapshot.entries.items():
            for partition, entries in enumerate(parts):
                if not entries:
                    continue
                state = topic in CHANGELOGS
                *most, last = ((k, unstamped(v) if state else v) for k, v in entries.items())
                waiting = [await producer.send(topic, v, k, partition) for k, v in most]
                for sent in waiting:
                    await sent
                # By itself, so that a reader who asks for the end of the log is told the truth.
                await producer.send_and_wait(topic, last[1], last[0], partition)
    finally:
        await producer.stop()

"""What all parts ask of Kafka apart from the stream: a login, a topic to its end, a state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from ssl import SSLCertVerificationError
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.codec import lz4_encode
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from schemas.errors import BrokerDown, BrokerError


def compress_lightly() -> None:
    """Have this process' producers use lz4's fast level.

    aiokafka has no setting for it and uses the one that packs best: it takes twelve times as long,
    a seventh of a stock worker's time, for 4 % fewer bytes of an envelope.
    """
    lz4_encode.__defaults__ = (1,)


async def check_login(
    broker: str, security: Mapping[str, Any] | None, setting: str = "ZEROSTOCK_KAFKA"
) -> None:
    """See that Kafka lets us in, before any client tries; `setting` begins the settings' names.

    aiokafka's clients say no more than that no host was left, and leave the connection of a
    refused login open. Raises `BrokerError` when trying again does not help, `BrokerDown` when no
    host answers.
    """
    if not security:
        return
    failures: list[str] = []
    for host, port, _ in collect_hosts(broker):
        connection = AIOKafkaConnection(host, port, request_timeout_ms=10_000, **security)
        try:
            await connection.connect()
        except SSLCertVerificationError as error:
            raise BrokerError(
                f"Kafka at {broker} shows a certificate that is not trusted"
                f" ({error.verify_message}): {setting}_CA names the authority to trust"
            ) from None
        except (SaslAuthenticationFailed, UnsupportedSaslMechanismError):
            raise BrokerError(
                f"Kafka at {broker} refused the login: check {setting}_USERNAME,"
                f" {setting}_PASSWORD and {setting}_MECHANISM"
            ) from None
        except (OSError, KafkaError, TimeoutError) as error:
            failures.append(repr(error))
        else:
            return
        finally:
            await _hang_up(connection)
    raise BrokerDown(f"Kafka at {broker} cannot be reached: {'; '.join(failures)}")


async def _hang_up(connection: AIOKafkaConnection) -> None:
    """Close a connection for good: TLS would wait for the other side's goodbye."""
    closed = connection.close()
    protocol = connection._protocol
    if protocol is None:  # never connected
        return
    if protocol._transport is not None:
        protocol._transport.abort()
    await closed


@asynccontextmanager
async def open_consumer(
    broker: str, security: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that commits nothing.

    Raises `BrokerError` when Kafka cannot be reached, refuses the login or breaks off.
    """
    await check_login(broker, security)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **(security or {}),
        **options,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise BrokerError(f"Kafka at {broker} cannot be read: {error}") from None
    finally:
        await consumer.stop()


async def read_to_end(
    consumer: AIOKafkaConsumer, topic: str, *partitions: int
) -> AsyncIterator[ConsumerRecord]:
    """All messages of some partitions of a topic; see `read_parts_to_end`."""
    parts = [TopicPartition(topic, partition) for partition in partitions]
    async for message in read_parts_to_end(consumer, parts):
        yield message


async def read_parts_to_end(
    consumer: AIOKafkaConsumer, parts: Sequence[TopicPartition]
) -> AsyncIterator[ConsumerRecord]:
    """All messages of some partitions, to the end each had when reading began. Raises KafkaError.

    Not to the last message's offset: a log may begin behind offsets that are gone. And the embedded
    broker may report an end too low: an empty read has the last word.
    """
    consumer.assign(parts)
    await consumer.seek_to_beginning(*parts)
    ends = await consumer.end_offsets(parts)
    while True:
        found = await consumer.getmany(*parts, timeout_ms=200)
        for messages in found.values():
            for message in messages:
                yield message
        if not any(found.values()) and all(
            [await consumer.position(part) >= end for part, end in ends.items()]
        ):
            return


async def write_state(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    entries: Iterable[tuple[bytes, bytes | None]],
) -> None:
    """Write (key, value) in order and wait until all are safe; None takes a key away.

    Raises KafkaError.

    The last goes by itself: the embedded broker reports the start of the last batch as the end of
    a log, and whoever asks for the end shall be told the truth.
    """
    waiting: list[Awaitable[Any]] = []
    last: tuple[bytes, bytes | None] | None = None
    for entry in entries:
        if last is not None:
            waiting.append(await producer.send(topic, last[1], last[0], partition))
        last = entry
    for sent in waiting:
        await sent
    if last is not None:
        await producer.send_and_wait(topic, last[1], last[0], partition)

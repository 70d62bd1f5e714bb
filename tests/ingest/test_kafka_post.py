"""The way to Kafka when Kafka misbehaves: nothing is noted as sent that may not have been."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from pipelines.core.effects import Effect
from pipelines.ingest.positions import Position, encode
from pipelines.ingest.post import MOST_AHEAD, KafkaSink
from schemas.envelope import Header
from schemas.errors import BrokerError
from schemas.topics import INGEST_POSITIONS, SIM_EVENTS

ENVELOPE = Effect(SIM_EVENTS, 0, Header("none", "events"))
POSITION = Position("events", 10, "ab")


class Producer:
    """Acknowledges what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, asyncio.Future[Any]]] = []
        self.acknowledges = True

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, future))
        if self.acknowledges:
            self.acknowledge(len(self.sent) - 1)
        return future

    def acknowledge(self, number: int) -> None:
        topic, future = self.sent[number]
        future.set_result(SimpleNamespace(topic=topic, partition=0, offset=number))

    @property
    def topics(self) -> set[str]:
        return {topic for topic, _ in self.sent}

    async def flush(self) -> None:
        """As the real one: waits for all, and says nothing of those that failed."""
        await asyncio.wait([future for _, future in self.sent])

    async def stop(self) -> None: ...


class Consumer:
    """A log of positions from `start` to `end`, and what a group has committed of sim-events."""

    def __init__(self, start: int = 0, end: int = 0, committed: int | None = None) -> None:
        self.at, self.end = start, end
        self.group: list[int | None] = [committed]
        self.messages: list[Any] = []

    def assign(self, parts: list[TopicPartition]) -> None: ...
    async def seek_to_beginning(self, *parts: TopicPartition) -> None: ...
    async def stop(self) -> None: ...

    async def end_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(parts, self.end)

    async def position(self, part: TopicPartition) -> int:
        return self.at

    async def getmany(
        self, part: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        some, self.messages = self.messages, []
        if some:
            self.at = some[-1].offset + 1
        return {part: some}

    async def committed(self, part: TopicPartition) -> int | None:
        return self.group.pop(0) if len(self.group) > 1 else self.group[0]


def post(producer: Producer, consumer: Consumer, group: str | None = None) -> KafkaSink:
    made = KafkaSink("kafka:9092", {}, group)
    made._producer, made._consumer, made.partitions = producer, consumer, 1
    return made


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_positions_of_a_log_whose_beginning_is_gone() -> None:
    """Kafka may have deleted all there was: the log then begins at its end, not at 0."""

    async def work() -> dict[str, Position]:
        return await post(Producer(), Consumer(start=7, end=7)).positions()

    assert run(work()) == {}


def test_the_newest_position_of_a_file_holds() -> None:
    older, newer = encode(POSITION), encode(Position("events", 20, "ab"))
    consumer = Consumer(end=9)
    consumer.messages = [
        SimpleNamespace(key=b"events/1", value=older, offset=3),
        SimpleNamespace(key=b"events/1", value=newer, offset=8),
    ]

    async def work() -> dict[str, Position]:
        return await post(Producer(), consumer).positions()

    assert run(work())["events/1"].size == 20


def test_a_refused_envelope_is_an_error_in_one_line() -> None:
    async def work() -> None:
        producer = Producer()
        producer.acknowledges = False
        made = post(producer, Consumer())
        await made.send([ENVELOPE])
        producer.sent[0][1].set_exception(MessageSizeTooLargeError("too large"))
        await made.keep({"events/1": POSITION})

    with pytest.raises(BrokerError, match="kafka:9092"):
        run(work())


def test_a_broker_that_is_lost_while_sending_is_an_error_in_one_line() -> None:
    class Lost(Producer):
        async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[Any]:
            raise KafkaConnectionError("gone")

    async def work() -> None:
        await post(Lost(), Consumer()).send([ENVELOPE])

    with pytest.raises(BrokerError, match="kafka:9092"):
        run(work())


def test_nothing_is_noted_as_read_while_envelopes_are_under_way() -> None:
    async def work() -> None:
        producer = Producer()
        producer.acknowledges = False
        made = post(producer, Consumer())
        await made.send([ENVELOPE])
        keeping = asyncio.ensure_future(made.keep({"events/1": POSITION}))
        for _ in range(20):
            await asyncio.sleep(0)
        assert producer.topics == {SIM_EVENTS}
        producer.acknowledges = True
        producer.acknowledge(0)
        await keeping
        assert producer.topics == {SIM_EVENTS, INGEST_POSITIONS}

    run(work())


def test_an_envelope_lost_after_a_stop_is_not_noted_as_read() -> None:
    """A stop cuts waiting short; what was under way then must still be waited for before noting."""

    async def work() -> None:
        producer = Producer()
        producer.acknowledges = False
        made = post(producer, Consumer())
        sending = asyncio.ensure_future(made.send([ENVELOPE] * (MOST_AHEAD + 1)))
        for _ in range(MOST_AHEAD * 4):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        producer.acknowledges = True
        for number in range(MOST_AHEAD):
            if not producer.sent[number][1].done():
                producer.acknowledge(number)
        producer.sent[MOST_AHEAD][1].set_exception(KafkaConnectionError("gone"))
        with pytest.raises(BrokerError):
            await made.keep({"events/1": POSITION})
        assert producer.topics == {SIM_EVENTS}

    run(work())


def test_sending_waits_for_a_group_that_is_far_behind_and_has_committed_nothing_yet() -> None:
    async def work() -> int:
        consumer = Consumer()
        consumer.group = [None, -1, 0, 1, MOST_AHEAD]
        await post(Producer(), consumer, "stock").send([ENVELOPE] * (MOST_AHEAD + 2))
        return len(consumer.group)

    assert run(work()) <= 2


def test_without_a_group_nothing_is_waited_for() -> None:
    async def work() -> int:
        producer = Producer()
        await post(producer, Consumer()).send([ENVELOPE] * MOST_AHEAD * 3)
        return len(producer.sent)

    assert run(work()) == MOST_AHEAD * 3


def test_no_broker_at_all_is_an_error_in_one_line_that_leaves_nothing_open() -> None:
    async def work() -> None:
        async with KafkaSink("127.0.0.1:1", {}, None):
            pass

    with pytest.raises(BrokerError, match=r"^Kafka at 127\.0\.0\.1:1 cannot be reached: "):
        run(work())
    gc.collect()  # Here a producer or consumer left open would warn, and a warning is an error.

"""A topic of an outside Kafka as a feed: each partition is a source, offsets are its positions.

Nothing is committed there: how far it was read is kept with our own positions, beside what was
made of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from pipelines.ingest.check import Checked, nothing
from pipelines.ingest.feeds import SCHEME
from pipelines.ingest.feeds.feed import Checking, Item
from pipelines.ingest.feeds.messages import MessageFormat, check_messages, format_of
from pipelines.ingest.mapping.mapping import Mapping as ExportMapping
from pipelines.ingest.positions import Position
from pipelines.ingest.reading.files import Chunk
from pipelines.kafka import check_login
from schemas.errors import BrokerDown, BrokerError, MappingError, UsageError
from schemas.fields import TIME_END

log = logging.getLogger(__name__)

#: The client tells each of its tries to connect; what matters of them is told here.
_client_log = logging.getLogger(f"{__name__}.client")
_client_log.setLevel(logging.CRITICAL)

#: Messages taken at a time, and how many times for a poll; polls that are checked at a time;
#: messages read between two looks.
_STEP: Final = 1_024
_STEPS: Final = 16
_AHEAD: Final = 2
_MOST_A_LOOK: Final = 1_000_000

#: Messages that a mapping is tried on before anything is believed of it.
_TRIED: Final = 200

#: Seconds: for an answer, for one that others wait for, for messages to come.
_ANSWER: Final = 10.0
_QUICK_ANSWER: Final = 2.0
_WAIT: Final = 0.1


@dataclass(frozen=True)
class TopicAddress:
    """`kafka://HOST:PORT/TOPIC`; several brokers with commas between."""

    broker: str
    topic: str

    @classmethod
    def parse(cls, url: str) -> TopicAddress:
        """Raises `UsageError` for anything else."""
        parts = urlsplit(url)
        topic = parts.path.removeprefix("/")
        if "@" in parts.netloc:
            raise UsageError(
                "a login does not belong into kafka://HOST:PORT/TOPIC: set"
                " ZEROSTOCK_FEED_KAFKA_USERNAME and ZEROSTOCK_FEED_KAFKA_PASSWORD"
            )
        if not parts.netloc or not topic or "/" in topic or parts.query or parts.fragment:
            raise UsageError(f"{url} is not a topic: give it as kafka://HOST:PORT/TOPIC")
        return cls(parts.netloc, topic)

    @property
    def name(self) -> str:
        """As it was given."""
        return f"{SCHEME}{self.broker}/{self.topic}"


#: Values of messages, and their offsets.
Values = tuple[list[bytes | None], list[int]]


@dataclass
class _Partition:
    """Where reading goes on in a partition, where it ends if it is not followed.

    `seen_end` is the offset at which the client last said that there is no more.
    """

    source: str
    offset: int = OFFSET_BEGINNING
    end: int | None = None
    seen_end: int = -1

    @property
    def at_end(self) -> bool:
        """Whether it was read to its end; the client says so only once."""
        return self.seen_end >= self.offset >= 0

    @property
    def done(self) -> bool:
        """Whether all there was at the start was read."""
        return self.end is not None and self.offset >= self.end


@dataclass
class TopicFeed:
    """See `Feed`. `security` is aiokafka's, `ca` names the file of the authority it trusts.

    Without `follow` it ends where the partitions ended when it was opened.
    """

    address: TopicAddress
    security: Mapping[str, Any]
    ca: str | None = None
    mapping: ExportMapping | None = None
    follow: bool = False
    setting: str = "ZEROSTOCK_KAFKA"
    #: Seconds between two questions whether the cluster is there, and has more partitions.
    ask_every: float = 10.0
    _partitions: dict[int, _Partition] = field(default_factory=dict)
    _ready: dict[int, Values] = field(default_factory=dict)
    _lost: list[Item] = field(default_factory=list)
    _asked: float = 0.0
    _troubles: dict[int, str] = field(default_factory=dict)
    _astray: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """See `Feed`."""
        return self.address.name

    async def open(self, positions: Mapping[str, Position], arrived: asyncio.Event) -> None:
        """See `Feed`. Raises `BrokerError` for a topic that is not there, `MappingError` for a
        mapping that fits none of its messages."""
        export = self.mapping.export_of(self.name) if self.mapping is not None else None
        self._format = format_of(self.name, export)
        self._positions = positions
        # A client of its own, whose calls wait for answers without the interpreter's lock.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="topic")
        try:
            await check_login(self.address.broker, self.security, self.setting)
        except BrokerDown as error:
            self._go_on_without(error)
        await self._call(self._start)

    async def look(self) -> Mapping[str, bool]:
        """See `Feed`. A partition that was not seen to its end was not looked at in vain."""
        if self.follow and time.monotonic() - self._asked >= self.ask_every:
            await self._call(self._ask)
        if not self._ready and not self._all_done:
            self._ready = await self._call(self._poll)
        awake = self._troubles.keys() | self._ready.keys()
        return {
            partition.source: number in awake or not partition.at_end
            for number, partition in self._partitions.items()
        }

    async def items(self, checking: Checking) -> AsyncIterator[Item]:
        """See `Feed`."""
        loop = asyncio.get_running_loop()
        waiting: deque[asyncio.Future[Item]] = deque()
        left = _MOST_A_LOOK
        while left > 0:
            for number, some in self._ready.items():
                left -= len(some[0])
                source = self._partitions[number].source
                check = partial(
                    _checked,
                    source,
                    *some,
                    self._format,
                    checking.before(),
                    checking.by_end(source),
                )
                waiting.append(loop.run_in_executor(checking.threads, check))
            # What was lost stands between what was read before and what is read from now on.
            while self._lost:
                while waiting:
                    yield await waiting.popleft()
                yield self._lost.pop(0)
            if self._all_done or (self.follow and not self._ready):
                self._ready = {}
                break
            self._ready = await self._call(self._poll)
            while waiting and (len(waiting) > _AHEAD or not self._ready):
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()

    def troubles(self) -> Mapping[str, str]:
        """See `Feed`."""
        return {self._partitions[number].source: why for number, why in self._troubles.items()}

    def is_gone(self, source: str) -> bool:
        """See `Feed`. Partitions do not go."""
        del source
        return False

    async def close(self) -> None:
        """See `Feed`."""
        if hasattr(self, "_consumer"):
            await self._call(self._consumer.close)
        if hasattr(self, "_thread"):
            self._thread.shutdown(wait=False)

    # In the thread of the client

    async def _call(self, function: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    @property
    def _all_done(self) -> bool:
        return all(partition.done for partition in self._partitions.values())

    def _start(self) -> None:
        self._consumer = Consumer(
            client_settings(self.address.broker, self.security, self.ca)
            | {"error_cb": self._noted},
            logger=_client_log,
        )
        if not self._troubles:
            try:
                self._find_partitions()
            except BrokerDown as error:
                self._go_on_without(error)
        if self._format.export is not None and all(
            partition.source not in self._positions for partition in self._partitions.values()
        ):
            self._try_mapping()
        self._assign()

    def _go_on_without(self, error: BrokerDown) -> None:
        """Where it is followed, and was read before, a cluster that is away now comes back.

        Raises the error for any other.
        """
        known = {
            name.removeprefix(f"{self.name}/"): position
            for name, position in self._positions.items()
            if name.startswith(f"{self.name}/")
        }
        if not self.follow or not known:
            raise error
        for number, position in known.items():
            source = f"{self.name}/{number}"
            self._partitions[int(number)] = _Partition(source, position.end)
        self._unreachable(str(error))

    def _find_partitions(self, timeout: float = _ANSWER) -> None:
        """Take up all partitions that there are now."""
        topic, name = self.address.topic, self.name
        try:
            found = self._consumer.list_topics(topic, timeout=timeout).topics[topic]
        except KafkaException as error:
            raise BrokerDown(f"{name} cannot be read: {_words(error)}") from None
        if found.error is not None or not found.partitions:
            why = found.error.str() if found.error is not None else "it has no partitions"
            if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                why = f"there is no topic {topic}"
            raise BrokerError(f"{name} cannot be read: {why}")
        for number, partition in sorted(found.partitions.items()):
            if number not in self._partitions:
                self._partitions[number] = self._opened(number)
            if partition.error is None:
                self._reached(number)
            else:  # it has no leader
                self._unreachable(partition.error.str(), number)
        self._asked = time.monotonic()

    def _opened(self, number: int) -> _Partition:
        """A partition where reading goes on, which is where it begins if that is gone."""
        source = f"{self.name}/{number}"
        low, high = self._bounds(number)
        partition = _Partition(source, low, None if self.follow else high)
        position = self._positions.get(source)
        if position is not None and low <= position.end <= high:
            partition.offset = position.end
        elif position is not None and position.end < low:
            self._tell_loss(partition, position.end, low)
        elif position is not None:
            log.warning("%s was begun anew and is read from its beginning", source)
        partition.seen_end = high
        return partition

    def _bounds(self, number: int) -> tuple[int, int]:
        part = TopicPartition(self.address.topic, number)
        try:
            low, high = self._consumer.get_watermark_offsets(part, timeout=_ANSWER)
        except KafkaException as error:
            raise BrokerDown(f"{self.name} cannot be read: {_words(error)}") from None
        return low, high

    def _tell_loss(self, partition: _Partition, start: int, end: int) -> None:
        why = (
            f"lost: offsets {start} to {end - 1} were deleted by the topic's retention before they"
            " were read"
        )
        log.error("%s: %s", partition.source, why)
        checked = nothing()
        checked.refused = [(start, why, b"")]
        self._lost.append(_item(partition.source, Chunk(start, 0, end), checked, 0))

    def _assign(self) -> None:
        self._consumer.assign(
            [
                TopicPartition(self.address.topic, number, partition.offset)
                for number, partition in self._partitions.items()
                if not partition.done
            ]
        )

    def _poll(self) -> dict[int, Values]:
        """The next messages by partition; what else the client says is taken note of.

        In small steps: many messages at a time would keep the garbage collector busy.
        """
        found: dict[int, Values] = {}
        for _ in range(_STEPS):
            messages = self._consumer.consume(_STEP, 0 if found else _WAIT)
            count = len(messages)
            # By `map`, as there are millions: it asks each in half the time.
            if any(error is not None for error in map(Message.error, messages)):
                for message in messages:
                    self._take_note(message)
                messages = [message for message in messages if message.error() is None]
            for number, some in groupby(messages, Message.partition):
                together = list(some)
                values, offsets = found.setdefault(number or 0, ([], []))
                values += map(Message.value, together)
                offsets += [offset or 0 for offset in map(Message.offset, together)]
            if count < _STEP:
                break
        for number, (values, offsets) in found.items():
            partition = self._partitions[number]
            partition.offset = max(partition.offset, offsets[-1] + 1)
            if partition.end is not None and partition.offset > partition.end:
                beyond = bisect_left(offsets, partition.end)
                del values[beyond:], offsets[beyond:]
        self._reached(*found)
        if self._astray:
            self._find_way()
        return {number: some for number, some in found.items() if some[0]}

    def _take_note(self, message: Message) -> None:
        number, error = message.partition() or 0, message.error()
        if error is None:
            return
        partition = self._partitions[number]
        if error.code() == KafkaError._PARTITION_EOF:
            partition.seen_end = message.offset() or 0
            partition.offset = max(partition.offset, partition.seen_end)
        elif error.code() in _OUT_OF_RANGE:
            self._astray.add(number)
        else:
            self._unreachable(error.str(), number)

    def _find_way(self) -> None:
        """Go on where partitions begin now whose next offset is not there."""
        for number in sorted(self._astray):
            partition = self._partitions[number]
            partition.seen_end = -1
            try:
                low, _ = self._bounds(number)
            except BrokerError as error:
                self._unreachable(str(error), number)
                return
            if low > partition.offset:
                self._tell_loss(partition, partition.offset, low)
            else:
                log.warning("%s was begun anew and is read from its beginning", partition.source)
            partition.offset = low
            self._astray.discard(number)
        self._assign()

    def _ask(self) -> None:
        """See whether the cluster is there, and whether it has partitions that are new."""
        known = len(self._partitions)
        self._asked = time.monotonic()
        try:
            self._find_partitions(_QUICK_ANSWER)
        except BrokerError as error:
            self._unreachable(str(error))
            return
        if len(self._partitions) > known:
            log.warning("%s has %d partitions now", self.name, len(self._partitions))
            self._assign()

    def _noted(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):
            self._unreachable(error.str())

    def _unreachable(self, why: str, *numbers: int) -> None:
        """Take note that some partitions cannot be read, by default all."""
        some = dict.fromkeys(numbers or self._partitions, why)
        if some.keys() - self._troubles:
            log.error("%s cannot be read and is tried again: %s", self._shown(some), why)
            self._asked = time.monotonic()
        self._troubles |= some

    def _reached(self, *numbers: int) -> None:
        some = [number for number in numbers if self._troubles.pop(number, "")]
        if some:
            log.warning("%s can be read again", self._shown(some))

    def _shown(self, numbers: Collection[int]) -> str:
        if len(numbers) == len(self._partitions):
            return self.name
        return ", ".join(f"{self.name}/{number}" for number in sorted(numbers))

    def _try_mapping(self) -> None:
        """Raises `MappingError` when the mapping fits none of the first messages."""
        seen = 0
        reasons: list[str] = []
        for number, partition in self._partitions.items():
            _, high = self._bounds(number)
            for message in self._first(number, partition.offset, high):
                rows, checked = check_messages(
                    [message.value()], np.array([0]), self._format, TIME_END
                )
                if len(checked.refused) < rows or not checked.refused:
                    return
                reasons += [why for _, why, _ in checked.refused]
                seen += 1
        if seen:
            why = max(set(reasons), key=reasons.count)
            raise MappingError(
                f"{self.name}: the mapping fits none of the first {seen:,} messages: {why}"
            )

    def _first(self, number: int, start: int, end: int) -> list[Message]:
        """The first messages of a partition that are there."""
        if start >= end:
            return []
        self._consumer.assign([TopicPartition(self.address.topic, number, start)])
        found: list[Message] = []
        until = time.monotonic() + _ANSWER
        while len(found) < _TRIED and time.monotonic() < until:
            some = self._consumer.consume(_TRIED - len(found), _WAIT)
            found += [message for message in some if message.error() is None]
            if any(message.error() is not None for message in some):
                break  # the end
        return found


_OUT_OF_RANGE: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


def client_settings(
    broker: str, security: Mapping[str, Any], ca: str | None = None
) -> dict[str, Any]:
    """The settings of a client that commits nothing; `security` as aiokafka has it."""
    settings: dict[str, Any] = {
        "bootstrap.servers": broker,
        "group.id": "zerostock-reader",  # asked for, never joined
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "queued.min.messages": 200_000,
        "fetch.message.max.bytes": 4 * 1024 * 1024,
        "security.protocol": security.get("security_protocol", "PLAINTEXT"),
    }
    if ca is not None:
        settings["ssl.ca.location"] = ca
    if "sasl_mechanism" in security:
        settings["sasl.mechanism"] = security["sasl_mechanism"]
        settings["sasl.username"] = security["sasl_plain_username"]
        settings["sasl.password"] = security["sasl_plain_password"]
    return settings


def _words(error: KafkaException) -> str:
    return str(error.args[0].str())


def _checked(
    source: str,
    values: list[bytes | None],
    places: list[int],
    how: MessageFormat,
    before: int,
    detail: bool,
) -> Item:
    rows, checked = check_messages(values, np.array(places, np.int64), how, before, detail=detail)
    size = sum(len(value) for value in values if value is not None)
    chunk = Chunk(places[0], rows, places[-1] + 1)
    return _item(source, chunk, checked, size)


def _item(source: str, chunk: Chunk, checked: Checked, size: int) -> Item:
    def position(newest: int) -> Position:
        return Position(source, 0, "", end=chunk.end, newest=newest)

    return Item(source, source, chunk, checked, position, size)

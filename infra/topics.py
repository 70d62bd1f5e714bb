"""Creates the topics that are missing, and reads how far groups are behind."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
)

from pipelines.kafka import check_login
from pipelines.stream.app import TOPICS, group_id
from schemas import topics
from schemas.errors import BrokerDown, BrokerError

#: State of the workers: one changelog a table.
CHANGELOGS = tuple(
    f"{group_id(worker)}-{table}-changelog"
    for worker, table in (
        *(("stock", "sims"), ("stock", "outlets"), ("stock", "repeats"), ("stock", "cases")),
        ("alerts", "wholesalers"),
    )
)

#: What each stateful worker folds.
FOLDED: Final = {
    "stock": (topics.SIM_EVENTS, topics.STOCK_MOVEMENTS, topics.CASE_EVENTS, topics.CASES),
    "alerts": (topics.STOCK_INCIDENTS,),
}

_COMPACTED = {"cleanup.policy": "compact"}


async def ensure_topics(
    broker: str, partitions: int, replication: int = 1, security: Mapping[str, Any] | None = None
) -> None:
    """Create what is missing.

    Raises `BrokerError` if the broker cannot be reached, refuses the login, or has a topic with
    another number of partitions: changing that would put SIMs where their state is not.
    """
    await check_login(broker, security)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(security or {}))
    try:
        await admin.start()
    except KafkaConnectionError as error:
        await admin.close()
        raise BrokerDown(f"Kafka at {broker} cannot be reached: {error}") from None
    except KafkaError as error:
        await admin.close()
        raise BrokerError(f"Kafka at {broker} refused: {error}") from None
    try:
        wanted = [NewTopic(name, partitions, replication) for name in TOPICS]
        wanted += [
            NewTopic(name, partitions, replication, topic_configs=_COMPACTED) for name in CHANGELOGS
        ]
        wanted.append(NewTopic(topics.INGEST_POSITIONS, 1, replication, topic_configs=_COMPACTED))
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        if missing:
            with contextlib.suppress(TopicAlreadyExistsError):  # Another worker was quicker.
                await admin.create_topics(missing)
        for found in await admin.describe_topics([t.name for t in wanted if t.name in there]):
            expected = 1 if found["topic"] == topics.INGEST_POSITIONS else partitions
            if len(found["partitions"]) not in (0, expected):
                raise BrokerError(
                    f"topic {found['topic']} has {len(found['partitions'])} partitions, the setting"
                    f" says {expected}: set ZEROSTOCK_PARTITIONS to what the topics have"
                )
    except (KafkaConnectionError, NodeNotReadyError, KafkaTimeoutError) as error:
        raise BrokerDown(f"Kafka at {broker} went away: {error!r}") from None
    except KafkaError as error:
        raise BrokerError(f"Kafka at {broker} refused: {error!r}") from None
    finally:
        await admin.close()


async def group_members(broker: str, worker: str, security: Mapping[str, Any] | None = None) -> int:
    """How many workers of a kind are in their group. Raises KafkaError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(security or {}))
    try:
        await admin.start()
        (found,) = await admin.describe_consumer_groups([group_id(worker)])
        return len(found.groups[0][5])
    except GroupCoordinatorNotAvailableError:  # no group has ever been there
        return 0
    finally:
        await admin.close()


#: Looks of a fifth of a second for the broker's answer: on a busy machine it takes seconds.
_LOOKS: Final = 25


class Lag:
    """How many messages a consumer group has not yet done with."""

    def __init__(
        self, broker: str, worker: str, partitions: int, security: Mapping[str, Any] | None = None
    ) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=broker,
            group_id=group_id(worker),
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            **(security or {}),
        )
        self._partitions = partitions

    async def __aenter__(self) -> Lag:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def of(self, *names: str) -> int:
        """Messages of these topics that the group has not committed; 1 while nobody can tell."""
        parts = [TopicPartition(name, p) for name in names for p in range(self._partitions)]
        self._consumer.assign(parts)
        ends = await self._consumer.end_offsets(parts)
        behind = 0
        for part in parts:
            committed = max(await self._consumer.committed(part) or 0, 0)
            behind += max(ends[part] - committed, 0)
            self._consumer.seek(part, committed)
        if behind:
            return behind
        # The embedded broker may report an end too low: only reading shows that nothing follows,
        # and only once it has answered for each partition. It may have died, too.
        for _ in range(_LOOKS):
            left = await self._consumer.getmany(timeout_ms=200)
            if left or all(self._consumer.highwater(part) is not None for part in parts):
                return sum(len(messages) for messages in left.values())
        return 1

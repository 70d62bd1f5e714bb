"""Both brokers, started once, and names that no other test uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from services.broker import EmbeddedBroker
from services.kafka import KafkaServer
from services.running import running

_numbers = count(1)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Apache Kafka, shared by all tests that leave it running."""
    with running(lambda: KafkaServer(tmp_path_factory.mktemp("kafka"), secure=True)) as server:
        yield server


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The embedded broker, shared by all tests that leave it running."""
    with running(lambda: EmbeddedBroker(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker


@pytest.fixture(params=["kafka", "embedded"])
def broker(request: pytest.FixtureRequest) -> KafkaServer | EmbeddedBroker:
    """Each of the two brokers in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def name() -> Callable[[str], str]:
    """A topic or group name of this test's own."""
    number = next(_numbers)
    return lambda kind: f"{kind}-{number}"

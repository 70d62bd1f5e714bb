"""A Kafka for each test, and the helpers of the integration tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[object]:
    """A Kafka of this test's own, to be killed and filled at will."""
    from services.kafka import KafkaServer
    from services.running import running

    with running(lambda: KafkaServer(tmp_path / "kafka")) as server:
        yield server


@pytest.fixture
def clusters() -> Iterator[Callable[..., object]]:
    """Makes clusters, and ends their workers whatever happens."""
    from cluster import Cluster

    made: list[Cluster] = []

    def make(*arguments: object, **options: object) -> Cluster:
        made.append(Cluster(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cluster in made:
        for worker in cluster.workers:
            worker.child.kill()

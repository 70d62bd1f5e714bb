"""The main job on Apache Kafka, while workers join, leave, hang, and the broker comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from city import (
    assert_equals_truth,
    assert_messages_equal_a_run,
    assert_tables_equal_truth,
)
from cluster import POLICY, Cluster
from services.kafka import KafkaServer
from services.waiting import wait_until

from pipelines.simulate import CityPlan, Truth, read_truth, simulate

pytestmark = pytest.mark.slow

Clusters = Callable[..., Cluster]


def make(folder: Path, seed: int, cdrs: int = 60_000, outlets: int = 120) -> Truth:
    simulate(CityPlan(seed=seed, outlets=outlets, cdrs=cdrs), folder)
    return read_truth(folder)


@pytest.mark.parametrize("partitions", [1, 2, 4])
def test_two_workers_of_a_kind_make_the_same_city(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters, partitions: int
) -> None:
    truth = make(tmp_path / "city", partitions)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    settings = {"ZEROSTOCK_POLICY": str(policy)} if partitions == 2 else {}
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", partitions, settings)
    cluster.start(stock=2, alerts=2, warehouse=1)
    cluster.read_all()
    cluster.drain()
    # Nobody else may have the warehouse's folder, and who has it is not disturbed.
    again = cluster.add("warehouse", "again")
    assert again.child.wait(60) == 1
    assert "is in use by process" in again.child.tail(2)
    cluster.workers.remove(again)
    if partitions > 1:
        # They share the work: each has partitions.
        assert cluster.members("alerts") == 2
    cluster.stop()
    if settings:
        assert_tables_equal_truth(cluster.data, truth)
        assert_messages_equal_a_run(cluster.sms, tmp_path / "city", tmp_path, policy)
    else:
        assert_equals_truth(cluster.data, cluster.sms, truth)


def test_the_broker_dies_and_restarts_while_all_are_at_work(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    truth = make(tmp_path / "city", 31, cdrs=300_000)
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    cluster.start(stock=1, alerts=1, warehouse=1)
    reading = cluster.ingest()
    wait_until(lambda: cluster.lag("stock", ("sim-events",)) > 5, "work to wait")
    kafka.kill()
    kafka.start()
    reading.wait(120)
    cluster.look_after()
    kafka.restart()
    cluster.read_all()
    cluster.drain()
    cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)


def test_workers_that_join_before_the_broker_knows_its_topics_get_their_share(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    truth = make(tmp_path / "city", 32)
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    for kind in ("stock", "alerts", "warehouse"):
        cluster.add(kind, kind, faults=[("topics unknown", 1)])
    cluster.read_all()
    cluster.drain(patience=60)
    cluster.stop()
    assert all(cluster.fired(w.name).read_text() == "topics unknown\n" for w in cluster.workers)
    assert all(w.starts == 1 for w in cluster.workers)
    assert_equals_truth(cluster.data, cluster.sms, truth)


def test_a_worker_joins_one_hangs_one_leaves(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    truth = make(tmp_path / "city", 33, cdrs=400_000)
    # With shorter sessions a worker does not look whether it has been replaced.
    longer = {"ZEROSTOCK_SESSION_TIMEOUT": "5s"}
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 4, longer)
    cluster.start(stock=1, alerts=1, warehouse=1)
    reading = cluster.ingest()
    first = cluster.workers[0]
    wait_until(lambda: cluster.members("stock") == 1, "the first to join")
    joined = cluster.add("stock", "joined")
    wait_until(lambda: cluster.members("stock") == 2, "the second to join")
    first.child.suspend()
    wait_until(lambda: cluster.members("stock") == 1, "the first's session to end")
    first.child.resume()
    wait_until(lambda: cluster.look_after() or cluster.members("stock") == 2, "it to come back")  # type: ignore[func-returns-value]
    cluster.workers.remove(joined)
    joined.child.stop()
    assert reading.wait(120) == 0
    cluster.drain()
    cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)

"""The main job on Apache Kafka, while workers die, hang, join and leave, and the broker as well."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from city import assert_equals_truth
from cluster import Cluster
from services.kafka import KafkaServer

from pipelines.simulate import CityPlan, Truth, read_truth, simulate

#: Seconds a soak lasts; ten minutes in CI's own run, longer by hand.
SOAK = float(os.environ.get("ZEROSTOCK_TEST_SOAK", "60"))


#: Deaths at random find what nobody thought of, and take as long as one lets them: by hand.
at_random = pytest.mark.skipif(
    "ZEROSTOCK_TEST_FAULTS" not in os.environ, reason="set ZEROSTOCK_TEST_FAULTS=1 to run it"
)


def make(folder: Path, seed: int, cdrs: int = 60_000, outlets: int = 120) -> Truth:
    simulate(CityPlan(seed=seed, outlets=outlets, cdrs=cdrs), folder)
    return read_truth(folder)


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 2, 4])
def test_two_workers_of_a_kind_make_the_same_city(
    tmp_path: Path, kafka: KafkaServer, partitions: int
) -> None:
    truth = make(tmp_path / "city", partitions)
    cluster = Cluster(kafka.bootstrap, tmp_path, tmp_path / "city", partitions)
    try:
        cluster.start(stock=2, alerts=2, warehouse=1)
        assert cluster.ingest().wait(120) == 0
        cluster.drain()
    finally:
        cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)


@pytest.mark.slow
@at_random
def test_workers_killed_at_random_lose_and_repeat_nothing(
    tmp_path: Path, kafka: KafkaServer
) -> None:
    truth = make(tmp_path / "city", 21, cdrs=400_000, outlets=400)
    cluster = Cluster(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    rng = random.Random(21)
    try:
        cluster.start(stock=2, alerts=1, warehouse=1)
        reading = cluster.ingest()
        end = time.monotonic() + SOAK
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.2, 4.0))  # the moment of a death, not a wait for anything
            cluster.kill(rng.choice(cluster.workers))
            cluster.look_after()
        assert reading.wait(120) == 0
        cluster.drain()
    finally:
        cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)


@pytest.mark.slow
@at_random
def test_the_broker_dies_and_comes_back(tmp_path: Path, kafka: KafkaServer) -> None:
    truth = make(tmp_path / "city", 31, cdrs=200_000)
    cluster = Cluster(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    try:
        cluster.start(stock=1, alerts=1, warehouse=1)
        reading = cluster.ingest()
        time.sleep(5)
        kafka.kill()
        kafka.start()
        if reading.wait(180) != 0:
            assert cluster.ingest().wait(180) == 0  # it said so, and is started again
        cluster.drain()
    finally:
        cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)


@pytest.mark.slow
@at_random
def test_a_worker_joins_one_leaves_one_hangs(tmp_path: Path, kafka: KafkaServer) -> None:
    truth = make(tmp_path / "city", 33, cdrs=400_000)
    cluster = Cluster(kafka.bootstrap, tmp_path, tmp_path / "city", 4)
    try:
        cluster.start(stock=1, alerts=1, warehouse=1)
        reading = cluster.ingest()
        time.sleep(3)
        joined = cluster.add("stock", "stock-joined")
        time.sleep(5)
        cluster.hang(cluster.workers[0], 10)
        time.sleep(3)
        cluster.workers.remove(joined)
        joined.stop()
        assert reading.wait(120) == 0
        cluster.drain()
    finally:
        cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)

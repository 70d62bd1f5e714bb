"""A full disk, a clock that leaps, a topic that forgets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from city import assert_equals_truth, rows
from cluster import Cluster
from services.kafka import KafkaServer
from services.waiting import wait_until

from pipelines.simulate import CityPlan, Truth, read_truth, simulate
from pipelines.stream.app import group_id

pytestmark = pytest.mark.slow

Clusters = Callable[..., Cluster]

#: A full disk for everybody who may run tests: each file has room for so many bytes, but for the
#: log, which somebody else writes. (ClickHouse takes no notice of such a limit.) So many are enough
#: for an empty file of receipts (45 kB, its log of changes) and the first few receipts.
FULL_DISK = ["bash", "-c", 'exec "$@" > >(cat) 2>&1', "-", "prlimit", "--fsize=100000:unlimited"]


def make(folder: Path, seed: int) -> Truth:
    simulate(CityPlan(seed=seed, outlets=120, cdrs=60_000), folder)
    return read_truth(folder)


def test_a_full_disk_ends_workers_until_there_is_room_again(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    truth = make(tmp_path / "city", 61)
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    cluster.start(stock=1)
    alerts = cluster.add("alerts", "alerts", before=[*FULL_DISK])
    warehouse = cluster.add("warehouse", "warehouse", faults=[("no room", 1)] * 2)
    cluster.read_all()

    def fell() -> bool:
        cluster.look_after()
        return alerts.starts > 2 and warehouse.starts > 2

    wait_until(fell, "the full disk to be met", timeout=90)
    # SQLite's words for EFBIG.
    ended = r"OSError: .*receipts\.db: disk I/O error\); this worker ends"
    assert re.search(ended, alerts.output())
    assert "not enough space. (NOT_ENOUGH_SPACE)); this worker ends" in warehouse.output()

    del alerts.argv[: len(FULL_DISK)]
    cluster.kill(alerts)
    cluster.drain()
    cluster.stop()
    assert_equals_truth(cluster.data, cluster.sms, truth)


def test_a_wall_clock_that_leaps_and_a_worker_that_does_not_stop_change_nothing(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    truth = make(tmp_path / "city", 62)
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    for kind in ("stock", "alerts", "warehouse"):
        cluster.add(kind, kind, tweaks="jumping-clock" + " clinging" * (kind == "alerts"))
    cluster.read_all()
    cluster.drain()
    cluster.stop()
    assert all(worker.starts == 1 for worker in cluster.workers)
    assert "told to stop, and still here after 8 s" in cluster.workers[1].output()
    assert_equals_truth(cluster.data, cluster.sms, truth)


def test_messages_that_kafka_deleted_are_reported_and_work_goes_on_behind_them(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    truth = make(tmp_path / "city", 64)
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 1)
    cluster.start(stock=1, alerts=1)
    cluster.read_all()
    wait_until(
        lambda: cluster.lag("stock", ("sim-events", "stock-movements")) == 0, "stock to be done"
    )
    waiting = cluster.lag("warehouse", ("stock-movements",))
    assert waiting > 2
    commit(kafka.bootstrap, "stock-movements", 1)
    delete(kafka.bootstrap, "stock-movements", waiting - 1)
    warehouse = cluster.add("warehouse", "warehouse")
    cluster.drain()
    cluster.stop()
    assert f"stock-movements/0: Kafka has deleted offsets 1 to {waiting - 2}" in warehouse.output()
    assert warehouse.starts == 1
    # The rest is whole.
    (counted,) = rows(cluster.data, "SELECT toString(count()) FROM stock_incidents")
    assert int(counted[0]) == len(truth.incidents)


def commit(broker: str, topic: str, offset: int) -> None:
    """Leave the warehouse's group where a worker would have left it."""

    async def ask() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker, group_id=group_id("warehouse"), enable_auto_commit=False
        )
        await consumer.start()
        try:
            part = TopicPartition(topic, 0)
            consumer.assign([part])
            await consumer.commit({part: offset})
        finally:
            await consumer.stop()

    asyncio.run(ask())


def delete(broker: str, topic: str, before: int) -> None:
    """Have Kafka forget what is before an offset, as it does when messages are too old."""

    async def ask() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        try:
            part = TopicPartition(topic, 0)
            await admin.delete_records({part: RecordsToDelete(before_offset=before)})
        finally:
            await admin.close()

    asyncio.run(ask())

"""State that was lost, or that a newer version wrote, stops a worker before it does anything."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from city import assert_equals_truth
from cluster import Cluster, Feed
from services.kafka import KafkaServer
from services.waiting import wait_until

from infra.stack.snapshot import Snapshot, load_snapshot, save_snapshot
from infra.topics import CHANGELOGS, ensure_topics
from pipelines.simulate import CityPlan, read_truth, simulate
from schemas import envelope
from schemas.errors import NewerVersion

pytestmark = pytest.mark.slow


def zerostock(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        capture_output=True, text=True, timeout=120, check=False, env=cluster.env,
    )  # fmt: skip


async def empty(broker: str, topic: str) -> None:
    """Lose a changelog, as an operator's slip or a wrong retention would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.delete_topics([topic])
    while topic in await admin.list_topics():
        pass
    await admin.close()
    await ensure_topics(broker, 2)


async def send(broker: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    await producer.send_and_wait(topic, value, partition=0)
    await producer.stop()


def test_lost_state_stops_its_worker_and_a_rebuild_brings_all_back(
    tmp_path: Path, kafka: KafkaServer, clusters: Callable[..., Cluster]
) -> None:
    simulate(CityPlan(seed=51, outlets=60, cdrs=20_000), tmp_path / "city")
    feed = Feed(tmp_path / "city", tmp_path / "feed")
    cluster = clusters(kafka.bootstrap, tmp_path, feed.folder, 2)
    cluster.start(stock=1, alerts=1, warehouse=1)
    feed.bring(0.5)
    cluster.read_all()
    cluster.drain()
    assert re.search(
        r"^stock workers +1, 0 messages behind", zerostock(cluster, "status").stdout, re.M
    )
    running = zerostock(cluster, "rebuild")
    assert (running.returncode, running.stderr) == (
        1, "zerostock: 1 stock workers run: stop them first\n",
    )  # fmt: skip
    cluster.stop()
    assert "wrong: no stock worker runs" in zerostock(cluster, "status").stdout
    before = cluster.sms.read_text()
    for topic in CHANGELOGS:
        if "outlets" in topic:
            asyncio.run(empty(kafka.bootstrap, topic))

    feed.bring(1.0)
    stock = cluster.workers[0]
    stock.start()
    cluster.read_all()
    wait_until(lambda: not stock.child.running, "the stock worker to stop", timeout=120)
    last = stock.child.tail(1).strip()
    assert last.startswith("zerostock: stock-movements/"), last
    assert "reaches only -1" in last
    assert "`zerostock rebuild`" in last

    wait_until(lambda: cluster.members("stock") == 0, "its session to end", timeout=60)
    rebuilt = zerostock(cluster, "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    for worker in cluster.workers:
        worker.start()
    cluster.drain()
    cluster.stop()
    assert cluster.sms.read_text().startswith(before)
    assert_equals_truth(cluster.data, cluster.sms, read_truth(tmp_path / "city"))

    # Made anew, a topic begins with offsets that were read already, of other messages.
    asyncio.run(empty(kafka.bootstrap, "sim-events"))
    first = envelope.pack(envelope.Header("none", "reader", 1))
    asyncio.run(send(kafka.bootstrap, "sim-events", first))
    stock.start()
    wait_until(lambda: not stock.child.running, "the stock worker to stop", timeout=120)
    last = stock.child.tail(1).strip()
    assert "ends at 0: the topic was deleted and made anew; stop the workers, run" in last


def test_what_a_newer_version_wrote_stops_a_worker_and_stays(
    tmp_path: Path,
    kafka: KafkaServer,
    clusters: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulate(CityPlan(seed=52, outlets=20, cdrs=2_000), tmp_path / "city")
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    with monkeypatch.context() as later:
        later.setattr(envelope, "_VERSION", envelope._VERSION + 1)
        newer = envelope.pack(envelope.Header("none", "reader", 1))
    asyncio.run(send(kafka.bootstrap, "sim-events", newer))
    for _ in range(2):  # it is not passed over at the next start, either
        worker = cluster.add("stock", "stock")
        wait_until(lambda w=worker: not w.child.running, "the worker to stop", timeout=120)
        assert "was written by a newer zerostock" in worker.child.tail(1)
        cluster.workers.remove(worker)
    assert cluster.lag("stock", ("sim-events",)) == 1


def test_a_snapshot_of_a_newer_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    save_snapshot(path, Snapshot(2, {}, version=2))
    with pytest.raises(NewerVersion, match="upgrade"):
        load_snapshot(path, 2)

"""What the workers need goes away and comes back: ClickHouse, and the provider of SMS."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from city import rows
from cluster import Cluster, Worker
from services.clickhouse import ClickHouseServer
from services.kafka import KafkaServer
from services.ports import free_port
from services.running import running
from services.twilio_server import (
    ACCOUNT,
    CUT_AFTER,
    CUT_BEFORE,
    FROM,
    LOST,
    TOKEN,
    Step,
    Twilio,
    error,
)
from services.waiting import wait_until

from pipelines.simulate import CityPlan, Truth, read_truth, simulate
from pipelines.warehouse import open_for_reading

pytestmark = pytest.mark.slow

#: More than any worker needs, and far less than all that waits in a feed of a day would take.
MOST_MEMORY_MB = 800

Clusters = Callable[..., Cluster]


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[ClickHouseServer]:
    """A server of this test's own."""
    with running(lambda: ClickHouseServer(tmp_path / "clickhouse")) as server:
        yield server


def memory_mb(worker: Worker) -> int:
    """What a worker has in memory, in MB."""
    status = Path(f"/proc/{worker.child.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1_024


def metric(port: int, name: str) -> float:
    """The sum of a worker's metric over its labels; 0 while it does not serve any."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_clickhouse_down_at_start_down_later_and_killed_while_rows_go_in(
    tmp_path: Path, kafka: KafkaServer, clickhouse: ClickHouseServer, clusters: Clusters
) -> None:
    simulate(CityPlan(seed=51, outlets=200, cdrs=200_000), tmp_path / "city")
    truth = read_truth(tmp_path / "city")
    clickhouse.kill()
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    cluster.start(stock=1, alerts=1)
    port = free_port()
    settings = {
        "ZEROSTOCK_WAREHOUSE": f"{clickhouse.url}?connect_timeout=1&sync_request_timeout=1",
        "ZEROSTOCK_REFERENCE": "",
        "ZEROSTOCK_METRICS_PORT": str(port),
    }
    tweaks = "hurried old-tables"
    worker = cluster.add("warehouse", "warehouse", tweaks=tweaks, settings=settings)
    second = cluster.add(
        "warehouse",
        "second",
        tweaks=tweaks,
        settings=settings | {"ZEROSTOCK_METRICS_PORT": "0"},
    )

    # Down at start: it waits.
    wait_until(lambda: "cannot reach ClickHouse" in worker.output(), "it to say so")
    clickhouse.start()
    wait_until(lambda: cluster.members("warehouse") == 2, "the warehouse workers to start")

    # Down: what comes waits on the broker, not in memory.
    clickhouse.kill()
    cluster.read_all()
    wait_until(lambda: metric(port, "zerostock_insert_retries_total") > 2, "tries to be counted")
    assert re.search(r"rows for \w+ wait, next attempt in", worker.output())
    waiting = cluster.lag("warehouse", ("stock-movements",))
    assert waiting > 0
    assert max(map(memory_mb, (worker, second))) < MOST_MEMORY_MB
    assert worker.child.running
    assert second.child.running

    # Back, and killed again while the rows that waited go in.
    clickhouse.start()
    wait_until(lambda: cluster.lag("warehouse", ("stock-movements",)) != waiting, "it to get on")
    clickhouse.kill()
    clickhouse.start()
    cluster.drain()
    cluster.stop()

    assert worker.starts == second.starts == 1
    opened = open_for_reading(url=clickhouse.url)
    try:
        sql = (
            "SELECT outlet_id, sku, sum(delta) AS on_hand FROM"
            " (SELECT DISTINCT movement_id, outlet_id, sku, delta FROM stock_movements_rows FINAL"
            " WHERE withdrawn = 0)"
            " GROUP BY outlet_id, sku"
        )
        found = {(r["outlet_id"], r["sku"]): r["on_hand"] for r in opened.query(sql).to_pylist()}
        told = opened.query(
            "SELECT DISTINCT incident_id AS i FROM stock_incidents_rows FINAL WHERE withdrawn = 0"
        )
    finally:
        opened.close()
    assert found == truth.stock
    assert told.num_rows == len(truth.incidents)


def assert_told(cluster: Cluster, truth: Truth, twilio: Twilio) -> None:
    """Every message was accepted once, and recorded as that one."""
    held = [message for message in truth.messages if message.wholesaler_id]
    assert len(twilio.messages) == len(held)
    recorded = rows(
        cluster.data, "SELECT provider_id FROM sms_messages WHERE status = 'sent' ORDER BY 1"
    )
    assert [sid for (sid,) in recorded] == sorted(m["sid"] for m in twilio.messages)


def test_a_provider_that_is_down_slow_too_busy_or_talks_nonsense(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters
) -> None:
    simulate(CityPlan(seed=52, outlets=200, cdrs=100_000), tmp_path / "city")
    truth = read_truth(tmp_path / "city")
    with Twilio() as twilio:
        settings = {
            "ZEROSTOCK_SMS": "twilio",
            "ZEROSTOCK_TWILIO_ACCOUNT_SID": ACCOUNT,
            "ZEROSTOCK_TWILIO_AUTH_TOKEN": TOKEN,
            "ZEROSTOCK_TWILIO_FROM": FROM,
            "ZEROSTOCK_TWILIO_RATE": "1000",
            "ZEROSTOCK_TWILIO_BASE_URL": twilio.url,
        }
        mishaps = [
            CUT_BEFORE,
            error(429, 20429, Retry_After="1"),
            error(500),
            Step(False, (503, "<html>upstream is away</html>")),
            Step(True, (200, "<html>a portal says hello</html>")),
            Step(True, (201, "{}")),
            CUT_AFTER,
            error(500, 20500),
        ]
        # Down for the first forty tries, slow once, then each mishap a few times.
        twilio.script = [CUT_BEFORE] * 40 + [LOST] + mishaps * 3
        cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
        cluster.start(stock=1, warehouse=1)
        worker = cluster.add("alerts", "alerts", tweaks="hurried", settings=settings)
        cluster.read_all()
        wait_until(lambda: len(twilio.posts) > 20, "it to try again and again")
        assert "is not through after" in worker.output()
        assert memory_mb(worker) < MOST_MEMORY_MB
        # What was not told is not done with; one that is killed now goes on with it.
        assert cluster.lag("alerts", ("stock-incidents",)) > 0
        cluster.kill(worker)
        cluster.drain()
        cluster.stop()
        assert not twilio.script
        assert worker.starts == 2
        assert_told(cluster, truth, twilio)

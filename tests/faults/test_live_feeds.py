"""Live feeds by the wall clock: real workers on a real Kafka, and a reader that comes and goes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from services.kafka import KafkaServer
from services.waiting import wait_until

from pipelines.ingest import IngestOptions, ingest
from pipelines.kafka import open_consumer, read_to_end
from schemas import topics
from schemas.envelope import unpack
from schemas.fields import parse_time

pytestmark = pytest.mark.slow

Clusters = Callable[..., Cluster]

SIMS = 60
FIRST_ICCID, FIRST_IMSI = 8986000123450000000, 460001234500000
HEADER = "call_id,start_time,imsi,msisdn,duration_s,cell_id,charge_fen\n"

REFERENCE = {
    "territories": "territory_id,name,parent_id\nT1,Old Town,\n",
    "cells": "cell_id,territory_id\n17-4,T1\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nW1,River,+8613800138000,,en\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\n"
    + "".join(f"O{n},Kiosk {n},kiosk,T1,,\n" for n in range(SIMS)),
    "assignments": "outlet_id,wholesaler_id,valid_from\n"
    + "".join(f"O{n},W1,2020-01-01T00:00:00Z\n" for n in range(SIMS)),
    "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
    f"B1,PREPAID,{FIRST_ICCID},{FIRST_IMSI},{SIMS}\n",
}

#: Seconds and less instead of minutes, so that silence is quick.
WALL = {
    "ZEROSTOCK_CLOCK": "wall",
    "ZEROSTOCK_IDLE_AFTER": "1s",
    "ZEROSTOCK_DISORDER": "500ms",
    "ZEROSTOCK_GROUP_WAIT": "0s",
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds")


class City:
    """A shop with one card each; three switches, of which two are silent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sold = 0
        for name, text in REFERENCE.items():
            self._append(f"reference/{name}.csv", text)
        for switch in "abc":
            self._append(f"cdr/{switch}/calls.csv", HEADER)

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def deliver(self, at: int) -> None:
        """Each shop gets its card."""
        events = [
            {"type": "delivery", "event_id": f"D{n}", "at": iso(at), "outlet_id": f"O{n}",
             "wholesaler_id": "W1", "first_iccid": str(FIRST_ICCID + n), "count": 1}
            for n in range(SIMS)
        ]  # fmt: skip
        self._append("events/day.ndjson", "".join(json.dumps(e) + "\n" for e in events))

    def sell(self, at: int) -> str:
        """The next shop sells its card; the shop, which is empty from `at` on."""
        shop, imsi = f"O{self.sold}", FIRST_IMSI + self.sold
        self._append("cdr/a/calls.csv", f"C{self.sold},{iso(at)},{imsi},,1,17-4,1\n")
        self.sold += 1
        return shop


class Reader:
    """The product's reader at work in a thread, by a clock that the test may set back."""

    def __init__(self, city: City, broker: str, behind: int = 0, **more: Any) -> None:
        self.behind = behind
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        bounds = {"disorder_ms": 500, "idle_after_ms": 1_000} | more
        options = IngestOptions(
            follow=True, live=True, now=lambda: now_ms() - self.behind, **bounds
        )
        self._work = self._loop.create_task(
            ingest(city.folder, broker, options=options, stop=self._stop)
        )
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._work,))
        self._thread.start()

    def stop(self) -> None:
        """SIGTERM, as it were."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            self._loop.close()


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path / "city")


@pytest.fixture
def read(kafka: KafkaServer, city: City) -> Iterator[Callable[..., Reader]]:
    """Starts readers, and ends them whatever happens."""
    started: list[Reader] = []

    def start(behind: int = 0, **more: Any) -> Reader:
        started.append(Reader(city, kafka.bootstrap, behind, **more))
        return started[-1]

    yield start
    for reader in started:
        reader.stop()


def opened(cluster: Cluster) -> dict[str, int]:
    """When each shop that was written about ran empty, ms."""
    lines = cluster.sms.read_text().splitlines() if cluster.sms.exists() else []
    return {
        incident["outlet_id"]: parse_time(incident["opened_at"])
        for line in lines
        for incident in json.loads(line)["incidents"]
    }


def wait_for_sms(cluster: Cluster, shop: str, at: int) -> None:
    """Wait until a shop is written about; it ran empty at the time of its call."""

    def told() -> bool:
        cluster.look_after()
        return shop in opened(cluster)

    wait_until(told, f"the SMS about {shop}", timeout=60, detail=lambda: str(opened(cluster)))
    assert opened(cluster)[shop] == at


def late(cluster: Cluster) -> list[str]:
    """The events that came too late."""

    async def look() -> list[str]:
        found: list[str] = []
        async with open_consumer(cluster.broker) as consumer:
            async for message in read_to_end(consumer, topics.ANOMALIES, *range(2)):
                _, rows = unpack(message.value)
                for row in rows.to_pylist() if rows is not None else ():
                    found += [row["event_id"]] if row["kind"] == "late" else []
        return found

    return asyncio.run(look())


def test_the_next_sms_comes_after_every_death_and_rebalance(
    tmp_path: Path,
    kafka: KafkaServer,
    clusters: Clusters,
    city: City,
    read: Callable[..., Reader],
) -> None:
    """Two of three switches are silent all along: they must not hold back the third."""
    cluster = clusters(kafka.bootstrap, tmp_path, city.folder, 2, WALL)
    city.deliver(now_ms() - 60_000)
    cluster.start(stock=1, alerts=1)
    reader = read()

    def sell() -> None:
        at = now_ms()
        wait_for_sms(cluster, city.sell(at), at)

    sell()
    for worker in cluster.workers:
        cluster.kill(worker)
        sell()
    second = cluster.add("stock", "second")
    wait_until(lambda: cluster.members("stock") == 2, "the second stock worker to join")
    sell()
    cluster.workers.remove(second)
    second.child.kill()
    sell()
    reader.stop()
    read()
    sell()
    assert late(cluster) == []


def test_ten_minutes_without_a_reader_change_no_time(
    tmp_path: Path,
    kafka: KafkaServer,
    clusters: Clusters,
    city: City,
    read: Callable[..., Reader],
) -> None:
    minutes = 60_000
    cluster = clusters(kafka.bootstrap, tmp_path, city.folder, 2, WALL)
    began = now_ms() - 11 * minutes
    city.deliver(began - minutes)
    cluster.start(stock=1, alerts=1)
    reader = read(behind=11 * minutes)
    at = now_ms() - 11 * minutes
    wait_for_sms(cluster, city.sell(at), at)
    reader.stop()
    times = [at + second * 1_000 for second in range(100, 401, 60)]
    sold = {city.sell(empty): empty for empty in times}
    read()
    for shop, empty in sold.items():
        wait_for_sms(cluster, shop, empty)
    assert late(cluster) == []


def test_the_watchdog_barks_while_the_chain_is_broken(
    tmp_path: Path,
    kafka: KafkaServer,
    clusters: Clusters,
    city: City,
    read: Callable[..., Reader],
) -> None:
    watched = {"ZEROSTOCK_WATCHDOG": "2s", "ZEROSTOCK_WATCHDOG_WITHIN": "5s"}
    cluster = clusters(kafka.bootstrap, tmp_path, city.folder, 2, WALL | watched)
    city.deliver(now_ms() - 60_000)
    cluster.start(stock=1, alerts=1)
    stock, alerts = cluster.workers
    read(watchdog_ms=2_000)
    at = now_ms()
    wait_for_sms(cluster, city.sell(at), at)
    stock.child.kill()
    barks, ends = "has come through for", "come through again"
    wait_until(lambda: barks in alerts.output(), "the alarm", timeout=60)
    stock.start()
    wait_until(lambda: ends in alerts.output(), "the end of the alarm", timeout=60)
    # It went on from where it was: each round came through, and on nobody's phone.
    assert alerts.output().count(ends) == alerts.output().count(barks)
    assert len(opened(cluster)) == 1
    assert late(cluster) == []


def test_a_reader_that_is_down_is_absent_once_another_says_so_and_returns(
    tmp_path: Path, kafka: KafkaServer, clusters: Clusters, city: City
) -> None:
    """A's sources hold B's back for a while, then no longer; back again, they count as ever."""
    cluster = clusters(kafka.bootstrap, tmp_path, city.folder, 2, WALL)
    city.deliver(now_ms() - 60_000)
    other = City(tmp_path / "other")
    readers = [Reader(one, kafka.bootstrap, absent_after_ms=4_000) for one in (city, other)]
    try:
        cluster.start(stock=1, alerts=1)
        at = now_ms()
        wait_for_sms(cluster, city.sell(at), at)
        readers[0].stop()
        stopped = now_ms()
        other.sold = 10
        shop = other.sell(now_ms())
        wait_until(lambda: shop in opened(cluster), f"the SMS about {shop}", timeout=60)
        assert now_ms() - stopped >= 4_000  # it waited for A until then
        missed = city.sell(stopped + 1)
        readers[0] = Reader(city, kafka.bootstrap, absent_after_ms=4_000)
        # What A missed is late by now: the shop is empty, so it is told all the same.
        wait_for_sms(cluster, missed, stopped + 1)
        assert late(cluster) == ["C1"]
        at = now_ms()
        wait_for_sms(cluster, city.sell(at), at)
        assert late(cluster) == ["C1"]
    finally:
        for reader in readers:
            reader.stop()

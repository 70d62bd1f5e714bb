"""Calls through a topic of another cluster, and by HTTP, and the least that each of them costs."""

from __future__ import annotations

import asyncio
import http.client
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.bench.common.harness import Harness
from infra.stack.broker import free_port
from pipelines.ingest import IngestOptions, IngestProgress, IngestReport, ingest
from pipelines.ingest.feeds.topic import TopicAddress, TopicFeed, client_settings
from schemas.errors import ZerostockError

_TOPIC: Final = "calls"
_FEEDER: Final = "bench only-for-the-benchmark"

#: Events of a request, and how many requests are on their way at a time.
_TOGETHER: Final = 1_000
_SENDERS: Final = 4


def fill_topic(harness: Harness, path: Path) -> None:
    """Put each line of a file into a new topic of the harness's broker, as a message."""
    client: dict[str, str | int | float | bool] = {"bootstrap.servers": harness.address}
    admin = AdminClient(client)
    for made in admin.create_topics([NewTopic(_TOPIC, 1, 1)]).values():
        made.result(30)
    producer = Producer(
        client
        | {"compression.type": "lz4", "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
    )
    with path.open("rb") as file:
        for line in file:
            producer.produce(_TOPIC, line.rstrip(b"\n"), partition=0)
    producer.flush(120)


def fetch_rate(harness: Harness, messages: int) -> float:
    """Messages a second of a client that fetches the topic and looks at nothing."""
    consumer = Consumer(client_settings(harness.address, {}))
    consumer.assign([TopicPartition(_TOPIC, 0, 0)])
    started, left = time.perf_counter(), messages
    while left > 0:
        left -= sum(message.error() is None for message in consumer.consume(1_024, 0.1))
        harness.check()
    seconds = time.perf_counter() - started
    consumer.close()
    return messages / seconds


async def read_topic(harness: Harness, messages: int) -> IngestReport:
    """The topic through ingest, followed until all of it was read."""
    stop = asyncio.Event()

    def see(progress: IngestProgress) -> None:
        if progress.rows >= messages:
            stop.set()

    return await ingest(
        None,
        harness.address,
        options=IngestOptions(follow=True),
        feeds=[TopicFeed(TopicAddress(harness.address, _TOPIC), {}, follow=True)],
        reference=harness.folder / "reference",
        progress=see,
        stop=stop,
    )


def intake_rates(harness: Harness, lines: Sequence[bytes]) -> tuple[float, float]:
    """Events a second that `zerostock intake` takes, and a server that looks at nothing."""
    bodies = [
        b"\n".join(lines[start : start + _TOGETHER]) for start in range(0, len(lines), _TOGETHER)
    ]
    port = free_port()
    env = {
        "ZEROSTOCK_BROKER": harness.address,
        "ZEROSTOCK_REFERENCE": str(harness.folder / "reference"),
        "ZEROSTOCK_PARTITIONS": str(harness.state.partitions),
        "ZEROSTOCK_CLOCK": "event",
        "ZEROSTOCK_INTAKE_PORT": str(port),
        "ZEROSTOCK_INTAKE_TOKENS": _FEEDER,
        "ZEROSTOCK_INTAKE_RATE": "10000000",
    }
    intake = harness.start("intake", [sys.executable, "-m", "infra.cli", "intake"], env)
    asyncio.run(harness.until(lambda: _answers(port), "the intake"))
    ours = len(lines) / _send_all(port, bodies)
    intake.stop()
    port = free_port()
    harness.start("taker", [sys.executable, "-m", "infra.bench.peers.taker", str(port)])
    asyncio.run(harness.until(lambda: _answers(port), "the server that looks at nothing"))
    return ours, len(lines) / _send_all(port, bodies)


def _send_all(port: int, bodies: Sequence[bytes]) -> float:
    """Seconds until all bodies were answered."""
    started = time.perf_counter()
    with ThreadPoolExecutor(_SENDERS) as threads:
        shares = [bodies[number::_SENDERS] for number in range(_SENDERS)]
        list(threads.map(lambda share: _send(port, share), shares))
    return time.perf_counter() - started


def _send(port: int, bodies: Sequence[bytes]) -> None:
    """One body after the other. Raises `ZerostockError` for another answer than 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {
        "Authorization": f"Bearer {_FEEDER.split()[1]}",
        "Content-Type": "application/x-ndjson",
    }
    for body in bodies:
        connection.request("POST", "/v1/events", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise ZerostockError(f"events were not taken: {answer.status} {said[:200]!r}")
    connection.close()


async def _answers(port: int) -> bool | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200 or None
    except OSError:
        return None
    finally:
        connection.close()

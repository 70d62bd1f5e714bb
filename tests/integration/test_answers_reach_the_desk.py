"""An answer on Kafka keeps a real alerts worker from paging again, also one that was killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaProducer
from services.broker import EmbeddedBroker
from test_by_hand import FILES, ms

from alerts.lifecycle.grouping import Change, message_id
from infra.stack.children import Child
from infra.topics import ensure_topics
from infra.webhook.kafka_answers import KafkaAnswers
from schemas import topics
from schemas.answers import Answer
from schemas.envelope import INCIDENTS, Header, pack

POLICY = 'repeat_interval = "1h"\nrepeat_limit = 1\n'


def change(name: str, clock: str) -> Change:
    return Change(name, name, "S", "W1", ms(clock), None, ms(clock))


def envelope(clock: str, *changes: Change) -> bytes:
    rows = [msgspec.structs.asdict(c) for c in changes]
    batch = pa.RecordBatch.from_pylist(rows, schema=INCIDENTS) if rows else None
    kind = "incidents" if rows else "none"
    return pack(Header(kind, "outlets/0", ms(clock), False, ("outlets/0",)), batch)


async def say(broker: str, *envelopes: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=False)
    await producer.start()
    try:
        for data in envelopes:
            await producer.send_and_wait(topics.STOCK_INCIDENTS, data, partition=0)
    finally:
        await producer.stop()


async def answer(broker: str, about: str) -> None:
    kafka = KafkaAnswers(broker, 1, {})
    await kafka.publish(
        [Answer("n1", ms("10:05:00"), "W1", "acknowledged", about, "", "{}", "sms")]
    )
    await kafka.close()


def sent(sms: Path, wanted: int, worker: Child) -> list[tuple[str, list[str]]]:
    """The messages once there are so many: the time each was due, and its stock-outs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert worker.ended is None, worker.last_words()
        lines = sms.read_text().splitlines() if sms.exists() else []
        if len(lines) >= wanted:
            told = [json.loads(line) for line in lines]
            return [(m["at"][11:16], [i["incident_id"] for i in m["incidents"]]) for m in told]
        time.sleep(0.05)
    pytest.fail(f"fewer than {wanted} messages: {worker.log.read_text()[-2_000:]}")


@pytest.mark.slow
def test_who_has_answered_is_left_alone(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "policy.toml").write_text(POLICY)
    sms = tmp_path / "sms.ndjson"
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    worker = Child(
        "alerts",
        [sys.executable, "-m", "infra.cli", "worker", "alerts"],
        tmp_path / "alerts.log",
        env={
            "ZEROSTOCK_BROKER": broker.bootstrap,
            "ZEROSTOCK_PARTITIONS": "1",
            "ZEROSTOCK_CLOCK": "event",
            "ZEROSTOCK_DATA": str(tmp_path / "data"),
            "ZEROSTOCK_REFERENCE": str(tmp_path / "reference"),
            "ZEROSTOCK_SMS": f"file:{sms}",
            "ZEROSTOCK_POLICY": str(tmp_path / "policy.toml"),
            "ZEROSTOCK_SESSION_TIMEOUT": "2s",
            "ZEROSTOCK_COMMIT_INTERVAL": "200ms",
        },
    )
    try:
        asyncio.run(ensure_topics(broker.bootstrap, 1))
        asyncio.run(say(broker.bootstrap, envelope("10:00:00", change("A", "10:00:00"))))
        asyncio.run(say(broker.bootstrap, envelope("10:02:00")))
        worker.start()
        assert sent(sms, 1, worker) == [("10:01", ["A"])]
        assert worker.process is not None
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        asyncio.run(answer(broker.bootstrap, message_id("W1", ms("10:00:00"), "A")))
        later = [envelope("10:29:00", change("B", "10:30:00")), envelope("14:00:00")]
        asyncio.run(say(broker.bootstrap, *later))
        worker.start()
        # By 14:00 both would have been due for their reminder.
        assert sent(sms, 3, worker)[1:] == [("10:31", ["B"]), ("11:35", ["B"])]
    finally:
        worker.stop()
        broker.stop()

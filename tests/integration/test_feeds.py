"""One made city through a topic of a real Kafka and HTTP: the truth of files, whatever befalls."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from city import ZEROSTOCK, anomalies, dead_letters, incidents, messages, stock, zerostock
from services.kafka import KafkaServer
from services.ports import free_port
from services.running import running

from pipelines.simulate import CityPlan, Truth, read_truth, simulate
from schemas.fields import parse_time

pytestmark = pytest.mark.slow

TOKEN = "the-token-of-van-7"
BAD = b'{"type":"parcel","event_id":"X1"}'


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    folder = tmp_path_factory.mktemp("kafka")
    with running(lambda: KafkaServer(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feeds") / "city"
    simulate(CityPlan(seed=5, outlets=30, cdrs=3_000, days=1, switches=1), folder)
    return folder


@pytest.fixture(scope="module")
def truth(city: Path) -> Truth:
    return read_truth(city)


@pytest.fixture(scope="module")
def events(city: Path, truth: Truth) -> list[bytes]:
    """All that is good in the city's files as events, in the order of their times."""
    bad = {(letter.file, letter.line) for letter in truth.dead_letters}
    found: list[tuple[int, bytes]] = []
    for file in sorted(f for top in ("events", "cdr") for f in (city / top).rglob("*.*")):
        name = file.relative_to(city).as_posix()
        text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            if (name, number) in bad or (name.startswith("cdr/") and number == 1):
                continue
            if name.startswith("events/"):
                found.append((parse_time(json.loads(line)["at"]), line))
                continue
            columns = lines[0].decode().split(",")
            (values,) = csv.reader([line.decode()])
            row = dict(zip(columns, values, strict=True))
            numbers = {n: int(row[n]) for n in ("duration_s", "charge_fen")}
            call = {"type": "call", **row, **numbers}
            found.append((parse_time(row["start_time"]), json.dumps(call).encode()))
    return [line for _, line in sorted(found)]


def bare(city: Path, folder: Path) -> Path:
    """A directory with the city's reference tables and nothing else."""
    shutil.copytree(city / "reference", folder / "bare/reference")
    return folder / "bare"


async def publish(kafka: KafkaServer, topic: str, parts: int, values: list[bytes]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await producer.start()
    try:
        await admin.create_topics([NewTopic(topic, parts, 1)])
        sent = [await producer.send(topic, v, partition=n % parts) for n, v in enumerate(values)]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
        await admin.close()


def assert_told(data: Path, truth: Truth) -> None:
    assert stock(data) == truth.stock
    assert incidents(data) == sorted(
        (i.outlet_id, i.sku, i.wholesaler_id, i.opened_at, i.closed_at) for i in truth.incidents
    )
    assert anomalies(data) == sorted(map(tuple, truth.anomalies))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_topic_gives_the_truth_killed_at_random_and_sent_twice(
    tmp_path: Path, kafka: KafkaServer, city: Path, truth: Truth, events: list[bytes], parts: int
) -> None:
    topic, rng = f"city-{parts}", random.Random(parts)
    twice = [line for line in events for _ in range(1 + (rng.random() < 0.1))]
    asyncio.run(publish(kafka, topic, parts, [*twice[:100], BAD, *twice[100:]]))
    data, sms = tmp_path / "data", tmp_path / "sms"
    command = ["run", "--input", bare(city, tmp_path), "--data", data, "--sms", f"file:{sms}"]
    command += ["--input", f"kafka://{kafka.bootstrap}/{topic}", "--partitions", parts]
    process = subprocess.Popen(
        [*ZEROSTOCK, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(rng.uniform(2.0, 8.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = zerostock(*command)
    assert done.returncode == 0, done.stderr + done.stdout
    assert_told(data, truth)
    held = [m for m in truth.messages if m.wholesaler_id]
    assert messages(sms) == sorted(map(tuple, held))
    ((source, offset, reason),) = [d for d in dead_letters(data) if d[2] == "unknown_type"]
    assert (source, offset) == (f"kafka://{kafka.bootstrap}/{topic}/{100 % parts}", 100 // parts)
    assert reason == "unknown_type"


def wait_until(condition: Callable[[], bool], log: Path, patience: float = 240) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


class LiveRun:
    """`zerostock run --follow --intake`, to be killed and started again."""

    def __init__(self, city: Path, folder: Path) -> None:
        self.data, self.log, self.port = folder / "data", folder / "log", free_port()
        self.command = ["run", "--input", city, "--data", self.data, "--follow"]
        self.command += ["--intake", f"127.0.0.1:{self.port}", "--sms", f"file:{folder / 'sms'}"]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*ZEROSTOCK, *map(str, self.command)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"ZEROSTOCK_INTAKE_TOKENS": f"van-7 {TOKEN}"},
            )
        wait_until(lambda: self.ask("GET", "/healthz")[0] == 200, self.log)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def test_http_gives_the_truth_killed_and_sent_twice(
    tmp_path: Path, city: Path, truth: Truth, events: list[bytes]
) -> None:
    run = LiveRun(bare(city, tmp_path), tmp_path)
    try:
        for start in range(0, len(events), 500):
            body = b"\n".join([*events[start : start + 500], BAD])
            if start == 1_500:
                run.kill()
                run.start()
            for _ in range(1 + (start % 1_000 == 0)):
                status, answer = run.ask("POST", "/v1/events", body)
                assert status == 200, run.log.read_text()
                (refused,) = json.loads(answer)["refused"]
                assert refused["line"] == body.count(b"\n") + 1
                assert refused["reason"].startswith("unknown_type")
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(120) == 0, run.log.read_text()
    finally:
        run.kill()
    # At rest, and with the files read once more to their end, so that all is due.
    done = zerostock(*[word for word in run.command if word != "--follow"][:5])
    assert done.returncode == 0, done.stderr
    assert_told(run.data, truth)
    assert zerostock("reconcile", *run.command[1:5]).returncode == 0
    assert {d[0].rpartition("/")[0] for d in dead_letters(run.data)} == {"events/http/van-7"}

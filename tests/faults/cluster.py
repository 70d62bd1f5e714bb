"""Real workers on a real Kafka: started, killed, hung and started again; judged by the truth."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.stack.children import Child
from infra.topics import Lag, ensure_topics
from pipelines.stream.warehouse import RESULT_TOPICS
from schemas import topics

#: What a worker may need to go on after a kill: its predecessor's session has to run out first.
SESSION = "6s"


class Cluster:
    """Workers of all three kinds against one broker, under one data directory."""

    def __init__(self, broker: str, folder: Path, city: Path, partitions: int) -> None:
        self.broker = broker
        self.partitions = partitions
        self.city = city
        self.data = folder / "data"
        self.sms = folder / "sms.ndjson"
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.workers: list[Child] = []
        self.kills = 0
        self.env = {
            "ZEROSTOCK_BROKER": broker,
            "ZEROSTOCK_REFERENCE": str(city / "reference"),
            "ZEROSTOCK_DATA": str(self.data),
            "ZEROSTOCK_PARTITIONS": str(partitions),
            "ZEROSTOCK_CLOCK": "event",
            "ZEROSTOCK_SMS": f"file:{self.sms}",
            "ZEROSTOCK_SESSION_TIMEOUT": SESSION,
            "ZEROSTOCK_COMMIT_INTERVAL": "500ms",
        }

    def start(self, **count: int) -> None:
        """Create the topics and start so many workers of each kind."""
        asyncio.run(ensure_topics(self.broker, self.partitions))
        for kind, number in count.items():
            for index in range(number):
                self.add(kind, f"{kind}-{index}")

    def add(self, kind: str, name: str) -> Child:
        """Start one more worker."""
        argv = [sys.executable, "-m", "infra.cli", "worker", kind]
        worker = Child(name, argv, self.logs / f"{name}.log", env=self.env)
        worker.start()
        self.workers.append(worker)
        return worker

    def kill(self, worker: Child) -> None:
        """SIGKILL, and start it again as a supervisor would."""
        assert worker.process is not None
        worker.process.kill()
        worker.process.wait()
        self.kills += 1
        worker.start()

    def hang(self, worker: Child, seconds: float) -> None:
        """Stop it in its tracks, longer than its session lasts, and let it go on."""
        assert worker.process is not None
        os.kill(worker.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(worker.process.pid, signal.SIGCONT)

    def look_after(self) -> None:
        """Start workers again that ended by themselves; one that gives up is an error."""
        for worker in self.workers:
            if worker.ended is not None:
                words = worker.last_words()
                assert not words.startswith("zerostock: "), f"{worker.name} gave up: {words}"
                worker.start()

    def ingest(self) -> subprocess.Popen[bytes]:
        """Start reading the city."""
        argv = [sys.executable, "-m", "infra.cli", "ingest", str(self.city)]
        argv += ["--broker", self.broker, "--partitions", str(self.partitions)]
        with (self.logs / "ingest.log").open("ab") as log:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def drain(self, patience: float = 240, each: Callable[[], None] = lambda: None) -> None:
        """Wait until all that was read is in the warehouse, looking after the workers."""
        deadline = time.monotonic() + patience
        for kind, names in (
            ("stock", (topics.SIM_EVENTS,)),
            ("stock", (topics.STOCK_MOVEMENTS,)),
            ("alerts", (topics.STOCK_INCIDENTS,)),
            ("warehouse", RESULT_TOPICS),
        ):
            while asyncio.run(self._lag(kind, names)):
                assert time.monotonic() < deadline, f"{kind} does not get on; see {self.logs}"
                self.look_after()
                each()

    async def _lag(self, kind: str, names: tuple[str, ...]) -> int:
        async with Lag(self.broker, kind, self.partitions) as lag:
            return await lag.of(*names)

    def stop(self) -> None:
        """End all workers in good order."""
        for worker in self.workers:
            worker.stop()

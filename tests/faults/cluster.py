"""Real workers on a real Kafka: started, killed, hung and started again; judged by the truth."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.child import Child
from services.waiting import wait_until

from infra.topics import Lag, ensure_topics, group_members
from pipelines.stream.warehouse_worker import RESULT_TOPICS
from schemas import topics

#: What a worker may need to go on after a kill: its predecessor's session has to run out first.
SESSION = "3s"

_FAULTY = str(Path(__file__).with_name("faulty_worker.py"))

#: What has to be done with, in the order in which it is made.
_STAGES = (
    ("stock", (topics.SIM_EVENTS,)),
    ("stock", (topics.STOCK_MOVEMENTS,)),
    ("alerts", (topics.STOCK_INCIDENTS,)),
    ("warehouse", RESULT_TOPICS),
)

#: A policy that makes more of a stock-out than one message.
POLICY = """\
repeat_interval = "1h"
repeat_limit = 2
resolved_notes = true
quiet_hours = { start = "21:30", end = "07:00" }
escalation = [{ after = "30m", to = "backup_phone" }]
flapping = { incidents = 3, within = "6h" }
"""

#: A fault of `faulty_worker`: where, and at the how manieth time.
Fault = tuple[str, int]


class Worker:
    """A worker that is started again when it ends, as a supervisor would."""

    def __init__(self, kind: str, name: str, argv: Sequence[str], log: Path, env: dict[str, str]):
        self.kind, self.name = kind, name
        self.argv, self._log, self._env = list(argv), log, env
        self.starts = 0
        self.child = self.start()

    def start(self) -> Child:
        """Start it (again)."""
        self.starts += 1
        self.child = Child(self.argv, log=self._log, env=self._env)
        return self.child

    def output(self) -> str:
        """All that its starts have written."""
        return self._log.read_text(errors="replace")


class Cluster:
    """Workers of all three kinds against one broker, under one data directory."""

    def __init__(
        self,
        broker: str,
        folder: Path,
        city: Path,
        partitions: int,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.broker = broker
        self.partitions = partitions
        self.city = city
        self.data = folder / "data"
        self.sms = folder / "sms.ndjson"
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.workers: list[Worker] = []
        self.env = {
            "ZEROSTOCK_BROKER": broker,
            "ZEROSTOCK_REFERENCE": str(city / "reference"),
            "ZEROSTOCK_DATA": str(self.data),
            "ZEROSTOCK_PARTITIONS": str(partitions),
            "ZEROSTOCK_CLOCK": "event",
            "ZEROSTOCK_SMS": f"file:{self.sms}",
            "ZEROSTOCK_SESSION_TIMEOUT": SESSION,
            "ZEROSTOCK_COMMIT_INTERVAL": "300ms",
        } | dict(settings or {})
        asyncio.run(ensure_topics(broker, partitions))

    def start(self, **count: int) -> None:
        """Start so many workers of each kind."""
        for kind, number in count.items():
            for index in range(number):
                self.add(kind, f"{kind}-{index}")

    def add(
        self,
        kind: str,
        name: str,
        faults: Sequence[Fault] = (),
        tweaks: str = "",
        settings: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> Worker:
        """Start one more worker; its starts suffer the faults one after the other.

        `tweaks` are `faulty_worker`'s; `before` are words before its command line.
        """
        env = self.env | dict(settings or {})
        program = ["-m", "infra.cli"]
        if faults or tweaks:
            env |= {"FAULTS": json.dumps(faults), "TWEAKS": tweaks}
            env |= {"FIRED": str(self.fired(name))} if faults else {}
            program = [_FAULTY]
        argv = [*before, sys.executable, *program, "worker", kind]
        worker = Worker(kind, name, argv, self.logs / f"{name}.log", env)
        self.workers.append(worker)
        return worker

    def fired(self, name: str) -> Path:
        """The file in which a worker with faults notes those that happened."""
        return self.logs / f"{name}.fired"

    def kill(self, worker: Worker) -> None:
        """SIGKILL, and start it again as a supervisor would."""
        worker.child.kill()
        worker.start()

    def look_after(self) -> None:
        """Start workers again that ended by themselves; one that gives up is an error."""
        for worker in self.workers:
            if not worker.child.running:
                words = worker.child.tail(1).strip()
                assert not words.startswith("zerostock: "), f"{worker.name} gave up: {words}"
                worker.start()

    def ingest(self, *options: str, city: Path | None = None) -> Child:
        """Start reading the city."""
        argv = [sys.executable, "-m", "infra.cli", "ingest", str(city or self.city), *options]
        return Child(argv, log=self.logs / "ingest.log", env=self.env)

    def read_all(self, *, timeout: float = 120, city: Path | None = None) -> None:
        """Read the city to its end, starting again as often as it ends with a word of why."""

        def done() -> bool:
            return self.ingest(city=city).wait(timeout) == 0

        wait_until(done, "the city to be read", timeout=timeout)

    def drain(self, patience: float = 150, each: Callable[[], None] = lambda: None) -> None:
        """Wait until all that was read is in the warehouse, looking after the workers."""

        def done(kind: str, names: tuple[str, ...]) -> bool:
            self.look_after()
            each()
            return self.lag(kind, names) == 0

        for kind, names in _STAGES:
            wait_until(
                lambda kind=kind, names=names: done(kind, names),  # type: ignore[misc]
                f"{kind} to be done",
                timeout=patience,
                detail=lambda kind=kind: self._last_words(kind),  # type: ignore[misc]
            )

    def _last_words(self, kind: str) -> str:
        return "".join(w.child.tail(15) for w in self.workers if w.kind == kind)

    def lag(self, kind: str, names: tuple[str, ...]) -> int:
        """Messages that the workers of a kind have not done with."""

        async def ask() -> int:
            async with Lag(self.broker, kind, self.partitions) as lag:
                return await lag.of(*names)

        return asyncio.run(ask())

    def members(self, kind: str) -> int:
        """How many members the group of a kind has."""
        return asyncio.run(group_members(self.broker, kind))

    def stop(self) -> None:
        """End all workers in good order, all at once."""
        for worker in self.workers:
            worker.child.send(signal.SIGTERM)
        for worker in self.workers:
            worker.child.wait(30)


class Feed:
    """A city that comes hour by hour: files appear in a folder that is followed."""

    def __init__(self, city: Path, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(city / "reference", folder / "reference")
        files = [f for top in ("events", "cdr") for f in (city / top).rglob("*") if f.is_file()]
        # By hour, and within it by source.
        self._files = sorted((f.name.split(".")[0], f.relative_to(city)) for f in files)
        self._city = city
        self._next = 0

    def bring(self, share: float) -> None:
        """See that this share of all files is there, whole as soon as they can be seen."""
        until = min(len(self._files), max(round(len(self._files) * share), 10))
        for _, name in self._files[self._next : until]:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.copy(self._city / name, part)
            part.rename(target)
        self._next = max(self._next, until)

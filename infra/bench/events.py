"""Programs that take an event a message, as their frameworks' guides would write them, timed.

They are given the SIMs on shelves beforehand and have only to find first uses; what they find is
compared with the truth as ours is.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.bench import peers
from infra.bench.common.harness import Harness
from infra.bench.common.progress import Mark, rate
from infra.bench.common.traffic import Traffic
from infra.stack.children import Child
from schemas.errors import ZerostockError
from schemas.topics import block_of, partition_of_block

CALLS = "peer-calls"
MOVEMENTS = "peer-movements"

#: Quix Streams wants to find these on its input.
_KEPT = {"retention.ms": "604800000", "retention.bytes": "-1"}

#: Where to find a Python that has quixstreams, if this one has not.
PEER_PYTHON = "ZEROSTOCK_BENCH_PYTHON"

Start = Callable[[Harness, Path], Child]


def programs() -> dict[str, Start]:
    """The peers there are on this machine, by name."""
    found: dict[str, Start] = {"plain Faust, an event a message": _faust}
    python = os.environ.get(PEER_PYTHON, sys.executable)
    asked = subprocess.run([python, "-c", "import quixstreams"], check=False, capture_output=True)
    if asked.returncode == 0:
        found["Quix Streams, an event a message"] = _quix
    return found


def _faust(harness: Harness, shelves: Path) -> Child:
    argv = [harness.address, str(harness.state.partitions), str(shelves)]
    return harness.start("faust", [sys.executable, "-m", f"{peers.__name__}.faust_events", *argv])


def _quix(harness: Harness, shelves: Path) -> Child:
    script = Path(peers.__path__[0]) / "quix_events.py"
    python = os.environ.get(PEER_PYTHON, sys.executable)
    return harness.start("quix", [python, str(script), harness.address, str(shelves)])


def speed(traffic: Traffic, start: Start, broker: str | None) -> float:
    """CDRs a second of a program; raises `ZerostockError` if it finds other first uses."""
    state = traffic.state
    with Harness(state, broker) as harness:
        shelves = harness.folder / "shelves.json"
        outlets = map(state.outlet_id, state.outlet_of(state.on_shelf).tolist())
        shelves.write_text(
            json.dumps(dict(zip(map(str, state.on_shelf.tolist()), outlets, strict=True)))
        )
        return asyncio.run(_time(harness, traffic, start, shelves))


async def _time(harness: Harness, traffic: Traffic, start: Start, shelves: Path) -> float:
    admin = AIOKafkaAdminClient(bootstrap_servers=harness.address)
    await admin.start()
    parts = traffic.state.partitions
    await admin.create_topics(
        [
            NewTopic(name, parts, 1, topic_configs=_KEPT)
            for name in (CALLS, MOVEMENTS, "peer-faust-first_use-changelog")
        ]
    )
    await admin.close()
    partition_of = partition_of_block(block_of(traffic.imsis), parts).tolist()
    await harness.fill(
        CALLS,
        (
            (p, str(imsi).encode(), json.dumps({"imsi": str(imsi), "at": at}).encode())
            for p, imsi, at in zip(
                partition_of, traffic.imsis.tolist(), traffic.at.tolist(), strict=True
            )
        ),
    )
    child = start(harness, shelves)
    truth = traffic.first_uses()
    places = _places(traffic)
    found: dict[int, int] = {}
    marks: list[Mark] = []
    async with harness.consumer(MOVEMENTS) as consumer:
        while len(found) < len(truth):
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                for message in messages:
                    row = json.loads(message.value)
                    found[int(row["imsi"])] = row["at"]
                    marks.append(Mark(message.timestamp, *places[int(row["imsi"])]))
            harness.check()
    if found.keys() != truth.keys():
        raise ZerostockError(f"{child.name} found other first uses than there were")
    return rate(marks)


def _places(traffic: Traffic) -> dict[int, tuple[int, int]]:
    """Partition of each SIM, and the number of its first row there."""
    partition_of = partition_of_block(block_of(traffic.imsis), traffic.state.partitions)
    found: dict[int, tuple[int, int]] = {}
    for partition in range(traffic.state.partitions):
        for number, row in enumerate(np.flatnonzero(partition_of == partition).tolist(), 1):
            found.setdefault(int(traffic.imsis[row]), (partition, number))
    return found

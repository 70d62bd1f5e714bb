"""CDRs a second through one stock worker, all state and guarantees on.

The worker is the product's, started as a process; the topic is full before it starts. The limit is
fetching the same topic and decoding it. Peers: the same core in a bare consumer loop; plain Faust
and Quix Streams on an event a message, with fewer events since they are slower. All answers are
compared with what the made traffic must give.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.bench import events, peers
from infra.bench.common.harness import Harness, cpu_seconds, resident
from infra.bench.common.progress import Mark, rate
from infra.bench.common.report import Measurement, of_runs
from infra.bench.common.seeded_state import SeededState
from infra.bench.common.traffic import Traffic, make_traffic
from infra.stack.children import Child
from schemas import topics
from schemas.envelope import unpack
from schemas.errors import ZerostockError

_Start = Callable[[Harness], Child]


@dataclass(frozen=True)
class Followed:
    """How a reader did.

    Seconds until its first word, CDRs a second, processor seconds a million CDRs, bytes of memory.
    """

    start: float
    rate: float
    cpu: float
    memory: int


def run(
    *,
    cdrs: int = 8_000_000,
    sims: int = 10_000_000,
    shelved: int = 1_000_000,
    outlets: int = 13_500,
    partitions: int = 2,
    runs: int = 3,
    peer_events: int = 60_000,
    broker: str | None = None,
) -> Iterator[Measurement]:
    """The lines of the benchmark; `peer_events` 0 leaves the per-event peers out."""
    state = SeededState(sims, shelved, outlets, partitions)
    traffic = make_traffic(state, cdrs)
    prepared = [(p, None, data) for p, data, _, _ in traffic.chunks()]
    ours: list[Followed] = []
    bare: list[Followed] = []
    limits: list[float] = []
    for _ in range(runs):
        with Harness(state, broker) as harness:
            asyncio.run(harness.fill_state())
            asyncio.run(harness.fill(topics.SIM_EVENTS, prepared))
            limits.append(asyncio.run(fetch_and_decode(harness, cdrs)))
            ours.append(asyncio.run(follow(harness, traffic, Harness.start_worker)))
        with Harness(state, broker) as harness:
            asyncio.run(harness.fill_state())
            asyncio.run(harness.fill(topics.SIM_EVENTS, prepared))
            bare.append(asyncio.run(follow(harness, traffic, _start_bare)))
    figure, spread = of_runs([r.rate for r in ours])
    limit, _ = of_runs(limits)
    beside = "same core, bare consumer loop"
    yield Measurement("stream", "throughput", "CDR/s", figure, spread, limit,
               of_runs([r.rate for r in bare])[0], beside)  # fmt: skip
    yield Measurement("stream", "CPU", "s/million CDR", *of_runs([r.cpu for r in ours]), None,
               of_runs([r.cpu for r in bare])[0], beside)  # fmt: skip
    yield Measurement("stream", "worker memory", "MiB", *of_runs([r.memory / 2**20 for r in ours]))
    if not peer_events:
        return
    few = traffic.first(peer_events)
    for name, start in events.programs().items():
        speeds = [events.speed(few, start, broker) for _ in range(runs)]
        yield Measurement("stream", "against events", "CDR/s", figure, spread, limit,
                   of_runs(speeds)[0], name)  # fmt: skip


# Ours and the same core without Faust


def _start_bare(harness: Harness) -> Child:
    reference = str(harness.folder / "reference")
    argv = [harness.address, reference, str(harness.state.partitions)]
    return harness.start("bare", [sys.executable, "-m", f"{peers.__name__}.bare", *argv])


async def follow(harness: Harness, traffic: Traffic, start: _Start) -> Followed:
    """Let a reader work through the topic, and check what it found."""
    started, child = time.perf_counter(), start(harness)
    async with harness.consumer(topics.STOCK_MOVEMENTS) as consumer:
        await harness.until(lambda: harness.anything(consumer), f"the first word of {child.name}")
    until_first_word = time.perf_counter() - started
    before = cpu_seconds(child)
    marks = await progress_and_answers(harness, traffic)
    cpu = (cpu_seconds(child) - before) / len(traffic) * 1e6
    return Followed(until_first_word, rate(marks), cpu, resident(child))


async def progress_and_answers(harness: Harness, traffic: Traffic) -> list[Mark]:
    """Read all that a reader says about traffic; raises `ZerostockError` if it is not the truth."""
    rows_by_mark = _rows_by_mark(traffic)
    last = {partition: max(found) for partition, found in rows_by_mark.items()}
    marks: list[Mark] = []
    uses: dict[int, int] = {}
    async for message, header, rows in harness.read_to_end(topics.STOCK_MOVEMENTS):
        partition = int(header.source.removeprefix("sims/"))
        done = rows_by_mark[partition].get(min(header.watermark, last[partition]))
        if done is not None:
            marks.append(Mark(message.timestamp, partition, done))
        if rows is not None:
            uses.update(zip(rows["imsi"].to_pylist(), rows["at"].to_pylist(), strict=True))
    if uses != traffic.first_uses():
        raise ZerostockError("other first uses were found than there were")
    outs: dict[str, int] = {}
    async for _, _, rows in harness.read_to_end(topics.STOCK_INCIDENTS):
        if rows is not None:
            outs.update(
                zip(rows["outlet_id"].to_pylist(), rows["opened_at"].to_pylist(), strict=True)
            )
    if outs != traffic.stock_outs():
        raise ZerostockError("other stock-outs were found than there were")
    return marks


def _rows_by_mark(traffic: Traffic) -> dict[int, dict[int, int]]:
    """By partition: the rows that are done with once a watermark is reached."""
    found: dict[int, dict[int, int]] = {}
    total = dict.fromkeys(range(traffic.state.partitions), 0)
    for partition, _, mark, rows in traffic.chunks():
        total[partition] += rows
        found.setdefault(partition, {})[mark] = total[partition]
    return found


async def fetch_and_decode(harness: Harness, cdrs: int) -> float:
    """CDRs a second of a consumer that decodes the topic and does nothing else."""
    rows = 0
    async with harness.consumer(topics.SIM_EVENTS) as consumer:
        started = time.perf_counter()
        while rows < cdrs:
            for messages in (await consumer.getmany(timeout_ms=1_000)).values():
                for message in messages:
                    _, batch = unpack(message.value)
                    rows += batch.num_rows if batch is not None else 0
        return rows / (time.perf_counter() - started)

"""From the start of a stock worker's process to its first word about new events, state read back.

Once from rest, and once after a SIGKILL in the middle of traffic; what comes of the traffic is
compared with the truth. The limit is reading the same state from the broker and dropping it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from aiokafka import AIOKafkaConsumer

from infra.bench.common.harness import Harness
from infra.bench.common.report import Measurement, of_runs
from infra.bench.common.seeded_state import SeededState
from infra.bench.common.traffic import Traffic, make_traffic
from infra.bench.stream import progress_and_answers
from infra.stack.children import Child
from pipelines.core.stage import WATERMARKS_KEY
from pipelines.stream.app import group_id
from schemas import topics

#: As short as `zerostock run` sets it: a worker that was killed is missed after so long.
_SESSION = "2s"


def run(
    *,
    sims: int = 10_000_000,
    shelved: int = 1_000_000,
    outlets: int = 13_500,
    partitions: int = 2,
    cdrs: int = 2_000_000,
    runs: int = 3,
    broker: str | None = None,
) -> Iterator[Measurement]:
    """The lines of the benchmark."""
    state = SeededState(sims, shelved, outlets, partitions)
    traffic = make_traffic(state, cdrs)
    at_rest, killed, limits = [], [], []
    for _ in range(runs):
        with Harness(state, broker) as harness:
            size = asyncio.run(harness.fill_state())
            limits.append(asyncio.run(_read_state(harness)))
            rest, again = asyncio.run(_restart(harness, traffic))
            at_rest.append(rest)
            killed.append(again)
    limit, _ = of_runs(limits)
    yield Measurement("recovery", "start at rest", "s", *of_runs(at_rest), limit)
    yield Measurement("recovery", "start after SIGKILL", "s", *of_runs(killed), limit)
    yield Measurement("recovery", "state on the broker", "MB", size / 1e6)


async def _read_state(harness: Harness) -> float:
    started = time.perf_counter()
    names = [f"{group_id('stock')}-{table}-changelog" for table in ("sims", "outlets")]
    logs = len(names) * harness.state.partitions  # Each log ends with one.
    async with harness.consumer(*names) as consumer:
        while logs:
            for messages in (await consumer.getmany(timeout_ms=1_000)).values():
                logs -= sum(message.key == WATERMARKS_KEY for message in messages)
    return time.perf_counter() - started


async def _restart(harness: Harness, traffic: Traffic) -> tuple[float, float]:
    messages = [(p, None, data) for p, data, _, _ in traffic.chunks()]
    third = len(messages) // 3
    async with harness.consumer(topics.STOCK_MOVEMENTS) as consumer:
        await harness.fill(topics.SIM_EVENTS, messages[:third])
        started, worker = time.perf_counter(), harness.start_worker(session_timeout=_SESSION)
        await _next_word(harness, consumer, worker)
        rest = time.perf_counter() - started
        await harness.fill(topics.SIM_EVENTS, messages[third : 2 * third])
        await _next_word(harness, consumer, worker)
        assert worker.process is not None
        worker.process.kill()
        worker.process.wait()
        harness.children.remove(worker)
        while await consumer.getmany(timeout_ms=500):
            pass
        await harness.fill(topics.SIM_EVENTS, messages[2 * third :])
        started, worker = time.perf_counter(), harness.start_worker(session_timeout=_SESSION)
        await _next_word(harness, consumer, worker)
        again = time.perf_counter() - started
    await progress_and_answers(harness, traffic)
    return rest, again


async def _next_word(harness: Harness, consumer: AIOKafkaConsumer, worker: Child) -> None:
    await harness.until(lambda: harness.anything(consumer), f"the next word of {worker.name}")

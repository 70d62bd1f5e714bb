"""How cost grows: registered SIMs, outlets, and workers.

For each number of SIMs: CDRs a second, seconds to start, the worker's memory a SIM. For each number
of outlets: CDRs a second. Several workers need Apache Kafka, see
`infra.bench.common.kafka`; their figure is what all of them do together, beside what the first
number of them does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import median

from infra.bench.changelog import bytes_a_day
from infra.bench.common.harness import Harness
from infra.bench.common.progress import rate
from infra.bench.common.report import Measurement, of_runs
from infra.bench.common.seeded_state import SeededState
from infra.bench.common.traffic import make_traffic
from infra.bench.stream import Followed, follow, progress_and_answers
from schemas import topics

_SIMS = 10_000_000
_SHELVED = 1_000_000
_OUTLETS = 13_500


def run(
    *,
    cdrs: int = 6_000_000,
    sims: str = "1000000,10000000,100000000",
    outlets: str = "100,3500,13500,100000",
    workers: str = "",
    runs: int = 3,
) -> Iterator[Measurement]:
    """The lines of the benchmark; lists are numbers with commas, `workers` for instance "1,2"."""
    least: tuple[int, float] | None = None
    for number in _numbers(sims):
        found = _one_worker(_state(number), cdrs, runs)
        memory = median(f.memory for f in found)
        yield Measurement("scale", f"{number:,} SIMs", "CDR/s", *of_runs([f.rate for f in found]))
        yield Measurement(
            "scale", f"{number:,} SIMs, start", "s", *of_runs([f.start for f in found])
        )
        if least is not None:
            each = (memory - least[1]) / (number - least[0])
            yield Measurement("scale", f"{number:,} SIMs, memory", "B/SIM", each)
        least = least or (number, memory)
    usual = _state(min(_SIMS, max(_numbers(sims), default=_SIMS)))
    yield Measurement("scale", "changelog", "MB/day", bytes_a_day(usual) / 1e6)
    for number in _numbers(outlets):
        found = _one_worker(SeededState(usual.sims, usual.shelved, number), cdrs, runs)
        yield Measurement(
            "scale", f"{number:,} outlets", "CDR/s", *of_runs([f.rate for f in found])
        )
    first: tuple[int, float] | None = None
    for number in _numbers(workers):
        figure, spread = of_runs([_together(usual, cdrs, number) for _ in range(runs)])
        beside, name = (first[1], f"{first[0]} workers") if first else (None, None)
        yield Measurement("scale", f"{number} workers", "CDR/s", figure, spread, None, beside, name)
        first = first or (number, figure)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in str(text).split(",") if part]


def _state(sims: int) -> SeededState:
    shelved = min(_SHELVED, sims // 10)
    return SeededState(sims, shelved, min(_OUTLETS, shelved))


def _one_worker(state: SeededState, cdrs: int, runs: int) -> list[Followed]:
    traffic = make_traffic(state, cdrs)
    prepared = [(p, None, data) for p, data, _, _ in traffic.chunks()]
    found = []
    for _ in range(runs):
        with Harness(state) as harness:
            asyncio.run(harness.fill_state())
            asyncio.run(harness.fill(topics.SIM_EVENTS, prepared))
            found.append(asyncio.run(follow(harness, traffic, Harness.start_worker)))
    return found


def _together(state: SeededState, cdrs: int, workers: int) -> float:
    """CDRs a second of some workers that share the partitions, two each."""
    shared = SeededState(state.sims, state.shelved, state.outlets, partitions=4)
    traffic = make_traffic(shared, cdrs)
    with Harness(shared, "kafka") as harness:
        asyncio.run(harness.fill_state())
        messages = ((p, None, data) for p, data, _, _ in traffic.chunks())
        asyncio.run(harness.fill(topics.SIM_EVENTS, messages))
        for _ in range(workers):
            harness.start_worker()
        return rate(asyncio.run(progress_and_answers(harness, traffic)))

"""What a worker tells those who watch it: /metrics, /healthz and /readyz, on loopback by default.

A worker is unhealthy when messages wait and its committed offset has not moved for too long; it
is ready when it has partitions, their state is loaded, it is healthy, and of a live feed the
watermark moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import faust
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipelines.core.stock.sim_stage import SimStage
from pipelines.stream import metrics
from pipelines.stream.app import TOPICS
from pipelines.stream.faust_fixes.stall_guard import Offset, StallDetector
from schemas.envelope import NO_WATERMARK
from schemas.topics import SIM_EVENTS

log = logging.getLogger(__name__)

#: Seconds between two looks at the offsets when nobody asks.
LOOK_EVERY = 5.0

#: (topic, partition)
Part = tuple[str, int]


class WatchedWorker(Protocol):
    """What is asked of a worker."""

    def offsets(self) -> Mapping[Part, Offset]:
        """Every partition that the worker has now."""

    def settled(self) -> bool:
        """Whether it has partitions and their state is loaded."""


class Pulse:
    """Notices partitions that stall with messages waiting for longer than `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._detector: StallDetector[Part] = StallDetector()

    def stalled(self, offsets: Mapping[Part, Offset], now: float) -> dict[Part, float]:
        """The partitions that have stalled for longer than the limit, and for how long."""
        waiting = self._detector.look(offsets, now)
        return {part: seconds for part, seconds in waiting.items() if seconds > self.limit}


class WatermarkPulse:
    """Notices a watermark that does not move for longer than `limit` s while events are read."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._seen: tuple[int, int, float] | None = None

    def trouble(
        self, stages: Iterable[SimStage], offsets: Mapping[Part, Offset], now: float
    ) -> str:
        """A line that names the sources that hold it back, "" while it moves or nobody does."""
        holders = held_by(stages)
        reached = min(holders.values(), default=None)
        read = sum(
            offset.committed for (topic, _), offset in offsets.items() if topic == SIM_EVENTS
        )
        if reached is None or self._seen is None or self._seen[0] != reached:
            self._seen = None if reached is None else (reached, read, now)
            return ""
        _, before, since = self._seen
        if read == before or now - since <= self.limit:
            return ""
        return (
            f"the watermark has not moved for {now - since:.0f} s although events are read:"
            f" held back by {', '.join(sorted(holders))}\n"
        )


class FaustWorker:
    """A Faust application as something to watch."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    def offsets(self) -> dict[Part, Offset]:
        """See `WatchedWorker`; empty until the worker has joined its group."""
        consumer, found = self._app.consumer, {}
        for tp in self._assigned():
            if tp.topic in TOPICS:
                end = consumer.highwater(tp)
                committed = consumer._committed_offset.get(tp) or 0
                if end is not None:
                    found[tp.topic, tp.partition] = Offset(max(committed, 0), end)
        return found

    def settled(self) -> bool:
        """See `WatchedWorker`."""
        app = self._app
        loaded = not len(app.tables) or app.tables.actives_ready
        return bool(loaded and not app.rebalancing and self._assigned())

    def _assigned(self) -> Iterable[faust.types.TP]:
        # A worker that is just starting, or leaving, has no consumer to ask.
        with contextlib.suppress(AttributeError, RuntimeError, AssertionError):
            return set(self._app.consumer.assignment())
        return ()


class Gauges(Collector):
    """What is measured when somebody asks."""

    def __init__(
        self, worker: WatchedWorker, pulse: Pulse, sims: Callable[[], Iterable[SimStage]]
    ) -> None:
        self._worker = worker
        self._pulse = pulse
        self._sims = sims

    def collect(self) -> Iterator[Metric]:
        """The gauges of `pipelines.stream.metrics`."""
        offsets = self._worker.offsets()
        lag = GaugeMetricFamily(
            metrics.CONSUMER_LAG, "Messages not yet committed.", labels=["topic", "partition"]
        )
        for (topic, partition), offset in offsets.items():
            lag.add_metric([topic, str(partition)], max(offset.end - offset.committed, 0))
        yield lag
        delay = GaugeMetricFamily(
            metrics.WATERMARK_DELAY, "How far a source is behind the clock.", labels=["source"]
        )
        for source, mark in open_marks(self._sims()).items():
            delay.add_metric([source], time.time() - mark / 1_000)
        yield delay
        age = GaugeMetricFamily(
            metrics.WATERMARK_AGE, "How far what is decided is behind the clock.", labels=["source"]
        )
        for source, reached in held_by(self._sims()).items():
            if reached != NO_WATERMARK:
                age.add_metric([source], time.time() - reached / 1_000)
        yield age
        absent = GaugeMetricFamily(
            metrics.SOURCE_ABSENT, "1 for a source that nobody can read.", labels=["source"]
        )
        for source in sorted({s for stage in self._sims() for s in stage.watermarks.absent}):
            absent.add_metric([source], 1)
        yield absent
        stalled = bool(self._pulse.stalled(offsets, time.monotonic()))
        yield GaugeMetricFamily(metrics.STALLED, "1 while /healthz fails.", value=int(stalled))


def open_marks(stages: Iterable[SimStage]) -> dict[str, int]:
    """The least watermark (ms) of each source that has promised one and has not ended."""
    marks: dict[str, int] = {}
    for stage in stages:
        for source, mark in stage.watermarks.marks.items():
            if mark != NO_WATERMARK and source not in stage.watermarks.ended:
                marks[source] = min(mark, marks.get(source, mark))
    return marks


def held_by(stages: Iterable[SimStage]) -> dict[str, int]:
    """The sources that hold the watermark back, and the least one acted on (ms) because of each.

    Sources that ended, or are absent, hold nothing back.
    """
    held: dict[str, int] = {}
    for stage in stages:
        known = stage.watermarks
        resting = known.ended | known.absent
        open_sources = {s: mark for s, mark in known.marks.items() if s not in resting}
        if open_sources:
            source = min(open_sources, key=lambda s: (open_sources[s], s))
            held[source] = min(known.reached, held.get(source, known.reached))
    return held


def application(
    worker: WatchedWorker,
    pulse: Pulse,
    sims: Callable[[], Iterable[SimStage]] = list,
    watermark: WatermarkPulse | None = None,
) -> web.Application:
    """The three pages; with `watermark` a watermark of `sims` that stalls makes them unready."""
    registry = metrics.REGISTRY

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def trouble() -> str:
        stalled = pulse.stalled(worker.offsets(), time.monotonic())
        return "".join(
            f"{topic}/{partition} has not moved for {seconds:.0f} s with messages waiting\n"
            for (topic, partition), seconds in stalled.items()
        )

    async def healthz(_: web.Request) -> web.Response:
        said = trouble()
        return web.Response(text=said or "ok\n", status=503 if said else 200)

    async def readyz(_: web.Request) -> web.Response:
        said = "no partitions yet, or their state is loading\n"
        if worker.settled():
            said = trouble()
            if watermark is not None:
                said += watermark.trouble(sims(), worker.offsets(), time.monotonic())
            if any(watch.alarmed for watch in metrics.watchdogs):
                said += "no stock-out of the watchdog comes through\n"
        return web.Response(text=said or "ready\n", status=503 if said else 200)

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def watch(app: faust.App, name: str, host: str, port: int, stall_after: int, *, live: bool) -> None:
    """Have a worker serve its pages; `port` 0 takes a free one, `stall_after` is in ms.

    Of a `live` feed the watermark must move as well: silent sources move it with the clock. A port
    that is taken costs the pages, not the worker.
    """
    worker, pulse = FaustWorker(app), Pulse(stall_after / 1_000)
    watermark = WatermarkPulse(stall_after / 1_000) if live else None

    def sims() -> list[SimStage]:
        return list(metrics.sim_stages)

    metrics.REGISTRY.register(Gauges(worker, pulse, sims))
    ProcessCollector(registry=metrics.REGISTRY)

    async def serve() -> None:
        pages = application(worker, pulse, sims, watermark)
        runner = web.AppRunner(pages, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            log.error("metrics cannot be served on port %d: %s", port, error.strerror)  # noqa: TRY400
            await runner.cleanup()
            return
        bound = runner.addresses[0][1]
        log.warning("metrics of %s on http://%s:%d/metrics", name, host, bound)
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY)
                now, offsets = time.monotonic(), worker.offsets()
                pulse.stalled(offsets, now)
                if watermark is not None:
                    watermark.trouble(sims(), offsets, now)
        finally:
            await runner.cleanup()

    app.task(serve)

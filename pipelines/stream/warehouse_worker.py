"""The warehouse worker: rows of all result topics go into ClickHouse, batch by batch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import faust
import pyarrow as pa
from faust.types import EventT, StreamT
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from pipelines.core.watchdog import without_watchdog
from pipelines.stream import metrics, trace
from pipelines.stream.app import hasten_fetches, new_app
from pipelines.stream.faust_fixes.exit import die
from pipelines.stream.faust_fixes.offsets import Offsets, Turn
from pipelines.stream.faust_fixes.stall_guard import StallGuard
from pipelines.stream.messages import EnvelopeReader
from pipelines.stream.options import StreamOptions
from pipelines.warehouse import Warehouse
from pipelines.warehouse.rows import to_rows
from schemas import topics
from schemas.errors import WarehouseDown

log = logging.getLogger(__name__)

#: What analysts can query comes from these.
RESULT_TOPICS = (
    topics.STOCK_MOVEMENTS,
    topics.STOCK_INCIDENTS,
    topics.STOCK_LEVELS,
    topics.SMS_MESSAGES,
    topics.ANOMALIES,
    topics.REGISTRATIONS,
    topics.CASE_STATES,
    topics.SERVICE_RECORDS,
    topics.DEAD_LETTERS,
)

#: A batch is written when it has this many rows, or this age in seconds.
BATCH_ROWS = 50_000
BATCH_AGE = 0.5


#: Seconds between two attempts at a warehouse that is down.
BACKOFF = wait_exponential(multiplier=0.2, max=30.0)


class Sink(Protocol):
    """Where rows end up."""

    async def write(self, batches: dict[str, list[pa.RecordBatch]]) -> None:
        """Store the batches of each kind; returns only when they are safe, however long it takes.

        Storing a row twice must be harmless.
        """


class WarehouseSink:
    """Rows into ClickHouse, one insert a table, tried again for as long as it is down.

    Tables show each row once, so what is written twice does no harm.
    """

    def __init__(
        self, warehouse: Warehouse, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._warehouse = warehouse
        self._sleep = sleep

    async def write(self, batches: dict[str, list[pa.RecordBatch]]) -> None:
        """See `Sink`. Raises `WarehouseError` when ClickHouse refuses the rows."""
        for kind, some in batches.items():
            for batch in pa.Table.from_batches(some).combine_chunks().to_batches():
                table, rows = to_rows(kind, batch)
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception_type(WarehouseDown),
                    wait=BACKOFF,
                    sleep=self._sleep,
                    before_sleep=partial(_report_retry, table),
                ):
                    with attempt:
                        await asyncio.to_thread(self._warehouse.insert, table, rows)


def _report_retry(table: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s; rows for %s wait, next attempt in %.1f s", error, table, seconds)
    metrics.INSERT_RETRIES.labels(table).inc()


class Loader:
    """Gathers rows, writes them, and only then acknowledges their envelopes."""

    def __init__(self, app: faust.App, sink: Sink, progress: StallGuard) -> None:
        self.app = app
        self.sink = sink
        self._progress = progress
        self._messages = EnvelopeReader()
        self._lock = asyncio.Lock()
        self._offsets = Offsets(app)
        self._generation = 0
        self._rows = 0
        self._since = 0.0
        self._batches: dict[str, list[pa.RecordBatch]] = {}
        self._taken: list[tuple[StreamT[bytes], EventT]] = []
        self._to_count: list[tuple[str, pa.RecordBatch, float]] = []
        app.task(self._tick)
        app.on_partitions_revoked.connect(self._forget)

    async def _forget(self, *_: object, **__: object) -> None:
        self._generation += 1
        self._rows = 0
        self._batches = {}
        self._taken = []
        self._to_count = []

    async def run(self, stream: StreamT[bytes]) -> None:
        """The body of the agent."""
        try:
            async for event in stream.noack().events():
                async with self._lock:
                    await self._take(stream, event)
                    if self._rows >= BATCH_ROWS:
                        await self._flush()
        except Exception:
            die("the warehouse agent failed")

    async def _take(self, stream: StreamT[bytes], event: EventT) -> None:
        generation = self._generation
        turn = await self._offsets.turn(event.message)
        if turn is Turn.OUT_OF_ORDER or generation != self._generation:
            return
        if not self._taken:
            self._since = time.monotonic()
        self._taken.append((stream, event))
        if turn is Turn.SEEN:
            return
        header, rows = self._messages.open(event.message)
        if rows is not None and header.kind != "policies":  # Alert events tell of them.
            rows = without_watchdog(rows)
            self._batches.setdefault(header.kind, []).append(rows)
            self._rows += rows.num_rows
            self._to_count.append((header.kind, rows, event.message.timestamp))

    async def _tick(self) -> None:
        try:
            while not self.app.should_stop:
                if self._offsets.overdue:
                    die("messages that came out of turn were not delivered again")
                await asyncio.sleep(BATCH_AGE / 5)
                async with self._lock:
                    if self._taken and time.monotonic() - self._since >= BATCH_AGE:
                        hasten_fetches(self.app)
                        await self._flush()
        except Exception:
            die("the warehouse worker's clock failed")

    async def _flush(self) -> None:
        generation = self._generation
        batches, taken = self._batches, self._taken
        to_count, self._to_count = self._to_count, []
        self._batches, self._taken, self._rows = {}, [], 0
        if batches:
            with self._progress.outside():
                await self.sink.write(batches)
        for written in to_count:
            metrics.count_written(*written)
            trace.written(*written[:2])
        if generation == self._generation:
            for stream, event in taken:
                await stream.ack(event)


def warehouse_app(options: StreamOptions, sink: Sink) -> faust.App:
    """The application; `sink` takes the rows."""
    app = new_app("warehouse", options)
    loader = Loader(app, sink, StallGuard(app, options.give_up_after))

    @app.agent(app.topic(*RESULT_TOPICS, value_type=bytes), name="rows")  # type: ignore[untyped-decorator]
    async def follow_results(stream: faust.Stream[bytes]) -> None:
        await loader.run(stream)

    return app

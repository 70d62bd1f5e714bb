"""From the call record that empties a shelf to the message at the sender, under other traffic.

Real stock and alerts workers, and Twilio's client with a provider on this machine (or, if `sender`
is "file", the file sender); group_wait and disorder are 0. The other traffic comes in envelopes of
`BEAT` ms, as a live feed would. The second half adds the worst of a day: all shelves are refilled
and tens of thousands of SIMs are switched on while shops sell out. Beside each call record that
empties a shelf goes the limit: a message that bare loops pass on through three topics. The last
lines of a half say where the time goes: by when the stock worker sent what it said.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from statistics import median, quantiles

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.bench.common.harness import Harness
from infra.bench.common.provider import SETTINGS, provider
from infra.bench.common.report import Measurement
from infra.bench.common.seeded_state import LOT, SOURCE, START, SeededState
from infra.bench.common.traffic import call_ids
from pipelines.core.effects import RowBuilder
from pipelines.core.stock.placement import PlacementType
from pipelines.core.stock.sim_registry import Int64s
from schemas import topics
from schemas.envelope import USES, Header, pack, unpack
from schemas.errors import UsageError
from schemas.topics import block_of, partition_of_block

#: ms between two envelopes of a live feed.
BEAT = 20

#: Seconds of traffic before anything is measured: what waited for the workers is worked off.
WARM_UP = 5

#: The limit's topics, as many as a call record's way has.
_TOPICS = tuple(f"limit-{number}" for number in (1, 2, 3))

#: The burst's activations a second: 50,000 in a minute.
_ACTIVATIONS = 50_000 / 60


def run(
    *,
    sims: int = 10_000_000,
    shelved: int = 1_000_000,
    outlets: int = 13_500,
    partitions: int = 2,
    cdrs_per_second: int = 100_000,
    stock_outs: int = 400,
    seconds: int = 20,
    burst_seconds: int = 60,
    sender: str = "twilio",
    broker: str | None = None,
) -> Iterator[Measurement]:
    """The lines of the benchmark; `stock_outs` shops sell out in each half."""
    if sender not in ("twilio", "file"):
        raise UsageError(f"there is no sender {sender!r} here: use twilio or file")
    state = SeededState(sims, shelved, outlets, partitions, spare=outlets * LOT)
    with Harness(state, broker) as harness:
        asyncio.run(harness.fill_state())
        day = _Day(harness, cdrs_per_second, stock_outs)
        asyncio.run(day.live(sender, seconds, burst_seconds))
        said = asyncio.run(day.said())
    half = len(day.emptied) // 2
    for name, shops in (("", day.emptied[:half]), (" in a burst", day.emptied[half:])):
        took, least = day.took(day.arrived, shops), day.took(day.passed, shops)
        for cut in (50, 99):
            metric = f"CDR to SMS{name}, p{cut}"
            ours, limit = (quantiles(times, n=100)[cut - 1] for times in (took, least))
            yield Measurement("latency", metric, "ms", ours, max(took) - min(took), limit)
        before, begun = "CDR", day.sent
        for after, at in (*said.items(), ("SMS", day.arrived)):
            took = day.took(at, shops, begun)
            metric = f"{before} to {after}{name}, p50"
            yield Measurement("latency", metric, "ms", median(took), max(took) - min(took))
            before, begun = after, at


class _Day:
    """A live feed, and when each message it leads to is at the sender."""

    def __init__(self, harness: Harness, cdrs_per_second: int, stock_outs: int) -> None:
        self.harness = harness
        self.state = harness.state
        self.sms = harness.folder / "sms.ndjson"
        self.rows = cdrs_per_second * BEAT // 1_000
        self.random = np.random.default_rng(1)
        self.now = START
        self.calls = 0
        shelf_of = self.state.outlet_of(self.state.on_shelf)
        self.shelves = np.split(
            self.state.on_shelf[np.argsort(shelf_of, kind="stable")],
            np.cumsum(np.bincount(shelf_of, minlength=self.state.outlets))[:-1],
        )
        stocked = [n for n, sims in enumerate(self.shelves) if len(sims)]
        self.emptied = self.random.permutation(stocked)[: 2 * stock_outs].tolist()
        self.unfilled = set(self.emptied)
        elsewhere = np.isin(shelf_of, self.emptied, invert=True)
        self.sellable = self.random.permutation(self.state.on_shelf[elsewhere])
        self.spares = self.state.spares
        self.sent: dict[str, float] = {}
        self.arrived: dict[str, float] = {}
        self.passed: dict[str, float] = {}

    def took(
        self, at: dict[str, float], shops: list[int], begun: dict[str, float] | None = None
    ) -> list[float]:
        """How long after a shop's last call, or what had begun then, something was there, ms."""
        since = self.sent if begun is None else begun
        names = map(self.state.outlet_id, shops)
        return [(at[name] - since[name]) * 1_000 for name in names]

    async def said(self) -> dict[str, dict[str, float]]:
        """When the stock worker sent what it said of each shop, by the topics' time stamps."""
        wall = time.time() - time.perf_counter()
        said: dict[str, dict[str, float]] = {"movements": {}, "incidents": {}}
        names = topics.STOCK_MOVEMENTS, topics.STOCK_INCIDENTS
        async with self.harness.consumer(*names) as consumer:
            while some := await consumer.getmany(timeout_ms=1_000):
                for message in chain.from_iterable(some.values()):
                    header, rows = unpack(message.value)
                    if header.kind in said and rows is not None:
                        shops = rows["outlet_id"].to_pylist()
                        sent = message.timestamp / 1_000 - wall
                        said[header.kind].update(dict.fromkeys(shops, sent))
        return said

    async def live(self, sender: str, seconds: int, burst_seconds: int) -> None:
        """Live both halves; note when messages are at the sender, and the limit's at its end."""
        async with (
            provider(self._told_of) as address,
            self._limit(),
            self.harness.producer() as producer,
        ):
            common = {"disorder": "0s", "group_wait": "0s"}
            twilio = {**SETTINGS, "twilio_base_url": address}
            way = twilio if sender == "twilio" else {"sms": f"file:{self.sms}"}
            for name in ("stock", "alerts"):
                self.harness.start_worker(name, **common, **way)
            await self._wait_for_first(producer)
            await self._feed(producer, [], WARM_UP)
            watching = asyncio.create_task(self._watch())
            half = len(self.emptied) // 2
            await self._feed(producer, self.emptied[:half], seconds)
            await self._all_arrived(producer)
            await self._feed(producer, self.emptied[half:], burst_seconds, burst=True)
            await self._all_arrived(producer)
            watching.cancel()

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        """The limit's topics, its bare loops in a process of their own, and their end here."""
        broker = self.harness.address
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        await admin.create_topics([NewTopic(t, self.state.partitions, 1) for t in _TOPICS])
        await admin.close()
        relays = [sys.executable, "-m", "infra.bench.peers.relay", broker, *_TOPICS]
        self.harness.start("relay", relays)
        async with self.harness.consumer(_TOPICS[-1]) as consumer:
            passing = asyncio.create_task(self._note(consumer))
            yield
            passing.cancel()

    async def _note(self, consumer: AIOKafkaConsumer) -> None:
        async for message in consumer:
            self.passed.setdefault(message.value.decode(), time.perf_counter())

    def _told_of(self, number: int, at: float) -> None:
        self.arrived.setdefault(self.state.outlet_id(number), at)

    async def _wait_for_first(self, producer: AIOKafkaProducer) -> None:
        """Until both workers are there and warm: a first stock-out comes through."""
        first = self.emptied.pop()
        await self._empty(producer, first)
        watching = asyncio.create_task(self._watch())

        async def arrived() -> bool | None:
            await self._beat(producer)
            name = self.state.outlet_id(first)
            if name not in self.passed:  # Relays that are not there yet miss what is sent.
                await producer.send(_TOPICS[0], name.encode(), partition=0)
            return True if name in self.arrived and name in self.passed else None

        await self.harness.until(arrived, "the first message")
        watching.cancel()

    async def _all_arrived(self, producer: AIOKafkaProducer) -> None:
        async def arrived() -> bool | None:
            await self._beat(producer)
            there = self.arrived.keys() & self.passed.keys()
            return True if self.sent.keys() <= there else None

        await self.harness.until(arrived, "the last message")

    async def _feed(
        self, producer: AIOKafkaProducer, emptied: list[int], seconds: int, *, burst: bool = False
    ) -> None:
        """Traffic for some seconds, shops selling out one after the other."""
        beats = seconds * 1_000 // BEAT
        due = np.linspace(0, beats, len(emptied), endpoint=False).astype(int)
        outs = list(zip(due.tolist(), emptied, strict=True))
        start = time.perf_counter()
        for beat in range(beats):
            while outs and outs[0][0] <= beat:
                await self._empty(producer, outs.pop(0)[1])
            if burst:
                await self._refill(producer, beat / beats, (beat + 1) / beats)
                count = int(_ACTIVATIONS * BEAT / 1_000 * (beat + 1)) - int(
                    _ACTIVATIONS * BEAT / 1_000 * beat
                )
                sold, self.sellable = self.sellable[:count], self.sellable[count:]
                await self._say_uses(producer, sold)
            await self._beat(producer)
            await asyncio.sleep(max(0, start + (beat + 1) * BEAT / 1_000 - time.perf_counter()))

    async def _beat(self, producer: AIOKafkaProducer) -> None:
        await self._say_uses(producer, self.state.users(self.random, self.rows))
        mark = Header("none", SOURCE, self.now + 1)
        for partition in range(self.state.partitions):
            await producer.send(topics.SIM_EVENTS, pack(mark), partition=partition)
        self.now += BEAT

    async def _empty(self, producer: AIOKafkaProducer, number: int) -> None:
        """The last calls of a shop's shelf."""
        name = self.state.outlet_id(number)
        self.sent[name] = time.perf_counter()
        partition = number % self.state.partitions
        await producer.send(_TOPICS[0], name.encode(), partition=partition)
        await self._say_uses(producer, self.shelves[number])

    async def _say_uses(self, producer: AIOKafkaProducer, imsis: Int64s) -> None:
        partition_of = partition_of_block(block_of(imsis), self.state.partitions)
        for partition in range(self.state.partitions):
            mine = imsis[partition_of == partition]
            if len(mine):
                numbers = self.calls + np.arange(len(mine))
                at = np.full(len(mine), self.now)
                rows = pa.record_batch([mine, at, call_ids(numbers)], schema=USES)
                data = pack(Header("uses", SOURCE, self.now), rows)
                await producer.send(topics.SIM_EVENTS, data, partition=partition)
                self.calls += len(mine)

    async def _refill(self, producer: AIOKafkaProducer, start: float, end: float) -> None:
        """A lot of new SIMs for the shops between two shares of all."""
        lots = range(int(self.state.outlets * start), int(self.state.outlets * end))
        rows = {p: RowBuilder("placements") for p in range(self.state.partitions)}
        for lot in lots:
            if lot in self.unfilled:
                continue  # It is to sell out, not to be refilled a moment before.
            first = int(self.spares[lot * LOT])
            partition = partition_of_block(block_of(first), self.state.partitions)
            rows[partition].add(
                event_id=f"refill{lot}",
                at=self.now,
                known_at=self.now,
                type=int(PlacementType.DELIVERY),
                outlet_id=self.state.outlet_id(lot),
                to_outlet_id="",
                first_imsi=first,
                count=LOT,
            )
        for partition, some in rows.items():
            if len(some):
                data = pack(Header("placements", SOURCE, self.now), some.batch())
                await producer.send(topics.SIM_EVENTS, data, partition=partition)

    async def _watch(self) -> None:
        """Note when messages arrive at the sender's file."""
        position = 0
        while True:
            if self.sms.exists():
                with self.sms.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                position += len(whole)
                now = time.perf_counter()
                for line in whole.splitlines():
                    for incident in json.loads(line)["incidents"]:
                        self.arrived.setdefault(incident["outlet_id"], now)
            await asyncio.sleep(0.002)

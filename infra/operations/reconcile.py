"""`zerostock reconcile`: files, or Kafka's log, folded once more by the core alone, held against
the tables."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from aiokafka import TopicPartition
from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from infra.stack.summary import Screen
from infra.text import counted
from pipelines.core.effects import Effect
from pipelines.core.stock.rebuild import Difference, Rebuild, Shelf, Stockout, StockState, compare
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.ingest import IngestOptions, read_directory
from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.ingest.positions import Position
from pipelines.ingest.reference import load_reference
from pipelines.ingest.sources import SourceState
from pipelines.kafka import open_consumer, read_to_end
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from schemas.envelope import unpack
from schemas.errors import BrokerError, EnvelopeError, InputError, ZerostockError
from schemas.topics import SIM_EVENTS

#: Differences shown; all of them are stored.
_SHOWN = 20

_MS = pa.timestamp("ms", tz="UTC")


class MemoryPost:
    """A sink that folds what it is sent: nothing is kept but what follows from it."""

    partitions = 1

    def __init__(self, rebuild: Rebuild) -> None:
        self._rebuild = rebuild
        self._positions: dict[str, Position] = {}

    async def positions(self) -> dict[str, Position]:
        """See `pipelines.ingest.post.EnvelopeSink`."""
        return dict(self._positions)

    async def send(self, effects: list[Effect]) -> None:
        """See `pipelines.ingest.post.EnvelopeSink`."""
        self._rebuild.process(effects)

    async def sources(self) -> dict[str, SourceState]:
        """See `pipelines.ingest.post.EnvelopeSink`."""
        return {}

    async def keep(
        self, positions: dict[str, Position], sources: Mapping[str, SourceState] | None = None
    ) -> None:
        """See `pipelines.ingest.post.EnvelopeSink`."""
        del sources
        self._positions.update(positions)


@dataclass(frozen=True)
class Reconciliation:
    """A comparison: when (ms), of how much, and what differs."""

    run_id: str
    at: int
    rows_read: int
    shelves: int
    incidents: int
    differences: list[Difference]

    @property
    def faults(self) -> list[Difference]:
        """The differences that nothing explains."""
        return [d for d in self.differences if not d.explained]


def reconcile(
    input: Path, settings: Settings, *, mapping: Path | None = None, log: bool = False
) -> None:
    """Compare, store, and print what differs; with `log` the events come from Kafka.

    Raises `ZerostockError` when something differs that too late events do not explain, `InputError`
    for a directory that cannot be read or holds no warehouse.
    """
    data = settings.data if settings.warehouse is None else None
    if data is not None and not (data / "warehouse").is_dir():
        raise InputError(f"there is no warehouse in {data}: `zerostock run` makes it")
    exports = load_mapping(mapping) if mapping is not None else None
    options = IngestOptions(disorder_ms=settings.disorder, mapping=exports, live=settings.live)
    screen = Screen(Console(highlight=False))
    warehouse = open_warehouse(data=settings.data, url=settings.warehouse)
    try:
        migrate(warehouse, zone=settings.time_zone)
        source = settings if log else None
        result = asyncio.run(
            _compare(input, warehouse, options, screen, source, settings.restate_within)
        )
        store(warehouse, input, result)
    finally:
        screen.close()
        warehouse.close()
    show(screen.console, result)
    if result.faults:
        raise ZerostockError(
            f"{counted(len(result.faults), 'difference')} between files and tables, kept in"
            f" reconcile_differences, run_id {result.run_id}"
        )


async def _compare(
    input: Path,
    warehouse: Warehouse,
    options: IngestOptions,
    screen: Screen,
    log: Settings | None,
    restate_within: int,
) -> Reconciliation:
    at = time.time_ns() // 1_000_000
    found = live_state(warehouse, restate_within)
    if log is not None:
        rebuild, rows = await rebuild_from_log(input, log, found.too_late)
    else:
        rebuild, rows = await rebuild_from(input, options, found.too_late, screen)
    expected = rebuild.state()
    passed = rebuild.passed | _passed(warehouse, found.too_late)
    differences = compare(expected, found, passed)
    return Reconciliation(
        uuid.uuid4().hex, at, rows, len(expected.stock), len(expected.incidents), differences
    )


async def rebuild_from(
    input: Path, options: IngestOptions, watched: set[str], screen: Screen
) -> tuple[Rebuild, int]:
    """The directory's events folded, and how many rows it has."""
    rebuild = _empty(input, watched)
    report = await read_directory(
        input, MemoryPost(rebuild), options=options, progress=screen.progress
    )
    return rebuild, report.rows


async def rebuild_from_log(
    input: Path, settings: Settings, watched: set[str]
) -> tuple[Rebuild, int]:
    """The events on Kafka folded, and how many rows there are; `input` has the reference tables.

    Raises `BrokerError` if Kafka cannot be reached or has deleted the beginning.
    """
    # This brings Faust along, which takes a second to load.
    from infra.wiring import kafka_security

    rows = 0
    async with open_consumer(settings.broker, kafka_security(settings)) as consumer:
        partitions = sorted(consumer.partitions_for_topic(SIM_EVENTS) or ())
        if not partitions:
            raise BrokerError(f"Kafka at {settings.broker} has no topic {SIM_EVENTS}")
        parts = [TopicPartition(SIM_EVENTS, partition) for partition in partitions]
        if any((await consumer.beginning_offsets(parts)).values()):
            raise BrokerError(
                f"Kafka has deleted the beginning of {SIM_EVENTS}: reconcile with the files"
            )
        rebuild = _empty(input, watched, len(partitions))
        async for message in read_to_end(consumer, SIM_EVENTS, *partitions):
            with contextlib.suppress(EnvelopeError):  # A dead letter, as the workers had it.
                header, batch = unpack(message.value, SIM_EVENTS)
                rebuild.hold(header, batch, message.partition)
                rows += batch.num_rows if batch is not None else 0
    rebuild.fold()
    return rebuild, rows


def _empty(input: Path, watched: set[str], partitions: int = 1) -> Rebuild:
    reference = load_reference(input / "reference").reference
    registry = SimRegistry(
        [
            SimRange(int(b.first_imsi), b.count, b.sku, b.first_iccid, b.luhn)
            for b in reference.batches
        ]
    )
    return Rebuild(registry, reference.holder, frozenset(watched), partitions)


# The tables


def live_state(warehouse: Warehouse, restate_within: int) -> StockState:
    """What the tables say; events later than `restate_within` ms were too late for it."""
    stock = warehouse.query("SELECT outlet_id, sku, on_hand FROM stock_on_hand").to_pylist()
    incidents = warehouse.query(
        "SELECT incident_id, outlet_id, sku, wholesaler_id,"
        " toUnixTimestamp64Milli(opened_at) AS opened_at,"
        " if(closed_at IS NULL, NULL, toUnixTimestamp64Milli(assumeNotNull(closed_at)))"
        " AS closed_at FROM stock_incidents"
    ).to_pylist()
    anomalies = warehouse.query(
        "SELECT kind, iccid, toInt64(count()) AS count FROM anomalies GROUP BY kind, iccid"
    ).to_pylist()
    too_late = warehouse.query(
        "SELECT DISTINCT iccid FROM anomalies WHERE kind = 'late'"
        " AND toUnixTimestamp64Milli(known_at) - toUnixTimestamp64Milli(at) > {within:Int64}",
        {"within": restate_within},
    )
    return StockState(
        {(row["outlet_id"], row["sku"]): row["on_hand"] for row in stock},
        {Stockout(*(row[name] for name in Stockout._fields)) for row in incidents},
        Counter({(row["kind"], row["iccid"]): row["count"] for row in anomalies}),
        set(too_late["iccid"].to_pylist()),
    )


def _passed(warehouse: Warehouse, too_late: set[str]) -> set[Shelf]:
    if not too_late:
        return set()
    rows = warehouse.query(
        "SELECT DISTINCT outlet_id, sku, iccid FROM stock_movements"
        " WHERE iccid IN (SELECT iccid FROM anomalies WHERE kind = 'late')"
    ).to_pylist()
    return {(row["outlet_id"], row["sku"]) for row in rows if row["iccid"] in too_late}


def store(warehouse: Warehouse, input: Path, result: Reconciliation) -> None:
    """Keep the comparison, its differences first."""
    if result.differences:
        rows: Mapping[str, object] = {
            "run_id": [result.run_id] * len(result.differences),
            "at": pa.array([result.at] * len(result.differences), _MS),
            **{
                name: pa.array([getattr(d, name) for d in result.differences], pa.string())
                for name in Difference._fields
            },
        }
        warehouse.insert("reconcile_differences_rows", pa.table(rows))
    summary = {
        "run_id": [result.run_id],
        "at": pa.array([result.at], _MS),
        "input": [str(input)],
        "rows_read": [result.rows_read],
        "shelves": [result.shelves],
        "incidents": [result.incidents],
        "differences": [len(result.differences)],
        "explained": [len(result.differences) - len(result.faults)],
    }
    warehouse.insert("reconcile_runs_rows", pa.table(summary))


# The screen


def show(console: Console, result: Reconciliation) -> None:
    """The comparison in a line, then the first differences."""
    console.print(
        f"{counted(result.rows_read, 'row')} folded again:"
        f" {counted(result.shelves, 'shelf', 'shelves')} and"
        f" {counted(result.incidents, 'stock-out')} compared,"
        f" {counted(len(result.differences), 'difference')}",
        soft_wrap=True,
    )
    faults = result.faults
    if faults:
        table = Table(box=None)
        for name in ("what", "outlet", "sku", "item", "expected", "found"):
            table.add_column(name)
        for d in faults[:_SHOWN]:
            table.add_row(d.kind, d.outlet_id, d.sku, d.item, d.expected or "-", d.found or "-")
        console.print(table)
        if len(faults) > _SHOWN:
            console.print(f"{len(faults) - _SHOWN:,} more in reconcile_differences")
    explained = len(result.differences) - len(faults)
    if explained:
        are = "difference is" if explained == 1 else "differences are"
        console.print(
            f"{explained:,} {are} due to events that came later than --restate-within: they"
            " correct the stock, but not the history before",
            soft_wrap=True,
        )

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
from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from infra.stack.summary import Screen
from infra.text import counted
from pipelines.core.effects import Effect
from pipelines.core.stock.rebuild import Difference, Rebuild, Shelf, Stockout, StockState, compare
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.ingest import IngestOptions, read_directory
from pipelines.ingest.mapping import load_mapping
from pipelines.ingest.positions import Position
from pipelines.ingest.reference import load_reference
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from schemas.envelope import unpack
from schemas.errors import BrokerError, EnvelopeError, InputError, ZerostockError
from schemas.topics import SIM_EVENTS

#: Differences shown; all of them are stored.
_SHOWN = 20

_MS = pa.timestamp("ms", tz="UTC")


class MemoryPost:
    """A post whose reader is the core itself: nothing is kept but what follows from it."""

    partitions = 1

    def __init__(self, rebuild: Rebuild) -> None:
        self._rebuild = rebuild
        self._positions: dict[str, Position] = {}

    async def positions(self) -> dict[str, Position]:
        """See `pipelines.ingest.post.EnvelopeSink`."""
        return dict(self._positions)

    async def send(self, effects: list[Effect]) -> None:
        """See `pipelines.ingest.post.EnvelopeSink`."""
        self._rebuild.take(effects)

    async def keep(self, positions: dict[str, Position]) -> None:
        """See `pipelines.ingest.post.EnvelopeSink`."""
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

    Raises `ZerostockError` when something differs that late events do not explain, `InputError`
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
        migrate(warehouse)
        result = asyncio.run(_compare(input, warehouse, options, screen, settings if log else None))
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
) -> Reconciliation:
    at = time.time_ns() // 1_000_000
    found = live_standing(warehouse)
    if log is not None:
        rebuild, rows = await rebuild_from_log(input, log, found.late_sims)
    else:
        rebuild, rows = await rebuild_from(input, options, found.late_sims, screen)
    expected = rebuild.standing()
    differences = compare(expected, found, rebuild.passed | _passed(warehouse))
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
    # These bring Faust along, which takes a second to load.
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    from infra.wiring import kafka_security

    rebuild, rows = _empty(input, watched), 0
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker, enable_auto_commit=False, **kafka_security(settings)
    )
    try:
        await consumer.start()
        parts = [
            TopicPartition(SIM_EVENTS, p) for p in consumer.partitions_for_topic(SIM_EVENTS) or ()
        ]
        if not parts:
            raise BrokerError(f"Kafka at {settings.broker} has no topic {SIM_EVENTS}")
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        gone = [part for part, first in (await consumer.beginning_offsets(parts)).items() if first]
        if gone:
            raise BrokerError(
                f"Kafka has deleted the beginning of {SIM_EVENTS}: reconcile with the files"
            )
        ends = await consumer.end_offsets(parts)
        while True:
            found = await consumer.getmany(timeout_ms=200)
            for message in (m for some in found.values() for m in some):
                with contextlib.suppress(EnvelopeError):  # A dead letter, as the workers had it.
                    header, batch = unpack(message.value, SIM_EVENTS)
                    rebuild.hold(header, batch)
                    rows += batch.num_rows if batch is not None else 0
            # The embedded broker may report an end too low: an empty read has the last word.
            if not found and all([await consumer.position(p) >= ends[p] for p in parts]):
                break
    except KafkaError as error:
        raise BrokerError(f"Kafka at {settings.broker} cannot be read: {error}") from None
    finally:
        await consumer.stop()
    rebuild.fold()
    return rebuild, rows


def _empty(input: Path, watched: set[str]) -> Rebuild:
    reference = load_reference(input / "reference").reference
    registry = SimRegistry(
        [
            SimRange(int(b.first_imsi), b.count, b.sku, b.first_iccid, b.luhn)
            for b in reference.batches
        ],
        reference.cards,
    )
    return Rebuild(registry, reference.holder, frozenset(watched))


# The tables


def live_standing(warehouse: Warehouse) -> StockState:
    """What the tables say."""
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
    return StockState(
        {(row["outlet_id"], row["sku"]): row["on_hand"] for row in stock},
        {
            row["incident_id"]: Stockout(*(row[name] for name in Stockout._fields))
            for row in incidents
        },
        Counter({(row["kind"], row["iccid"]): row["count"] for row in anomalies}),
    )


def _passed(warehouse: Warehouse) -> set[Shelf]:
    rows = warehouse.query(
        "SELECT DISTINCT outlet_id, sku FROM stock_movements"
        " WHERE iccid IN (SELECT iccid FROM anomalies WHERE kind = 'late')"
    ).to_pylist()
    return {(row["outlet_id"], row["sku"]) for row in rows}


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
            f"{explained:,} {are} the work of events that came late: they correct the"
            " stock, but no stock-out that was final",
            soft_wrap=True,
        )

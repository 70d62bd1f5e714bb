"""`zerostock dead-letters`, as a person sees it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from infra.dead_letters.replay import DeadLetter, Recheck, fix_of, place_order, recheck, send
from infra.settings import Settings
from infra.text import counted, printable
from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.ingest.post import KafkaSink
from pipelines.warehouse import Warehouse, migrate, open_for_reading, open_warehouse
from schemas.errors import InputError, UsageError
from schemas.fields import TIME_END, parse_duration, parse_time

_WHERE = (
    "WHERE startsWith(reason, {reason:String}) AND startsWith(source, {source:String})"
    " AND toUnixTimestamp64Milli(received_at) >= {since:Int64}"
    " AND toUnixTimestamp64Milli(received_at) < {until:Int64}"
)

#: Lines shown of what a replay would do, and characters of a line.
_SHOWN = 50
_LINE = 400


@dataclass(frozen=True)
class DeadLetterFilter:
    """Which dead letters: how reason and source begin, and when they were received (ms)."""

    reason: str = ""
    source: str = ""
    since: int = 0
    until: int = TIME_END

    @classmethod
    def of(
        cls, reason: str | None, source: str | None, since: str | None, until: str | None
    ) -> DeadLetterFilter:
        """As given on the command line. Raises `UsageError` for what is no time."""
        return cls(
            reason or "",
            source or "",
            _moment(since) if since is not None else 0,
            _moment(until) if until is not None else TIME_END,
        )

    @property
    def values(self) -> dict[str, str | int]:
        """For the conditions of `_WHERE`."""
        return {"reason": self.reason, "source": self.source, "since": self.since,
                "until": self.until}  # fmt: skip


def _moment(text: str) -> int:
    """A time with an offset, or how long ago: `2h`."""
    try:
        return parse_time(text)
    except ValueError:
        pass
    try:
        return time.time_ns() // 1_000_000 - parse_duration(text)
    except ValueError:
        raise UsageError(
            f"{printable(text)!r} is no time: write 2h for two hours ago, or"
            " 2026-03-01T08:00:00+08:00"
        ) from None


def show_dead_letters(
    settings: Settings, wanted: DeadLetterFilter, *, limit: int, every: bool = False
) -> None:
    """Print counts by reason, then the lines themselves in the order of their sources.

    Letters that were replayed are left out unless `every` is set.
    """
    console = Console(highlight=False)
    warehouse = open_for_reading(data=settings.data, url=settings.warehouse)
    table = "dead_letters" if every else "dead_letters_open"
    try:
        counts = warehouse.query(
            "SELECT splitByChar(':', reason)[1] AS why, toInt64(count()) AS lines,"
            " toInt64(uniqExact(source)) AS sources,"
            " toUnixTimestamp64Milli(max(received_at)) AS last"
            f" FROM {table} {_WHERE}"
            " GROUP BY why ORDER BY lines DESC, why",
            wanted.values,
        ).to_pylist()
        dead_letters = warehouse.query(
            f"SELECT source, position, reason, payload FROM {table} {_WHERE}"
            " ORDER BY source, position LIMIT {most:UInt32}",
            {**wanted.values, "most": limit},
        ).to_pylist()
    finally:
        warehouse.close()
    if not dead_letters:
        console.print("no dead letters" + (" like that" if wanted != DeadLetterFilter() else ""))
        return
    console.print(_summary(counts))
    for dead in dead_letters:
        console.print(
            "\n" + printable(f"{dead['source']}:{dead['position']}: {dead['reason']}"),
            markup=False,
            soft_wrap=True,
        )
        text = printable(_bytes(dead["payload"]).decode(errors="replace"))
        more = f" … {counted(len(text) - _LINE, 'character')} more" if len(text) > _LINE else ""
        if text:
            console.print(f"    {text[:_LINE]}{more}", markup=False, soft_wrap=True)
    shown, there = len(dead_letters), sum(row["lines"] for row in counts)
    if shown < there:
        console.print(
            f"\n{there - shown:,} of {there:,} not shown:"
            " use --limit, --reason, --source or --since",
            soft_wrap=True,
        )


def _summary(counts: list[dict[str, Any]]) -> Table:
    """Reasons with how many lines of how many sources, and when the last came."""
    table = Table(box=None)
    table.add_column("why")
    table.add_column("lines", justify="right")
    table.add_column("sources", justify="right")
    table.add_column("last received (UTC)")
    for row in counts:
        last = datetime.fromtimestamp(row["last"] / 1_000, UTC)
        table.add_row(
            printable(row["why"]),
            f"{row['lines']:,}",
            f"{row['sources']:,}",
            f"{last:%Y-%m-%d %H:%M:%S}",
        )
    return table


def replay_dead_letters(
    settings: Settings,
    wanted: DeadLetterFilter,
    *,
    input: Path,
    mapping: Path | None,
    dry_run: bool,
) -> None:
    """Check the open dead letters again; send on what is accepted now and mark it.

    With a warehouse on a server they go to Kafka at once; in a data directory they wait for its
    next run, because its broker lives only as long as a run.
    """
    exports = load_mapping(mapping) if mapping is not None else None
    embedded = settings.data if settings.warehouse is None else None
    if embedded is not None and not (embedded / "warehouse").is_dir():
        raise InputError(f"there is no warehouse in {embedded}: `zerostock run` makes it")
    console = Console(highlight=False)
    opening = open_for_reading if dry_run else open_warehouse
    warehouse = opening(data=settings.data, url=settings.warehouse)
    try:
        if not dry_run:
            migrate(warehouse)
        dead_letters = open_dead_letters(warehouse, wanted)
        found = recheck(dead_letters, input, exports, settings.partitions, settings.live)
        _tell(console, found, dry_run)
        if dry_run or not found.resolved:
            return
        send_on(warehouse, settings, found, fix_of(input, mapping))
    finally:
        warehouse.close()
    if embedded is not None and found.accepted:
        console.print(
            f"the next `zerostock run --input {input} --data {embedded}` takes them in",
            markup=False,
            soft_wrap=True,
        )


def send_on(warehouse: Warehouse, settings: Settings, found: Recheck, fix: str) -> None:
    """Send what was accepted, or leave it for the next run of a data directory; then mark it."""
    name = new_name()
    if settings.warehouse is not None or settings.data is None:
        asyncio.run(_send(settings, name, found))
    elif found.accepted:
        place_order(settings.data, name, found.accepted)
    # Marked last: a death before this sends the same dead letters again, which changes nothing.
    mark_replayed(warehouse, found.resolved, name, fix)


def new_name() -> str:
    """A name for what is replayed together."""
    return f"{time.time_ns() // 1_000_000}-{uuid.uuid4().hex[:8]}"


def open_dead_letters(warehouse: Warehouse, wanted: DeadLetterFilter) -> list[DeadLetter]:
    """The dead letters like that which nobody replayed yet."""
    rows = warehouse.query(
        "SELECT source, position, toUnixTimestamp64Milli(received_at) AS received, reason,"
        f" payload FROM dead_letters_open {_WHERE}",
        wanted.values,
    ).to_pylist()
    return [
        DeadLetter(
            row["source"],
            row["position"],
            row["received"],
            row["reason"],
            _bytes(row["payload"]),
        )
        for row in rows
    ]


def mark_replayed(
    warehouse: Warehouse, dead_letters: list[DeadLetter], name: str, fix: str
) -> None:
    """Take dead letters off the list of open ones."""
    count, ms = len(dead_letters), pa.timestamp("ms", tz="UTC")
    now = time.time_ns() // 1_000_000
    columns = {
        "source": [dead.source for dead in dead_letters],
        "position": pa.array([dead.position for dead in dead_letters], pa.int64()),
        "received_at": pa.array([dead.received_at for dead in dead_letters], ms),
        "replayed_at": pa.array([now] * count, ms),
        "replay_id": [name] * count,
        "fix": [fix] * count,
    }
    warehouse.insert("dead_letters_replayed_rows", pa.table(columns))


async def _send(settings: Settings, name: str, found: Recheck) -> None:
    # These bring Faust along, which takes a second to load.
    from infra.topics import ensure_topics
    from infra.wiring import kafka_security

    security = kafka_security(settings)
    await ensure_topics(settings.broker, settings.partitions, settings.replication, security)
    async with KafkaSink(settings.broker, security, None) as post:
        await send(name, found.effects, post)


def _tell(console: Console, found: Recheck, dry_run: bool) -> None:
    if not found.resolved and not found.refused:
        console.print("no dead letters wait for a replay")
        return
    accepted, settled, refused = len(found.accepted), len(found.settled), len(found.refused)
    would = "would be" if dry_run else "is" if accepted == 1 else "are"
    console.print(
        f"{counted(accepted, 'dead letter')} {would} accepted now,"
        f" {counted(settled, 'line')} of reference tables, or whole files,"
        f" {'is' if settled == 1 else 'are'} right now,"
        f" {refused:,} {'is' if refused == 1 else 'are'} refused still",
        soft_wrap=True,
    )
    if found.refused:
        why = Counter(reason.split(":")[0] for _, reason in found.refused)
        console.print(_by_reason(dict(why.most_common())))
    if not dry_run:
        return
    lines = [(dead, "now accepted") for dead in found.resolved] + found.refused
    for dead, what in lines[:_SHOWN]:
        console.print(
            printable(f"{dead.source}:{dead.position}: {what}"), markup=False, soft_wrap=True
        )
    if len(lines) > _SHOWN:
        console.print(f"{len(lines) - _SHOWN:,} more: use --reason, --source or --since")


def _by_reason(counts: dict[str, int]) -> Table:
    table = Table(box=None)
    table.add_column("why")
    table.add_column("lines", justify="right")
    for why, lines in counts.items():
        table.add_row(printable(why), f"{lines:,}")
    return table


def _bytes(payload: str | bytes) -> bytes:
    return payload if isinstance(payload, bytes) else payload.encode()

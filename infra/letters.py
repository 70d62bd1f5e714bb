"""`zerostock dead-letters`, as a person sees it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from infra.replaying import Letter, Recheck, fix_of, place_order, recheck, send
from infra.settings import Settings
from pipelines.ingest.mapping import load_mapping
from pipelines.ingest.post import KafkaPost
from pipelines.warehouse import Warehouse, migrate, open_for_reading, open_warehouse
from schemas.errors import InputError

_WHERE = "WHERE startsWith(reason, {reason:String}) AND startsWith(source, {source:String})"

#: Lines shown of what a replay would do.
_SHOWN = 50


def show_dead_letters(
    settings: Settings, *, reason: str | None, source: str | None, limit: int, every: bool = False
) -> None:
    """Print counts by reason, then the lines themselves in the order of their sources.

    Letters that were replayed are left out unless `every` is set.
    """
    console = Console(highlight=False)
    warehouse = open_for_reading(data=settings.data, url=settings.warehouse)
    wanted = {"reason": reason or "", "source": source or ""}
    table = "dead_letters" if every else "dead_letters_open"
    try:
        counts = warehouse.query(
            "SELECT splitByChar(':', reason)[1] AS why, count() AS lines"
            f" FROM {table} {_WHERE}"
            " GROUP BY why ORDER BY lines DESC, why",
            wanted,
        ).to_pydict()
        letters = warehouse.query(
            f"SELECT source, position, reason, payload FROM {table} {_WHERE}"
            " ORDER BY source, position LIMIT {most:UInt32}",
            {**wanted, "most": limit},
        ).to_pylist()
    finally:
        warehouse.close()
    if not letters:
        console.print("no dead letters")
        return
    console.print(_by_reason(dict(zip(counts["why"], counts["lines"], strict=True))))
    for letter in letters:
        text = _bytes(letter["payload"]).decode(errors="replace")
        console.print(
            f"\n{letter['source']}:{letter['position']}: {letter['reason']}",
            markup=False,
            soft_wrap=True,
        )
        console.print(f"    {text[:400]}", markup=False, soft_wrap=True)
    shown, there = len(letters), sum(counts["lines"])
    if shown < there:
        console.print(f"\n{there - shown:,} more: use --limit, --reason or --source")


def replay_dead_letters(
    settings: Settings,
    *,
    input: Path,
    mapping: Path | None,
    reason: str | None,
    source: str | None,
    dry_run: bool,
) -> None:
    """Put the open letters to the checks as they are now; send on what is accepted and mark it.

    With a warehouse on a server the letters go to Kafka at once; in a data directory they wait for
    its next run, because its broker lives only as long as a run.
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
        letters = open_letters(warehouse, reason or "", source or "")
        found = recheck(letters, input, exports, settings.partitions)
        _tell(console, found, dry_run)
        if dry_run or not found.resolved:
            return
        name = f"{time.time_ns() // 1_000_000}-{uuid.uuid4().hex[:8]}"
        if embedded is None:
            asyncio.run(_send(settings, name, found))
        elif found.accepted:
            place_order(embedded, name, found.accepted)
        # Marked last: a death before this sends the same letters again, which changes nothing.
        mark_replayed(warehouse, found.resolved, name, fix_of(input, mapping))
    finally:
        warehouse.close()
    if embedded is not None and found.accepted:
        console.print(
            f"the next `zerostock run --input {input} --data {embedded}` takes them in",
            markup=False,
            soft_wrap=True,
        )


def open_letters(warehouse: Warehouse, reason: str, source: str) -> list[Letter]:
    """The letters that nobody replayed yet, with reasons and sources that begin like this."""
    rows = warehouse.query(
        "SELECT source, position, toUnixTimestamp64Milli(received_at) AS received_at, reason,"
        f" payload FROM dead_letters_open {_WHERE}",
        {"reason": reason, "source": source},
    ).to_pylist()
    return [Letter(**{**row, "payload": _bytes(row["payload"])}) for row in rows]


def mark_replayed(warehouse: Warehouse, letters: list[Letter], name: str, fix: str) -> None:
    """Take letters off the list of open ones."""
    count, ms = len(letters), pa.timestamp("ms", tz="UTC")
    now = time.time_ns() // 1_000_000
    columns = {
        "source": [letter.source for letter in letters],
        "position": pa.array([letter.position for letter in letters], pa.int64()),
        "received_at": pa.array([letter.received_at for letter in letters], ms),
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
    async with KafkaPost(settings.broker, security, None) as post:
        await send(name, found.effects, post)


def _tell(console: Console, found: Recheck, dry_run: bool) -> None:
    would = "would be" if dry_run else "are"
    console.print(
        f"{len(found.accepted):,} letters {would} accepted now, {len(found.settled):,} lines of"
        f" reference tables are right now, {len(found.refused):,} are refused still",
        soft_wrap=True,
    )
    if found.refused:
        why = Counter(reason.split(":")[0] for _, reason in found.refused)
        console.print(_by_reason(dict(why.most_common())))
    if not dry_run:
        return
    lines = [(letter, "now accepted") for letter in found.resolved] + found.refused
    for letter, what in lines[:_SHOWN]:
        console.print(f"{letter.source}:{letter.position}: {what}", markup=False, soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"{len(lines) - _SHOWN:,} more: use --reason or --source")


def _by_reason(counts: dict[str, int]) -> Table:
    table = Table(box=None)
    table.add_column("why")
    table.add_column("lines", justify="right")
    for why, lines in counts.items():
        table.add_row(why, f"{lines:,}")
    return table


def _bytes(payload: str | bytes) -> bytes:
    return payload if isinstance(payload, bytes) else payload.encode()

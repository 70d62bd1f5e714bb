"""`zerostock sources`: what is on record of each source, and taking one out of the count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from infra.stack.snapshot import load_snapshot
from infra.text import counted, printable
from pipelines.ingest.pack import announcement
from pipelines.ingest.positions import noted_source
from pipelines.ingest.post import KafkaSink
from pipelines.ingest.source_clock import Disorder
from pipelines.ingest.sources import SourceState
from schemas.envelope import NO_WATERMARK, Header
from schemas.errors import UsageError
from schemas.fields import format_duration
from schemas.topics import INGEST_POSITIONS

#: Columns that the table takes at most.
_WIDTH: Final = 200


async def list_sources(settings: Settings, console: Console) -> None:
    """Show the sources on record at a broker, or of the last run on a data directory."""
    states = await states_of(settings)
    if not states:
        console.print("no source is on record")
        return
    table = Table(box=None)
    for name in ("source", "status", "watermark (UTC)", "seen (UTC)"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "late", "median", "99 %", "most", "bound"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, state in sorted(states.items()):
        measured = state.measured
        table.add_row(
            *(printable(name), state.status, _time(state.watermark), _time(state.seen)),
            *(f"{measured.rows:,}", f"{measured.late:,}"),
            *(format_duration(measured.quantile(share)) for share in (0.5, 0.99)),
            *(format_duration(measured.most), _bound(state)),
        )
    if not console.is_terminal:  # a file or a pipe has room
        console.width = max(console.width, _WIDTH)
    console.print(table)
    console.print("median, 99 %, most: how far behind the newest row before them rows come")
    if any(state.longest for state in states.values()):
        console.print("+: the longest call, of sources whose rows come in the order of call ends")
    for line in advice({n: (s.measured, s.disorder) for n, s in sorted(states.items())}):
        console.print(f"[yellow]note:[/yellow] {line}", soft_wrap=True)


def advice(measured: Mapping[str, tuple[Disorder, int]]) -> list[str]:
    """A line for each source of which more than one row in a thousand came too late.

    `measured` has, by source, what was measured and the bound it was read with (ms).
    """
    return [
        f"{printable(name)}: {counted(disorder.late, 'row')} of {disorder.rows:,} came too late,"
        f" up to {format_duration(disorder.most)} out of order:"
        f" --disorder {format_duration(disorder.fitting)} would fit"
        for name, (disorder, bound) in measured.items()
        if disorder.excessive and disorder.fitting > bound
    ]


async def retire_source(name: str, settings: Settings, security: Mapping[str, object]) -> None:
    """Put a source on record as gone for good, so that nothing waits for it.

    Raises `UsageError` for a source that is not on record.
    """
    async with KafkaSink(settings.broker, security, None) as sink:
        states = await sink.sources()
        state = states.get(name)
        if state is None:
            known = ", ".join(sorted(states)) or "none"
            raise UsageError(f"no source {name!r} is on record; there are: {known}")
        retired = msgspec.structs.replace(state, status="retired")
        await sink.keep({}, {name: retired})
        header = Header("none", name, state.watermark, ended=True)
        await sink.send(announcement(header, sink.partitions))
        await sink.keep({})


async def states_of(settings: Settings) -> dict[str, SourceState]:
    """What is on record of each source, at a broker or of the last run on a data directory."""
    if settings.data is not None:
        return _states_of_run(settings.data, settings.partitions)
    from infra.wiring import kafka_security  # brings Faust along, which takes a second to load

    async with KafkaSink(settings.broker, kafka_security(settings), None) as sink:
        return dict(await sink.sources())


def _states_of_run(data: Path, partitions: int) -> dict[str, SourceState]:
    snapshot = load_snapshot(data / "state.snapshot", partitions)
    if snapshot is None:
        return {}
    (entries,) = snapshot.entries[INGEST_POSITIONS]
    return dict(filter(None, (noted_source(*entry) for entry in entries.items())))


def _bound(state: SourceState) -> str:
    longest = f" + {format_duration(state.longest)}" if state.longest else ""
    return format_duration(state.disorder) + longest


def _time(at: int) -> str:
    if at in (0, NO_WATERMARK):
        return "-"
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y-%m-%d %H:%M:%S}"

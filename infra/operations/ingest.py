"""`zerostock ingest`: files into a real Kafka."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from infra.dead_letters.limit import DeadLetterLimit
from infra.operations.sources import advice
from infra.settings import Settings
from infra.stack.summary import Screen
from infra.topics import ensure_topics
from infra.wiring import kafka_security, reader_options
from pipelines.ingest import IngestOptions, ingest
from pipelines.ingest.mapping.mapping import load_mapping


async def ingest_paths(
    paths: list[Path], settings: Settings, *, follow: bool, mapping: Path | None
) -> None:
    """Read the directories one after the other, or all at once to follow them."""
    security = kafka_security(settings)
    await ensure_topics(settings.broker, settings.partitions, settings.replication, security)
    options = IngestOptions(
        **reader_options(settings) | {"live": settings.clock != "event"},
        mapping=load_mapping(mapping) if mapping is not None else None,
        follow=follow,
        throttle_group=None,
        security=security,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    screen = Screen()
    try:
        reports = await asyncio.gather(
            *(
                ingest(
                    path,
                    settings.broker,
                    options=options,
                    progress=DeadLetterLimit(settings.dead_letter_limit, screen.progress),
                    stop=stop,
                )
                for path in paths
            )
        )
    finally:
        screen.close()
    for path, report in zip(paths, reports, strict=True):
        screen.unread(report.unread)
        screen.console.print(
            f"{path}: {report.rows:,} rows read, {report.outsiders:,} of other subscribers,"
            f" {report.dead_letters:,} refused, in {report.seconds:.1f} s"
        )
        for line in advice(report.disorder):
            screen.note(line)

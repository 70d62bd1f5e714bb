"""`zerostock ingest`: files, and topics of other clusters, into a real Kafka."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path

from infra.dead_letters.limit import DeadLetterLimit
from infra.operations.sources import advice
from infra.settings import Settings
from infra.stack.summary import Screen
from infra.topics import ensure_topics
from infra.wiring import kafka_security, reader_options
from pipelines.ingest import IngestOptions, ingest
from pipelines.ingest.feeds import SCHEME
from pipelines.ingest.feeds.topic import TopicAddress, TopicFeed
from pipelines.ingest.mapping.mapping import Mapping, load_mapping
from schemas.errors import UsageError


def split_inputs(inputs: Iterable[str]) -> tuple[list[Path], list[TopicAddress]]:
    """Which are directories, and which topics. Raises `UsageError` for a topic that is none."""
    given = list(inputs)
    topics = [TopicAddress.parse(text) for text in given if text.startswith(SCHEME)]
    return [Path(text) for text in given if not text.startswith(SCHEME)], topics


def topic_feeds(
    topics: list[TopicAddress], settings: Settings, mapping: Mapping | None, *, follow: bool
) -> list[TopicFeed]:
    """The topics as feeds, with the login of the outside cluster, or ours if it has no other."""
    prefix = "kafka" if settings.feed_kafka_security is None else "feed_kafka"
    security = kafka_security(settings, prefix) if topics else {}
    ca = getattr(settings, f"{prefix}_ca")
    return [
        TopicFeed(
            topic,
            security,
            str(ca) if ca is not None else None,
            mapping,
            follow,
            f"ZEROSTOCK_{prefix.upper()}",
        )
        for topic in topics
    ]


async def ingest_paths(
    paths: list[str], settings: Settings, *, follow: bool, mapping: Path | None
) -> None:
    """Read directories and topics all at once; topics are read with the first directory.

    Raises `UsageError` for topics without reference tables.
    """
    directories, topics = split_inputs(paths)
    if not directories and settings.reference is None:
        raise UsageError("topics alone have no reference tables: add --reference DIR")
    if settings.archive is not None and len(directories) > 1:
        raise UsageError("--archive goes with one directory: their files would meet there")
    security = kafka_security(settings)
    await ensure_topics(settings.broker, settings.partitions, settings.replication, security)
    exports = load_mapping(mapping) if mapping is not None else None
    feeds = topic_feeds(topics, settings, exports, follow=follow)
    options = IngestOptions(
        **reader_options(settings) | {"live": settings.clock != "event"},
        mapping=exports,
        archive=settings.archive,
        follow=follow,
        throttle_group=None,
        security=security,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    screen = Screen()
    readings: list[Path | None] = [*directories] or [None]
    try:
        reports = await asyncio.gather(
            *(
                ingest(
                    directory,
                    settings.broker,
                    options=options,
                    feeds=() if number else feeds,
                    reference=None if directory is not None else settings.reference,
                    progress=DeadLetterLimit(settings.dead_letter_limit, screen.progress),
                    stop=stop,
                )
                for number, directory in enumerate(readings)
            )
        )
    finally:
        screen.close()
    for number, report in enumerate(reports):
        read = [readings[number], *([] if number else [topic.name for topic in topics])]
        path = ", ".join(str(one) for one in read if one is not None)
        screen.unread(report.unread)
        screen.console.print(
            f"{path}: {report.rows:,} rows read, {report.outsiders:,} of other subscribers,"
            f" {report.dead_letters:,} refused, in {report.seconds:.1f} s"
        )
        for line in advice(report.disorder):
            screen.note(line)

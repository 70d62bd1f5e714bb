"""The events on a broker, in several partitions, come to what the files come to."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from services.broker import EmbeddedBroker

from infra.operations.reconcile import rebuild_from, rebuild_from_log
from infra.settings import Settings
from infra.stack.summary import Screen
from infra.topics import ensure_topics
from pipelines.core.stock.rebuild import compare
from pipelines.ingest import IngestOptions, ingest


def test_the_log_comes_to_what_the_files_come_to(city: Path, tmp_path: Path) -> None:
    broker, options = EmbeddedBroker(tmp_path), IngestOptions()
    broker.start()

    async def both() -> None:
        await ensure_topics(broker.bootstrap, 3)
        await ingest(city, broker.bootstrap, options=options)
        settings = Settings(broker=broker.bootstrap, partitions=3)
        log, _ = await rebuild_from_log(city, settings, set())
        files, _ = await rebuild_from(city, options, set(), Screen(Console(quiet=True)))
        assert len(files.state().incidents) > 0
        assert log.state().stock == files.state().stock
        assert compare(files.state(), log.state(), set()) == []

    try:
        asyncio.run(both())
    finally:
        broker.close()

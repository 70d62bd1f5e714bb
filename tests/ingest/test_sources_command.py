"""`zerostock sources`: what it shows of a broker and of a run, and what retiring does."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_harness import call_row, csv_of, make_reference, put
from rich.console import Console
from services.broker import EmbeddedBroker
from services.running import running

from infra.operations.sources import list_sources, retire_source
from infra.settings import Settings
from infra.stack.snapshot import save_snapshot, take_snapshot
from infra.topics import ensure_topics
from pipelines.ingest import IngestOptions, ingest
from pipelines.kafka import open_consumer, read_to_end
from schemas.envelope import Header, unpack
from schemas.errors import UsageError
from schemas.topics import SIM_EVENTS


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """An embedded broker into which two sources were read, one of them in bad order."""
    with running(lambda: EmbeddedBroker(tmp_path)) as server:
        city = tmp_path / "city"
        make_reference(city)
        put(city / "cdr/a/1.csv", csv_of(call_row(1), call_row(2)))
        put(city / "cdr/b/1.csv", csv_of(call_row(900), call_row(3)))

        async def read() -> None:
            await ensure_topics(server.bootstrap, 2)
            await ingest(city, server.bootstrap, options=IngestOptions())

        asyncio.run(read())
        yield server.bootstrap


def shown(settings: Settings) -> str:
    text = io.StringIO()
    asyncio.run(list_sources(settings, Console(file=text, width=200)))
    return text.getvalue()


def test_each_source_is_shown_with_its_disorder_and_the_bound_that_would_fit(
    broker: str, tmp_path: Path
) -> None:
    of_broker = shown(Settings(broker=broker))
    a, b = (line.split() for line in of_broker.splitlines() if line.split()[0].startswith("cdr/"))
    assert a[:4] == ["cdr/a", "ended", "2026-03-01", "23:59:02"]
    assert a[6:] == ["2", "0", "0s", "0s", "0s", "1m"]
    assert b[6:8] == ["2", "1"]
    assert b[10:] == ["897s", "1m"]
    assert "cdr/b: 1 row of 2 came too late, up to 897s out of order: --disorder 15m" in of_broker
    assert "cdr/a:" not in of_broker
    snapshot = asyncio.run(take_snapshot(broker, 2, tmp_path / "city"))
    save_snapshot(tmp_path / "state.snapshot", snapshot)
    assert shown(Settings(data=tmp_path)) == of_broker


def test_nothing_is_on_record_before_a_run(tmp_path: Path) -> None:
    assert shown(Settings(data=tmp_path)) == "no source is on record\n"


def test_a_retired_source_is_said_to_have_ended_on_every_partition(broker: str) -> None:
    settings = Settings(broker=broker)
    asyncio.run(retire_source("cdr/a", settings, {}))

    async def last(partition: int) -> Header:
        async with open_consumer(broker) as consumer:
            found = [m.value async for m in read_to_end(consumer, SIM_EVENTS, partition)]
            return unpack(found[-1])[0]

    for partition in range(2):
        header = asyncio.run(last(partition))
        assert (header.kind, header.source, header.ended) == ("none", "cdr/a", True)
    assert ["cdr/a", "retired"] in [line.split()[:2] for line in shown(settings).splitlines()]
    with pytest.raises(UsageError, match=r"'cdr/z' is on record; there are: cdr/a, cdr/b"):
        asyncio.run(retire_source("cdr/z", settings, {}))

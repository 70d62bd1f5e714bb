"""SIMs in no batch are somebody else's: counted, and not heard of again, but their clock counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from ingest_harness import FIRST_IMSI, make_reference, moment, put

from pipelines.core.effects import Effect
from pipelines.ingest import IngestOptions, IngestReport, read_directory
from pipelines.ingest.positions import Position
from pipelines.ingest.sources import SourceState
from schemas import topics


class Kept:
    """A post that keeps what it is given."""

    partitions = 2

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    async def positions(self) -> dict[str, Position]:
        return {}

    async def send(self, effects: list[Effect]) -> None:
        self.effects += effects

    async def sources(self) -> dict[str, SourceState]:
        return {}

    async def keep(self, positions: Any, sources: Any = None) -> None: ...

    def rows(self, topic: str) -> list[dict[str, Any]]:
        return [
            row
            for effect in self.effects
            if effect.topic == topic and effect.rows is not None
            for row in effect.rows.to_pylist()
        ]


def read(directory: Path, *events: dict[str, object]) -> tuple[Kept, IngestReport]:
    make_reference(directory)
    put(directory / "events" / "1.ndjson", "".join(json.dumps(e) + "\n" for e in events))
    post = Kept()
    report = asyncio.run(read_directory(directory, post, options=IngestOptions(disorder_ms=0)))
    return post, report


def registration(number: int, imsi: int, second: float) -> dict[str, object]:
    return {
        "type": "registration",
        "event_id": f"R{number}",
        "at": moment(second),
        "imsi": str(imsi),
        "complete": True,
    }


def activation(number: int, imsi: int, second: float) -> dict[str, object]:
    return {
        "type": "activation",
        "event_id": f"A{number}",
        "at": moment(second),
        "imsi": str(imsi),
    }


def test_papers_of_outsiders_are_counted_and_go_nowhere(tmp_path: Path) -> None:
    ours, theirs = FIRST_IMSI + 7, FIRST_IMSI - 1
    post, report = read(tmp_path, registration(1, theirs, 1), registration(2, ours, 2))
    assert [row["event_id"] for row in post.rows(topics.REGISTRATIONS)] == ["R2"]
    assert post.rows(topics.REGISTRATIONS)[0]["imsi"] == ours
    assert (report.outsiders, report.dead_letters) == (1, 0)


def test_the_time_of_an_outsiders_row_makes_later_lines_late(tmp_path: Path) -> None:
    ours, theirs = FIRST_IMSI + 7, FIRST_IMSI - 1
    for number, ahead in enumerate((registration(1, theirs, 50), activation(1, theirs, 50))):
        post, report = read(tmp_path / str(number), ahead, activation(2, ours, 10))
        (use,) = (row for row in post.rows(topics.SIM_EVENTS) if "event_id" in row)
        assert use["known_at"] == use["at"] + 40_000
        assert report.outsiders == 1

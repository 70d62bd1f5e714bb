"""SIMs in no batch are somebody else's: counted; but their clock counts, and a batch may come."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import FIRST_IMSI, START, make_reference, moment, put

from pipelines.core.effects import Effect
from pipelines.ingest import IngestOptions, IngestReport, read_directory
from pipelines.ingest.positions import Position
from pipelines.ingest.sent_uses import SentUses
from pipelines.ingest.sources import SourceState
from schemas import topics
from schemas.topics import block_of, partition_of_block


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
        rows = [row for row in post.rows(topics.SIM_EVENTS) if "event_id" in row]
        (use,) = (row for row in rows if row["imsi"] == ours)
        assert use["known_at"] == use["at"] + 40_000
        assert report.outsiders == 1


def unregistered(post: Kept) -> list[tuple[str, int, int]]:
    return sorted(
        tuple(row.values())
        for effect in post.effects
        if effect.header.kind == "unregistered_uses" and effect.rows is not None
        for row in effect.rows.select(["event_id", "imsi", "at"]).to_pylist()
    )


def test_what_may_be_a_first_use_of_a_later_batch_is_sent_once(tmp_path: Path) -> None:
    near, far = FIRST_IMSI + 900_000_000, FIRST_IMSI + 10**10  # the same network, and another
    events = [activation(1, near, 5), activation(2, far, 5), activation(3, near, 7)]
    events += [activation(1, near, 5), activation(4, near, 2), activation(5, near, 3)]
    post, report = read(tmp_path, *events)
    start = int(START.timestamp()) * 1_000
    assert unregistered(post) == [("A4", near, start + 2_000)]
    assert (report.outsiders, report.uses) == (6, 0)
    (partition,) = {e.partition for e in post.effects if e.header.kind == "unregistered_uses"}
    assert partition == partition_of_block(block_of(near), post.partitions)


@given(
    chunks=st.lists(
        st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1), min_size=1
    )
)
def test_of_each_sim_the_earliest_use_is_sent_whatever_is_forgotten(
    chunks: list[list[tuple[int, int]]],
) -> None:
    sent, told = SentUses(slots=7), list[tuple[int, int]]()
    for chunk in chunks:
        imsis, at = (np.array(column) for column in zip(*chunk, strict=True))
        told += [use for use, new in zip(chunk, sent.unsent(imsis, at), strict=True) if new]
    every = [use for chunk in chunks for use in chunk]
    for imsi in {imsi for imsi, _ in every}:
        earliest = min(at for sim, at in every if sim == imsi)
        # With each that is as early: the least id among them holds.
        assert told.count((imsi, earliest)) >= 1
    roomy = SentUses(slots=64)
    imsis, at = (np.array(column) for column in zip(*every, strict=True))
    new = roomy.unsent(imsis, at)
    assert sorted({use for use, is_new in zip(every, new, strict=True) if is_new}) == sorted(
        {(imsi, min(at for sim, at in every if sim == imsi)) for imsi, _ in every}
    )
    assert not roomy.unsent(imsis, at + 1).any()

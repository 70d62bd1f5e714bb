"""A small exchange directory, a post that keeps what it is given, and readers of both."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.core.effects import Effect
from pipelines.ingest import IngestOptions, IngestReport, read_directory
from pipelines.ingest.positions import Position, decode, encode
from pipelines.ingest.sources import SourceState
from schemas import topics
from schemas.envelope import pack, unpack

#: The module, which its function of the same name hides.
INGEST = importlib.import_module("pipelines.ingest.ingest")

FIRST_IMSI = 460001234500000
FIRST_ICCID = 8986000123450000000
SIMS = 5_000
START = datetime(2026, 3, 2, tzinfo=UTC)

REFERENCE = {
    "territories": "territory_id,name,parent_id\nT1,Old Town,\n",
    "cells": "cell_id,territory_id\n17-4,T1\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nW1,River,+8613800138000,,en\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\n"
    "O1,Kiosk,kiosk,T1,,\nO2,Bridge,kiosk,T1,,\n",
    "assignments": "outlet_id,wholesaler_id,valid_from\nO1,W1,2020-01-01T00:00:00Z\n",
    "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
    f"B1,PREPAID,{FIRST_ICCID},{FIRST_IMSI},{SIMS}\n",
}

HEADER = "call_id,start_time,imsi,msisdn,duration_s,cell_id,charge_fen"


def make_reference(directory: Path) -> None:
    """The reference tables of one batch, two outlets and one wholesaler."""
    folder = directory / "reference"
    folder.mkdir(parents=True)
    for name, text in REFERENCE.items():
        (folder / f"{name}.csv").write_text(text)


def put(path: Path, content: str | bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def moment(second: float) -> str:
    """A time so many seconds after the start of the tests' day."""
    return (START + timedelta(seconds=second)).isoformat(timespec="milliseconds")


def call_fields(number: int, second: float | None = None, sim: int | None = None) -> list[str]:
    """The fields of a good CDR."""
    sim = number % SIMS if sim is None else sim
    at = moment(number if second is None else second)
    return [f"C{number}", at, str(FIRST_IMSI + sim), f"86139{number:08}", "37", "17-4", "12"]


def call_row(number: int, second: float | None = None, sim: int | None = None) -> str:
    """A good CDR as a line of CSV."""
    return ",".join(call_fields(number, second, sim))


def call_json(number: int, second: float | None = None, sim: int | None = None) -> str:
    """The same as a line of JSON."""
    row: dict[str, Any] = dict(
        zip(HEADER.split(","), call_fields(number, second, sim), strict=True)
    )
    row |= {"duration_s": 37, "charge_fen": 12}
    row = {"type": "call", "event_id": row["call_id"], "at": row["start_time"], **row}
    return json.dumps(row, separators=(",", ":"))


def csv_of(*rows: str) -> str:
    """A CSV file of CDRs."""
    return "\n".join([HEADER, *rows]) + "\n"


class ListPost:
    """Keeps what it is sent, as bytes; `after` is called before each step, and may raise."""

    def __init__(self, partitions: int = 2, after: Callable[[], None] = lambda: None) -> None:
        self.partitions = partitions
        self.sent: list[tuple[str, int, bytes]] = []
        self.kept: dict[str, bytes] = {}
        self.states: dict[str, SourceState] = {}
        self.after = after

    async def positions(self) -> dict[str, Position]:
        """As `Post`."""
        return {name: decode(data) for name, data in self.kept.items()}

    async def send(self, effects: list[Effect]) -> None:
        """As `Post`."""
        for effect in effects:
            self.after()
            data = pack(effect.header, effect.rows)
            assert len(data) < 1_000_000
            self.sent.append((effect.topic, effect.partition, data))
        await asyncio.sleep(0)

    async def sources(self) -> dict[str, SourceState]:
        """As `EnvelopeSink`."""
        return dict(self.states)

    async def keep(
        self, positions: dict[str, Position], sources: Mapping[str, SourceState] | None = None
    ) -> None:
        """As `EnvelopeSink`."""
        self.after()
        self.kept |= {name: encode(position) for name, position in positions.items()}
        self.states |= copy.deepcopy(dict(sources or {}))

    def rows(self, *kinds: str) -> list[dict[str, Any]]:
        """All rows of envelopes of some kinds."""
        found: list[dict[str, Any]] = []
        for _, partition, data in self.sent:
            header, rows = unpack(data)
            if header.kind in kinds and rows is not None:
                found += [row | {"partition": partition} for row in rows.to_pylist()]
        return found

    def uses(self) -> list[tuple[str, int, int, int]]:
        """(id, IMSI, at, known_at) of each call and activation, sorted."""
        return sorted(
            (row["event_id"], row["imsi"], row["at"], row.get("known_at", row["at"]))
            for row in self.rows("uses", "late_uses")
        )

    def facts(self) -> list[tuple[Any, ...]]:
        """Each row on sim-events once, whatever the envelopes."""
        placed = {
            tuple(v for k, v in row.items() if k != "partition") for row in self.rows("placements")
        }
        return sorted(set(self.uses()) | placed, key=repr)

    def letters(self) -> list[tuple[str, int, str, bytes]]:
        """(source, position, reason, payload) of each dead letter not taken back, sorted.

        As the table has them: what was said last of a place's bytes holds.
        """
        rows = self.rows("dead_letters")
        said = {(r["source"], r["position"], r["payload"]): r["reason"] for r in rows}
        return sorted((*key[:2], why, key[2]) for key, why in said.items() if why)

    def reasons(self) -> list[tuple[int, str]]:
        """(position, what kind of reason) of each dead letter, sorted."""
        return [(position, why.split(":")[0]) for _, position, why, _ in self.letters()]

    def ended(self) -> set[str]:
        """The sources that said that they have no more."""
        headers = [unpack(data)[0] for topic, _, data in self.sent if topic == topics.SIM_EVENTS]
        return {header.source for header in headers if header.ended}


def read(
    directory: Path, post: ListPost | None = None, **options: Any
) -> tuple[ListPost, IngestReport]:
    """Read a directory once, to its end."""
    post = post or ListPost()
    report = asyncio.run(read_directory(directory, post, options=IngestOptions(**options)))
    return post, report

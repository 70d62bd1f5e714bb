"""Letters of every kind of file, put to the checks again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.dead_letters.replay import (
    DeadLetter,
    carry_out,
    place_order,
    read_order,
    recheck,
    waiting,
)
from infra.operations.reconcile import MemoryPost
from pipelines.core.service.case_rows import as_line
from pipelines.core.service.cases import Deadlines, Happened, fold
from pipelines.core.stock.placement import LATE
from pipelines.core.stock.rebuild import Rebuild
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.ingest import IngestOptions, read_directory
from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.ingest.reference import LoadedReference, load_reference
from schemas.errors import InputError
from schemas.reference import Reference, Unit
from schemas.service.rules import CaseKind, Limit, ServiceRules, StepRule

TABLES = {
    "territories": "territory_id,name,parent_id\nt,T,\n",
    "cells": "cell_id,territory_id\nc,t\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nw,W,+8613800138000,,en\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\no1,O,kiosk,t,,\n",
    "assignments": "outlet_id,wholesaler_id,valid_from\no1,w,2026-01-01T00:00:00Z\n",
    "sim_batches": (
        "batch_id,sku,first_iccid,first_imsi,count\nb,std,8986001000000000000,460001000001000,100\n"
    ),
}


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """An exchange directory with tables only."""
    (tmp_path / "city" / "reference").mkdir(parents=True)
    for name, text in TABLES.items():
        (tmp_path / "city" / "reference" / f"{name}.csv").write_text(text)
    for source in ("events", "cdr"):
        (tmp_path / "city" / source).mkdir()
    return tmp_path / "city"


def letter(source: str, payload: bytes, position: int = 1, reason: str = "x") -> DeadLetter:
    return DeadLetter(source, position, 0, reason, payload)


def delivery(event_id: str, outlet: str, first: int, count: int, hour: int = 8) -> bytes:
    return json.dumps(
        {
            "type": "delivery",
            "event_id": event_id,
            "at": f"2026-03-01T{hour:02}:00:00Z",
            "outlet_id": outlet,
            "wholesaler_id": "w",
            "first_iccid": f"898600100000000{first:04}",
            "count": count,
        }
    ).encode()


def test_lines_of_json_are_judged_one_by_one(city: Path) -> None:
    found = recheck(
        [
            letter("events/a.ndjson", delivery("d1", "o1", 0, 10), 3),
            letter("events/a.ndjson", delivery("d2", "o9", 10, 10), 2),
            letter("events/a.ndjson", b"{", 1),
            letter("cdr/live/b.ndjson", b'{"type":"call","call_id":"c","imsi":"460001000001000",'
                   b'"start_time":"2026-03-01T09:00:00Z"}', 7),
        ],
        city, None, 2,
    )  # fmt: skip
    assert [(a.source, a.position) for a in found.accepted] == [
        ("cdr/live/b.ndjson", 7),
        ("events/a.ndjson", 3),
    ]
    assert [reason.split(":")[0] for _, reason in found.refused] == ["malformed", "unknown_outlet"]
    assert {effect.header.source for effect in found.effects} == {""}
    kinds = [(effect.header.kind, effect.rows.num_rows) for effect in found.effects]
    assert kinds == [("sim_ranges", 1), ("sim_ranges", 1), ("uses", 1), ("placements", 1)]


HOUR = Limit(3_600_000, False)
COMPLAINT = CaseKind("complaint", "", ("low", "high"), HOUR, (StepRule("accept", (HOUR, HOUR)),))
DETAILS: dict[str, dict[str, Any]] = {
    "case_opened": {"kind": "complaint", "unit_id": "u"},
    "case_step": {"step": "accept"},
    "case_step ": {"step": "visit"},
    "case_answered": {},
    "case_closed": {"outcome": "done"},
    "case_reopened": {"reason": "again"},
}


@given(st.lists(st.sampled_from(sorted(DETAILS)), min_size=1, max_size=8))
def test_what_a_case_refused_is_not_accepted_by_a_replay_that_cannot_tell(
    said: list[str],
) -> None:
    """It would go off the list of open letters, and count for nothing all the same."""
    events = [
        Happened(1_772_355_600_000 + n, f"k{n}", kind.strip(), 0, DETAILS[kind], "events/a", n)
        for n, kind in enumerate(said)
    ]
    rules = ServiceRules({}, {"complaint": COMPLAINT})
    refused = fold("c", events, Deadlines(rules), 2**62).refused
    letters = [
        letter("events/a.ndjson", as_line("c", event), event.position, refused[event.event_id])
        for event in events
        if event.event_id in refused
    ]
    reference = Reference(units={"u": Unit(unit_id="u", name="U", kind="hall")}, service=rules)
    found = recheck(letters, Path("nowhere"), None, 1, tables=LoadedReference(reference, []))
    assert (found.accepted, found.effects) == ([], [])
    assert [dead for dead, _ in found.refused] == letters
    assert all("its case decides" in why for _, why in found.refused)


def test_a_line_of_csv_is_read_with_its_files_header(city: Path) -> None:
    line = b"460001000001000,c1,2026-03-01T09:00:00Z"
    file = city / "cdr" / "a.csv"
    file.write_bytes(b"imsi,call_id,start_time\n" + line + b"\n")
    assert recheck([letter("cdr/a.csv", line, 2)], city, None, 1).accepted
    file.unlink()
    ((_, reason),) = recheck([letter("cdr/a.csv", line, 2)], city, None, 1).refused
    assert "not there any more" in reason


def test_a_mapping_put_right_is_used(city: Path, tmp_path: Path) -> None:
    (city / "cdr" / "a.csv").write_bytes(b"x")
    mapping = tmp_path / "m.toml"
    mapping.write_text(
        '[[export]]\ncolumns = ["id", "when", "who"]\ndelimiter = "|"\n[export.fields]\n'
        'call_id = "id"\nimsi = "who"\n'
        'start_time = { column = "when", format = "%Y%m%d%H%M%S", zone = "Asia/Shanghai" }\n'
    )
    line = letter("cdr/a.csv", b"c1|20260301090000|460001000001000", 5)
    assert recheck([line], city, load_mapping(mapping), 1).accepted == [line]
    assert recheck([line], city, None, 1).accepted == []


def test_a_row_of_parquet_is_read_from_its_letter(city: Path) -> None:
    table = pa.table(
        {
            "call_id": ["c1"],
            "start_time": pa.array([1_772_355_600_123], pa.timestamp("ms", "UTC")),
            "imsi": ["460001000001000"],
            "charge_fen": [12],
        }
    )
    pq.write_table(table, city / "cdr" / "a.parquet")
    payload = json.dumps(table.to_pylist()[0], default=str).encode()
    found = recheck([letter("cdr/a.parquet", payload)], city, None, 1)
    assert found.refused == []
    _, effect = found.effects  # after the ranges of SIMs that are ours
    assert effect.rows["at"].to_pylist() == [1_772_355_600_123]


def test_what_is_no_line_of_a_file_stays(city: Path) -> None:
    letters = [letter("sim-events/0", b"ZS??"), letter("cdr/a.csv", b"", 0, "malformed: damage")]
    (whole, topic) = recheck(letters, city, None, 1).refused
    assert "whole file" in whole[1]
    assert "sent again by whoever sent it" in topic[1]


def test_a_line_of_a_reference_table_is_settled_when_it_is_right(city: Path) -> None:
    table = city / "reference" / "outlets.csv"
    table.write_text(table.read_text() + "o2,P,kiosk,t,yesterday,\n")
    letters = [letter("reference/outlets.csv", b"o2,P,kiosk,t,yesterday,", 3)]
    assert recheck(letters, city, None, 1).settled == []
    table.write_text(table.read_text().replace("yesterday", ""))
    found = recheck(letters, city, None, 1)
    assert (found.settled, found.effects) == (letters, [])


def test_an_order_is_carried_out_once_at_rest_and_folds_as_late(city: Path, tmp_path: Path) -> None:
    lines = [delivery("d1", "o1", 0, 10, hour=9), delivery("d2", "o2", 10, 5, hour=8)]
    (city / "events" / "a.ndjson").write_bytes(b"\n".join(lines))
    reference = load_reference(city / "reference").reference
    (batch,) = reference.batches
    sims = SimRange(int(batch.first_imsi), batch.count, batch.sku, batch.first_iccid)
    rebuild = Rebuild(SimRegistry([sims]), reference.holder)
    post = MemoryPost(rebuild)
    data = tmp_path / "data"

    async def read() -> None:
        await read_directory(city, post, options=IngestOptions())

    asyncio.run(read())
    assert rebuild.state().stock == {("o1", "std"): 10}
    with (city / "reference" / "outlets.csv").open("a") as table:
        table.write("o2,P,kiosk,t,,\n")
    refused = letter("events/a.ndjson", lines[1], 2)
    path = place_order(data, "1", [refused])
    assert read_order(path) == [refused]
    assert asyncio.run(carry_out(data, city, None, post)) == 1
    assert rebuild.state().stock == {("o1", "std"): 10, ("o2", "std"): 5}
    assert sum(n for (kind, _), n in rebuild.state().anomalies.items() if kind == LATE) == 5
    assert rebuild.state().incidents == set()
    assert waiting(data, asyncio.run(post.positions())) == []
    assert asyncio.run(carry_out(data, city, None, post)) == 0
    # A second order, even of the same letter, finds the stream at rest a moment later.
    more = letter("events/b.ndjson", delivery("d3", "o2", 20, 2, hour=23), 1)
    place_order(data, "2", [refused, more])
    assert asyncio.run(carry_out(data, city, None, post)) == 2
    assert rebuild.state().stock == {("o1", "std"): 10, ("o2", "std"): 7}


def test_a_damaged_order_is_said_in_a_line(tmp_path: Path) -> None:
    path = place_order(tmp_path, "1", [])
    path.write_text("{")
    with pytest.raises(InputError, match="remove it and replay again"):
        read_order(path)


def test_messages_of_a_topic_and_posts_are_judged_as_they_were(city: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text(
        '[[export]]\nfiles = "kafka://*/calls"\ncolumns = ["call_id", "start_time", "imsi"]\n'
    )
    call = b"c1,2026-03-01T09:00:00Z,460001000001000"
    found = recheck(
        [
            letter("kafka://h:9092/calls/0", call, 7),
            letter("kafka://h:9092/calls/0", b"c2,soon,460001000001000", 8),
            letter("kafka://h:9092/other/3", delivery("d1", "o1", 0, 10), 9),
            letter("kafka://h:9092/other/3", b"", 10),
            letter("http/van-7", delivery("d2", "o1", 10, 10), 4),
        ],
        city,
        load_mapping(mapping),
        2,
    )
    assert sorted(dead.position for dead in found.accepted) == [4, 7, 9]
    assert sorted(dead.position for dead, _ in found.refused) == [8, 10]

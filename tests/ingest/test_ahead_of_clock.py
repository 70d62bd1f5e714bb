"""A clock that is years ahead: of a live feed its events are refused, and hold nothing up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import FIRST_ICCID, FIRST_IMSI, make_reference, put, read

from infra.dead_letters.replay import DeadLetter, recheck
from pipelines.ingest.check import AHEAD_OF_CLOCK, Format, check
from pipelines.ingest.positions import decode
from pipelines.ingest.reading.csv_rows import Dialect
from pipelines.ingest.reading.files import Chunk
from schemas.fields import EVENTS_START

NAMES = ["call_id", "start_time", "imsi"]


def at(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat(timespec="milliseconds")


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """A call, a delivery and an activation of now, and one each of a clock years ahead."""
    make_reference(tmp_path)
    calls = [[f"C{n}", time, str(FIRST_IMSI + n)] for n, time in enumerate((at(), at(days=9_000)))]
    put(tmp_path / "cdr/a/1.csv", "\n".join(map(",".join, [NAMES, *calls])) + "\n")
    (tmp_path / "cdr/b").mkdir(parents=True)
    columns = dict(zip(NAMES, zip(*calls, strict=True), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "cdr/b/1.parquet")
    events = [
        {"type": "delivery", "event_id": "D0", "at": at(), "outlet_id": "O1",
         "wholesaler_id": "W1", "first_iccid": str(FIRST_ICCID), "count": 1},
        {"type": "delivery", "event_id": "D1", "at": at(minutes=6), "outlet_id": "O1",
         "wholesaler_id": "W1", "first_iccid": str(FIRST_ICCID), "count": 1},
        {"type": "activation", "event_id": "A0", "at": at(minutes=4), "imsi": str(FIRST_IMSI)},
        {"type": "activation", "event_id": "A1", "at": at(days=30_000), "imsi": str(FIRST_IMSI)},
    ]  # fmt: skip
    put(tmp_path / "events/1.ndjson", "".join(json.dumps(event) + "\n" for event in events))
    return tmp_path


def test_live_it_is_a_dead_letter_and_moves_no_clock_on(city: Path) -> None:
    post, report = read(city, live=True)
    assert [letter[:3] for letter in post.letters()] == [
        ("cdr/a/1.csv", 3, AHEAD_OF_CLOCK),
        ("cdr/b/1.parquet", 2, AHEAD_OF_CLOCK),
        ("events/1.ndjson", 2, AHEAD_OF_CLOCK),
        ("events/1.ndjson", 4, AHEAD_OF_CLOCK),
    ]
    assert {use[0] for use in post.uses()} == {"C0", "A0"}
    assert [row["event_id"] for row in post.rows("placements")] == ["D0"]
    assert report.dead_letters == 4
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).timestamp() * 1_000
    assert all(decode(kept).newest < tomorrow for kept in post.kept.values())


def test_of_replayed_files_every_time_is_believed(city: Path) -> None:
    post, _ = read(city)
    assert post.letters() == []
    assert {use[0] for use in post.uses()} == {"C0", "C1", "A0", "A1"}


def test_a_replay_refuses_it_again_for_as_long_as_it_is_ahead(city: Path) -> None:
    post, _ = read(city, live=True)
    letters = [
        DeadLetter(source, position, 0, why, raw) for source, position, why, raw in post.letters()
    ]
    found = recheck(letters, city, None, 1, live=True)
    assert [why for _, why in found.refused] == [AHEAD_OF_CLOCK] * 4
    assert recheck(letters, city, None, 1).accepted == letters


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(0, 21))
def test_exactly_the_rows_from_a_time_on_are_refused(times: list[int], before: int) -> None:
    """As lines of CSV and of JSON, beside rows that are refused for another reason."""
    rows = [
        (f"C{n}", f"2000-01-01T00:00:{second:02}Z", FIRST_IMSI) for n, second in enumerate(times)
    ]
    csv = "".join(f"{','.join(map(str, row))}\nbad\n" for row in rows).encode()
    lines = "".join(
        json.dumps({"type": "call"} | dict(zip(NAMES, map(str, row), strict=True))) + "\nbad\n"
        for row in rows
    ).encode()
    dialect = Dialect(NAMES)
    for data, how in ((csv, Format("csv", dialect)), (lines, Format("ndjson"))):
        found = check(Chunk(1, 2 * len(rows), data=data), how, EVENTS_START + before * 1_000)
        kept = [
            (2 * n + 1, EVENTS_START + second * 1_000)
            for n, second in enumerate(times)
            if second < before
        ]
        assert list(zip(found.lines.tolist(), found.at.tolist(), strict=True)) == kept
        assert found.ids.to_pylist() == [f"C{line // 2}" for line, _ in kept]
        late = {2 * n + 1 for n, second in enumerate(times) if second >= before}
        assert {line for line, why, _ in found.refused if why == AHEAD_OF_CLOCK} == late
        assert [line for line, _, _ in found.refused] == sorted(
            late | {2 * n + 2 for n in range(len(rows))}
        )

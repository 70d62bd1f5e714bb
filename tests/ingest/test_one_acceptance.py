"""Batch jobs accept a row if and only if the stream does, and refuse it for the same reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import FIRST_IMSI, put, read

from pipelines.batch.channel.files import CALLS as CHANNEL_CALLS
from pipelines.batch.engine.columns import SOURCE, Dataset
from pipelines.batch.engine.sources import find, plan, read_accepted
from pipelines.batch.engine.sources import read as read_batch
from pipelines.batch.subscriber_loss.files import CALLS, EVENTS
from pipelines.ingest.mapping.mapping import Mapping, load_mapping

NAMES = ["call_id", "start_time", "imsi", "duration_s", "charge_fen"]

times = st.sampled_from([
    "2026-03-02T09:15:02Z", "2026-03-02T09:15:02.3+08:00", "2026-03-02T24:00:00+08:00",
    "2026-03-02 09:15:02+08:00", "2026-03-02T09:15:02+0800", "2026-03-02T09:15+08:00",
    "2026-03-02T09:15:02", "20260302T091502Z", "2026-3-2T09:15:02Z", "2026-02-30T09:15:02Z",
    "1772413800", "1970-01-01T08:00:00+08:00", "1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z",
    "2026-03-02T09:15:02.123456789Z", "2026-03-02t09:15:02z", "", " 2026-03-02T09:15:02Z",
])  # fmt: skip
imsis = st.one_of(
    st.integers(0, 3).map(lambda n: str(FIRST_IMSI + n)),
    st.sampled_from([
        "46000123450000", "4600012345000", "460001234500000F", "4.60001E+14", "460001234500001.0",
        " 460001234500001", "'460001234500001", "", "٤60001234500001",
    ]),
)  # fmt: skip
numbers = st.sampled_from(["", "0", "12", "12.5", "-3", "1e3", "nan", "x", "9" * 16, "007", " 7"])
ids = st.sampled_from(["a", "b", "c", "", "x" * 256, "x" * 257, "中", 'q"q', "l\nl", ","])
rows = st.lists(st.tuples(ids, times, imsis, numbers, numbers), min_size=1, max_size=12)


def csv_row(row: tuple[str, ...], separator: str) -> str:
    return separator.join('"' + value.replace('"', '""') + '"' for value in row)


#: (id, IMSI, ms) of each use, (file, reason) of what is refused, and how many rows were read.
Outcome = tuple[set[tuple[Any, ...]], set[tuple[str, str]], int]


def batch(root: Path, dataset: Dataset, mapping: Mapping | None) -> Outcome:
    """What a job takes as calls."""
    uses: set[tuple[Any, ...]] = set()
    refused: set[tuple[str, str]] = set()
    count = 0
    for part in plan(find(str(root), dataset, mapping), dataset):
        if dataset.events:
            for some in read_accepted(part):
                rows = pl.DataFrame(some.uses).select("event_id", "imsi", "at").rows()
                uses.update(rows)
                refused.update((part.file.source, why) for _, why in some.refused)
                count += some.count
            continue
        for good, rejects, skipped in read_batch(part, dataset):
            count += good.height + rejects.height + skipped
            uses.update(good.select("call_id", "imsi", "start_time").rows())
            refused.update(rejects.select(pl.col(SOURCE).cast(pl.String), "reason").rows())
    return uses, refused, count


def stream(root: Path, mapping: Mapping | None) -> Outcome:
    post, report = read(root, mapping=mapping)
    refused = {(name, why) for name, _, why, _ in post.letters()}
    return {use[:3] for use in post.uses()}, refused, report.rows


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=rows,
    kind=st.sampled_from(["csv", "parquet", "ndjson", "json"]),
    separator=st.sampled_from([",", ";"]),
    mapped=st.booleans(),
)
def test_batch_accepts_a_row_if_and_only_if_the_stream_does(
    city: Path, rows: list[tuple[str, ...]], kind: str, separator: str, mapped: bool
) -> None:
    for folder in ("cdr", "events"):
        shutil.rmtree(city / folder, ignore_errors=True)
    json_lines = [
        {"type": "call"} | dict(zip(NAMES, row, strict=True)) if len(row[0]) % 2 else
        {"type": "activation", "event_id": row[0], "at": row[1], "imsi": row[2]}
        for row in rows
    ]  # fmt: skip
    if kind == "csv":
        lines = [csv_row(row, separator) for row in rows]
        put(city / "cdr/s/a.csv", "\n".join([separator.join(NAMES), "", *lines, "one,two"]) + "\n")
    elif kind == "parquet":
        (city / "cdr/s").mkdir(parents=True)
        pq.write_table(
            pa.table(list(map(list, zip(*rows, strict=True))), NAMES),
            city / "cdr/s/a.parquet",
            row_group_size=5,
        )
    elif kind == "ndjson":
        put(city / "events/a.jsonl", "\n".join(map(json.dumps, json_lines)) + "\n{")
    else:
        put(city / "events/a.json", json.dumps(json_lines, indent=1))
    mapping = None
    if mapped:
        text = (
            '[[export]]\nfiles = "cdr/s/*"\nskip_rows = [{ column = "duration_s", is = ["12"] }]\n'
        )
        text += '[export.fields]\nduration_s = "duration_s"\n'
        mapping = load_mapping(put(city / "m.toml", text))
    taken, refused, count = stream(city, mapping)
    by_dataset = [batch(city, dataset, mapping) for dataset in (CALLS, EVENTS)]
    assert {
        row for found, _, _ in by_dataset for row in found if row[1] - FIRST_IMSI in range(4)
    } == taken
    assert {why for _, some, _ in by_dataset for why in some} == refused
    assert sum(read for _, _, read in by_dataset) == count
    assert batch(city, CHANNEL_CALLS, mapping) == by_dataset[0]

"""Spoiled compressed and Parquet files: read as far as they go, the rest is one dead letter."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_harness import HEADER, ListPost, call_fields, csv_of, moment, put, read
from spoil import MANY, spoiled

from schemas.events import accept_call

#: Rows a file: few, so that what is spoiled is often something else than rows.
ROWS = 4

COLUMNS = HEADER.split(",")
START = 1_772_409_600_000
REASONS = ("malformed: ", "invalid_field: ")


Fact = tuple[str, int, int]


def facts(post: ListPost) -> set[Fact]:
    """(id, IMSI, ms) of the calls that were accepted."""
    return {use[:3] for use in post.uses()}


def facts_of(text: bytes) -> set[Fact]:
    """The calls that the model finds in the text of a file."""
    first, *lines = text.split(b"\n")
    found: set[Fact] = set()
    try:
        names = next(csv.reader([first.decode()]), [])
    except (UnicodeDecodeError, csv.Error):
        return found
    for line in lines:
        try:
            fields = next(csv.reader([line.removesuffix(b"\r").decode()], strict=True), [])
            call = accept_call(dict(zip((n.strip() for n in names), fields, strict=True)))
        except (ValueError, csv.Error):
            continue
        found.add((call.call_id, int(call.imsi), call.at))
    return found


def letters(post: ListPost) -> dict[str, list[tuple[int, str, bytes]]]:
    found: dict[str, list[tuple[int, str, bytes]]] = defaultdict(list)
    for source, *rest in post.letters():
        found[Path(source).name[:6]].append(tuple(rest))
    return found


def unpacked(data: bytes) -> tuple[bytes, bool]:
    """As much as can be had of a compressed file, and whether that is all."""
    reader, text = gzip._GzipReader(io.BytesIO(data)), b""
    try:
        while piece := reader.read(1):
            text += piece
    except (OSError, EOFError, zlib.error):
        return text, False
    return text, True


@pytest.fixture(scope="module")
def spoiled_gz() -> dict[str, bytes]:
    rng, made = Random("gz"), {}
    fields = [call_fields(i) for i in range(ROWS)]
    text = csv_of(*(",".join([f"NUMBER-{f[0]}", *f[1:]]) for f in fields)).encode()
    for number in range(MANY):
        name = f"{number:06}"
        made[name] = spoiled(gzip.compress(text.replace(b"NUMBER", name.encode()), 1), rng)
    return made


def test_spoiled_gz_files(city: Path, spoiled_gz: dict[str, bytes]) -> None:
    assert len(spoiled_gz) >= MANY
    for name, data in spoiled_gz.items():
        put(city / f"cdr/s/{name}.csv.gz", data)
    post, report = read(city)
    assert report.files == len(spoiled_gz)
    found, told = facts(post), letters(post)
    allowed: set[Fact] = set()
    damaged = 0
    for name, data in spoiled_gz.items():
        text, whole = unpacked(data)
        there = facts_of(text)
        if whole:
            assert there <= found, name
            assert name not in told
        else:
            damaged += 1
            assert [why for _, why, payload in told[name] if not payload], name
            assert all(why.startswith(REASONS) for _, why, _ in told[name])
        allowed |= there
    assert found <= allowed
    assert damaged > 0.5 * MANY
    _, again = read(city, post)
    assert again.rows == 0, "one bad file is one dead letter, however often it is looked at"


def test_spoiled_parquet_files(city: Path) -> None:
    rng = Random("parquet")
    wholes = []
    for kind in (pa.string(), pa.timestamp("ms", "UTC")):
        columns: list[Any] = list(map(list, zip(*map(call_fields, range(ROWS)), strict=True)))
        if kind != pa.string():
            columns[1] = pa.array(range(START, START + ROWS), pa.int64()).cast(kind)
        for compression in ("none", "snappy"):
            out = io.BytesIO()
            pq.write_table(pa.table(columns, COLUMNS), out, compression=compression)
            wholes.append(out.getvalue())
    for number in range(MANY):
        put(city / f"cdr/s/{number:06}.parquet", spoiled(rng.choice(wholes), rng))
    post, report = read(city)
    assert report.files == MANY
    for call_id, imsi, at, _ in post.uses():
        accept_call({"call_id": call_id, "imsi": f"{imsi:015}", "start_time": moment(0)})
        assert 0 <= at < 10_413_792_000_000
    told = letters(post)
    assert len(told) > 0.2 * MANY
    for some in told.values():
        for _, why, payload in some:
            assert why.startswith(REASONS)
            assert "\n" not in why
            if why.startswith("invalid_field"):
                assert payload
    _, again = read(city, post)
    assert again.rows == 0

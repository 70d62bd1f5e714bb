"""Ten thousand mutated lines and files: nothing crashes, nothing vanishes, reasons are true."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_harness import (
    FIRST_ICCID,
    FIRST_IMSI,
    HEADER,
    call_fields,
    call_json,
    call_row,
    csv_of,
    put,
    read,
)

from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.ingest.reading import files
from schemas import golden, topics
from schemas.envelope import KINDS as KINDS_OF
from schemas.errors import MappingError

KINDS = {"malformed", "unknown_type", "invalid_field", "unknown_outlet", "unknown_wholesaler",
         "unknown_sim", "unknown_unit", "unknown_kind", "unknown_step"}  # fmt: skip
BITS = [b'"', b",", b"\r", b"\0", b"\xff", b"\\", b"{", b"}", b"[", b":", b"-", b"0", b"9", b" "]
BITS += [b"e", b"null", b"\\ud800", b"\xe5\x91\xbc", b"\xef\xbb\xbf", b"\x0b", b"'", b"|", b""]


def mutated(line: bytes, rng: random.Random) -> bytes:
    """The line with a few bytes changed, cut, doubled or put in; still one line."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(line) + 1), rng.randint(0, 8)
        what = rng.randrange(4)
        if what == 0:
            line = line[:at] + rng.choice(BITS) + line[at + length :]
        elif what == 1:
            line = line[:at] + bytes([rng.randrange(256)]) + line[at + 1 :]
        elif what == 2:
            line = line[:at] + line[at : at + 40] * rng.randint(0, 3) + line[at + 40 :]
        else:
            line = line[: rng.randrange(len(line) + 1)] if rng.random() < 0.2 else line
    return line.replace(b"\n", b" ")


@pytest.mark.parametrize("name", ["events/a.ndjson", "cdr/s/a.csv"])
def test_each_mutated_line_is_a_fact_a_stranger_or_one_dead_letter(
    city: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 5_000)
    rng = random.Random(name)
    if "csv" in name:
        good = [call_row(i).encode() for i in range(50)]
    else:
        first = str(FIRST_ICCID).encode()
        good = [line.replace(b"89860001234500000012", first) for line in golden.accepted()]
        good += [call_json(i).encode() for i in range(10)]
    lines = [mutated(rng.choice(good), rng) for _ in range(10_000)]
    top = [HEADER.encode()] if "csv" in name else []
    put(city / name, b"\n".join([*top, *lines]) + b"\n")
    post, report = read(city)
    letters = {position: (why, payload) for _, position, why, payload in post.letters()}
    assert len(letters) == len(post.letters()) == report.dead_letters
    assert {why.split(": ")[0] for why, _ in letters.values()} <= KINDS
    assert all(": " in why and "\n" not in why for why, _ in letters.values())
    for position, (_, payload) in letters.items():
        assert payload == lines[position - 1 - len(top)].removesuffix(b"\r")
    blank = sum(not line.strip() for line in lines)
    registered = len({r["event_id"] + str(r["imsi"]) for r in post.rows("registrations")})
    assert report.rows == 10_000 - blank
    outsiders = report.outsiders
    used = len(post.uses()) + report.placements + len(post.rows("registrations")) + outsiders
    used += len(post.rows("case_events", *KINDS_OF[topics.SERVICE_RECORDS]))
    assert used >= 10_000 - blank - len(letters), "a line vanished"
    assert used - registered <= 10_000 - blank - len(letters)
    assert len(letters) > 3_000
    assert len(post.uses()) > 300


def test_mutated_files_are_read_as_far_as_they_go(city: Path) -> None:
    rng = random.Random(3)
    text = csv_of(*map(call_row, range(500))).encode()
    (city / "cdr/s").mkdir(parents=True)
    table = pa.table(list(map(list, zip(*map(call_fields, range(500)), strict=True))),
                     HEADER.split(","))  # fmt: skip
    pq.write_table(table, city / "cdr/s/x.parquet")
    parquet = (city / "cdr/s/x.parquet").read_bytes()
    (city / "cdr/s/x.parquet").unlink()
    for number in range(150):
        for ending, whole in ((".csv.gz", gzip.compress(text)), (".parquet", parquet)):
            content = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
            for _ in range(rng.randint(0, 5)):
                if content:
                    content[rng.randrange(len(content))] = rng.randrange(256)
            put(city / f"cdr/s/{number:03}{ending}", bytes(content))
    post, report = read(city)
    assert report.files == 300
    assert {why.split(": ")[0] for _, _, why, _ in post.letters()} <= {"malformed", "invalid_field"}
    before = len(post.letters())
    _, again = read(city, post)
    assert (again.rows, len(post.letters())) == (0, before)


def test_mutated_mappings_are_mappings_or_told_in_a_line(tmp_path: Path, city: Path) -> None:
    rng = random.Random(4)
    examples = Path(files.__file__).parents[1] / "examples"
    texts = [(examples / f"{name}.toml").read_bytes() for name in ("switch", "mediation")]
    put(city / "cdr/switch-a/a.csv", (examples / "switch/cdr/switch-a/20260302.csv").read_bytes())
    usable = 0
    for _ in range(400):
        whole = rng.choice(texts).split(b"[[export]]")[1]
        lines = whole.split(b"\n")
        at = rng.randrange(len(lines))
        lines[at] = mutated(lines[at], rng)
        put(tmp_path / "m.toml", b"[[export]]" + b"\n".join(lines))
        try:
            mapping = load_mapping(tmp_path / "m.toml")
        except MappingError as error:
            told = str(error)
        else:
            told = "usable"
            if usable < 60:
                read(city, mapping=mapping)
            usable += 1
        assert "\n" not in told
    assert usable > 20


def test_any_json_value_in_any_field(city: Path) -> None:
    values: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        1e308,
        2**63,
        2**200,
        "",
        "0",
        "x" * 300,
        [],
        {},
        "\0",
        "呼",
    ]
    lines = []
    for line in golden.accepted():
        row = json.loads(line)
        lines += [json.dumps(row | {name: value}) for name in row for value in values]
    lines = [line.replace(str(FIRST_IMSI), str(FIRST_IMSI + 1)) for line in lines]
    put(city / "events/a.ndjson", "\n".join(lines))
    post, report = read(city)
    assert report.rows == len(lines)
    assert {why.split(": ")[0] for _, _, why, _ in post.letters()} <= KINDS

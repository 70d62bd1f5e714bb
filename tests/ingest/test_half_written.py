"""Writers that were interrupted: what they write later is read as if they had never stopped."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import HEADER, INGEST, ListPost, call_fields, call_json, call_row, put, read

from pipelines.ingest import IngestOptions, read_directory

NOTES = ["plain", 'two\nlines, and "quotes"', "\n\nthree", '"', 'half "quoted', "呼叫\n记录", ""]


def noted(number: int, note: str) -> str:
    quoted = note.replace('"', '""')
    return f'{call_row(number)},"{quoted}"'


ROWS = [noted(number, note) for number, note in enumerate(NOTES, 1)]
ROWS.insert(3, "C90,not a time,460001234500000,,,,,x")
ROWS.insert(5, "one field")
CSV = "\n".join([HEADER + ",note", *ROWS]) + "\n"
JSON = "".join(call_json(n) + "\n" for n in range(4)) + "{not json\n" + call_json(9) + "\n"
VALUES = [json.loads(call_json(number)) for number in range(4)]

FORMS: dict[str, tuple[str, bytes]] = {
    "plain": ("a.csv", CSV.encode()),
    "marked": ("a.csv", CSV.encode("utf-8-sig")),
    "carriage returns": ("a.csv", CSV.replace("\n", "\r\n").encode()),
    "UTF-16": ("a.csv", CSV.encode("utf-16")),
    "GB18030": ("a.csv", CSV.replace(",note", ",备注", 1).encode("gb18030")),
    "semicolons": ("a.csv", ("sep=;\n\n" + CSV.replace(",", ";")).encode()),
    "lines of JSON": ("a.ndjson", JSON.encode()),
    "a list": ("a.json", json.dumps(VALUES, indent=1).encode()),
    "over lines": ("a.json", "\n".join(json.dumps(v, indent=1) for v in VALUES).encode()),
    "bare returns": ("a.csv", "\r".join([HEADER, *map(call_row, range(6)), "x", ""]).encode()),
    "UTF-32": ("a.txt", CSV.encode("utf-32")),
    "unmarked": ("a.csv", CSV.encode("utf-16-be")),
    "one behind the other": ("a.json", "".join(map(json.dumps, VALUES)).encode()),
    "no end": ("a.csv", CSV.encode() + ROWS[1].replace("C2", "C70").encode()),
}


def at_once(city: Path, name: str, data: bytes) -> ListPost:
    put(city / "cdr/s" / name, data)
    return read(city)[0]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_off_anywhere_and_completed(city: Path, form: str, data: st.DataObject) -> None:
    name, whole = FORMS[form]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=3)))
    expected = at_once(city, name, whole)
    (city / "cdr/s" / name).unlink()
    post = ListPost()
    for cut in cuts:
        put(city / "cdr/s" / name, whole[:cut])
        read(city, post)
    put(city / "cdr/s" / name, whole)
    read(city, post)
    assert post.facts() == expected.facts()
    assert post.letters() == expected.letters()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CSV.encode())), min_size=1, max_size=3).map(sorted))
def test_read_once_cut_off_then_followed_while_it_grows(city: Path, cuts: list[int]) -> None:
    whole = CSV.encode()
    expected = at_once(city, "a.csv", whole)
    path = put(city / "cdr/s/a.csv", whole[: cuts[0]])
    post, _ = read(city)

    async def work() -> None:
        stop = asyncio.Event()
        reading = asyncio.create_task(
            read_directory(city, post, options=IngestOptions(follow=True), stop=stop)
        )
        for end in [*cuts[1:], len(whole)]:
            with path.open("ab") as file:
                file.write(whole[path.stat().st_size : end])
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while post.facts() != expected.facts() or post.letters() != expected.letters():
                await asyncio.sleep(0.002)
        stop.set()
        await reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(INGEST, "LOOK_EVERY", 0.001)
        asyncio.run(work())


def test_half_a_record_is_one_refusal_at_most_a_line_and_none_once_it_is_whole(city: Path) -> None:
    first, rest = ROWS[1].encode().split(b"\n")
    path = put(city / "cdr/s/a.csv", f"{HEADER},note\n".encode() + first + b"\n")
    post, report = read(city)
    assert post.reasons() == [(2, "malformed")]
    with path.open("ab") as file:
        file.write(rest + b"\n")
    _, again = read(city, post)
    assert (post.letters(), [use[0] for use in post.uses()]) == ([], ["C2"])
    assert (report.rows, again.rows) == (1, 1)


def as_parquet(folder: Path) -> bytes:
    rows = [call_fields(number) for number in range(2_000)]
    table = pa.table([pa.array(c) for c in zip(*rows, strict=True)], HEADER.split(","))
    pq.write_table(table, folder / "x.parquet")
    return (folder / "x.parquet").read_bytes()


@pytest.mark.parametrize("name", ["a.csv.gz", "a.parquet", "a.csv"])
def test_an_upload_that_was_cut_off_is_no_dead_letter_once_it_is_complete(
    city: Path, tmp_path: Path, name: str
) -> None:
    text = "\n".join([HEADER, *(call_row(number) for number in range(2_000))]).encode() + b"\n"
    made = {"a.csv.gz": gzip.compress(text), "a.parquet": as_parquet(tmp_path), "a.csv": text}
    whole = made[name]
    for cut in (len(whole) // 2, 20):
        put(city / "cdr/s" / name, whole[:cut])
        post, _ = read(city)
        assert len(post.letters()) == 1
        put(city / "cdr/s" / name, whole)
        read(city, post)
        assert (post.letters(), len({use[0] for use in post.uses()})) == ([], 2_000)

"""What is read does not depend on how: pieces, files, compression, stops and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import (
    FIRST_ICCID,
    FIRST_IMSI,
    HEADER,
    INGEST,
    ListPost,
    call_fields,
    call_json,
    call_row,
    csv_of,
    make_reference,
    moment,
    put,
    read,
)

from pipelines.ingest import IngestOptions, IngestProgress, read_directory
from pipelines.ingest.reading import files
from pipelines.ingest.reference import load_reference
from schemas.envelope import unpack
from schemas.errors import InputError


def shuffled_calls(count: int, seed: int = 1) -> list[str]:
    """Rows that come up to two minutes late, with bad and blank lines among them."""
    rng = random.Random(seed)
    rows = [call_row(i, i - rng.choice([0, 0, 0, 30, 119])) for i in range(120, 120 + count)]
    for bad in ("half a row", "C,x,y,,,,", f'"{call_row(1)}'):
        rows.insert(rng.randrange(len(rows)), bad)
    rows.insert(rng.randrange(len(rows)), "")
    return rows


def event(kind: str, event_id: str, second: float, **more: Any) -> str:
    return json.dumps({"type": kind, "event_id": event_id, "at": moment(second)} | more)


def delivery(number: int, second: float, first: int = 0, count: int = 3) -> str:
    more = {"outlet_id": "O1", "wholesaler_id": "W1", "first_iccid": str(FIRST_ICCID + first)}
    return event("delivery", f"D{number}", second, **more, count=count)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 1_000)
    monkeypatch.setattr(files, "CHUNK_ROWS", 10)


# How it comes


@pytest.mark.parametrize("size", [1, 7, 100, 4_096, 1_000_000])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_the_size_of_pieces_changes_nothing(
    city: Path, monkeypatch: pytest.MonkeyPatch, size: int, ending: str
) -> None:
    content = csv_of(*shuffled_calls(150)).encode()
    put(city / f"cdr/s/a{ending}", gzip.compress(content) if "gz" in ending else content)
    whole, report = read(city)
    monkeypatch.setattr(files, "CHUNK_BYTES", size)
    pieces, again = read(city)
    assert pieces.facts() == whole.facts()
    assert pieces.letters() == whole.letters()
    assert (report.rows, report.uses, report.dead_letters) == (153, 150, 3)
    assert (again.rows, again.uses, again.dead_letters) == (153, 150, 3)
    assert report.bytes == report.bytes_total == again.bytes


def test_rows_that_come_late_are_known_late(city: Path, small_pieces: None) -> None:
    put(city / "cdr/s/a.csv", csv_of(*shuffled_calls(200)))
    post, _ = read(city, disorder_ms=60_000)
    newest = 0
    for event_id, _, at, known_at in sorted(post.uses(), key=lambda use: int(use[0][1:])):
        assert known_at == max(at, newest - 60_000), event_id
        newest = max(newest, at)
    assert any(known_at > at for *_, at, known_at in post.uses())


@pytest.mark.parametrize("parts", [2, 5])
def test_split_into_files_it_is_the_same(city: Path, parts: int) -> None:
    rows = shuffled_calls(150)
    put(city / "cdr/s/a.csv", csv_of(*rows))
    whole, _ = read(city)
    (city / "cdr/s/a.csv").unlink()
    step = -(-len(rows) // parts)
    for part in range(parts):
        some = csv_of(*rows[part * step : (part + 1) * step])
        ending = (".csv", ".csv.gz")[part % 2]
        put(
            city / f"cdr/s/{part}{ending}",
            gzip.compress(some.encode()) if part % 2 else some,
        )
    split, report = read(city)
    assert split.facts() == whole.facts()
    assert sorted(letter[2:] for letter in split.letters()) == sorted(
        letter[2:] for letter in whole.letters()
    )
    assert report.files == parts


def test_the_same_calls_in_any_format_are_the_same(city: Path, small_pieces: None) -> None:
    def facts() -> list[tuple[Any, ...]]:
        found = read(city)[0].facts()
        for path in [*city.glob("cdr/s/*"), *city.glob("events/*")]:
            path.unlink()
        return found

    numbers = range(300)
    put(city / "cdr/s/a.csv", csv_of(*map(call_row, numbers)))
    of_csv = facts()
    put(city / "events/a.ndjson", "\n".join(map(call_json, numbers)))
    assert facts() == of_csv
    columns = list(zip(*map(call_fields, numbers), strict=True))
    table = pa.table([pa.array(column) for column in columns], HEADER.split(","))
    pq.write_table(table, city / "cdr/s/a.parquet", row_group_size=70)
    assert facts() == of_csv
    at = pa.array([1772409600000 + 1_000 * number for number in numbers], pa.timestamp("ms", "UTC"))
    pq.write_table(table.set_column(1, "start_time", at), city / "cdr/s/a.parquet")
    assert facts() == of_csv
    assert len(of_csv) == 300


def test_all_kinds_of_events_come_out(city: Path) -> None:
    moved = {"from_outlet_id": "O1", "to_outlet_id": "O2", "first_iccid": str(FIRST_ICCID)}
    lines = [
        delivery(1, 0, count=1_500),
        event("transfer", "T1", 1, **moved, count=1),
        event("activation", "A1", 2, imsi="460001234500001"),
        event("activation", "A2", 2, imsi="460009999999999"),
        event("registration", "G1", 3, imsi="460001234500001", complete=True),
        delivery(2, 4).replace("O1", "O9"),
        delivery(3, 4).replace("W1", "W9"),
        delivery(4, 4, first=4_999, count=2),
        "",
        "  ",
        '{"type":"parade"}',
    ]
    put(city / "events/a.ndjson", "\r\n".join(lines))
    post, report = read(city)
    placed = [
        (row["event_id"], row["first_imsi"] - FIRST_IMSI, row["count"])
        for row in post.rows("placements")
    ]
    # Cut where one block of a thousand SIMs ends and the next begins.
    assert sorted(placed) == [("D1", 0, 1_000), ("D1", 1_000, 500), ("T1", 0, 1)]
    assert [use[0] for use in post.uses()] == ["A1"]
    assert [row["event_id"] for row in post.rows("registrations")] == ["G1"]
    assert post.reasons() == [
        (6, "unknown_outlet"), (7, "unknown_wholesaler"), (8, "unknown_sim"), (11, "unknown_type"),
    ]  # fmt: skip
    assert post.letters()[3][3] == b'{"type":"parade"}'
    assert (report.placements, report.outsiders, report.dead_letters) == (2, 1, 4)
    assert post.ended() == {"events"}


def test_each_folder_is_a_source(city: Path) -> None:
    put(city / "events/a.ndjson", delivery(1, 0))
    put(city / "cdr/a/1.csv", csv_of(call_row(1)))
    put(city / "cdr/b/x/1.csv", csv_of(call_row(2)))
    put(city / "cdr/b/notes.txt", "not to be read")
    put(city / "cdr/b/.hidden.csv", "not to be read")
    put(city / "cdr/b/.~tmp~/still-coming.csv", "not to be read either")
    post, report = read(city)
    assert post.ended() == {"events", "cdr/a", "cdr/b/x"}
    assert report.dead_letters == 0
    assert dict(report.unread) == {
        "cdr/b/.hidden.csv": "its name begins with a dot",
        "cdr/b/notes.txt": "it begins neither with a header of calls nor with JSON, but with"
        " 'not to be read'",
    }


# Lines that are odd


@pytest.mark.parametrize("name", ["cdr/s/a.csv", "events/a.ndjson"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_marks_and_ends_of_lines_do_not_matter(
    city: Path, name: str, mark: bytes, end: bytes
) -> None:
    lines = [HEADER, call_row(1), call_row(2)] if "csv" in name else [call_json(1), call_json(2)]
    between = end or b"\n"
    put(city / name, mark + between.join(map(str.encode, lines)) + end)
    post, _ = read(city)
    assert [use[0] for use in post.uses()] == ["C1", "C2"]
    assert post.letters() == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff\xfe", "malformed"),
        (b"\0" * 50, "malformed"),
        (b'"' + b"x" * 100, "malformed"),
        (b"C9,2026-03-02T09:15:02Z\r,460001234500000,,,,", "malformed"),
        (b"x" * 70_000, "malformed"),
        (b"x" * 300_000, "malformed"),
        (call_row(9).encode() + b",,", "malformed"),
        (call_row(9).encode().replace(b"17-4", b"\xff"), "malformed"),
        (b",,,,,,", "invalid_field"),
        ("呼,呼,呼,呼,呼,呼,呼".encode(), "invalid_field"),
    ],
)
def test_a_bad_line_is_one_dead_letter_and_its_neighbours_live(
    city: Path, small_pieces: None, bad: bytes, reason: str
) -> None:
    rows = [call_row(i).encode() for i in range(60)]
    lines = [HEADER.encode(), *rows[:30], bad, b"", b" \t", *rows[30:]]
    put(city / "cdr/s/a.csv", b"\n".join(lines))
    post, report = read(city)
    assert len(post.uses()) == 60
    ((source, position, why, payload),) = post.letters()
    assert (source, position, why.split(":")[0]) == ("cdr/s/a.csv", 32, reason)
    assert payload == bad[: files.LONGEST_LINE]
    assert report.rows == 61


def test_a_line_without_end_is_read_in_constant_memory(city: Path, small_pieces: None) -> None:
    put(city / "events/a.ndjson", call_json(1) + "\n" + "[" * 2_000_000 + "\n" + call_json(2))
    post, _ = read(city)
    assert [use[0] for use in post.uses()] == ["C1", "C2"]
    ((_, position, why, payload),) = post.letters()
    assert (position, why) == (2, "malformed: longer than 65,536 bytes")
    assert len(payload) == files.LONGEST_LINE


def test_quotes_hold_delimiters(city: Path) -> None:
    row = call_row(1).replace("17-4", '"17,""4"')
    put(city / "cdr/s/a.csv", csv_of(row, call_row(2)))
    assert [use[0] for use in read(city)[0].uses()] == ["C1", "C2"]


def test_columns_may_come_in_any_order_among_others(city: Path) -> None:
    put(city / "cdr/s/a.csv", f"x,imsi,x,call_id,start_time\n呼,460001234500001,,C1,{moment(1)}\n")
    post, _ = read(city)
    assert [use[:2] for use in post.uses()] == [("C1", 460001234500001)]


# Files that are odd


def damaged(name: str) -> bytes:
    packed = gzip.compress(csv_of(*map(call_row, range(20_000))).encode())
    return {
        "cut": packed[: len(packed) // 2],
        "flipped": packed[:-6] + b"\0\0" + packed[-4:],
        "no gzip": b"not gzip at all",
        "trailing": packed + b"rubbish",
    }[name]


@pytest.mark.parametrize("name", ["cut", "flipped", "no gzip", "trailing"])
def test_a_damaged_gzip_gives_what_comes_before_and_one_dead_letter(city: Path, name: str) -> None:
    put(city / "cdr/s/a.csv.gz", damaged(name))
    put(city / "cdr/s/b.csv", csv_of(call_row(30_000, sim=1)))
    post, _ = read(city)
    assert "C30000" in {use[0] for use in post.uses()}
    assert len(post.letters()) == 1
    assert post.reasons()[0][1] == "malformed"
    if name in ("cut", "trailing"):
        assert len(post.uses()) > 1_000
    sent = len(post.letters())
    read(city, post)
    assert len(post.letters()) == sent, "a damaged file is reported once"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", "id,when,imsi\n1,2,3\n", "call_id, start_time"),
        ("a.csv", "\xff\xfd", "call_id, start_time, imsi"),
        ("a.csv", "\n\n", None),
        ("a.csv", "call_id,start_time,imsi,imsi\n", "two columns have the name imsi"),
        ("a.parquet", "not parquet", "Parquet"),
        ("a.csv.gz", "", None),
        ("a.csv", "", None),
        ("a.csv", HEADER, None),
        ("a.ndjson", "", None),
    ],
)
def test_a_file_that_is_none_is_one_dead_letter(
    city: Path, name: str, content: str, why: str | None
) -> None:
    put(city / "cdr/s" / name, content.encode("latin-1"))
    put(city / "cdr/s/z.csv", csv_of(call_row(1)))
    post, report = read(city)
    assert [use[0] for use in post.uses()] == ["C1"]
    assert [letter[0] for letter in post.letters()] == ([f"cdr/s/{name}"] if why else [])
    assert all(why and why in letter[2] for letter in post.letters())
    assert report.files == 2
    before, letters = len(post.sent), post.letters()
    read(city, post)
    assert not [h for h in map(unpack, (s[2] for s in post.sent[before:])) if h[0].kind == "uses"]
    assert post.letters() == letters


def test_parquet_without_a_column_or_with_an_unfit_one(city: Path) -> None:
    (city / "cdr/s").mkdir(parents=True)
    pq.write_table(pa.table({"call_id": ["a"]}), city / "cdr/s/a.parquet")
    pq.write_table(
        pa.table({"call_id": ["a"], "start_time": [moment(1)], "imsi": [[1]]}),
        city / "cdr/s/b.parquet",
    )
    letters = read(city)[0].letters()
    assert [letter[0] for letter in letters] == ["cdr/s/a.parquet", "cdr/s/b.parquet"]
    assert "no column start_time, imsi" in letters[0][2]


def test_a_file_that_may_not_be_read_is_said_once_a_run_and_tried_again(
    city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(city / "cdr/s/a.csv", csv_of(call_row(1)))
    put(city / "cdr/s/b.csv", csv_of(call_row(2)))
    opened = Path.open

    def refuse(self: Path, *args: Any, **more: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        post, _ = read(city)
    assert [use[0] for use in post.uses()] == ["C2"]
    assert post.letters() == [
        ("cdr/s/a.csv", 0, "malformed: the file cannot be read: Permission denied", b"")
    ]
    read(city, post)
    assert {use[0] for use in post.uses()} == {"C1", "C2"}


def test_a_file_that_vanishes_is_passed_over(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(city / "cdr/s/b.csv", csv_of(call_row(2)))
    found = files.find_sources(city)
    found.sources["cdr/s"].insert(0, files.SourceFile("cdr/s/a.csv", city / "cdr/s/a.csv"))
    monkeypatch.setattr(files.DirectoryWatch, "look", lambda _: found)
    post, _ = read(city)
    assert [use[0] for use in post.uses()] == ["C2"]
    assert post.letters() == []


def test_names_of_files_may_be_any_bytes(city: Path) -> None:
    (city / "cdr/s").mkdir(parents=True)
    put(Path(os.fsdecode(os.fsencode(city / "cdr/s") + b"/\xff.csv")), csv_of(call_row(1), "bad"))
    post, _ = read(city)
    ((source, position, *_),) = post.letters()
    assert (source, position) == ("cdr/s/\\udcff.csv", 3)
    before = len(post.uses())
    read(city, post)
    assert len(post.uses()) == before


def test_what_is_no_exchange_directory_is_said_in_one_line(tmp_path: Path, city: Path) -> None:
    with pytest.raises(InputError, match=r"^.*nowhere is not a directory$"):
        read(tmp_path / "nowhere")
    (city / "events").rmdir()
    with pytest.raises(InputError, match=r"needs a folder events/ or cdr/$"):
        read(city)
    (city / "cdr").mkdir()
    assert read(city)[1].rows == 0
    (city / "reference/outlets.csv").write_text("name\nx\n")
    with pytest.raises(
        InputError, match=r"outlets\.csv has no column outlet_id, kind; its header is 'name'$"
    ):
        read(city)
    (city / "reference/outlets.csv").unlink()
    with pytest.raises(InputError, match=r"outlets\.csv cannot be read: No such file"):
        read(city)


def test_reference_rows_that_cannot_be_used_are_dead_letters(city: Path) -> None:
    path = city / "reference/wholesalers.csv"
    path.write_text(
        "\ufeff" + path.read_text() + "W2,Bad,12,,en\nW3\n\nW4,Quiet,,,\n,Nameless,12,,\n"
    )
    loaded = load_reference(city / "reference")
    assert set(loaded.reference.wholesalers) == {"W1", "W2", "W4"}
    assert [(line.source, line.line, line.reason.split(":")[0]) for line in loaded.refused] == [
        ("reference/wholesalers.csv", 3, "invalid_field"),
        ("reference/wholesalers.csv", 4, "malformed"),
        ("reference/wholesalers.csv", 7, "invalid_field"),
    ]
    assert [(p, w) for p, w in read(city)[0].reasons()] == [
        (3, "invalid_field"), (4, "malformed"), (7, "invalid_field"),
    ]  # fmt: skip


# Stops and restarts


class Killed(BaseException):
    """Stands for a process that is no more."""


def fill(city: Path) -> None:
    put(city / "events/a.ndjson", "\n".join(delivery(i, 20 * i, 3 * i) for i in range(40)))
    put(city / "cdr/a/1.csv", csv_of(*shuffled_calls(90, 1)))
    put(city / "cdr/a/2.csv.gz", gzip.compress(csv_of(*shuffled_calls(90, 2)).encode()))
    rows = [call_fields(i, sim=i) for i in range(100, 160)]
    (city / "cdr/b").mkdir()
    table = pa.table(list(map(list, zip(*rows, strict=True))), HEADER.split(","))
    pq.write_table(table, city / "cdr/b/1.parquet", row_group_size=25)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(kills=st.lists(st.integers(0, 250), max_size=4))
def test_killed_anywhere_it_goes_on_to_the_same_facts(
    tmp_path_factory: pytest.TempPathFactory, small_pieces: None, kills: list[int]
) -> None:
    city = tmp_path_factory.mktemp("city")
    make_reference(city)
    fill(city)
    whole, _ = read(city)
    kept, left = ListPost(), 0

    def count_down() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(INGEST, "KEEP_EVERY", 0.0)
        for kill in kills:
            kept.after, left = count_down, kill
            with contextlib.suppress(Killed):
                read(city, kept)
        kept.after = lambda: None
        read(city, kept)
    assert kept.facts() == whole.facts()
    assert set(kept.letters()) == set(whole.letters())


def test_stopped_and_started_again_nothing_is_read_twice(
    city: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(city)
    whole, report = read(city)
    monkeypatch.setattr(INGEST, "KEEP_EVERY", 0.0)
    post, rows, runs = ListPost(), 0, 0
    while runs < 100:
        runs += 1
        stop = asyncio.Event()
        again = asyncio.run(
            read_directory(
                city, post, options=IngestOptions(), stop=stop,
                progress=lambda p, stop=stop: stop.set() if p.rows else None,  # type: ignore[misc]
            )
        )  # fmt: skip
        rows += again.rows
        if not stop.is_set():
            break
    assert runs > 5
    assert post.uses() == whole.uses()
    assert post.letters() == whole.letters()
    assert rows == report.rows
    assert post.ended() == {"events", "cdr/a", "cdr/b"}


def test_a_second_reading_finds_nothing_more_even_after_a_touch(city: Path) -> None:
    fill(city)
    post, _ = read(city)
    before = post.facts(), post.letters(), len(post.uses())
    for path in city.rglob("*.*"):
        os.utime(path, (1, 1))
    _, report = read(city, post)
    assert (report.rows, report.bytes_total) == (0, 0)
    assert (post.facts(), post.letters(), len(post.uses())) == before


@pytest.mark.parametrize("first", ["", "\n", "half"])
def test_a_file_that_grew_is_read_on(city: Path, first: str) -> None:
    rows = [call_row(i) for i in range(200)]
    part = csv_of(*rows[:100]) + {"": "", "\n": "", "half": rows[100][:20]}[first]
    path = put(city / "cdr/s/a.csv", part.removesuffix("\n") if first == "" else part)
    post, _ = read(city)
    put(path, csv_of(*rows, "bad"))
    _, report = read(city, post)
    assert [use[0] for use in post.uses()] == sorted(row.split(",")[0] for row in rows)
    assert report.rows in (101, 102)
    letters = post.letters()
    assert letters[-1][1] == 202
    # A line that was read before its writer had ended it is no bad one any more.
    assert letters[:-1] == []
    assert report.dead_letters == 1


def test_a_file_that_was_replaced_is_read_again(city: Path) -> None:
    path = put(city / "cdr/s/a.csv", csv_of(*map(call_row, range(50))))
    post, _ = read(city)
    put(path, csv_of(*map(call_row, range(50, 110))))
    read(city, post)
    assert len(post.uses()) == 110
    put(path, csv_of(call_row(200)))
    read(city, post)
    assert len(post.uses()) == 111
    for name in ("b.csv.gz", "b.parquet"):
        put(city / "cdr/s" / name, b"rubbish")
        read(city, post)
    assert len(post.letters()) == 2
    put(city / "cdr/s/b.csv.gz", gzip.compress(csv_of(call_row(300)).encode()))
    read(city, post)
    assert len(post.uses()) == 112


# Following


def follow(city: Path, steps: Iterator[None], post: ListPost | None = None) -> ListPost:
    """Follow a directory, taking a step each time nothing more is found, then stop."""
    post = post or ListPost()

    async def run() -> None:
        stop, looks = asyncio.Event(), 0

        find = files.DirectoryWatch.look

        def look(watch: files.DirectoryWatch) -> files.Listing:
            nonlocal looks
            looks += 1
            if looks % 3 == 0 and next(steps, stop) is stop:
                loop.call_soon_threadsafe(stop.set)
            return find(watch)

        loop = asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files.DirectoryWatch, "look", look)
            patch.setattr(INGEST, "LOOK_EVERY", 0.005)
            options = IngestOptions(follow=True)
            await asyncio.wait_for(read_directory(city, post, options=options, stop=stop), 60)

    asyncio.run(run())
    return post


def test_following_reads_what_is_whole_and_waits_for_the_rest(city: Path) -> None:
    path, post = city / "cdr/s/a.csv", ListPost()
    seen: list[int] = []

    def steps() -> Iterator[None]:
        text = csv_of(call_row(1), call_row(2))
        for end in (10, len(HEADER), len(HEADER) + 1, len(HEADER) + 9, len(text) - 5, len(text)):
            put(path, text[:end])
            yield
            seen.append(len(post.uses()))
        put(city / "cdr/s/b.csv.gz", gzip.compress(csv_of(call_row(3)).encode()))
        put(city / "events/x.ndjson", call_json(4) + "\n" + '{"type":"ca')
        yield
        seen.append(len(post.uses()))
        with (city / "events/x.ndjson").open("a") as file:
            file.write(call_json(5).removeprefix('{"type":"ca') + "\n")
        yield
        seen.append(len(post.uses()))

    follow(city, steps(), post)
    assert seen == [0, 0, 0, 0, 1, 2, 4, 5]
    assert post.letters() == []
    assert post.ended() == set(), "who stops following has not come to an end"


def test_a_file_is_whole_once_another_follows_it(city: Path) -> None:
    def steps() -> Iterator[None]:
        put(city / "cdr/s/a.csv", csv_of(call_row(1)).removesuffix("\n"))
        yield
        put(city / "cdr/s/b.csv", csv_of(call_row(2)))
        yield

    assert [use[0] for use in follow(city, steps()).uses()] == ["C1", "C2"]


def test_a_file_that_may_still_grow_holds_back_those_behind_it(city: Path) -> None:
    """Read after them, it would come too late for its own source's watermark."""

    def steps() -> Iterator[None]:
        put(city / "cdr/s/1.csv", csv_of(call_row(1)))
        put(city / "cdr/s/2.csv.gz", gzip.compress(csv_of(call_row(2)).encode()))
        put(city / "cdr/s/3.csv", csv_of(call_row(3)))
        yield

    read_in_order = follow(city, steps()).rows("uses", "late_uses")
    assert [row["event_id"] for row in read_in_order] == ["C1", "C2", "C3"]


def test_stop_is_heard_while_the_post_is_stuck(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(city / "cdr/s/a.csv", csv_of(call_row(1)))
    stop = asyncio.Event()

    class Stuck(ListPost):
        async def send(self, effects: list[Any]) -> None:
            if any(e.header.source and not e.header.peers for e in effects):  # of a file
                stop.set()
                await asyncio.Event().wait()

    post = Stuck()
    monkeypatch.setattr(INGEST, "STOP_WITHIN", 0.01)
    asyncio.run(
        asyncio.wait_for(read_directory(city, post, options=IngestOptions(), stop=stop), 60)
    )
    assert post.kept == {}


# Somebody has seen enough


def test_what_progress_raises_ends_reading_and_the_chunk_is_read_again(city: Path) -> None:
    put(city / "cdr/s/a.csv", csv_of(*["bad"] * 2_000))

    def enough(progress: IngestProgress) -> None:
        if progress.dead_letters:
            raise InputError("enough")

    post = ListPost()
    with pytest.raises(InputError, match=r"^enough$"):
        asyncio.run(read_directory(city, post, options=IngestOptions(), progress=enough))
    assert len(post.letters()) == 2_000
    # Mended, it is read from its beginning.
    put(city / "cdr/s/a.csv", csv_of(*map(call_row, range(2_000))))
    read(city, post)
    assert len(post.uses()) == 2_000

"""Files in every form that people have them: names, packings, encodings, separators, line ends."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import HEADER, ListPost, call_row, csv_of, put, read

from pipelines.ingest.reading import files


def zst(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zst,
}  # fmt: skip
ROWS = [call_row(n) for n in range(1, 4)]
IDS = ["C1", "C2", "C3"]


def ids(post: ListPost) -> list[str]:
    return [use[0] for use in post.uses()]


def as_json(row: str) -> dict[str, str]:
    fields = dict(zip(HEADER.split(","), row.split(","), strict=True))
    return {"type": "call"} | {name: fields[name] for name in ("call_id", "start_time", "imsi")}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("capitals", [False, True])
@pytest.mark.parametrize(
    "ending", [".csv", ".txt", "", ".csv.1", ".csv-20260302", ".ndjson", ".jsonl", ".json"]
)
def test_names_of_all_kinds_are_read(city: Path, ending: str, capitals: bool, packing: str) -> None:
    text = "".join(json.dumps(as_json(row)) + "\n" for row in ROWS)
    data = (text if "js" in ending else csv_of(*ROWS)).encode()
    name = f"calls{ending}{packing}"
    put(city / "cdr/s" / (name.upper() if capitals else name), PACKINGS[packing](data))
    post, report = read(city)
    assert (ids(post), post.letters(), report.unread) == (IDS, [], [])
    _, again = read(city, post)
    assert again.rows == 0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cdr/s/calls.xlsx", "no mapping names it"),
        ("cdr/s/calls.csv.tmp", "draft"),
        ("cdr/s/.calls.csv", "dot"),
        ("cdr/s/calls.parquet.gz", "not packed"),
        ("cdr/s/README", "begins neither"),
        ("events/notes.txt", "begins neither"),
        ("calls.csv", "neither below events/"),
        ("CDR/s/calls.csv", "the folders that are read"),
    ],
)
def test_what_is_not_read_is_named_with_the_reason(city: Path, name: str, why: str) -> None:
    put(city / name, "something else")
    put(city / "cdr/s/a.csv", csv_of(*ROWS))
    post, report = read(city)
    assert ids(post) == IDS
    ((unread, reason),) = report.unread
    assert unread == (name if not name.startswith("CDR") else "CDR/")
    assert why in reason
    listed = [(row["n"], row["input"], row["reason"]) for row in post.rows("unread_inputs")]
    assert listed == [(0, "", ""), (1, unread, reason)]
    # Once it is gone the list is empty.
    (city / name).unlink()
    if name.startswith("CDR"):
        (city / "CDR/s").rmdir()
        (city / "CDR").rmdir()
    again, _ = read(city)
    assert [row["n"] for row in again.rows("unread_inputs")] == [0]


FORMS = st.fixed_dictionaries(
    {
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
        "separator": st.sampled_from([",", ";", "\t", "|"]),
        "end": st.sampled_from(["\n", "\r\n", "\r"]),
        "blank": st.integers(0, 2),
        "hint": st.booleans(),
        "types": st.booleans(),
        "repeat": st.booleans(),
        "note": st.sampled_from(["", "plain", "two\nlines", 'say "hi"', "a,b;c|d\te", "中文"]),
        "last_end": st.booleans(),
        "chunk": st.sampled_from([7, 60, 1 << 20]),
        "packing": st.sampled_from(list(PACKINGS)),
    }
)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(form=FORMS)
def test_a_form_that_is_plain_to_see_is_read(
    city: Path, form: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", form["chunk"])
    names = ["note", *HEADER.split(",")]
    header = str(form["separator"]).join(names)
    rows = [[quoted(str(form["note"])), *row.split(",")] for row in ROWS]
    lines = [""] * int(str(form["blank"])) + [f"sep={form['separator']}"] * bool(form["hint"])
    lines += [header]
    lines += [str(form["separator"]).join(["VARCHAR(50)"] * len(names))] * bool(form["types"])
    for row in rows:
        lines += [str(form["separator"]).join(row)] + [header] * bool(form["repeat"])
    text = "\n".join(lines) + "\n" * bool(form["last_end"])
    if form["end"] != "\r" or form["note"] != "two\nlines":
        text = text.replace("\n", str(form["end"]))
    for old in (city / "cdr").rglob("*.csv*"):
        old.unlink()
    data = PACKINGS[str(form["packing"])](text.encode(str(form["encoding"])))
    put(city / f"cdr/s/a.csv{form['packing']}", data)
    post, report = read(city)
    assert (ids(post), post.letters(), report.unread) == (IDS, [], [])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "shown", [str.upper, str.title, str.swapcase, lambda n: n[:4] + n[4:].upper()]
)
def test_a_header_in_capitals_is_read(city: Path, kind: str, shown: Callable[[str], str]) -> None:
    """All of its names, or some, or with others beside them."""
    names = [shown(name) if number % 3 else name for number, name in enumerate(HEADER.split(","))]
    fields = [row.split(",") for row in ROWS]
    for given_ in (names, [shown(name) for name in HEADER.split(",")]):
        if kind == "csv":
            lines = [",".join([*row, "x"]) for row in [given_, *fields]]
            put(city / "cdr/s/a.csv", "\n".join(lines))
        else:
            (city / "cdr/s").mkdir(exist_ok=True, parents=True)
            table = pa.table(list(map(pa.array, zip(*fields, strict=True))), given_)
            pq.write_table(table, city / "cdr/s/a.parquet")
        post, _ = read(city)
        assert (ids(post), post.letters()) == (IDS, [])


def test_a_heading_in_gbk_is_read(city: Path) -> None:
    put(city / "cdr/s/a.csv", csv_of(*ROWS).replace("cell_id", "基站").encode("gb18030"))
    post, _ = read(city)
    assert (ids(post), post.letters()) == (IDS, [])


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        ("call_id:start_time:imsi", "separated by ':'"),
        ("id;time;imsi", "separated by ';'"),
        ("Rufnummer,Zeit,Gerät".encode("latin-1"), "read as gb18030"),
        ("id,time,imsi".encode("utf-16"), "read as utf-16"),
        (f"Calls of March\n\n{HEADER}", "it seems to stand in line 3: a mapping can skip_lines"),
    ],
)
def test_a_header_that_does_not_fit_is_shown_with_the_cause(
    city: Path, header: str | bytes, cause: str
) -> None:
    put(city / "cdr/s/a.csv", header if isinstance(header, bytes) else f"{header}\n")
    ((_, _, why, _),) = read(city)[0].letters()
    assert "the header is '" in why
    assert cause in why


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("ending", [".json", ".txt"])
def test_json_over_several_lines_or_in_a_list_is_read(
    city: Path, listed: bool, indent: int | None, ending: str
) -> None:
    calls = [as_json(row) for row in ROWS]
    text = (
        json.dumps(calls, indent=indent)
        if listed
        else "\n".join(json.dumps(call, indent=indent) for call in calls)
    )
    put(city / f"events/a{ending}", text)
    post, _ = read(city)
    assert (ids(post), post.letters()) == (IDS, [])


def test_a_quote_left_open_takes_no_other_line_with_it(city: Path) -> None:
    bad = call_row(9).replace("C9", '"C9')
    put(city / "cdr/s/a.csv", csv_of(ROWS[0], bad, *ROWS[1:]))
    post, _ = read(city)
    assert ids(post) == IDS
    assert [letter[1:] for letter in post.letters()] == [
        (3, "malformed: not CSV: its quotes do not come in pairs around whole fields", bad.encode())
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt.1", "a.csv.bz2.1", "a"])
@pytest.mark.parametrize("packing", [gzip.compress, bz2.compress, zst])
def test_a_packing_is_known_by_how_it_begins(
    city: Path, name: str, packing: Callable[[bytes], bytes]
) -> None:
    put(city / "cdr/s" / name, packing(csv_of(*ROWS).encode()))
    post, report = read(city)
    assert (ids(post), post.letters(), report.unread) == (IDS, [], [])
    assert read(city, post)[1].rows == 0


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("cut", [1, 5, 9])
def test_what_stands_before_a_damaged_place_is_read(city: Path, packing: str, cut: int) -> None:
    first = PACKINGS[packing](csv_of(*ROWS).encode())
    whole = first + PACKINGS[packing]((call_row(4) + "\n").encode())
    file = put(city / f"cdr/s/a.csv{packing}", whole[:-cut])
    post, _ = read(city)
    # Arrow's zstd gives steps of 128 KiB or nothing.
    assert ids(post)[:3] == ([] if packing == ".zst" else IDS)
    assert [letter[2].split(":")[0] for letter in post.letters()] == ["malformed"]
    file.write_bytes(whole)  # its copy is complete now
    read(city, post)
    assert sorted(set(ids(post))) == [*IDS, "C4"]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ends=st.lists(st.sampled_from(["", ";", ";x", ";;"]), min_size=3, max_size=3),
    note=st.sampled_from(["", '"two\nlines"']),
)
def test_a_separator_at_the_end_of_rows_is_no_field(city: Path, ends: list[str], note: str) -> None:
    rows = [f"{note};{row.replace(',', ';')}{end}\n" for row, end in zip(ROWS, ends, strict=True)]
    put(city / "cdr/s/a.csv", f"note;{HEADER.replace(',', ';')}\n" + "".join(rows))
    post, _ = read(city)
    good = [id for id, end in zip(IDS, ends, strict=True) if end in ("", ";")]
    assert (ids(post), bool(post.letters())) == (good, len(good) < 3)


def test_json_values_one_behind_the_other_are_read(city: Path) -> None:
    put(city / "events/a.json", "".join(json.dumps(as_json(row)) for row in ROWS))
    post, _ = read(city)
    assert (ids(post), post.letters()) == (IDS, [])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((b"17-4", "北京".encode("gbk")), "not UTF-8; a mapping can give the encoding"),
        ((b",86139", b"\r,86139"), "a carriage return stands within the line"),
        ((b"17-4", b'"17-4'), "its quotes do not come in pairs"),
    ],
)
def test_a_line_that_is_not_csv_says_why(city: Path, change: tuple[bytes, bytes], why: str) -> None:
    put(city / "cdr/s/a.csv", csv_of(ROWS[0]).encode().replace(*change) + b"\n")
    ((_, _, reason, _),) = read(city)[0].letters()
    assert why in reason


def test_an_encoded_file_that_grows_is_read_on(city: Path) -> None:
    text, post = csv_of(*ROWS), ListPost()
    for end in (len(csv_of(ROWS[0])), len(csv_of(*ROWS[:2])) + 9, len(text)):
        put(city / "cdr/s/a.csv", text[:end].encode("utf-16"))
        read(city, post)
    assert ids(post) == IDS


def test_json_over_several_lines_that_grows_is_read_on(city: Path) -> None:
    text, post = json.dumps([as_json(row) for row in ROWS], indent=1), ListPost()
    second = text.index("C2")
    for end in (second - 20, second + 1, second + 9, len(text)):
        put(city / "events/a.json", text[:end])
        read(city, post)
    assert ids(post) == IDS

"""Checking in columns accepts and refuses exactly what the models do, one line at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ingest_harness import HEADER, call_fields, call_json, moment

from pipelines.ingest.check import Checked, Format, check
from pipelines.ingest.reading.csv_rows import Dialect
from pipelines.ingest.reading.files import Chunk
from schemas import golden
from schemas.events import Activation, Call, Event, Refused, accept_call, accept_line
from schemas.fields import OUT_OF_RANGE

NAMES = HEADER.split(",")
DIALECT = Dialect(NAMES)

#: (line, id, ms, IMSI) of a use, (line, event) of another event, (line, reason) of a refusal.
Outcome = set[tuple[Any, ...]]


def outcome(checked: Checked) -> Outcome:
    columns = (checked.lines.tolist(), checked.ids.to_pylist(), checked.at.tolist())
    assert checked.lines.tolist() == sorted(checked.lines.tolist())
    found: Outcome = set(zip(*columns, checked.imsis.tolist(), strict=True))
    found |= set(checked.others) | {(line, why) for line, why, _ in checked.refused}
    total = len(checked.lines) + len(checked.others) + len(checked.refused)
    assert len(found) == total, "a line came out twice"
    return found


def one_by_one(rows: list[Any], judge: Callable[[Any], Event]) -> Outcome:
    found: Outcome = set()
    for line, row in enumerate(rows, start=1):
        try:
            event = judge(row)
        except Refused as reason:
            found.add((line, str(reason)))
            continue
        if isinstance(event, Call | Activation):
            found.add((line, event.event_id, event.at, int(event.imsi)))
        else:
            found.add((line, event))
    return found


# CSV

times = st.sampled_from(
    [
        moment(7),
        "2026-03-02T09:15:02+08:00",
        "2026-03-02T09:15:02Z",
        "2026-03-02T09:15:02.5Z",
        "2026-03-02T09:15:02.350-11:30",
        "2024-02-29T23:59:59Z",
        "2026-02-29T00:00:00Z",
        "2026-03-02T24:00:00Z",
        "2026-13-02T09:15:02Z",
        "2026-03-02T09:60:02Z",
        "2026-03-02t09:15:02Z",
        "2026-03-02T09:15:02+24:00",
        "2026-03-02T09:15:02",
        "today",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00+00:01",
        "2299-12-31T23:59:59.999Z",
        "2300-01-01T00:00:00.000Z",
        "２026-03-02T09:15:02Z",
        "2026-03-02T09:15:02.123456789+08:00",
        "2026/03/02T09:15:02Z",
        "2026-03-02T09:15:0:Z",
    ]
)
numbers = st.sampled_from(
    [
        "",
        "0",
        "37",
        "-1",
        "-0",
        "1.5",
        "1e3",
        ".5",
        "5.",
        ".",
        "0.1234567891",
        "nan",
        "inf",
        "1_000",
        " 7",
        "+7",
        "٣",
        "0x10",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "9" * 400,
        "7.0",
    ]
)
imsis = st.sampled_from(
    [
        "460001234500000",
        "000000000000000",
        "999999999999999",
        "46000123450000",
        "4600012345000000",
        "46000123450000X",
        "４6000123450000",
        "-46000123450000",
        " 60001234500000",
        "",
    ]
)
ids = st.sampled_from(
    ["C1", "x" * 256, "x" * 257, "呼" * 256, "呼" * 86, "呼" * 257, " ", "", "\0"]
)
plain_text = st.text(st.characters(exclude_characters='",\r\n', exclude_categories=["Cs"]))
fields = st.tuples(ids, times, imsis, plain_text, numbers, plain_text, numbers).map(list)
good_fields = st.integers(0, 9_999).map(call_fields)
rows_of_fields = st.lists(st.one_of(good_fields, good_fields, fields), max_size=12)


def check_csv(data: bytes, lines: int) -> Outcome:
    return outcome(check(Chunk(1, lines, data=data), Format("csv", DIALECT)))


@settings(max_examples=100)
@given(rows_of_fields)
def test_plain_csv(rows: list[list[str]]) -> None:
    data = "".join(",".join(row) + "\n" for row in rows).encode()
    judged = one_by_one(rows, lambda row: accept_call(dict(zip(NAMES, row, strict=True))))
    assert check_csv(data, len(rows)) == judged


@settings(max_examples=100)
@given(rows_of_fields, st.sampled_from(["\n", "\r\n"]))
def test_quoted_csv(rows: list[list[str]], ending: str) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=ending).writerows(rows)
    judged = one_by_one(rows, lambda row: accept_call(dict(zip(NAMES, row, strict=True))))
    assert check_csv(text.getvalue().encode(), len(rows)) == judged


junk = st.sampled_from(
    [b"\xff", b"\0", b'"', b",", b"\r", b" ", b"\xef\xbb\xbf", b"\xe5\x91", b"\t", b"\x1a", b"C1,"]
)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 99).map(call_fields).map(",".join), st.lists(junk, max_size=2))
        | st.tuples(st.just(""), st.lists(junk, max_size=3)),
        max_size=6,
    ),
    st.integers(0, 60),
)
@example([("", [b'"']), ("C1,", [b'"'])], 0)
@example([("C1", [b"\xff"]), ("", [])], 0)
def test_a_line_means_the_same_whatever_stands_beside_it(
    parts: list[tuple[str, list[bytes]]], at: int
) -> None:
    lines = [text.encode()[:at] + b"".join(extra) + text.encode()[at:] for text, extra in parts]
    together = check_csv(b"".join(line + b"\n" for line in lines), len(lines))
    alone: Outcome = set()
    for number, line in enumerate(lines, start=1):
        found = check(Chunk(number + 7, 1, data=line + b"\n"), Format("csv", DIALECT))
        alone |= {(number, *rest) for _, *rest in outcome(found)}
    # The mark of UTF-8 is passed over at the top of a file only.
    if not (lines and lines[0].startswith(b"\xef\xbb\xbf")):
        assert together == alone


# JSON

values = st.one_of(
    times, numbers, imsis, ids, st.none(), st.booleans(), st.integers(), st.floats(),
    st.just(-(2**63)), st.just(2**63), st.just([]), st.just({"a": 1}),
)  # fmt: skip
keys = st.sampled_from([*NAMES, "type", "event_id", "at", "count", "complete", "first_iccid", "?"])


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    base = draw(
        st.one_of(
            st.integers(0, 9_999).map(call_json).map(str.encode),
            st.sampled_from(golden.accepted()),
            st.sampled_from([example_.line for example_ in golden.refused()]),
        )
    )
    changes = draw(st.dictionaries(keys, values, max_size=2))
    if not changes:
        return base
    try:
        row = json.loads(base)
    except ValueError:
        return base
    if not isinstance(row, dict):
        return base
    text = json.dumps(row | changes, ensure_ascii=draw(st.booleans()))
    return text.encode(errors="surrogatepass")


def check_json(lines: list[bytes]) -> Outcome:
    data = b"".join(line + b"\n" for line in lines)
    return outcome(check(Chunk(1, len(lines), data=data), Format("ndjson")))


@settings(max_examples=100)
@given(st.lists(json_lines(), max_size=10))
def test_json(lines: list[bytes]) -> None:
    assert check_json(lines) == one_by_one(lines, accept_line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"call","type":"delivery"}',
        call_json(1).encode() + b"{}",
        call_json(1).replace('"C1"', '"C1","call_id":"C2"').encode(),
        call_json(1).replace('"C1"', '"\\ud800"').encode(),
        call_json(1).replace("{", '{"x":1e999,').encode(),
        call_json(1).encode().replace(b"{", b'{"x":"\xff",'),
        call_json(1).encode().replace(b"{", b'{"\xff":1,'),
        call_json(1).replace("{", '{"x":' + "[" * 3_000 + "]" * 3_000 + ",").encode(),
        call_json(1).replace("37", "37.0").encode(),
        call_json(1).replace("37", "-0.0").encode(),
        call_json(1).replace("37", "1e400").encode(),
        call_json(1).replace("37", "true").encode(),
        call_json(1).replace("37", "null").encode(),
        call_json(1).replace(":12}", ":12.0}").encode(),
        call_json(1).replace(":12}", ":9223372036854775807}").encode(),
        call_json(1).replace(":12}", ":-9223372036854775809}").encode(),
        call_json(1).replace('"imsi":"', '"imsi":"\\n').encode(),
        call_json(1).encode() + b"\r",
        b"\x0b" + call_json(1).encode(),
        call_json(1).replace("{", '{"x":' + "[" * 30_000 + "]" * 30_000 + ",").encode(),
        call_json(1).replace("{", '{"x":' + "[" * 1_800 + "]" * 1_800 + ",").encode(),
        call_json(1).replace("{", '{"x":' + '{"y":' * 600 + "1" + "}" * 600 + ",").encode(),
        call_json(1).replace("{", '{"imsi":7,').encode(),
        call_json(1).replace("}", ',"imsi":"460001234500009"}').encode(),
        call_json(1).replace("{", '{"x":01,').encode(),
        call_json(1).replace("{", '{"x":NaN,').encode(),
        call_json(1).replace("{", '{"x":[-Infinity],').encode(),
        call_json(1).replace("{", '{"x":-Inf,').encode(),
        call_json(1).replace("{", '{"x":+1,').encode(),
        call_json(1).replace("{", '{"x":-,').encode(),
        call_json(1).replace("{", '{"x":"\\q",').encode(),
        call_json(1).replace("{", '{"x":"\t",').encode(),
        call_json(1).replace("{", "{/* */").encode(),
        call_json(1).replace("}", ",}").encode(),
        call_json(1).replace('"type":"call"', '"type":"c\\u0061ll"').encode(),
        call_json(1).replace('"type":"call"', '"type":["call"]').encode(),
        call_json(1).replace('"C1"', '"\\u547c\\ud83d\\ude00"').encode(),
        call_json(1).replace('"C1"', '"\\u0000"').encode(),
        call_json(1).encode() + b"\0",
        call_json(1).replace(":37,", ":0.1e2,").encode(),
        call_json(1).replace(":37,", ":9007199254740993,").encode(),
        call_json(1).replace(":37,", ":-1,").encode(),
        call_json(1).replace(":12}", ":9007199254740993}").encode(),
        call_json(1).encode() + b" ",
        b" " + call_json(1).encode(),
    ],
)
def test_json_at_the_borders(line: bytes) -> None:
    lines = [call_json(7).encode(), line, golden.accepted()[0]]
    assert check_json(lines) == one_by_one(lines, accept_line)


def test_two_objects_on_a_line_and_one_on_two_do_not_cancel_out() -> None:
    two = (call_json(1) + call_json(2)).encode()
    left, right = call_json(3).encode().split(b",", 1)
    assert {line for line, *_ in check_json([two, left + b",", right, call_json(4).encode()])} == {
        1, 2, 3, 4,
    }  # fmt: skip
    assert len(check_json([two, left + b",", right])) == 3


# Parquet


@settings(max_examples=100)
@given(st.lists(st.one_of(good_fields, fields), min_size=1, max_size=8))
def test_parquet_of_text(rows: list[list[str]]) -> None:
    batch = pa.record_batch([pa.array(column) for column in zip(*rows, strict=True)], NAMES)
    found = outcome(check(Chunk(1, len(rows), rows=batch), Format("parquet")))
    assert found == one_by_one(rows, lambda row: accept_call(dict(zip(NAMES, row, strict=True))))


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp(u, "UTC") for u in ("s", "ms", "us", "ns")] + [pa.timestamp("us", "+08:00")],
)
def test_parquet_times_of_any_unit_and_zone(kind: pa.DataType) -> None:
    seconds = [0, 1772414102, None, -1, 9_223_372_036]
    ticks = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    times_ = pa.array([s if s is None else s * ticks for s in seconds], pa.int64()).cast(kind)
    batch = pa.record_batch(
        [pa.array(list("abcde")), times_, pa.array(["460001234500000"] * 5)], NAMES[:3]
    )
    found = outcome(check(Chunk(1, 5, rows=batch), Format("parquet")))
    assert {row for row in found if len(row) == 4} == {
        (2, "b", 1772414102000, 460001234500000),
        (5, "e", 9_223_372_036_000, 460001234500000),
    }
    why = "invalid_field: start_time: "
    assert {row for row in found if len(row) == 2} == {
        (1, why + OUT_OF_RANGE),
        (3, why + "missing"),
        (4, why + OUT_OF_RANGE),
    }


def test_parquet_numbers_are_what_they_are_as_text() -> None:
    columns = {
        "call_id": pa.array(["a", "b", "c", "d"]).dictionary_encode(),
        "start_time": pa.array([moment(1)] * 4, pa.large_string()),
        "imsi": pa.array([460001234500000, 460001234500001, None, 46], pa.int64()),
        "duration_s": pa.array([37.0, float("inf"), 1.5, 1.5]),
        "charge_fen": pa.array([12, 12, 12, None], pa.uint64()),
    }
    batch = pa.record_batch(list(columns.values()), list(columns))
    found = outcome(check(Chunk(1, 4, rows=batch), Format("parquet")))
    assert {row[0]: row[1].split(": ")[1] for row in found if len(row) == 2} == {
        2: "duration_s", 3: "imsi", 4: "imsi",
    }  # fmt: skip
    assert {row[1] for row in found if len(row) == 4} == {"a"}


def test_parquet_texts_that_are_not_utf8() -> None:
    ids = pa.array([b"a", b"\xff\xfe", b"c"]).view(pa.string())
    at = pa.array([10**9, 1, 2**62], pa.timestamp("s", "UTC"))
    batch = pa.record_batch([ids, at, pa.array(["460001234500000"] * 3)], NAMES[:3])
    checked = check(Chunk(1, 3, rows=batch), Format("parquet"))
    assert outcome(checked) == {
        (1, "a", 10**12, 460001234500000),
        (2, "malformed: not UTF-8"),
        (3, f"invalid_field: start_time: {OUT_OF_RANGE}"),
    }
    payloads = [payload for _, _, payload in checked.refused]
    assert b"\\xff\\xfe" in payloads[0].replace(b"\\\\", b"\\")
    assert b"not to be shown" in payloads[1]

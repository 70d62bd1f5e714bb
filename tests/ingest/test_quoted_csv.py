"""Quoted fields are read by Arrow where that cannot matter, and by Python where it might."""

from __future__ import annotations

from hypothesis import event, example, given
from hypothesis import strategies as st

from pipelines.ingest.reading import csv_rows
from pipelines.ingest.reading.lines import Lines, count_lines

DIALECT = csv_rows.Dialect(["one", "two"])

#: What a field may look like in a file: bare, in quotes, or not as it should.
fields = st.one_of(
    st.text("ab ,|", max_size=3).map(lambda text: f'"{text}"'),
    st.text('ab "', max_size=3),
    st.sampled_from(['""', '"a""b"', '"', '"a\nb"', ' "a"', '"a" ', "é", '"é"']),
)
rows = st.lists(fields, min_size=1, max_size=3).map(",".join)
files = st.tuples(st.lists(rows, max_size=4), st.sampled_from(["\n", "\r\n"])).map(
    lambda parts: "".join(row + parts[1] for row in parts[0]).encode()
)


def lines_of(data: bytes) -> Lines:
    return Lines(data, count_lines(data))


@example(b'"a","b"\n')
@example(b'"a,b","c"\r\n"","d"\r\n')
@example(b'"a","b\n"c","d"\n')
@given(files)
def test_arrow_is_asked_only_where_it_says_the_same(data: bytes) -> None:
    lines = lines_of(data)
    ours = csv_rows._by_arrow(lines, DIALECT, DIALECT.names)
    if not csv_rows._plain(lines, DIALECT) or ours is None:
        event("left to Python")
        return
    event("quoted, left to Arrow" if b'"' in data else "bare, left to Arrow")
    judge = csv_rows._by_python(lines, DIALECT, DIALECT.names)
    assert ours.lines.tolist() == judge.lines.tolist()
    assert ours.malformed == judge.malformed
    for name in DIALECT.names:
        assert ours.columns[name].to_pylist() == judge.columns[name].to_pylist()


def test_a_file_that_quotes_every_field_is_plain() -> None:
    lines = lines_of(b'"1","2026-03-01T00:00:00Z"\n"2","a, b"\n')
    assert csv_rows._plain(lines, DIALECT)
    found = csv_rows._by_arrow(lines, DIALECT, ["two"])
    assert found is not None
    assert found.columns["two"].to_pylist() == ["2026-03-01T00:00:00Z", "a, b"]


def test_quotes_within_quotes_are_not() -> None:
    for text in (b'"a""b","c"\n', b'a"b,c\n', b'"a\n","b"\n', b'"a"b,"c"\n', b'"a","b\n'):
        assert not csv_rows._plain(lines_of(text), DIALECT)

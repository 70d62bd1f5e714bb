"""Files as they come: packed, in parts, with a mark at the front, with lines that do not fit."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.batch.engine.columns import (
    ROW,
    SOURCE,
    Dataset,
    FileColumn,
    check,
    choice,
    day,
    imsi,
    month,
    number,
    parse_time,
    text,
    whole,
)
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.sources import checksum, find, plan, read
from schemas.errors import InputError

PAIRS = Dataset("pairs", (text("a"), text("b", required=False)))
Found = list[tuple[str, int, str, str]]


def everything(root: Path, chunk_rows: int = 1 << 20) -> tuple[Found, list[tuple[int, str]]]:
    rows: Found = []
    misfits: list[tuple[int, str]] = []
    for chunk in plan(find(str(root), PAIRS), PAIRS, chunk_rows):
        for raw, rejects, _ in read(chunk, PAIRS):
            rows += raw.select(SOURCE, ROW, "a", "b").rows()
            misfits += rejects.select(ROW, "reason").rows()
    return rows, misfits


def test_lines_that_do_not_fit_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes(
        b'\xef\xbb\xbfb,a,more\n1,2,x\n3\n 4 ,"5\n5",x\n6,7,8,9\n\xff,9,\n10,11,12\nlast'
    )
    rows, misfits = everything(tmp_path)
    assert rows == [
        ("pairs.csv", 1, "2", "1"),
        ("pairs.csv", 3, "5\n5", "4"),
        ("pairs.csv", 5, "9", "\ufffd"),
        ("pairs.csv", 6, "11", "10"),
    ]
    assert misfits == [
        (2, "malformed: 1 values where the header has 3"),
        (4, "malformed: 4 values where the header has 3"),
        (7, "malformed: 1 values where the header has 3"),
    ]


def test_parts_in_folders_packed_and_not(tmp_path: Path) -> None:
    folder = tmp_path / "utility/pairs"
    (folder / "2026").mkdir(parents=True)
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"a,b\n3,4\n"))
    pl.DataFrame({"a": ["5", "6", "7"], "b": [1, 2, 3]}).write_parquet(
        folder / "2026/c.parquet", row_group_size=2
    )
    for other in ("_SUCCESS", ".b.csv.crc", "readme.txt", "_temporary.csv"):
        (folder / other).write_text("a,b\n0,0\n")
    (tmp_path / "pairs.csv").write_text("a,b\nnot looked for,\n")
    (tmp_path / "utility/pairs_of_last_year.csv").write_text("a,b\n0,0\n")
    rows, _ = everything(tmp_path, chunk_rows=1)
    assert [(source, row, a) for source, row, a, _ in rows] == [
        ("utility/pairs/2026/c.parquet", 1, "5"),
        ("utility/pairs/2026/c.parquet", 2, "6"),
        ("utility/pairs/2026/c.parquet", 3, "7"),
        ("utility/pairs/b.csv.gz", 1, "3"),
    ]


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"\xff\xfe\n"])
def test_a_file_without_the_columns_is_no_such_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"pairs\.csv"):
        everything(tmp_path)


def test_a_part_with_nothing_in_it_has_no_rows(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"")
    (folder / "b.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match=r"a\.csv has no column a, b"):
        everything(tmp_path)
    (folder / "c.csv").write_text("a,b\n1,2\n")
    assert everything(tmp_path) == ([("pairs/c.csv", 1, "1", "2")], [])
    (folder / "d.csv").write_text("a,b")
    assert len(everything(tmp_path)[0]) == 1
    (folder / "d.csv").write_text("\na,b\n1,2\n")
    with pytest.raises(InputError, match=r"d\.csv has no column a, b"):
        everything(tmp_path)


def test_a_header_alone_without_its_end_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b")
    assert everything(tmp_path) == ([], [])
    (tmp_path / "pairs.csv").write_text("a,c")
    with pytest.raises(InputError, match=r"pairs\.csv has no column b"):
        everything(tmp_path)


def test_a_packed_file_that_was_cut_off_stops_the_run(tmp_path: Path) -> None:
    whole_file = gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)
    (tmp_path / "pairs.csv.gz").write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(InputError, match=r"pairs\.csv\.gz"):
        everything(tmp_path)


def test_checksums_tell_contents_apart(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n")
    (file,) = find(str(tmp_path), PAIRS)
    before = checksum(file)
    assert checksum(file) == before
    (tmp_path / "pairs.csv").write_text("a,b\n1,3\n")
    assert checksum(file) != before


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T08:00:00+08:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2025-12-31T19:00:00.5-05:00", datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-01T00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-01 00:00:00Z", None),
        ("yesterday", None),
    ],
)
def test_times_need_their_offset(written: str, read_as: datetime | None) -> None:
    # Beside a good one, as a column may be read another way when all of it fails.
    found = parse_time(pl.Series([written, "2026-05-05T05:05:05Z"]))
    assert found[0] == (None if read_as is None else int(read_as.timestamp() * 1000))


def test_kinds_of_columns() -> None:
    dataset = Dataset(
        "kinds",
        (
            whole("n"),
            number("x", most=10),
            day("d"),
            month("m"),
            imsi("i"),
            choice("c", ("u", "v")),
        ),
    )
    good = {"n": "+5", "x": "1e1", "d": "2026-01-31", "m": "2026-12", "i": "460000000000001",
            "c": "u"}  # fmt: skip
    bad = {"n": "5.5", "x": "10.1", "d": "2026-2-29", "m": "2026-13", "i": "46000000000000",
           "c": "w"}  # fmt: skip
    rows = [good, *(good | {name: value} for name, value in bad.items()), good | {"n": ""}]
    raw = pl.DataFrame(rows).with_columns(
        pl.lit("f").alias(SOURCE), pl.int_range(1, 9, dtype=pl.UInt64).alias(ROW)
    )
    fit, rejects = check(raw, dataset)
    assert fit.select("n", "x", "d", "m", "i", "c").rows() == [
        (5, 10.0, date(2026, 1, 31), "2026-12", 460_000_000_000_001, "u")
    ]
    assert rejects["reason"].to_list() == [
        "invalid_field: n: '5.5' is not a whole number",
        "invalid_field: x: '10.1' is not a number up to 10",
        "invalid_field: d: '2026-2-29' is not a day (YYYY-MM-DD)",
        "invalid_field: m: '2026-13' is not a month (YYYY-MM)",
        "invalid_field: i: '46000000000000' is not an IMSI of 15 digits",
        "invalid_field: c: 'w' is not one of u, v",
        "invalid_field: n: missing",
    ]


def test_typed_columns_of_parquet() -> None:
    dataset = Dataset("typed", (whole("n"), day("d"), imsi("i")))
    raw = pl.DataFrame(
        {
            "n": [1.0, 1.5],
            "d": [datetime(2026, 1, 1), datetime(2026, 1, 1, 5)],  # noqa: DTZ001
            "i": [460_000_000_000_001, -1],
            SOURCE: ["f", "f"],
            ROW: [1, 2],
        }
    )
    fit, rejects = check(raw, dataset)
    assert fit.select("n", "d", "i").rows() == [(1, date(2026, 1, 1), 460_000_000_000_001)]
    assert rejects.height == 1


@pytest.mark.parametrize(
    ("column", "values", "read_as"),
    [
        # A column of whole numbers with gaps is of floats once pandas had it.
        (text("v"), [1001.0, 1.5, None], ["1001", "1.5"]),
        (text("v"), [Decimal("7.00"), Decimal("7.50")], ["7", "7.50"]),
        (text("v"), [b"k1", b"\xff"], ["k1", "\ufffd"]),
        (whole("v"), [Decimal("12.00"), Decimal("12.50")], [12]),
        (whole("v"), [True], []),
        (whole("v"), [date(2026, 1, 1)], []),
        (whole("v"), [[5]], []),
        (imsi("v"), [b"460000000000001", b"46"], [460_000_000_000_001]),
        (imsi("v"), [Decimal("460000000000001.5")], []),
        (number("v", most=99), [Decimal("1.25"), Decimal("100")], [1.25]),
        (number("v", most=99), [timedelta(1)], []),
        (number("v", most=99), [{"of": 5}], []),
        (day("v"), [b"2026-01-31", b"2026"], [date(2026, 1, 31)]),
        (choice("v", ["in"]), [b"in", b"out"], ["in"]),
    ],
)
def test_other_types_of_parquet_are_read_right_or_refused(
    column: FileColumn, values: list[Any], read_as: list[Any]
) -> None:
    raw = pl.DataFrame({"v": values}).with_columns(
        pl.lit("f").alias(SOURCE), pl.int_range(1, len(values) + 1, dtype=pl.UInt64).alias(ROW)
    )
    fit, rejects = check(raw, Dataset("typed", (column,)))
    assert fit["v"].to_list() == read_as
    assert rejects.height == len(values) - len(read_as)
    assert all(reason.startswith("invalid_field: v: ") for reason in rejects["reason"])


def test_which_of_differing_rows_stays_does_not_hang_on_their_order() -> None:
    rows = pl.DataFrame(
        {"id": ["x", "x", "x", "y"], "v": [3, 2, 2, 9], SOURCE: list("ffgf"), ROW: [1, 2, 1, 3]}
    )
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        kept, rejects = deduplicate(rows[order], ["id"])
        assert sorted(kept.select("id", "v").rows()) == [("x", 2), ("y", 9)]
        assert rejects.rows() == [("f", 1, "conflict: id x has other values in f row 2")]


@pytest.mark.parametrize("name", ["pairs.csv", "pairs/1.csv"])
def test_a_link_that_leads_out_of_the_input_is_not_read(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    link = tmp_path / "city" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(secret)
    assert find(str(tmp_path / "city"), PAIRS) == []

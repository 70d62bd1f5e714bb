"""What the port promises, of both engines: chdb in this process, and a server over TCP.

The server is 18.16, so tables here use only types that it knows as well; the real schema is tested
on chdb, which is the engine that it is written for.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.warehouse import Warehouse, migrate
from pipelines.warehouse.reference import replace_reference
from schemas.errors import WarehouseDown, WarehouseError

_ms = pa.timestamp("ms", tz="UTC")

CREATE = """
CREATE TABLE shelf
(
    id String, n Int64, small Int8, at DateTime('UTC'), note String, tags Array(String),
    maybe Nullable(Int32), closed Nullable(DateTime('UTC')), who Nullable(String),
    share Float64, day Date, version UInt8
)
ENGINE = ReplacingMergeTree(version) ORDER BY id
"""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("n", pa.int64()),
        ("small", pa.int8()),
        ("at", _ms),
        ("note", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("maybe", pa.int32()),
        ("closed", _ms),
        ("who", pa.string()),
        ("share", pa.float64()),
        ("day", pa.date32()),
        ("version", pa.uint8()),
    ]
)

seconds = st.integers(0, 4_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))
text = st.text(st.characters(codec="utf-8"), max_size=20)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": text,
            "n": st.integers(-(2**63), 2**63 - 1),
            "small": st.integers(-128, 127),
            "at": seconds,
            "note": text,
            "tags": st.lists(text, max_size=3),
            "maybe": st.none() | st.integers(-(2**31), 2**31 - 1),
            "closed": st.none() | seconds,
            "who": st.none() | text,
            "share": st.floats(allow_nan=False),
            "day": st.dates(date(1970, 1, 1), date(2100, 1, 1)),
            "version": st.integers(0, 255),
        }
    ),
    max_size=12,
    unique_by=lambda row: row["id"],
)

many = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def shelf(warehouse: Warehouse) -> Iterator[Warehouse]:
    """A warehouse with one empty table."""
    warehouse.execute(CREATE)
    return warehouse


def _some(*ids: str, version: int = 0, note: str = "") -> pa.Table:
    versions = pa.array([version] * len(ids), pa.uint8())
    return pa.table({"id": list(ids), "version": versions, "note": [note] * len(ids)})


def _ids(shelf: Warehouse) -> list[str]:
    return shelf.query("SELECT id FROM shelf FINAL ORDER BY id")["id"].to_pylist()


@many
@given(rows=rows, cuts=st.lists(st.integers(0, 12), max_size=3), skip=st.integers(0, 3))
def test_what_goes_in_comes_out(
    shelf: Warehouse, rows: list[dict[str, object]], cuts: list[int], skip: int
) -> None:
    """Also from a table in pieces that does not begin where its memory does."""
    shelf.execute("TRUNCATE TABLE shelf")
    whole = pa.Table.from_pylist(rows, schema=SCHEMA)
    at = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    pieces = [whole.slice(a, b - a) for a, b in pairwise(at)]
    table = pa.concat_tables(pieces).slice(skip) if pieces else whole
    shelf.insert("shelf", table)
    columns = ", ".join(
        # DateTime comes out of the engines in different Arrow types.
        f"toInt64(toUInt32({name})) AS {name}_s" if name in ("at", "closed") else name
        for name in SCHEMA.names
    )
    found = shelf.query(f"SELECT {columns} FROM shelf").to_pylist()
    for row in found:
        for name in ("at", "closed"):
            value = row.pop(f"{name}_s")
            row[name] = None if value is None else datetime.fromtimestamp(value, UTC)
    wanted = sorted(rows[skip:], key=lambda row: str(row["id"]))
    assert sorted(found, key=lambda row: row["id"]) == wanted


def test_a_row_written_again_shows_once(shelf: Warehouse) -> None:
    for _ in range(3):
        shelf.insert("shelf", _some("a", "b"))
    shelf.insert("shelf", _some("b", "c", "c"))
    assert _ids(shelf) == ["a", "b", "c"]


def test_the_higher_version_wins_whichever_comes_first(shelf: Warehouse) -> None:
    shelf.insert("shelf", _some("a", version=1, note="closed"))
    shelf.insert("shelf", _some("a", version=0, note="open"))
    assert shelf.query("SELECT note FROM shelf FINAL")["note"].to_pylist() == ["closed"]


def test_of_equal_versions_the_last_row_wins_also_in_one_large_batch(shelf: Warehouse) -> None:
    ids = [str(i) for i in range(50_000)]
    numbers = [*range(50_000), *range(1_000_000, 1_050_000)]
    shelf.insert("shelf", pa.table({"id": ids * 2, "n": numbers}))
    found = shelf.query("SELECT count() AS c, min(n) AS least FROM shelf FINAL").to_pylist()
    assert found == [{"c": 50_000, "least": 1_000_000}]


def test_columns_go_by_name_and_those_left_out_get_defaults(shelf: Warehouse) -> None:
    shelf.insert("shelf", pa.table({"note": ["x"], "id": ["a"]}))
    found = shelf.query("SELECT id, note, n, maybe, tags FROM shelf").to_pylist()
    assert found == [{"id": "a", "note": "x", "n": 0, "maybe": None, "tags": []}]


def test_nulls_become_defaults_where_a_column_takes_none(shelf: Warehouse) -> None:
    nulls = {
        "note": pa.array([None], pa.string()),
        "n": pa.array([None], pa.int64()),
        "tags": pa.array([None], pa.list_(pa.string())),
        "at": pa.array([None], _ms),
        "share": pa.array([None], pa.float64()),
    }
    shelf.insert("shelf", pa.table({"id": ["a"], **nulls}))
    found = shelf.query("SELECT note, n, tags, toUInt32(at) AS t, share FROM shelf").to_pylist()
    assert found == [{"note": "", "n": 0, "tags": [], "t": 0, "share": 0.0}]


def test_no_rows_are_no_work(shelf: Warehouse) -> None:
    shelf.insert("shelf", SCHEMA.empty_table())
    found = shelf.query("SELECT id, n FROM shelf")
    assert found.num_rows == 0
    assert found.column_names == ["id", "n"]


def test_bytes_that_are_no_text_survive(shelf: Warehouse) -> None:
    payload = b"\xff\x00 not text \xfe'\\"
    shelf.insert("shelf", pa.table({"id": ["a"], "note": pa.array([payload], pa.binary())}))
    assert shelf.query("SELECT note FROM shelf")["note"].to_pylist() == [payload]
    assert shelf.query_bytes("SELECT note FROM shelf", "TSVRaw").startswith(payload)


@many
@given(value=text, number=st.integers(-(2**63), 2**63 - 1), small=st.integers(0, 255))
def test_parameters_come_through_unharmed(
    warehouse: Warehouse, value: str, number: int, small: int
) -> None:
    found = warehouse.query(
        "SELECT {value:String} AS v, {number:Int64} AS n, {small:UInt8} AS s, '{value:String}' AS q"
        " /* {value:String} */ -- {value:String}",
        {"value": value, "number": number, "small": small},
    )
    assert found.to_pylist() == [{"v": value, "n": number, "s": small, "q": "{value:String}"}]


def test_a_missing_parameter_is_named(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="day:Date"):
        warehouse.query("SELECT {day:Date}", {"month": 1})


def test_parameters_in_statements_that_change_something(shelf: Warehouse) -> None:
    shelf.insert("shelf", _some("a", "it's"))
    shelf.execute(
        "CREATE TABLE {name:Identifier} ENGINE = MergeTree ORDER BY id"
        " AS SELECT id FROM shelf WHERE id = {id:String}",
        {"name": "copy", "id": "it's"},
    )
    assert shelf.query("SELECT id FROM copy")["id"].to_pylist() == ["it's"]


def test_output_formats(shelf: Warehouse) -> None:
    shelf.insert("shelf", pa.table({"id": ["a", "b"], "maybe": pa.array([None, 2], pa.int32())}))
    sql = "SELECT id, n, maybe FROM shelf ORDER BY id"
    found = shelf.query_bytes(sql, "CSVWithNames").decode()
    assert list(csv.reader(io.StringIO(found))) == [
        ["id", "n", "maybe"],
        ["a", "0", r"\N"],
        ["b", "0", "2"],
    ]
    parsed = json.loads(shelf.query_bytes(f"{sql} FORMAT JSON;", "CSV"))
    assert [column["type"] for column in parsed["meta"]] == ["String", "Int64", "Nullable(Int32)"]
    assert parsed["rows"] == 2


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing_of_this_name", "nothing_of_this_name"),
        ("SELECT * FROM not_there", "not_there"),
        ("SELECT (", "Syntax error"),
    ],
)
def test_bad_sql_is_clickhouses_own_message_in_one_line(
    warehouse: Warehouse, sql: str, message: str
) -> None:
    with pytest.raises(WarehouseError, match=message) as caught:
        warehouse.query(sql)
    assert "\n" not in str(caught.value)
    assert "DB::Exception" not in str(caught.value)
    assert not isinstance(caught.value, WarehouseDown)


def test_a_refused_insert_or_statement_is_an_error_and_the_next_one_works(shelf: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="colour"):
        shelf.insert("shelf", pa.table({"colour": ["red"]}))
    with pytest.raises(WarehouseError, match="not_there"):
        shelf.insert("not_there", pa.table({"id": ["a"]}))
    with pytest.raises(WarehouseError, match="not the name of a table"):
        shelf.insert("shelf (id) SELECT", pa.table({"id": ["a"]}))
    with pytest.raises(WarehouseError, match="shelf"):
        shelf.execute(CREATE)
    shelf.insert("shelf", _some("a"))
    assert _ids(shelf) == ["a"]


def test_a_reference_table_is_replaced_whole(embedded: Warehouse) -> None:
    # EXCHANGE TABLES came after the server that Debian has.
    embedded.execute(
        "CREATE TABLE cells (cell_id String, territory_id String) ENGINE = MergeTree"
        " PARTITION BY tuple() ORDER BY cell_id"
    )
    first = pa.table({"territory_id": ["t-1", "t-1"], "cell_id": ["c-1", "c-2"]})
    second = pa.table({"cell_id": ["c-2", "c-3"], "territory_id": ["t-2", "t-2"]})
    for rows, wanted in (
        (first, ["c-1 t-1", "c-2 t-1"]),
        (second, ["c-2 t-2", "c-3 t-2"]),
        (second, ["c-2 t-2", "c-3 t-2"]),
        (second.slice(0, 0), []),
        (first, ["c-1 t-1", "c-2 t-1"]),
    ):
        replace_reference(embedded, "cells", rows)
        found = embedded.query(
            "SELECT concat(cell_id, ' ', territory_id) AS c FROM cells ORDER BY c"
        )
        assert found["c"].to_pylist() == wanted
    with pytest.raises(WarehouseError, match="territory_id"):
        replace_reference(embedded, "cells", pa.table({"cell_id": ["c-9"]}))
    assert embedded.query("SELECT count() AS c FROM cells")["c"].to_pylist() == [2]


class TestMigrations:
    """The runner, on a small schema that both engines know."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "sql"
        folder.mkdir()
        (folder / "0001_a.sql").write_text(
            "-- a; b\nCREATE TABLE a (x String)"
            " ENGINE = MergeTree PARTITION BY tuple() ORDER BY x;\n"
            "CREATE TABLE b AS a;\n-- the end"
        )
        (folder / "notes.txt").write_text("not a migration")
        return folder

    def test_each_file_is_applied_once_in_order(self, warehouse: Warehouse, folder: Path) -> None:
        assert migrate(warehouse, folder) == ["0001_a.sql"]
        assert migrate(warehouse, folder) == []
        (folder / "0003_c.sql").write_text("CREATE TABLE c AS d")
        (folder / "0002_d.sql").write_text("CREATE TABLE d AS b;")
        assert migrate(warehouse, folder) == ["0002_d.sql", "0003_c.sql"]
        assert migrate(warehouse, folder) == []
        warehouse.insert("c", pa.table({"x": ["1"]}))

    def test_an_edited_file_is_refused_before_anything_changes(
        self, warehouse: Warehouse, folder: Path
    ) -> None:
        migrate(warehouse, folder)
        with (folder / "0001_a.sql").open("a") as file:
            file.write("\nDROP TABLE a;")
        (folder / "0002_d.sql").write_text("CREATE TABLE d AS b;")
        with pytest.raises(WarehouseError, match=r"0001_a\.sql was edited"):
            migrate(warehouse, folder)
        warehouse.query("SELECT * FROM a")
        with pytest.raises(WarehouseError, match="d"):
            warehouse.query("SELECT * FROM d")

    def test_a_database_ahead_of_the_program_is_refused(
        self, warehouse: Warehouse, folder: Path
    ) -> None:
        migrate(warehouse, folder)
        (folder / "0001_a.sql").rename(folder / "0000_z.sql")
        with pytest.raises(WarehouseError, match="newer"):
            migrate(warehouse, folder)

    def test_a_file_that_fails_is_named_and_tried_again(
        self, warehouse: Warehouse, folder: Path
    ) -> None:
        (folder / "0002_d.sql").write_text("CREATE TABLE d AS not_there")
        with pytest.raises(WarehouseError, match=r"0002_d\.sql: .*not_there"):
            migrate(warehouse, folder)
        (folder / "0002_d.sql").write_text("CREATE TABLE d AS b")
        assert migrate(warehouse, folder) == ["0002_d.sql"]

"""Queries only read, whichever way they come: what is tried here must fail and leave no trace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from warehouse_harness import RunningServer

from pipelines.warehouse import Warehouse
from pipelines.warehouse.engines.chdb_server import directory, reader
from pipelines.warehouse.sql.guard import ReadQuery, reading
from schemas.errors import WarehouseError

WRITING = [
    "INSERT INTO t VALUES (2)",
    "INSERT INTO t SELECT 2",
    "insert into function file('{file}', 'CSV', 'a Int64') values (1)",
    "DROP TABLE t",
    "/* SELECT */ DROP TABLE t",
    "-- SELECT\nDROP TABLE t",
    "(DROP TABLE t)",
    "TRUNCATE TABLE t",
    "ALTER TABLE t DELETE WHERE 1",
    "ALTER TABLE t ADD COLUMN y Int64",
    "DELETE FROM t WHERE 1",
    "UPDATE t SET id = 2 WHERE 1",
    "RENAME TABLE t TO u",
    "OPTIMIZE TABLE t FINAL",
    "CREATE TABLE u (id Int64) ENGINE = MergeTree ORDER BY id",
    "CREATE TEMPORARY TABLE u (id Int64)",
    "CREATE VIEW u AS SELECT 1",
    "CREATE FUNCTION u AS x -> x",
    "ATTACH TABLE t",
    "DETACH TABLE t",
    "UNDROP TABLE t",
    "SET readonly = 0",
    "SET max_threads = 1",
    "USE system",
    "KILL QUERY WHERE 1",
    "SYSTEM FLUSH LOGS",
    "BACKUP TABLE t TO File('{file}')",
    "GRANT ALL ON *.* TO default",
    "EXECUTE AS default SELECT 1",
    "CHECK TABLE t",
    "SELECT 1; DROP TABLE t",
    "SELECT 1; SELECT 2",
    "SELECT ';'; DROP TABLE t",
    "WITH 1 AS x INSERT INTO t SELECT x",
    "EXPLAIN SELECT 1; DROP TABLE t",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT * FROM t INTO OUTFILE '{file}'",
    "SELECT * FROM t INTO /* */ OUTFILE '{file}' FORMAT CSV",
    "SELECT * FROM t\nINTO\u00a0OUTFILE '{file}'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{file}'",
    "SELECT * FROM file('{secret}', 'LineAsString')",
    "SELECT * FROM `file`('{secret}', 'LineAsString')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM `{secret}`",
    "SELECT file('{secret}')",
    "SELECT (SELECT count() FROM file('{secret}', 'LineAsString'))",
    "WITH x AS (SELECT * FROM file('{secret}', 'LineAsString')) SELECT * FROM x",
    "DESCRIBE file('{secret}')",
    "DESCRIBE TABLE '{secret}'",
    "DESCRIBE `{secret}`",
    "EXISTS TABLE `{secret}`",
    "EXPLAIN SELECT * FROM file('{secret}', 'LineAsString')",
    "SELECT * FROM filesystem('{secret}')",
    "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
    "DESCRIBE url('http://127.0.0.1:9/')",
    "SELECT * FROM s3('http://127.0.0.1:9/bucket/x')",
    "SELECT * FROM remote('127.0.0.1:9', system.one)",
    "SELECT * FROM executable('id', 'TSV', 'x String')",
    "SELECT * FROM mysql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
    "SELECT * FROM Python(rows)",
    "",
    " -- nothing",
]

READING = [
    "SELECT id FROM t",
    "select id from t;",
    "(SELECT id FROM t)",
    "WITH 1 AS x SELECT x",
    "FROM t SELECT id",
    "SELECT ';', 'DROP TABLE t', 'it''s', \"id\" FROM t -- ; DROP TABLE t",
    "SELECT count() FROM t /* ; */ WHERE id = 1",
    "SELECT id AS file, toString(id) AS url FROM t",
    "SELECT position('a/b', '/'), trim(BOTH ' ' FROM ' a ')",
    "EXPLAIN SELECT id FROM t",
    "DESCRIBE TABLE t",
    "DESC t",
    "SHOW TABLES",
    "SHOW CREATE TABLE t",
    "EXISTS TABLE t",
    "SELECT * FROM numbers(3)",
    "SELECT id, number FROM t, numbers(2) AS n",
]

#: Statements above that 18.16 does not know.
_MODERN = ("FROM t SELECT", "trim(BOTH", "EXPLAIN", "numbers(")


@pytest.fixture(params=["embedded", "native", "loopback"])
def ask(request: pytest.FixtureRequest) -> Callable[[str], bytes]:
    """Each way a query can come in, to a database with a table t that holds one row."""
    opened: Warehouse = request.getfixturevalue(
        "native" if request.param == "native" else "embedded"
    )
    opened.execute("CREATE TABLE t (id Int64) ENGINE = MergeTree PARTITION BY tuple() ORDER BY id")
    opened.insert("t", pa.table({"id": [1]}))
    if request.param != "loopback":
        return lambda sql: opened.query_bytes(sql, "CSV")
    loopback: RunningServer = request.getfixturevalue("loopback")

    def knock(sql: str) -> bytes:
        """Past the client's own check: whoever has the word may say anything."""
        status, answer = loopback.request(json.dumps({"sql": sql, "format": "CSV"}).encode())
        if status != 200:
            raise WarehouseError(answer.decode())
        return answer

    return knock


def test_what_is_not_reading_is_refused(ask: Callable[[str], bytes], tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret\n")
    file = tmp_path / "written.csv"
    for sql in WRITING:
        try:
            found = ask(sql.replace("{file}", str(file)).replace("{secret}", str(secret)))
        except WarehouseError as error:
            said = str(error)
        else:
            pytest.fail(f"{sql} was answered with {found!r}")
        assert "the secret" not in said
        assert not file.exists(), sql
    assert ask("SELECT id FROM t") == b"1\n"
    assert b"u" not in ask("SHOW TABLES")


def test_what_is_reading_is_answered(
    ask: Callable[[str], bytes], request: pytest.FixtureRequest
) -> None:
    old = request.node.callspec.params["ask"] == "native"
    for sql in READING:
        if not (old and any(word in sql for word in _MODERN)):
            assert ask(sql), sql


@pytest.mark.parametrize("sql", [sql for sql in WRITING if not re.search(r"\{|://", sql)])
def test_the_engine_itself_refuses_to_write(embedded: Warehouse, tmp_path: Path, sql: str) -> None:
    """Were the check of the text fooled, nothing could be changed all the same."""
    embedded.execute("CREATE TABLE t (id Int64) ENGINE = MergeTree ORDER BY id")
    embedded.insert("t", pa.table({"id": [1]}))
    path = directory(tmp_path / "data" / "warehouse")
    with reader(path) as connection, suppress(WarehouseError):
        connection.run(sql)
    assert embedded.query("SELECT id FROM t")["id"].to_pylist() == [1]
    assert embedded.query("SHOW TABLES").num_rows == 1


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT 1 FORMAT JSON", ReadQuery("SELECT 1", "JSON")),
        ("SELECT 1\nformat  CSV ; ", ReadQuery("SELECT 1", "CSV")),
        ("SELECT 1 FORMAT JSON -- so", ReadQuery("SELECT 1", "JSON")),
        ("SELECT 1 AS format", ReadQuery("SELECT 1 AS format", "")),
        ("SELECT 'FORMAT JSON'", ReadQuery("SELECT 'FORMAT JSON'", "")),
        ("SELECT 1 -- FORMAT JSON", ReadQuery("SELECT 1", "")),
        ("SELECT 1;;", ReadQuery("SELECT 1", "")),
    ],
)
def test_the_format_clause_is_taken_off(sql: str, wanted: ReadQuery) -> None:
    assert reading(sql) == wanted


def test_a_refusal_says_what_is_wanted() -> None:
    with pytest.raises(WarehouseError, match="read-only: DROP is not one of SELECT"):
        reading("drop table t")

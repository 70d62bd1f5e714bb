"""What is special about a server over TCP: it goes away, comes back, hangs, and knows its users."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_driver.columns.numpy.datetimecolumn import NumpyDateTime64Column
from services.clickhouse import PASSWORD, READER, USER, ClickHouseServer
from services.need import ServiceMissing, missing
from services.ports import free_port

from pipelines.warehouse import Warehouse, open_for_reading, open_warehouse
from pipelines.warehouse.engines.native_columns import driver_column
from schemas.errors import SettingsError, WarehouseDown, WarehouseError

ROWS = pa.table({"id": range(1_000), "name": [f"n{i}" for i in range(1_000)]})


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ClickHouseServer]:
    """A server that a test may kill."""
    try:
        running = ClickHouseServer(tmp_path)
        running.start()
    except ServiceMissing as error:
        missing(error)
    yield running
    running.close()


@pytest.fixture
def table(own_server: ClickHouseServer) -> Iterator[Warehouse]:
    """A warehouse there, with an empty table t."""
    opened = open_warehouse(url=own_server.url)
    opened.execute(
        "CREATE TABLE t (id Int64, name String) ENGINE = ReplacingMergeTree() ORDER BY id"
    )
    yield opened
    opened.close()


def _count(warehouse: Warehouse) -> list[int]:
    return warehouse.query("SELECT count() AS c FROM t FINAL")["c"].to_pylist()


def test_nobody_there() -> None:
    port = free_port()
    with pytest.raises(WarehouseDown, match=f"cannot reach ClickHouse at 127.0.0.1:{port}"):
        open_warehouse(url=f"clickhouse://me:my-word@127.0.0.1:{port}/default")


def test_somebody_else_there() -> None:
    """A listener that says nothing is given up on after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        more = "connect_timeout=0.2&send_receive_timeout=0.2&sync_request_timeout=0.2"
        with pytest.raises(WarehouseDown, match="cannot reach") as caught:
            open_warehouse(url=f"clickhouse://me:my-word@127.0.0.1:{port}/default?{more}")
    assert "my-word" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["here", "http://host/x", "clickhouse:///x", "clickhouse://h:port/x"]
)
def test_no_url(url: str) -> None:
    with pytest.raises(SettingsError, match="clickhouse://user:password@host:9000/database"):
        open_warehouse(url=url)


def test_wrong_password_and_unknown_database(server: ClickHouseServer) -> None:
    with pytest.raises(WarehouseError, match=f"Wrong password for user {USER}") as caught:
        open_warehouse(url=server.url.replace(PASSWORD, "guess"))
    assert not isinstance(caught.value, WarehouseDown)
    assert "guess" not in str(caught.value)
    with pytest.raises(WarehouseError, match="nowhere"):
        open_warehouse(url=server.url.replace("/default", "/nowhere"))


def test_a_reading_account_reads_and_cannot_write(
    server: ClickHouseServer, native: Warehouse
) -> None:
    native.execute("CREATE TABLE t (id Int64) ENGINE = MergeTree PARTITION BY tuple() ORDER BY id")
    native.insert("t", pa.table({"id": [1]}))
    url = server.url.replace(f"{USER}:", f"{READER}:").removesuffix("default") + "test"
    reader = open_for_reading(url=url)
    try:
        assert reader.query("SELECT id FROM t")["id"].to_pylist() == [1]
        assert reader.query_bytes("SELECT id FROM t", "CSV") == b"1\n"
        with pytest.raises(WarehouseError, match="readonly"):
            reader.insert("t", pa.table({"id": [2]}))
        with pytest.raises(WarehouseError, match="readonly"):
            reader.execute("DROP TABLE t")
    finally:
        reader.close()


def test_a_server_that_was_killed_and_came_back(
    own_server: ClickHouseServer, table: Warehouse
) -> None:
    table.insert("t", ROWS)
    assert _count(table) == [1_000]
    own_server.kill()
    for action in (
        lambda: table.insert("t", ROWS),
        lambda: table.query("SELECT 1"),
        lambda: table.execute("DROP TABLE t"),
    ):
        with pytest.raises(WarehouseDown):
            action()
    own_server.start()
    table.insert("t", ROWS)  # the batch that was refused, and in truth was there already
    assert _count(table) == [1_000]


def test_a_connection_dropped_between_two_calls_is_made_anew(
    own_server: ClickHouseServer, table: Warehouse
) -> None:
    def drop() -> None:
        own_server.kill()
        own_server.start()

    table.insert("t", ROWS.slice(0, 10))
    assert _count(table) == [10]
    drop()
    assert _count(table) == [10]
    drop()
    table.insert("t", ROWS)
    drop()
    table.execute("CREATE TABLE copy AS t")
    assert _count(table) == [1_000]


def test_a_server_that_hangs_is_given_up_on(own_server: ClickHouseServer, table: Warehouse) -> None:
    slow = "?send_receive_timeout=0.3&sync_request_timeout=0.3&connect_timeout=0.3"
    hurried = open_warehouse(url=own_server.url + slow)
    own_server.child.suspend()
    try:
        with pytest.raises(WarehouseDown, match="cannot reach"):
            hurried.insert("t", ROWS)
        with pytest.raises(WarehouseDown, match="cannot reach"):
            hurried.query("SELECT 1")
    finally:
        own_server.child.resume()
    hurried.insert("t", ROWS)
    assert _count(hurried) == [1_000]
    hurried.close()


def test_more_rows_than_a_block(native: Warehouse) -> None:
    """The driver cuts blocks at 1,048,576 rows."""
    native.execute(
        "CREATE TABLE t (id Int64, name String) ENGINE = ReplacingMergeTree() ORDER BY id"
    )
    count = 1_200_000
    native.insert("t", pa.table({"id": np.arange(count), "name": ["x"] * count}))
    assert native.query("SELECT count() AS c, sum(id) AS s FROM t").to_pylist() == [
        {"c": count, "s": count * (count - 1) // 2}
    ]


def test_tls(tmp_path: Path) -> None:
    try:
        secure = ClickHouseServer(tmp_path, secure=True)
        secure.start()
    except ServiceMissing as error:
        missing(error)
    try:
        assert secure.certificates is not None
        url = f"{secure.secure_url}&ca_certs={secure.certificates.authority}"
        opened = open_warehouse(url=url)
        assert opened.query("SELECT 1 AS one")["one"].to_pylist() == [1]
        opened.close()
        with pytest.raises(WarehouseDown, match="certificate"):
            open_warehouse(url=secure.secure_url)
    finally:
        secure.close()


class TestModernTimes:
    """DateTime64, which the server at hand does not know: what the driver would send for it."""

    @staticmethod
    def _sent(column: pa.Array, type_: str) -> list[int]:
        class Context:
            client_settings: dict[str, object] = {}  # noqa: RUF012

        class Wire:
            data = b""

            def write(self, data: bytes) -> None:
                self.data += data

        driver = NumpyDateTime64Column(scale=3, context=Context(), offset_naive=False)
        import pytz

        driver.timezone = pytz.utc
        wire = Wire()
        items = driver.prepare_items(driver_column(pa.chunked_array([column]), type_))
        driver.write_items(items, wire)
        return np.frombuffer(wire.data, "<i8").tolist()

    def test_milliseconds_go_as_they_are(self) -> None:
        times = [0, 1, -1, 1_767_225_600_123, 4_102_444_799_999]
        column = pa.array(times, pa.timestamp("ms", tz="UTC"))
        assert self._sent(column, "DateTime64(3, 'UTC')") == times
        assert self._sent(pa.array(times), "DateTime64(3, 'UTC')") == times

    def test_also_between_nulls(self) -> None:
        column = pa.array([None, 1_767_225_600_123, None, 86_400_000], pa.timestamp("ms", tz="UTC"))
        sent = self._sent(column, "Nullable(DateTime64(3, 'UTC'))")
        assert [sent[1], sent[3]] == [1_767_225_600_123, 86_400_000]

"""A ClickHouse server over its native protocol (clickhouse-driver), in columns both ways.

Only connections that break are tried again here, a few times within seconds; waiting for a server
that stays away is the buffer's business. Statements that change something are sent once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from clickhouse_driver import Client, errors
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipelines.warehouse.engines.arrow import plain
from pipelines.warehouse.engines.native_columns import driver_column
from pipelines.warehouse.engines.refusals import one_line
from pipelines.warehouse.sql.guard import check_table_name, reading
from pipelines.warehouse.sql.parameters import bind, identifier
from schemas.errors import SettingsError, WarehouseDown, WarehouseError

T = TypeVar("T")

#: Seconds; any of them can be given in the URL's query.
_TIMEOUTS: Final = {"connect_timeout": 5, "send_receive_timeout": 300, "sync_request_timeout": 5}

#: Rows are durable when the insert returns; a batch sent twice is told apart by its rows' keys,
#: never by the server's memory of blocks, which would drop a repeated reload.
_WRITING: Final = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "max_partitions_per_insert_block": 0,
}
#: Servers before this revision know none of them, and the driver would warn at each insert.
_SETTINGS_AS_TEXT: Final = 54_429

_BROKEN = (errors.NetworkError, errors.SocketTimeoutError, EOFError, ConnectionError, TimeoutError)

# The driver says for each insert which types it has no numpy column for; the generic one is fine.
logging.getLogger("clickhouse_driver.columns.service").setLevel(logging.ERROR)
# It also logs each failed connection with a traceback; the error raised says it all.
logging.getLogger("clickhouse_driver.connection").setLevel(logging.CRITICAL)


class Native:
    """A `Warehouse` on a server, `clickhouse://user:password@host:9000/database`.

    Connects at once: raises `WarehouseDown` when nobody answers, `SettingsError` for a URL that is
    none. Reading and writing have a connection each, so neither waits for the other.
    """

    def __init__(self, url: str, *, attempts: int = 3) -> None:
        self._place = _place(url)
        self._attempts = attempts
        self._writer = _Connection(_with_timeouts(url))
        self._reader = _Connection(_with_timeouts(url))
        self._may_be_told: bool | None = None
        self._try(lambda: self._writer.call(_greet))

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows, columns matched by name."""
        check_table_name(table)
        if rows.num_rows:
            self._try(lambda: self._writer.call(lambda client: self._insert(client, table, rows)))

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The result of one reading statement."""
        return plain(self._read(bind(reading(sql).sql, parameters)))

    def query_bytes(self, sql: str, format: str) -> bytes:
        """The result of one reading statement in a ClickHouse output format.

        The native protocol has columns only, so the ClickHouse in this process formats them.
        """
        from pipelines.warehouse.engines.chdb_server import (
            format_rows,  # loads an engine: only if needed
        )

        statement = reading(sql)
        return format_rows(
            _nullable_as_declared(self._read(statement.sql)), statement.format or format
        )

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Run one statement that changes something; sent once."""
        statement = bind(sql, parameters)
        self._try(lambda: self._writer.call(_greet))
        self._try(lambda: self._writer.call(lambda client: client.execute(statement)), attempts=1)

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reader.close()

    def _insert(self, client: Client, table: str, rows: pa.Table) -> None:
        types = _column_types(client, table)
        unknown = [name for name in rows.column_names if name not in types]
        if unknown:
            raise WarehouseError(f"table {table} has no column {unknown[0]}")
        columns = ", ".join(identifier(name) for name in rows.column_names)
        client.execute(
            f"INSERT INTO {table} ({columns}) VALUES",
            [driver_column(rows[name], types[name]) for name in rows.column_names],
            columnar=True,
            settings=_WRITING if _revision(client) >= _SETTINGS_AS_TEXT else None,
        )

    def _read(self, sql: str) -> pa.Table:
        def run(client: Client) -> pa.Table:
            return client.query_arrow(sql, settings=self._reading(client))

        return self._try(lambda: self._reader.call(run))

    def _reading(self, client: Client) -> dict[str, int] | None:
        """What makes a query read-only: nothing when the account is so by itself.

        1 and not 2, which would let table functions read the server's files and call out. An
        account that is read-only already may not change the setting, not even to be stricter.
        """
        if self._may_be_told is None:
            found = client.execute("SELECT value FROM system.settings WHERE name = 'readonly'")
            self._may_be_told = all(value == b"0" for (value,) in found)
        return {"readonly": 1} if self._may_be_told else None

    def _try(self, action: Callable[[], T], attempts: int | None = None) -> T:
        try:
            return Retrying(
                retry=retry_if_exception_type(_BROKEN),
                stop=stop_after_attempt(attempts or self._attempts),
                wait=wait_random_exponential(multiplier=0.2, max=1.0),
                reraise=True,
            )(action)
        except _BROKEN as error:
            why = one_line(error)
            raise WarehouseDown(f"cannot reach ClickHouse at {self._place}: {why}") from None
        except errors.ServerException as error:
            raise WarehouseError(one_line(error.message)) from None
        except (errors.Error, pa.ArrowException, ValueError, TypeError) as error:
            raise WarehouseError(one_line(error)) from None


class _Connection:
    """A connection and the lock that lets one thread at a time talk on it."""

    def __init__(self, url: str) -> None:
        try:
            self._client = Client.from_url(url)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"not the URL of a ClickHouse server: {error}") from None
        self._lock = threading.Lock()

    def call(self, action: Callable[[Client], T]) -> T:
        with self._lock:
            return action(self._client)

    def close(self) -> None:
        with self._lock:
            self._client.disconnect()


def _with_timeouts(url: str) -> str:
    parts = urlsplit(url)
    # Text may hold any bytes, and Arrow checks it faster than the driver decodes it.
    options = {**_TIMEOUTS, "use_numpy": "true", "strings_as_bytes": "true"}
    query = urlencode({**options, **dict(parse_qsl(parts.query))})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _place(url: str) -> str:
    """Host and port, without the password; raises `SettingsError` for what is no such URL."""
    parts = urlsplit(url)
    usual = {"clickhouse": 9000, "clickhouses": 9440}.get(parts.scheme)
    try:
        port = parts.port or usual
    except ValueError:
        port = None
    if usual is None or port is None or not parts.hostname:
        raise SettingsError(
            "the warehouse is not a URL like clickhouse://user:password@host:9000/database"
        )
    return f"{parts.hostname}:{port}"


def _revision(client: Client) -> int:
    return int(client.connection.server_info.used_revision)


def _column_types(client: Client, table: str) -> dict[str, str]:
    """ClickHouse's type of each column, as it is now."""
    described = client.query_arrow(f"DESCRIBE TABLE {table}").to_pydict()
    return {
        name.decode(): type_.decode()
        for name, type_ in zip(described["name"], described["type"], strict=True)
    }


def _greet(client: Client) -> None:
    """See that the connection lives; the driver makes a new one if it can."""
    client.execute("SELECT 1")


def _nullable_as_declared(rows: pa.Table) -> pa.Table:
    """The driver calls every field nullable; its note of ClickHouse's type knows better."""
    return rows.cast(
        pa.schema(
            [
                field.with_nullable(_is_nullable(field.metadata or {})).remove_metadata()
                for field in rows.schema
            ]
        )
    )


def _is_nullable(metadata: Mapping[bytes, bytes]) -> bool:
    return metadata.get(b"clickhouse_type", b"").startswith((b"Nullable(", b"LowCardinality(Null"))

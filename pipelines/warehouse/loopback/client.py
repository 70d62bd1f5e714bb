"""Asking the owner of a data directory, over loopback HTTP: reading, and what people decide."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pyarrow as pa

from pipelines.warehouse.engines.arrow import plain
from pipelines.warehouse.sql.guard import check_table_name, reading
from pipelines.warehouse.sql.parameters import bind
from schemas.errors import WarehouseDown, WarehouseError


class Endpoint(msgspec.Struct):
    """What DATA/warehouse.json says: where the owner listens, and the token it asks for."""

    port: int
    token: str
    pid: int


def endpoint_path(data: Path) -> Path:
    """Where the owner of a data directory publishes its endpoint."""
    return data / "warehouse.json"


class LoopbackClient:
    """Another process's `Warehouse`: reading, and rows that people decide. Valid while it lives."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @classmethod
    def find(cls, data: Path) -> LoopbackClient | None:
        """A client of the directory's owner; None when there is no owner or it is dead."""
        try:
            endpoint = msgspec.json.decode(endpoint_path(data).read_bytes(), type=Endpoint)
        except (OSError, msgspec.MsgspecError):
            return None
        client = cls(endpoint)
        return client if client.alive() else None

    def alive(self) -> bool:
        """Whether the owner still answers."""
        try:
            self._ask("GET", "/alive", b"", timeout=5)
        except WarehouseError:
            return False
        return True

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The result of one reading statement."""
        data = self._query(bind(reading(sql).sql, parameters), "ArrowStream")
        return plain(pa.ipc.open_stream(data).read_all()) if data else pa.table({})

    def query_bytes(self, sql: str, format: str) -> bytes:
        """The result of one reading statement in a ClickHouse output format."""
        statement = reading(sql)
        return self._query(statement.sql, statement.format or format)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table of what people decide; refused for any other."""
        check_table_name(table)
        written = io.BytesIO()
        with pa.ipc.new_stream(written, rows.schema) as stream:
            stream.write_table(rows)
        self._ask("POST", f"/insert/{table}", written.getvalue())

    def back_up(self) -> Path:
        """As `Embedded.back_up`, by the owner."""
        return Path(self._ask("POST", "/back-up", b"").decode())

    def ask_to_leave(self) -> None:
        """Ask the owner to give the warehouse up. Raises `WarehouseError` if it will not."""
        self._ask("POST", "/leave", b"", timeout=5)

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Refused: the owner alone writes."""
        raise WarehouseError("another process owns this warehouse: it can only be read")

    def close(self) -> None:
        """Nothing to close: each request is a connection of its own."""

    def _query(self, sql: str, format: str) -> bytes:
        return self._ask("POST", "/query", json.dumps({"sql": sql, "format": format}).encode())

    def _ask(self, method: str, path: str, body: bytes, timeout: float = 660) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._endpoint.port, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self._endpoint.token}"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()  # raises IncompleteRead for an answer that was cut short
        except (OSError, http.client.HTTPException) as error:
            raise WarehouseDown(f"the process that owns the warehouse went away: {error}") from None
        finally:
            connection.close()
        if response.status != 200:
            raise WarehouseError(answer.decode(errors="replace").strip() or response.reason)
        return answer

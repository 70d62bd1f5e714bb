"""The port: all that the rest of zerostock knows of ClickHouse. The engines live beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa


class Warehouse(Protocol):
    """One database of ClickHouse, written and read in columns.

    Every method may be called from any thread. Every method raises `WarehouseError` with
    ClickHouse's own first line when it refuses, `WarehouseDown` when it cannot be reached.
    """

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows, columns matched by name; columns left out get their defaults.

        Not atomic over many rows and possibly repeated after a lost connection: tables are made
        so that a row written twice shows once. When it returns, the rows are in the table.
        """
        ...

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The result of one reading statement; `{name:Type}` in it stands for a parameter.

        Text that is not UTF-8 comes as binary. Anything but reading is refused.
        """
        ...

    def query_bytes(self, sql: str, format: str) -> bytes:
        """The result of one reading statement in any of ClickHouse's output formats.

        A FORMAT clause in the statement wins over `format`.
        """
        ...

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Run one statement that changes something: DDL, ALTER TABLE … REPLACE PARTITION."""
        ...

    def close(self) -> None:
        """Let go of the database; twice does no harm."""
        ...

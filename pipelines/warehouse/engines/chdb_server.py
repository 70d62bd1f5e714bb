"""The ClickHouse inside this process: chdb allows one directory at a time, this file shares it.

All connections of a process lead to one embedded server. It starts with the first connection, in
that one's directory, and stops with the last. Nothing of zerostock's own lives here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.warehouse.engines.refusals import one_line
from schemas.errors import BusyError, WarehouseError


def _load() -> Any:
    """Import chdb, which would obey a config.xml in the working directory, whosever it is."""
    here = Path.cwd()
    strange = (here / "config.xml").exists()
    if strange:
        os.chdir("/")
    try:
        from chdb import session
    finally:
        if strange:
            os.chdir(here)
    return session


session = _load()

_MEMORY = ":memory:"

#: Follows the path of a server to the only folder it may write backups to.
BACKUP = ".backup"
_lock = threading.RLock()
_path = _MEMORY
_users = 0

#: What a reader may use at most, so that one query cannot starve the stream beside it. One thread:
#: with two, chdb 26.5 waits for ever in about one of a hundred reads of 270,000 movements in no
#: order (sorted or grouped ones were never seen to).
_READER = (
    "SET max_threads = 1, max_execution_time = 600, max_memory_usage = 8000000000, "
    "output_format_arrow_compression_method = 'none', readonly = 1"
)


class Connection:
    """A session of its own on the process's server; `readonly` holds until it is closed."""

    def __init__(self, path: str, *, readonly: bool) -> None:
        global _path, _users  # noqa: PLW0603 - the server is one a process, whoever asks for it
        with _lock:
            if _users and path != _path:
                raise BusyError(f"this process has {_path} open already; close it first")
            try:
                # A config file that is not there, for the same reason as in `_load`.
                options = "config-file=/nonexistent.xml"
                if path != _MEMORY:
                    options += f"&backups.allowed_path={path}{BACKUP}"
                self._session: Any = session.Session(f"{path}?{options}")
            except RuntimeError as error:
                raise WarehouseError(one_line(error)) from None
            _path = path
            _users += 1
        if readonly:
            self.run(_READER)

    def run(self, sql: str, format: str = "Null", rows: pa.Table | None = None) -> bytes:
        """Run one statement; `Python(rows)` in it reads the table given.

        Raises `WarehouseError` with ClickHouse's message.
        """
        # chdb finds `rows` by its name, in the frame that calls it.
        try:
            result = self._session.query(sql, format)
            return bytes(result.bytes()) if hasattr(result, "bytes") else b""
        except RuntimeError as error:
            raise WarehouseError(one_line(error)) from None

    def close(self) -> None:
        """End the session; twice does no harm."""
        global _users  # noqa: PLW0603
        with _lock:
            if self._session is not None:
                self._session.close()
                self._session = None
                _users -= 1


def directory(path: Path) -> str:
    """The path as chdb takes it; raises `WarehouseError` if it cannot."""
    text = str(path.resolve())
    if "?" in text:
        raise WarehouseError(f"a data directory must not have '?' in its path: {text}")
    return text


@contextmanager
def reader(path: str) -> Iterator[Connection]:
    """A read-only connection of its own, so that nothing a query sets outlives it."""
    connection = Connection(path, readonly=True)
    try:
        yield connection
    finally:
        connection.close()


def format_rows(rows: pa.Table, format: str) -> bytes:
    """Rows in any of ClickHouse's output formats."""
    with _lock:
        connection = Connection(_path if _users else _MEMORY, readonly=False)
    try:
        return connection.run("SELECT * FROM Python(rows)", format, rows)
    finally:
        connection.close()

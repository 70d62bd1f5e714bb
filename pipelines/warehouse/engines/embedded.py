"""ClickHouse inside this process (chdb), its files under DATA/warehouse.

One process owns a data directory: the lock DATA/warehouse.lock says which. Others ask the owner
(`pipelines.warehouse.loopback`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from pipelines.files import OwnerLock
from pipelines.warehouse.engines.arrow import plain
from pipelines.warehouse.engines.chdb_server import BACKUP, Connection, directory, reader
from pipelines.warehouse.sql.guard import check_table_name, reading
from pipelines.warehouse.sql.parameters import bind, identifier, quoted
from schemas.errors import WarehouseDown

# One thread keeps the rows of a batch in order: of rows with the same version the last one wins.
_WRITER = "SET max_threads = 1, max_insert_threads = 1, max_partitions_per_insert_block = 0"

log = logging.getLogger(__name__)

#: Seconds that a query may go on when its warehouse is being closed.
_GRACE = 2.0
#: Seconds that cancelled queries get to end.
_CANCELLING = 10.0


class Embedded:
    """A `Warehouse` in this process.

    Raises `BusyError` when another live process owns `data` and goes on owning it for `patience`
    seconds, `WarehouseError` when the files under it cannot be opened. Rows are in the files when
    `insert` returns: a killed process loses none.
    """

    def __init__(self, data: Path, *, patience: float = 0.0) -> None:
        self._lock = OwnerLock(data / "warehouse.lock", patience=patience)
        try:
            self._path = directory(data / "warehouse")
            self._writer = Connection(self._path, readonly=False)
        except BaseException:
            self._lock.release()
            raise
        self._writing = threading.Lock()
        self._state = threading.Condition()
        self._users = 0
        self._open = True
        self._writer.run(_WRITER)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows, columns matched by name."""
        check_table_name(table)
        if rows.num_rows == 0:
            return
        columns = ", ".join(identifier(name) for name in rows.column_names)
        sql = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM Python(rows)"  # noqa: S608
        with self._using(), self._writing:
            self._writer.run(sql, rows=rows)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The result of one reading statement."""
        data = self._read(bind(reading(sql).sql, parameters), "ArrowStream")
        if not data:
            return pa.table({})
        return plain(pa.ipc.open_stream(data).read_all())

    def query_bytes(self, sql: str, format: str) -> bytes:
        """The result of one reading statement in a ClickHouse output format."""
        statement = reading(sql)
        return self._read(statement.sql, statement.format or format)

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Run one statement that changes something."""
        with self._using(), self._writing:
            self._writer.run(bind(sql, parameters))

    def back_up(self) -> Path:
        """Write all tables, each as it is at one moment, to a folder beside them; where that is.

        Rows may come meanwhile. Raises `WarehouseError`, also while the folder is there already.
        """
        folder = Path(f"{self._path}{BACKUP}")
        self._in_own_session(f"BACKUP DATABASE default TO {_file(folder)}")
        return folder

    def restore(self, folder: Path) -> None:
        """Read what `back_up` wrote, into a warehouse without tables."""
        self._in_own_session(f"RESTORE DATABASE default FROM {_file(folder)}")

    def _in_own_session(self, sql: str) -> None:
        with self._using():
            session = Connection(self._path, readonly=False)
            try:
                session.run(sql)
            finally:
                session.close()

    def end_queries(self) -> None:
        """Cancel the queries under way (not the inserts); they fail with `WarehouseError`."""
        killer = Connection(self._path, readonly=False)
        try:
            killer.run("KILL QUERY WHERE Settings['readonly'] = '1' ASYNC")
        finally:
            killer.close()

    def close(self) -> None:
        """Let what runs end, queries only for a moment; then let go of the directory.

        A query that does not even end when cancelled (seen once, under heavy load) is left to the
        end of the process, which then lets go of the directory.
        """
        with self._state:
            if not self._open:
                return
            self._open = False
            idle = self._state.wait_for(self._idle, _GRACE)
            until = time.monotonic() + _CANCELLING
            while not idle and (self._writing.locked() or time.monotonic() < until):
                self.end_queries()  # again, for those that had not quite begun
                idle = self._state.wait_for(self._idle, 0.2)
        if idle:
            self._writer.close()
            self._lock.release()
        else:
            log.warning(
                "a cancelled query does not end; %s stays in use by this process", self._path
            )

    def _idle(self) -> bool:
        return self._users == 0

    def _read(self, sql: str, format: str) -> bytes:
        with self._using(), reader(self._path) as connection:
            return connection.run(sql, format)

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._state:
            if not self._open:
                raise WarehouseDown("the warehouse has been closed")
            self._users += 1
        try:
            yield
        finally:
            with self._state:
                self._users -= 1
                self._state.notify_all()


def _file(folder: Path) -> str:
    return f"File({quoted(str(folder))})"

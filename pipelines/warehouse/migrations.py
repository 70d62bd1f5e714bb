"""The database's schema, brought up to date: each SQL file of infra/clickhouse once, in order.

A file is recorded after its last statement, so a crash in between repeats it: its statements must
bear that (CREATE … IF NOT EXISTS, CREATE OR REPLACE VIEW). A file that was applied is never edited;
a change is a new file.
"""

from __future__ import annotations

import hashlib
import logging
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipelines.warehouse.port import Warehouse
from pipelines.warehouse.sql.lexer import statements
from schemas.errors import WarehouseError

log = logging.getLogger(__name__)

_NAME = re.compile(r"\d{4}_\w+\.sql")

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations
(name String, checksum String, applied_at DateTime('UTC') DEFAULT now())
ENGINE = ReplacingMergeTree ORDER BY name
"""

_ZONE = "SELECT zone FROM business_zone"


class Migration(NamedTuple):
    """One SQL file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, however its lines end."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """The SQL files of a folder (by default those that come with zerostock) by number."""
    folder = folder or files("infra").joinpath("clickhouse")
    found = sorted(
        (file for file in folder.iterdir() if _NAME.fullmatch(file.name)),
        key=lambda file: file.name,
    )
    return [Migration(file.name, file.read_text(encoding="utf-8")) for file in found]


def migrate(
    warehouse: Warehouse, folder: Traversable | None = None, *, zone: str | None = None
) -> list[str]:
    """Apply the files that were not yet; returns their names.

    `zone` is the business's: whose days the tables cut from now on; None leaves it as it is.

    Raises `WarehouseError`, before changing anything, when an applied file was edited or the
    database is ahead of this program; and when ClickHouse refuses a statement.
    """
    wanted = migrations(folder)
    warehouse.execute(_LEDGER)
    applied = _applied(warehouse)
    _check(wanted, applied)
    fresh = [migration for migration in wanted if migration.name not in applied]
    for migration in fresh:
        for statement in statements(migration.sql):
            _run(warehouse, migration.name, statement)
        record = {"name": [migration.name], "checksum": [migration.checksum]}
        warehouse.insert("schema_migrations", pa.table(record))
        log.info("applied %s", migration.name)
    if zone is not None and warehouse.query(_ZONE)["zone"][0].as_py() != zone:
        put = "INSERT INTO business_zones SELECT '{}', now64(3)"
        warehouse.execute(put.format(ZoneInfo(zone).key))
    return [migration.name for migration in fresh]


def _applied(warehouse: Warehouse) -> dict[str, str]:
    rows = warehouse.query("SELECT name, checksum FROM schema_migrations FINAL").to_pylist()
    return {row["name"]: row["checksum"] for row in rows}


def _check(wanted: list[Migration], applied: dict[str, str]) -> None:
    for migration in wanted:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise WarehouseError(
                f"{migration.name} was edited after it had been applied to this database: "
                "put it back as it was and write a new file"
            )
    unknown = sorted(applied.keys() - {migration.name for migration in wanted})
    if unknown:
        raise WarehouseError(
            f"this database is newer than this zerostock: it has {unknown[-1]}; upgrade zerostock"
        )


def _run(warehouse: Warehouse, name: str, statement: str) -> None:
    try:
        warehouse.execute(statement)
    except WarehouseError as error:
        raise type(error)(f"{name}: {error}") from None

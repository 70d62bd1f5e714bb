"""A warehouse with the batch tables, and jobs run without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pipelines.warehouse.migrations import migrations
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.port import Warehouse
from pipelines.warehouse.sql.lexer import statements


@pytest.fixture(scope="module")
def shared_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """One embedded warehouse for all tests of a file; only the batch tables are in it.

    Not for longer: a process can have one directory open at a time, and other folders want theirs.
    """
    opened = open_warehouse(data=tmp_path_factory.mktemp("data"))
    for migration in migrations():
        if migration.name >= "0010" or "soon_empty" in migration.name:
            for statement in statements(migration.sql):
                opened.execute(statement)
    yield opened
    opened.close()


@pytest.fixture
def warehouse(shared_warehouse: Warehouse) -> Warehouse:
    """The warehouse, empty."""
    tables = shared_warehouse.query(
        "SELECT name, engine FROM system.tables WHERE database = currentDatabase()"
    ).to_pylist()
    for table in tables:
        if table["name"].startswith("batch_lock_"):
            shared_warehouse.execute(f"DROP VIEW {table['name']}")
        elif table["engine"].endswith("MergeTree"):
            shared_warehouse.execute(f"TRUNCATE TABLE {table['name']}")
    return shared_warehouse

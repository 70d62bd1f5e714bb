"""Warehouses for the tests: the embedded one, the native one on a real server, or each in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services.clickhouse import ClickHouseServer
from services.need import ServiceMissing, missing
from warehouse_harness import RunningServer

from pipelines.warehouse import Warehouse, open_warehouse


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """One ClickHouse server for all tests."""
    try:
        running = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
        running.start()
    except ServiceMissing as error:
        missing(error)
    yield running
    running.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Warehouse]:
    """An empty embedded warehouse."""
    opened = open_warehouse(data=tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def database(server: ClickHouseServer) -> str:
    """The URL of an empty database on the server."""
    admin = open_warehouse(url=server.url)
    admin.execute("DROP DATABASE IF EXISTS test")
    admin.execute("CREATE DATABASE test")
    admin.close()
    return server.url.removesuffix("default") + "test"


@pytest.fixture
def native(database: str) -> Iterator[Warehouse]:
    """An empty database on the server, as a warehouse."""
    opened = open_warehouse(url=database)
    yield opened
    opened.close()


@pytest.fixture(params=["embedded", "native"])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    """Each engine in turn, empty."""
    opened: Warehouse = request.getfixturevalue(request.param)
    return opened


@pytest.fixture
def loopback(embedded: Warehouse, tmp_path: Path) -> Iterator[RunningServer]:
    """The loopback server of the embedded warehouse."""
    opened = RunningServer(embedded, tmp_path / "data")
    yield opened
    opened.close()

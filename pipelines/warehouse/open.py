"""Which warehouse a command gets: embedded, native, or through its owner."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from pipelines.warehouse.loopback.client import LoopbackClient
from pipelines.warehouse.port import Warehouse
from schemas.errors import BusyError, NoWarehouse, UsageError, WarehouseError


def open_warehouse(
    *, data: Path | None = None, url: str | None = None, patience: float = 3.0
) -> Warehouse:
    """A warehouse to write to: the server at `url`, or the one in this process under `data`.

    An owner that can do without it, like the desk, is asked to leave. Raises `BusyError` when
    another live process owns `data` for longer than `patience` seconds, `WarehouseDown` when the
    server cannot be reached, `SettingsError` for a malformed URL.
    """
    # Each engine is a big library: load only the one that is asked for.
    if url is not None:
        from pipelines.warehouse.engines.native import Native

        return Native(url)
    if data is None:
        raise UsageError("no warehouse was named: give a data directory or a URL")
    from pipelines.warehouse.engines.embedded import Embedded

    try:
        return Embedded(data)
    except BusyError:
        _ask_to_leave(data)
    return Embedded(data, patience=patience)


def _ask_to_leave(data: Path) -> None:
    owner = LoopbackClient.find(data)
    if owner is not None:
        with suppress(WarehouseError):  # it is needed there
            owner.ask_to_leave()


def open_for_reading(
    *, data: Path | None = None, url: str | None = None, patience: float = 10.0
) -> Warehouse:
    """A warehouse to ask: also while another process owns `data`, through that process.

    Raises, besides what `open_warehouse` raises, `NoWarehouse` when there is none in `data` and
    `BusyError` when its owner serves nobody within `patience` seconds.
    """
    if url is not None or data is None:
        return open_warehouse(data=data, url=url)
    if not (data / "warehouse").is_dir():
        raise NoWarehouse(
            f"there is no warehouse in {data}: `zerostock run --data {data}` makes it"
        )
    from pipelines.warehouse.engines.embedded import Embedded

    until = time.monotonic() + patience
    while True:
        owner = LoopbackClient.find(data)
        if owner is not None:
            return owner
        try:
            return Embedded(data, patience=0.1)
        except BusyError:  # its owner is about to serve it, or to end
            if time.monotonic() >= until:
                raise

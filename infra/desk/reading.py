"""Asking the warehouse for a page, without keeping it from a run that wants to begin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipelines.warehouse.open import open_for_reading
from pipelines.warehouse.port import Warehouse


class Asks(Protocol):
    """What a page may do with a warehouse."""

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table: ...


Opens = Callable[[], AbstractContextManager[Asks]]


def opener(data: Path | None, url: str | None) -> Opens:
    """Gives the warehouse for the time of one page, to one page at a time.

    An embedded warehouse has one owner. While a run is on this goes through the run's door; else
    this process owns it only as long as a page is made, so that a run can begin at any time.
    """
    turn = threading.Lock()

    @contextmanager
    def opened() -> Iterator[Warehouse]:
        with turn:
            warehouse = open_for_reading(data=data, url=url)
            try:
                yield warehouse
            finally:
                warehouse.close()

    return opened

"""The warehouse as the desk has it: open between pages, given up when somebody wants to own it.

Opening an embedded warehouse takes longer than most pages, so the desk owns it while nobody else
does, and serves others who only read. A run or a batch job asks it to leave; from then
on the desk reads through that process, and takes the warehouse back when it is free again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from pipelines.warehouse import migrate
from pipelines.warehouse.loopback.client import LoopbackClient
from pipelines.warehouse.loopback.server import serve_loopback
from pipelines.warehouse.open import open_for_reading
from pipelines.warehouse.port import Warehouse
from schemas.errors import WarehouseDown

#: Seconds that whoever asked for the warehouse gets to take it.
_GIVEN_UP: Final = 3.0


Opens = Callable[[], AbstractContextManager[Warehouse]]


class SharedWarehouse:
    """A warehouse that stays open between pages, under `data` or on the server at `url`.

    `opened` may be called from any thread. It raises what `open_for_reading` raises.
    """

    def __init__(self, data: Path | None, url: str | None) -> None:
        self._data, self._url = data, url
        self._turn = threading.Lock()
        self._held = ExitStack()
        self._warehouse: Warehouse | None = None
        self._given_up = -_GIVEN_UP

    @contextmanager
    def opened(self) -> Iterator[Warehouse]:
        """The warehouse, for one page."""
        warehouse = self._open()
        try:
            yield warehouse
        except WarehouseDown:  # its owner went away, or it was given up: found anew next time
            self._close(warehouse)
            raise

    def close(self) -> None:
        """Let go of it; the next page opens it again."""
        self._close(self._warehouse)

    def _open(self) -> Warehouse:
        with self._turn:
            if isinstance(self._warehouse, LoopbackClient) and not self._warehouse.alive():
                self._let_go()
            if self._warehouse is None:
                self._take()
            assert self._warehouse is not None
            return self._warehouse

    def _take(self) -> None:
        wait = self._given_up + _GIVEN_UP - time.monotonic()
        owner = None
        while self._data is not None and self._url is None and wait > 0 and owner is None:
            time.sleep(0.05)  # whoever asked for it is about to own and serve it
            wait -= 0.05
            owner = LoopbackClient.find(self._data)
        warehouse = owner or open_for_reading(data=self._data, url=self._url)
        self._held.callback(warehouse.close)
        self._warehouse = warehouse
        if (
            self._data is not None
            and self._url is None
            and not isinstance(warehouse, LoopbackClient)
        ):
            migrate(warehouse)
            self._held.enter_context(serve_loopback(warehouse, self._data, self._leave))

    def _leave(self) -> None:
        self._given_up = time.monotonic()
        self.close()

    def _close(self, warehouse: Warehouse | None) -> None:
        with self._turn:
            if self._warehouse is warehouse:
                self._let_go()

    def _let_go(self) -> None:
        self._warehouse = None
        with suppress(WarehouseDown):
            self._held.close()

"""Rows on their way into the warehouse: gathered a table, written in large batches, retried.

The one place that waits for a warehouse that is down. What is flushed twice does no harm (tables
show each row once), so a caller acknowledges its input after the flush that wrote it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from pipelines.warehouse.port import Warehouse
from schemas.errors import WarehouseDown

log = logging.getLogger(__name__)


class Flushed(NamedTuple):
    """One table's rows that are now in the warehouse."""

    table: str
    rows: int
    seconds: float


@dataclass
class _Pile:
    since: float
    rows: int = 0
    pieces: list[pa.Table] = field(default_factory=list)


class Buffer:
    """Rows by table, to be flushed when a table has `max_rows` or its oldest are `max_age` s old.

    `full` asks the caller to stop feeding until the next flush: memory is bounded by what is fed
    after that. `add` and `flush` may be called from different threads, `flush` from one at a time.

    `on_retry(table)` is called before each further attempt at a warehouse that is down: for a
    counter. `clock` gives seconds; `wait(seconds)` lets them pass and says whether to give up.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        max_rows: int = 100_000,
        max_age: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        on_retry: Callable[[str], None] = lambda table: None,
        wait: Callable[[float], bool] | None = None,
        first_wait: float = 0.2,
        longest_wait: float = 30.0,
    ) -> None:
        self._warehouse = warehouse
        self._max_rows = max_rows
        self._max_age = max_age
        self._clock = clock
        self._on_retry = on_retry
        self._given_up = threading.Event()
        self._wait = wait or self._given_up.wait
        self._backoff = wait_exponential(multiplier=first_wait, max=longest_wait)
        self._piles: dict[str, _Pile] = {}
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """Rows not yet in the warehouse, over all tables."""
        with self._lock:
            return sum(pile.rows for pile in self._piles.values())

    @property
    def full(self) -> bool:
        """Whether to flush before more is added."""
        return self.rows >= self._max_rows

    def add(self, table: str, rows: pa.Table) -> None:
        """Take rows for a table."""
        if rows.num_rows == 0:
            return
        with self._lock:
            pile = self._piles.setdefault(table, _Pile(self._clock()))
            pile.pieces.append(rows)
            pile.rows += rows.num_rows

    def due(self) -> bool:
        """Whether some table has rows enough, or old enough, to be flushed."""
        return bool(self._due_tables())

    def next_due(self) -> float | None:
        """Seconds until something is due by its age (0 if something is); None when empty."""
        with self._lock:
            if not self._piles:
                return None
            oldest = min(pile.since for pile in self._piles.values())
        return 0.0 if self.due() else max(0.0, oldest + self._max_age - self._clock())

    def flush_due(self) -> list[Flushed]:
        """Write the tables that are due, each whole. Raises as `flush`."""
        return [self._flush(table) for table in self._due_tables()]

    def flush(self) -> list[Flushed]:
        """Write everything.

        Waits as long as the warehouse is down. Raises `WarehouseDown` only after `give_up`, and
        `WarehouseError` when it refuses the rows; they stay here in both cases.
        """
        with self._lock:
            tables = list(self._piles)
        return [self._flush(table) for table in tables]

    def give_up(self) -> None:
        """End a flush that waits for the warehouse, now and from now on: the process must stop."""
        self._given_up.set()

    def _due_tables(self) -> list[str]:
        now = self._clock()
        with self._lock:
            return [
                table
                for table, pile in self._piles.items()
                if pile.rows >= self._max_rows or now - pile.since >= self._max_age
            ]

    def _flush(self, table: str) -> Flushed:
        with self._lock:
            pile = self._piles[table]
            taken = len(pile.pieces)
            rows = pa.concat_tables(pile.pieces)
        began = self._clock()
        self._insert(table, rows)
        with self._lock:
            del pile.pieces[:taken]
            pile.rows -= rows.num_rows
            pile.since = began  # no row left is older: all came while the others were written
            if not pile.pieces:
                del self._piles[table]
        return Flushed(table, rows.num_rows, self._clock() - began)

    def _insert(self, table: str, rows: pa.Table) -> None:
        for attempt in Retrying(
            retry=retry_if_exception_type(WarehouseDown),
            stop=lambda _: self._given_up.is_set(),
            wait=self._backoff,
            sleep=self._pause,
            before_sleep=lambda state: self._tell(table, state),
            reraise=True,
        ):
            with attempt:
                self._warehouse.insert(table, rows)

    def _pause(self, seconds: float) -> None:
        if self._wait(seconds):
            self.give_up()

    def _tell(self, table: str, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        log.warning("%s; rows for %s wait, next attempt in %.1f s", error, table, seconds)
        self._on_retry(table)

"""Sees that the watchdog's stock-outs come through, and says so when they do not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import faust

from pipelines.stream import metrics

log = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK_EVERY: Final = 1.0


class WatchdogWatch:
    """When the newest of the watchdog's stock-outs that came through happened.

    One comes every `every` ms and must be here `within` ms; times are wall ms.
    """

    def __init__(self, every: int, within: int) -> None:
        self._limit = every + within
        self._newest: int | None = None
        self.alarmed = False
        metrics.watchdogs.add(self)

    def arrived(self, at: int) -> None:
        """One came through that happened at a time."""
        self._newest = max(at, self._newest or 0)

    def look(self, now: int, mine: bool) -> None:
        """Complain once when the newest is too old; `mine` says if they come to this worker."""
        if not mine or self._newest is None:
            # From here on: before, they came to somebody else, or to nobody.
            self._newest = now
        age = now - self._newest
        if age > self._limit and not self.alarmed:
            log.error("%s", self.trouble(age))
        elif age <= self._limit and self.alarmed:
            log.warning("the watchdog's stock-outs come through again")
        self.alarmed = age > self._limit
        metrics.WATCHDOG_AGE.set(age / 1_000)

    def trouble(self, age: int) -> str:
        """What is wrong, in one line."""
        return (
            f"no stock-out of the watchdog has come through for {age // 1_000} s: readers, stock or"
            " alerts workers stand still"
        )

    def follow(self, app: faust.App, mine: Callable[[], bool]) -> None:
        """Have a worker look again and again; see `look`."""

        async def look() -> None:
            while not app.should_stop:
                self.look(time.time_ns() // 1_000_000, mine())
                await asyncio.sleep(LOOK_EVERY)

        app.task(look)

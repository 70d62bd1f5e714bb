"""Notices that this process was suspended so long that another may have taken its place."""

from __future__ import annotations

import asyncio
import time

BEAT = 0.1


class SuspensionGuard:
    """Beats in the worker's event loop; `suspended` is read before anything is sent or written.

    A process that was stopped, or whose machine slept, for longer than `limit` seconds has been
    replaced in its group without knowing it: what it would still send is out of date. Hard work
    holds up the loop as well, but it uses the processor, and the group's heartbeats go on.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._beat()

    def _beat(self) -> None:
        self._wall = time.clock_gettime(time.CLOCK_BOOTTIME) if _BOOTTIME else time.monotonic()
        self._cpu = time.process_time()

    @property
    def suspended(self) -> bool:
        """Whether the process did not run for too long since the last beat."""
        wall, cpu = self._wall, self._cpu
        self._beat()
        return self._wall - wall >= self.limit and self._cpu - cpu <= self.limit / 2

    async def beat(self) -> None:
        """Beat until the process has been suspended."""
        self._beat()
        while not self.suspended:
            await asyncio.sleep(BEAT)


#: Counts the time a machine sleeps, where there is such a clock.
_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")

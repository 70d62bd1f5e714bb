"""Wall time as delivery uses it, behind a small port so that tests need not wait."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> int:
        """Wall time in ms."""

    async def sleep(self, seconds: float) -> None:
        """Return after so long."""


class WallClock:
    """The real one."""

    def now(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)

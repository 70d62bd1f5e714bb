"""How fast a route may go."""

from __future__ import annotations

from alerts.delivery.clock import Clock


class Pace:
    """Lets callers through in order, at most `per_second` of them a second."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._interval = 1_000 / per_second
        self._clock = clock
        self._next = 0.0

    async def turn(self) -> None:
        """Return when it is the caller's turn."""
        now = self._clock.now()
        start = max(now, self._next)
        self._next = start + self._interval
        if start > now:
            await self._clock.sleep((start - now) / 1_000)

"""How many tries a route makes at a time and a second, and how long it waits for one that fails.

One number that fails, or answers slowly, takes one place of the route at most, and soon waits by
itself; only when number after number fails does the whole route wait. What a try is, and how often
a message is tried, is `alerts.delivery.delivery`'s.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from alerts.delivery.clock import Clock
from alerts.delivery.pace import Pace
from alerts.senders.port import SendLater, SendThrottled
from schemas.errors import SendError, SendRefused

#: Failures in a row after which a number waits, and numbers that fail in a row, with no success in
#: between, after which the route does.
_NUMBER_FAILS: Final = 3
_ROUTE_FAILS: Final = 5

#: The first pause and the longest, in ms; each failed probe doubles it.
_FIRST: Final = 1_000
_LONGEST: Final = 15_000

#: How often what waits looks whether it may go on, in seconds.
_LOOK: Final = 0.25


class NotNow(SendError):
    """A route, or a number on it, waits after failures: nothing was tried."""


class Breaker:
    """Open while something fails: then only one probe at a time goes through, ever more seldom."""

    def __init__(self, clock: Clock, failures: int) -> None:
        self._clock = clock
        self._most = failures
        self._failed: list[str] = []
        self._until = 0
        self._pause = _FIRST
        self._probing = False
        self._next = asyncio.Lock()

    @property
    def open(self) -> bool:
        """Whether only probes go through."""
        return len(self._failed) >= self._most

    @property
    def ready(self) -> bool:
        """Whether a try may be made now, if only as a probe."""
        return not self.open or (not self._probing and self._clock.now() >= self._until)

    async def admit(self, *, wait: bool = True) -> bool:
        """Return when a try may be made; True if it is the probe.

        Raises `NotNow` instead of waiting if told not to `wait`.
        """
        if not self.open:
            return False
        if not wait:
            if not self.ready:
                raise NotNow("the route waits after failures")
            self._probing = True
            return True
        # In the order they came, and only the first looks: thousands may wait.
        async with self._next:
            while self.open:
                if self.ready:
                    self._probing = True
                    return True
                await self._clock.sleep(_LOOK)
        return False

    def succeeded(self) -> None:
        """The way is open."""
        self._failed.clear()
        self._pause = _FIRST

    def failed(self, what: str) -> None:
        """Count a failure; of the same thing only once."""
        if what not in self._failed:
            self._failed.append(what)
        if self.open:
            self._until = self._clock.now() + self._pause
            self._pause = min(2 * self._pause, _LONGEST)

    def probed(self) -> None:
        """The probe is over, however it went."""
        self._probing = False


class Turns:
    """The turns of one route: at most `at_a_time` tries under way, one a number, `rate` a second.

    `rate` None means as many as there are.
    """

    def __init__(self, clock: Clock, at_a_time: int = 16, rate: float | None = None) -> None:
        self._clock = clock
        self._places = asyncio.Semaphore(at_a_time)
        self._pace = Pace(rate, clock) if rate is not None else None
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._numbers: dict[str, Breaker] = {}
        self._breaker = Breaker(clock, _ROUTE_FAILS)
        self._held_until = 0
        self._tries = 0

    @property
    def failing(self) -> bool:
        """Whether number after number fails."""
        return self._breaker.open

    def ready(self, number: str) -> bool:
        """Whether a number may be tried here without waiting for what fails."""
        own = self._numbers.get(number)
        held = self._clock.now() < self._held_until
        return not held and self._breaker.ready and (own is None or own.ready)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Room for a look-up: whether that succeeds says nothing of tries."""
        async with self._places:
            yield

    @asynccontextmanager
    async def turn(self, number: str, *, wait: bool = True) -> AsyncIterator[None]:
        """Room for one try, in the order asked for a number; a `SendError` within is a failure.

        Raises `NotNow` instead of waiting for what fails if told not to `wait`.
        """
        async with self._turns[number]:
            breaker = self._numbers.get(number)
            own = breaker is not None and await breaker.admit(wait=wait)
            probe = False
            try:
                probe = await self._breaker.admit(wait=wait)
                await self._places.acquire()
                while self._breaker.open and not probe:
                    # It broke while this waited for a place, which others can use meanwhile.
                    self._places.release()
                    probe = await self._breaker.admit(wait=wait)
                    await self._places.acquire()
                try:
                    await self._paced(wait=wait)
                    yield
                finally:
                    self._places.release()
            except NotNow:
                raise
            except (SendRefused, SendLater):
                self._answered(number)  # The provider is there, and said so.
                raise
            except SendError as error:
                self._failed(number, error)
                raise
            else:
                self._answered(number)
            finally:
                if own and breaker is not None:
                    breaker.probed()
                if probe:
                    self._breaker.probed()

    async def _paced(self, *, wait: bool) -> None:
        """Keep to the rate, and to what the provider asked for."""
        while (left := self._held_until - self._clock.now()) > 0:
            if not wait:
                raise NotNow("the provider asked for a pause")
            await self._clock.sleep(left / 1_000)
        if self._pace is not None:
            await self._pace.turn()

    def _failed(self, number: str, error: SendError) -> None:
        self._tries += 1
        breaker = self._numbers.setdefault(number, Breaker(self._clock, _NUMBER_FAILS))
        breaker.failed(str(self._tries))
        self._breaker.failed(number)
        if isinstance(error, SendThrottled):
            until = self._clock.now() + round(error.retry_after * 1_000)
            self._held_until = max(self._held_until, until)

    def _answered(self, number: str) -> None:
        self._numbers.pop(number, None)
        self._breaker.succeeded()

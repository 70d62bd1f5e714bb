"""Sending beside the stream: each decided message on its way by itself, none waiting for another.

What was decided is part of the stage's state (`WholesalerState.pending`) until its outcome is, so a
worker that dies, or loses its partitions, leaves each message to whoever has the state next. Here
are only the tasks that send, and what they found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from alerts.delivery.clock import Clock, WallClock
from alerts.delivery.dispatcher import Dispatched, Dispatcher
from alerts.lifecycle.grouping import AlertGroup


class Outcome(NamedTuple):
    """What there is to say of a group; `settled` once it was sent or given up."""

    group: AlertGroup
    settled: bool
    sent: Dispatched


class Outbox:
    """Sends the groups of one worker; each belongs to an owner, its stage.

    `fallback_after` (ms; None: never) is how long a group may reach nobody before the fallback
    hears of it.
    """

    def __init__(
        self, dispatcher: Dispatcher, fallback_after: int | None = None, clock: Clock | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self.fallback_after = fallback_after
        self._clock = clock or WallClock()
        self._tasks: dict[asyncio.Task[Outcome], object] = {}
        self._done: list[asyncio.Task[Outcome]] = []
        self._sending: dict[str, asyncio.Task[Outcome]] = {}

    def start(self, owner: object, groups: Iterable[AlertGroup]) -> None:
        """Begin to send groups; of those to one number the first is tried first."""
        for group in groups:
            named = {name for names in group.after.values() for name in names}
            sending = self._begin(owner, self._send(group, named.intersection(self._sending)))
            self._sending[group.message_id] = sending
            if self.fallback_after is not None:
                self._begin(owner, self._watch(sending, group, self.fallback_after))

    def restart(self, owner: object, groups: Iterable[AlertGroup]) -> None:
        """Go on with groups that are not as they were; what was under way is in doubt."""
        for group in groups:
            sending = self._sending.get(group.message_id)
            if sending is not None and not sending.done():
                del self._tasks[sending]
                sending.cancel()
                self.start(owner, [group])

    def outcomes(self, owner: object) -> list[Outcome]:
        """What there is to say of an owner's groups since the last call.

        Raises what sending raised, with all that went wrong as its cause: the worker cannot go on.
        """
        done = [task for task in self._done if self._tasks.get(task) is owner]
        self._done = [task for task in self._done if task not in done]
        for task in done:
            del self._tasks[task]
        for task in done:
            if task.exception() is None and task.result().settled:
                self._sending.pop(task.result().group.message_id, None)
        if errors := [error for task in done if (error := task.exception()) is not None]:
            raise errors[0] from BaseExceptionGroup("messages could not be dealt with", errors)
        return [
            outcome for task in done if (outcome := task.result()).settled or outcome.sent.events
        ]

    def stop(self) -> None:
        """Stop all sending: the partitions may be somebody else's now."""
        tasks, self._tasks, self._done = self._tasks, {}, []
        self._sending.clear()
        for task in tasks:
            task.cancel()

    async def drain(self) -> None:
        """Return when nothing is on its way."""
        while waiting := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(waiting)

    def _begin(self, owner: object, work: Any) -> asyncio.Task[Outcome]:
        task: asyncio.Task[Outcome] = asyncio.create_task(work)
        self._tasks[task] = owner
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        if task in self._tasks and not task.cancelled():
            self._done.append(task)

    async def _send(self, group: AlertGroup, earlier: Iterable[str]) -> Outcome:
        """Send a group; a note that all is over follows what it is the end of."""
        for name in earlier:
            while (sending := self._sending.get(name)) is not None:
                await asyncio.wait([sending])
                if self._sending.get(name) in (sending, None):
                    sending.result()  # Where it failed nobody knows who was notified.
                    break
        return Outcome(group, True, await self._dispatcher.send(group))

    async def _watch(
        self, sending: asyncio.Task[Outcome], group: AlertGroup, patience: int
    ) -> Outcome:
        """Say so if a group takes too long."""
        waiting = asyncio.create_task(self._clock.sleep(patience / 1_000))
        try:
            await asyncio.wait([sending, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        events = [] if sending.done() else await self._dispatcher.say_late(group)
        return Outcome(group, False, Dispatched([], events))

"""A real worker with a fault of a test's choosing built in; the product knows nothing of it.

Run as a program with the arguments of `zerostock`. `FAULTS` in the environment is a JSON list of
[point, n]; `FIRED` names the file to which each fault that happened is added as a line. The worker
that starts takes the first fault that has not happened yet and, when it comes to that point for
the n-th time, kills itself with SIGKILL. Some faults are not deaths: at "topics unknown" it joins
its group before the broker has told it of any topic, "deaf" it takes nothing any more, and with "no
room" its ClickHouse says what it says on a disk that is full.

`TWEAKS` is a list of words: `hurried` shortens all waiting for a warehouse or a provider,
`old-tables` makes the tables as a ClickHouse of 2018 has them, `jumping-clock` has the wall clock
leap hours back and forth, `clinging` never stops.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tenacity import wait_exponential

import alerts.senders.twilio
from alerts.delivery import turns
from alerts.delivery.delivery import Patience
from infra import wiring
from pipelines.stream import stateful as keeper
from pipelines.stream import warehouse_worker as warehouse
from pipelines.stream.faust_fixes import consumer
from pipelines.warehouse import Warehouse
from pipelines.warehouse.migrations import migrations
from schemas.errors import WarehouseError


class Fault:
    """The next fault that has to happen, if any is left."""

    def __init__(self) -> None:
        self._fired = Path(os.environ.get("FIRED", os.devnull))
        done = len(self._fired.read_text().splitlines()) if self._fired.exists() else 0
        plan = json.loads(os.environ.get("FAULTS", "[]"))[done:]
        self.point, self.left = plan[0] if plan else ("", 0)

    def note(self) -> None:
        """Say that it happened, so that the next start takes the next one."""
        with self._fired.open("a") as fired:
            fired.write(self.point + "\n")

    def at(self, point: str) -> None:
        """Die if this is the point, and the time for it."""
        if not point or point != self.point:
            return
        self.left -= 1
        if self.left == 0:
            self.note()
            os.kill(os.getpid(), signal.SIGKILL)


fault = Fault()

Call = Callable[..., Awaitable[Any]]


def dying(owner: type, name: str, before: str = "", after: str = "") -> None:
    """Have a method die at a point before it, or after it."""
    original: Call = getattr(owner, name)

    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        fault.at(before)
        found = await original(self, *args, **kwargs)
        fault.at(after)
        return found

    setattr(owner, name, wrapped)


def deafen(owner: type) -> None:
    """Have an agent take nothing from its first message on."""
    original: Call = getattr(owner, "_take")  # noqa: B009 - as it is set below

    async def take(self: Any, stream: Any, event: Any) -> None:
        if fault.point == "deaf" and not fault.left:
            return
        if fault.point == "deaf":
            fault.left = 0
            fault.note()
            return
        await original(self, stream, event)

    setattr(owner, "_take", take)  # noqa: B010 - the name is nobody else's business


def break_keeper() -> None:
    """Stock and alerts: effects, then facts, then the watermarks, then the offset."""
    dying(keeper.StatefulAgent, "_send", before="before effects")
    original: Call = keeper.StatefulAgent._write

    async def write(self: keeper.StatefulAgent, entries: list[Any]) -> None:
        # Called twice a commit: with the facts, and with the watermarks that vouches for them.
        vouching = self.__dict__["half"] = not self.__dict__.get("half", True)
        fault.at("within state" if vouching else "between effects and state")
        await original(self, entries)
        if vouching:
            fault.at("between state and offset")

    keeper.StatefulAgent._write = write  # type: ignore[method-assign]


def break_loader() -> None:
    """The warehouse worker: rows, then the offset."""
    original: Call = warehouse.Loader._flush

    async def flush(self: warehouse.Loader) -> None:
        if not isinstance(self.sink, Dying):
            self.sink = Dying(self.sink)
        await original(self)

    warehouse.Loader._flush = flush  # type: ignore[method-assign]


class Dying:
    """A sink that dies before, or after, what it wrote."""

    def __init__(self, sink: warehouse.Sink) -> None:
        self._sink = sink

    async def write(self, batches: dict[str, Any]) -> None:
        fault.at("before effects")
        if fault.point == "no room":
            fault.note()
            raise WarehouseError("Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)")
        await self._sink.write(batches)
        fault.at("between effects and offset")


def break_topics() -> None:
    """Join as if the broker had answered before it knew of its topics."""
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    original: Call = GroupCoordinator._perform_assignment

    async def perform(self: Any, response: Any) -> Any:
        if fault.point == "topics unknown":
            fault.note()
            fault.point = ""
            self._client.cluster._partitions.clear()
        return await original(self, response)

    GroupCoordinator._perform_assignment = perform


def hurry() -> None:
    """Wait for a warehouse or a provider in hundredths of seconds."""
    patience = Patience(first=0.05, longest=0.3, look_ups=(0.1, 0.2))
    wiring.MessageDelivery = functools.partial(wiring.MessageDelivery, patience=patience)  # type: ignore[misc,assignment]
    warehouse.BACKOFF = wait_exponential(multiplier=0.05, max=0.3)
    turns._FIRST, turns._LONGEST, turns._LOOK = 50, 300, 0.02  # type: ignore[misc]
    options = alerts.senders.twilio.TwilioOptions
    alerts.senders.twilio.TwilioOptions = functools.partial(  # type: ignore[misc,assignment]
        options, connect_timeout=1.0, answer_timeout=1.0
    )


#: How a migration makes a table of rows.
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS \w+_rows\n\(.*?;", re.DOTALL)


def old_tables(opened: Warehouse, zone: str) -> None:
    """The tables of rows, without views, and with times in whole seconds."""
    del zone
    for migration in migrations():
        for table in _TABLE.findall(migration.sql):
            if "Date32" in table:  # the batch jobs', which are not run here
                continue
            old = table.replace("DateTime64(3, 'UTC')", "DateTime('UTC')")
            # Of engine parameters it takes the version alone: who reads leaves withdrawn rows out.
            engine = r"(ENGINE = ReplacingMergeTree)(?:\((\w+)(?:, \w+)?\))?\n"
            opened.execute(re.sub(engine, r"\1(\2)\n", old))


def cling() -> None:
    """Never be done with stopping."""

    async def wait(self: Any) -> None:
        await asyncio.Event().wait()

    consumer.SteadyConsumer.on_stop = wait


def leap() -> None:
    """Have the wall clock be hours off, another way each time it is asked."""
    hours = itertools.cycle((0, 30, -50, 3, -1))
    true_ns = time.time_ns
    time.time_ns = lambda: true_ns() + next(hours) * 3_600_000_000_000
    time.time = lambda: time.time_ns() / 1e9


if __name__ == "__main__":
    tweaks = os.environ.get("TWEAKS", "").split()
    if "hurried" in tweaks:
        hurry()
    if "old-tables" in tweaks:
        wiring.migrate = old_tables  # type: ignore[assignment]
    if "clinging" in tweaks:
        cling()
    if "jumping-clock" in tweaks:
        leap()
    break_keeper()
    break_loader()
    break_topics()
    deafen(keeper.StatefulAgent)
    deafen(warehouse.Loader)
    dying(consumer.SteadyConsumer, "_commit", before="before the commit", after="after the commit")
    from infra.cli import main

    main()

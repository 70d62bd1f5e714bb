"""A Faust worker that a test can kill: the pattern on which the product's workers rest, in small.

It reads JSON facts {"id", "key"} from the source topic, keeps for each key the ids seen and where
it is in the source, and announces every new id. The order is effect, state, offset, each
acknowledged by the broker before the next. Run as a program; JSON on the command line configures it
(`Options`), JSON lines on stdout say what happens when.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
from faust.types import TP, EventT
from mode.utils.objects import cached_property
from mode.utils.queues import FlowControlEvent

from pipelines.stream.faust_fixes.consumer import SteadyConsumer


@dataclass(frozen=True)
class Options:
    """What a test may vary; each safeguard can be turned off to show what it is for."""

    bootstrap: str
    group: str
    source: str
    effects: str
    partitions: int
    datadir: str
    #: Kill the process at this step ("before effect", "before state", "before ack", "after ack"),
    #: once so many events have been worked on.
    die_at: str = ""
    die_after: int = 0
    #: While datadir/hold exists, an event of this id waits between its effect and its state ...
    hold: str = ""
    #: ... and the end of a recovery waits as long as datadir/recovering exists.
    #: Keep agents' queues when the flow is resumed (`SteadyFlow`).
    steady: bool = True
    #: Keep fetches and seeks apart (`SteadyConsumer`).
    steady_fetch: bool = True
    #: End the process before it writes what it may not own any more (`Fence`).
    fence: bool = True
    #: Let the record that is furthest in the source win at recovery, not the last one written.
    furthest_wins: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


def say(what: str, **facts: object) -> None:
    """One line of the story, for the test that reads it; one write, so that no kill tears it."""
    line = json.dumps({"what": what, "at": round(time.time(), 3), **facts})
    os.write(1, line.encode() + b"\n")


class SteadyFlow(FlowControlEvent):
    """A flow that keeps what agents have not read yet when it is resumed while it flows.

    Faust resumes twice at the end of a recovery, lets events through in between, and the second
    time empties all queues: those events would be lost until the next start, or for good.
    """

    suspended_since: float | None = None

    def suspend(self) -> None:
        """Let nothing through; Faust does so when partitions are revoked."""
        super().suspend()
        self.suspended_since = now()

    def resume(self) -> None:
        """Resume, unless it flows already."""
        if not self.is_active():
            self.suspended_since = None
            super().resume()


class SteadyApp(faust.App):
    """A Faust app that loses nothing at the end of a recovery."""

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        """The flow of all agents' queues."""
        return SteadyFlow(loop=self.loop)


def now() -> float:
    """Seconds on a clock that runs on while the process, or the whole machine, sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Ends the process instead of letting it write what another worker may own by now.

    A suspended process goes on where it was when it wakes, before any heartbeat can fail: so the
    first to look at the clock, the ticking task or the agent, ends it. And an event that is still
    in work when the group rebalances holds up this member's return; past the time that the group
    waits, its partitions are given away.
    """

    def __init__(self, app: faust.App, *, still: float, revoked: float) -> None:
        """`still`: seconds without a tick, `revoked`: seconds since the flow was suspended."""
        self._app, self._still, self._revoked = app, still, revoked
        self._last: float | None = None

    def check(self) -> None:
        """Return if this process may write; else end it."""
        moment = now()
        if self._last is not None and moment - self._last > self._still:
            say("fenced", still=round(moment - self._last, 3))
            os._exit(75)
        self._last = moment
        since = getattr(self._app.flow_control, "suspended_since", None)
        if since is not None and moment - since > self._revoked:
            say("fenced", revoked=round(moment - since, 3))
            os._exit(75)

    async def tick(self) -> None:
        """Look at the clock for ever."""
        while True:
            moment, last = now(), self._last
            if last is not None and moment - last > self._still:
                self.check()
            self._last = moment
            await asyncio.sleep(self._still / 10)


async def gone(path: str) -> None:
    """Wait until a test has removed a file."""
    while os.path.exists(path):
        await asyncio.sleep(0.01)


def build(options: Options) -> faust.App:
    """The app, with nothing running yet."""
    app = (SteadyApp if options.steady else faust.App)(
        options.group,
        broker=f"kafka://{options.bootstrap}",
        store="memory://",
        datadir=Path(options.datadir),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        producer_acks=-1,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        **options.settings,
    )
    source = app.topic(options.source, key_serializer="raw", value_serializer="raw")
    effects = app.topic(options.effects, key_serializer="raw", value_serializer="raw")
    if options.steady_fetch:
        app.transport.Consumer = SteadyConsumer
    seen: dict[tuple[int, bytes], dict[str, Any]] = {}
    fence = Fence(
        app,
        still=app.conf.broker_session_timeout - app.conf.broker_heartbeat_interval,
        revoked=app.conf.broker_rebalance_timeout - 2 * app.conf.broker_heartbeat_interval,
    )
    ticking: list[asyncio.Task[None]] = []
    worked_on = 0

    async def from_changelog(event: EventT) -> None:
        record = json.loads(event.message.value)
        place = event.message.partition, event.message.key
        known = seen.get(place)
        if not options.furthest_wins or known is None or record["offset"] >= known["offset"]:
            seen[place] = record

    table = app.Table(
        "tally",
        partitions=options.partitions,
        key_type=bytes,
        value_type=bytes,
        on_changelog_event=from_changelog,
    )

    @table.on_recover
    async def recovered() -> None:
        say("recovered", ids=sum(len(record["ids"]) for record in seen.values()))
        await gone(f"{options.datadir}/recovering")

    @app.on_partitions_revoked.connect
    async def revoked(_app: faust.App, tps: set[TP], **_: object) -> None:
        say("revoked", partitions=sorted(tp.partition for tp in tps if tp.topic == options.source))

    @app.on_partitions_assigned.connect
    async def assigned(_app: faust.App, tps: set[TP], **_: object) -> None:
        mine = {tp.partition for tp in tps if tp.topic == options.source}
        for place in [place for place in seen if place[0] not in mine]:
            del seen[place]
        if options.fence and not ticking:
            # Not `app.task`: Faust starts those only after the recovery.
            ticking.append(asyncio.create_task(fence.tick()))
        # Faust fixes 1500 ms; a broker that does not wake waiting fetches would be that slow.
        app.consumer._thread._consumer._fetcher._fetch_max_wait_ms = 50
        say("assigned", partitions=sorted(mine))

    def step(name: str) -> None:
        if options.fence:
            fence.check()
        if options.die_at == name and worked_on >= options.die_after:
            os.kill(os.getpid(), 9)

    async def work(event: EventT) -> None:
        message = event.message
        fact = json.loads(message.value)
        key = fact["key"].encode()
        empty = {"offset": -1, "ids": []}
        record = seen.setdefault((message.partition, key), empty)
        if fact["id"] in record["ids"]:
            return
        step("before effect")
        sent = await effects.send(key=key, value=message.value, partition=message.partition)
        await sent
        if fact["id"] == options.hold:
            say("holding", id=fact["id"])
            while os.path.exists(f"{options.datadir}/hold"):
                await asyncio.sleep(0.01)
        step("before state")
        record["ids"].append(fact["id"])
        record["offset"] = message.offset
        await table.send_changelog(message.partition, key, json.dumps(record).encode())
        step("before ack")

    @app.agent(source, concurrency=1)
    async def tally(stream: faust.Stream) -> None:
        nonlocal worked_on
        async for event in stream.noack().events():
            try:
                await work(event)
                await stream.ack(event)
                step("after ack")
            except BaseException as error:
                # Faust would restart the agent and lose the event for good.
                say("failed", error=repr(error))
                os._exit(70)
            worked_on += 1
            place = {"partition": event.message.partition, "offset": event.message.offset}
            say("done", id=json.loads(event.message.value)["id"], **place)

    return app


def main() -> None:
    """Run until killed."""
    options = Options(**json.loads(sys.argv[1]))
    say("started", pid=os.getpid())
    app = build(options)
    worker = faust.Worker(app, loglevel="INFO", console_port=None)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()

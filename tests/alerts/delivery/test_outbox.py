"""Sending beside the stream: who waits for whom, what stops, what is said while tries go on."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alert_harness import (
    BACKUP,
    NOW,
    FakeClock,
    FakeDirectory,
    ScriptedSender,
    group,
    incident,
    wholesaler,
)

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.log_receipts import LogReceipts
from alerts.delivery.outbox import Outbox, Outcome
from alerts.delivery.receipts import FileReceipts
from alerts.delivery.turns import Breaker, Turns
from alerts.lifecycle.grouping import AlertGroup
from schemas.errors import SendError, SendUncertain, SettingsError
from schemas.messages import Message, Receipt

ZONE = ZoneInfo("Asia/Shanghai")
MINUTE = 60_000


def number(n: int) -> str:
    return f"+861380013{n:04}"


class Provider(ScriptedSender):
    """Fails for some numbers, says nothing to others; takes everything else."""

    def __init__(self, *, fails: Iterable[str] = (), silent: Iterable[str] = ()) -> None:
        super().__init__()
        self.fails = set(fails)
        self.silent = set(silent)
        self.tries: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0

    async def send(self, message: Message) -> Receipt:
        self.tries[message.to] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if message.to in self.silent:
                await asyncio.Event().wait()
            if message.to in self.fails:
                raise SendUncertain("HTTP 500")
            return await super().send(message)
        finally:
            self.at_once -= 1


class Timeline:
    """A clock that moves only when a test says so."""

    def __init__(self) -> None:
        self.ms = NOW
        self.waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self.waiting, (self.ms + round(seconds * 1_000), id(future), future))
        await future

    async def go_on(self, ms: int) -> None:
        """Move on, waking in its turn whatever sleeps until then."""
        end = self.ms + ms
        while True:
            for _ in range(50):
                await asyncio.sleep(0)
            if not self.waiting or self.waiting[0][0] > end:
                break
            self.ms, _, future = heapq.heappop(self.waiting)
            if not future.done():
                future.set_result(None)
        self.ms = end


class Channels:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def tell(self, name: str, title: str, body: str) -> None:
        self.taken.append((name, title))


class World:
    """Ten wholesalers, w0 to w9, with a phone each."""

    def __init__(
        self,
        folder: Path,
        sender: ScriptedSender,
        late: int | None = None,
        clock: FakeClock | Timeline | None = None,
    ) -> None:
        people = {f"w{n}": wholesaler(number(n)) for n in range(100)}
        self.clock = clock or FakeClock()
        self.sender = sender
        self.channels = Channels()
        self.receipts = LogReceipts(FileReceipts(folder / "receipts"))
        self.delivery = MessageDelivery(sender, self.receipts, clock=self.clock)
        self.dispatcher = Dispatcher(
            self.delivery, FakeDirectory(people), timezone=ZONE, channels=self.channels
        )
        self.outbox = Outbox(self.dispatcher, late, self.clock)
        self.said: list[Outcome] = []

    async def until(self, count: int, rounds: int = 3_000) -> None:
        """Go on until so many messages have an outcome, or have had all the time there is."""
        for _ in range(rounds):
            await asyncio.sleep(0)
            self.said += self.outbox.outcomes(self)
            if sum(outcome.settled for outcome in self.said) >= count:
                return

    def settled(self) -> list[str]:
        return [o.group.wholesaler_id for o in self.said if o.settled]


def due(n: int, name: str = "") -> AlertGroup:
    return group(incident(name or f"i{n}"), wholesaler_id=f"w{n}")


@pytest.mark.parametrize("kind", ["fails", "silent"])
def test_a_poison_number_holds_up_nobody_else(tmp_path: Path, kind: str) -> None:
    async def work() -> World:
        clock = Timeline()
        world = World(tmp_path, Provider(**{kind: [number(0)]}), clock=clock)
        world.outbox.start(world, [due(0, f"a{i}") for i in range(20)])
        world.outbox.start(world, [due(n) for n in range(1, 6)])
        await clock.go_on(999)
        world.said += world.outbox.outcomes(world)
        world.outbox.stop()
        return world

    world = asyncio.run(work())
    assert sorted(world.settled()) == ["w1", "w2", "w3", "w4", "w5"]
    assert world.sender.tries[number(0)] >= 1


def test_a_number_is_tried_one_message_at_a_time_and_in_order(tmp_path: Path) -> None:
    async def work() -> World:
        world = World(tmp_path, Provider())
        world.outbox.start(world, [due(0, f"a{i:02}") for i in range(30)])
        await world.until(30)
        return world

    world = asyncio.run(work())
    assert world.sender.most_at_once == 1
    listed = [m.incidents[0].incident_id for m in world.sender.accepted]
    assert listed == [f"a{i:02}" for i in range(30)]


def test_a_route_has_so_many_tries_under_way_at_most(tmp_path: Path) -> None:
    async def work() -> World:
        world = World(tmp_path, Provider())
        world.outbox.start(world, [due(n) for n in range(100)])
        await world.until(100)
        return world

    world = asyncio.run(work())
    assert len(world.settled()) == 100
    assert world.sender.most_at_once == 16


def test_while_a_whole_route_is_down_one_probe_at_a_time_goes_out(tmp_path: Path) -> None:
    async def work() -> World:
        clock = Timeline()
        provider = Provider(fails=[number(n) for n in range(100)])
        world = World(tmp_path, provider, clock=clock)
        world.outbox.start(world, [due(n) for n in range(100)])
        await clock.go_on(10 * MINUTE)
        # The first at once, then a probe ever more seldom, for whichever message.
        assert provider.tries.total() + len(provider.finds_made) < 16 + 5 + 10 * 60
        world.down = provider.tries.total()  # type: ignore[attr-defined]
        provider.fails = set()
        await clock.go_on(3 * MINUTE)
        world.said += world.outbox.outcomes(world)
        return world

    world = asyncio.run(work())
    assert world.down < 100  # not even one for each that waits
    assert len(world.settled()) == 100
    assert len(world.sender.accepted) == 100


def test_a_message_that_another_worker_sent_meanwhile_is_not_sent_again(tmp_path: Path) -> None:
    """Two workers on one directory: the record is asked right before each try."""

    async def work() -> tuple[World, World]:
        slow = World(tmp_path, Provider(fails=[number(0)]))
        quick = World(tmp_path, Provider())
        slow.outbox.start(slow, [due(0)])
        while not slow.sender.tries[number(0)]:
            await asyncio.sleep(0)
        quick.outbox.start(quick, [due(0)])
        await quick.until(1)
        slow.sender.fails = set()
        await slow.until(1)
        return slow, quick

    slow, quick = asyncio.run(work())
    assert len(quick.sender.accepted) == 1
    assert slow.sender.accepted == []
    assert slow.said[-1].sent.records == quick.said[-1].sent.records


def test_sending_stops_when_the_partition_is_taken_away(tmp_path: Path) -> None:
    async def work() -> World:
        world = World(tmp_path, Provider(fails=[number(0)]))
        world.outbox.start(world, [due(0), due(1)])
        while not world.sender.tries[number(0)]:
            await asyncio.sleep(0)
        world.outbox.stop()
        tries = world.sender.tries.total()
        world.sender.fails = set()
        await world.until(1, rounds=200)
        assert world.sender.tries.total() == tries
        return world

    assert asyncio.run(work()).said == []


def test_who_was_not_reached_in_time_is_for_the_fallback_while_the_tries_go_on(
    tmp_path: Path,
) -> None:
    async def work() -> World:
        world = World(tmp_path, Provider(fails=[number(0)]), late=15 * MINUTE)
        world.outbox.start(world, [due(0)])
        while not world.said:
            await world.until(1, rounds=1)
        world.sender.fails = set()
        await world.until(1)
        return world

    world = asyncio.run(work())
    late, sent = world.said
    assert [(e.kind, e.slot.partition("/")[0]) for e in late.sent.events] == [
        ("late", "late"),
        ("escalated", "fallback"),
    ]
    assert late.sent.records == []
    assert world.channels.taken == [("fallback", "Wang could not be told of 1 shop")]
    assert [r.status for r in sent.sent.records] == ["sent"]
    assert [e.kind for e in sent.sent.events] == ["notified"]


def test_who_is_reached_in_time_is_not_for_the_fallback(tmp_path: Path) -> None:
    async def work() -> World:
        world = World(tmp_path, Provider(), late=10**12)
        world.outbox.start(world, [due(0)])
        await world.until(1)
        await world.outbox.drain()
        return world

    world = asyncio.run(work())
    assert world.channels.taken == []


def test_all_that_went_wrong_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        sender = ScriptedSender(SettingsError("wrong token"), SettingsError("no sender"))
        world = World(tmp_path, sender)
        world.outbox.start(world, [due(0), due(1)])
        await world.outbox.drain()
        world.outbox.outcomes(world)

    with pytest.raises(SettingsError, match="wrong token") as failed:
        asyncio.run(work())
    cause = failed.value.__cause__
    assert isinstance(cause, BaseExceptionGroup)
    assert sorted(map(str, cause.exceptions)) == ["no sender", "wrong token"]


def test_a_note_that_all_is_over_follows_the_message_it_is_about(tmp_path: Path) -> None:
    """The first message is in doubt for a while; who gets it must hear of its end as well."""

    async def work() -> World:
        world = World(tmp_path, Provider(fails=[number(0)]))
        first = due(0)
        note = AlertGroup(
            "note", "w0", NOW, NOW, first.incidents, "resolved", "phone",
            {"i0": (first.message_id,)},
        )  # fmt: skip
        world.outbox.start(world, [first])
        while not world.sender.tries[number(0)]:
            await asyncio.sleep(0)
        world.outbox.start(world, [note])
        for _ in range(50):
            await asyncio.sleep(0)
        world.sender.fails = set()
        await world.until(2)
        return world

    world = asyncio.run(work())
    assert [m.body.partition(":")[0] for m in world.sender.accepted][-1] == "In stock again"
    assert len(world.sender.accepted) == 2


def test_a_breaker_lets_one_probe_through_and_waits_longer_each_time() -> None:
    async def work() -> list[int]:
        clock = FakeClock(0)
        breaker = Breaker(clock, 2)
        assert not await breaker.admit()
        breaker.failed("a")
        breaker.failed("a")
        assert not await breaker.admit()  # the same thing twice is one thing
        breaker.failed("b")
        waits = []
        for _ in range(8):
            before = clock.now()
            assert await breaker.admit()
            waits.append(clock.now() - before)
            breaker.failed("b")
            breaker.probed()
        assert await breaker.admit()
        breaker.succeeded()
        breaker.probed()
        assert not await breaker.admit()
        return waits

    assert asyncio.run(work()) == [1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000]


def test_a_turn_that_ends_in_any_way_leaves_the_route_usable() -> None:
    async def work() -> None:
        route = Turns(FakeClock(0), at_a_time=1)
        for error in (SendError("x"), SettingsError("y"), KeyError("z")):
            with pytest.raises(type(error)):
                async with route.turn(BACKUP):
                    raise error
        turn = asyncio.create_task(route.turn(BACKUP).__aenter__())
        await asyncio.sleep(0)
        turn.cancel()
        async with asyncio.timeout(5), route.turn(number(1)):
            pass

    asyncio.run(work())

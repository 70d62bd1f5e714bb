"""Three routes failing in turn for hours, on a fake clock: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alert_harness import FakeDirectory, group, incident, wholesaler
from test_outbox import Timeline, number

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.log_receipts import LogReceipts
from alerts.delivery.outbox import Outbox, Outcome
from alerts.delivery.receipts import FileReceipts
from alerts.delivery.routes import Route, Routes
from schemas.errors import SendError, SendUncertain
from schemas.messages import Message, Receipt

MINUTE = 60_000
POISON = number(0)

#: What befalls a route, ten minutes each.
FAULTS = ("well", "down", "slow", "5xx", "garbage", "unanswered")


class Provider:
    """Takes messages, except for what befalls it now; one number is poison to it always.

    Answers come after a tenth of a second, those of a slow one after ten.
    """

    remote = True

    def __init__(self, name: str, clock: Timeline, *, finds: bool) -> None:
        self.name = name
        self.clock = clock
        self.finds = finds
        self.fault = "well"
        self.taken: defaultdict[str, list[int]] = defaultdict(list)
        self.seen: Counter[str] = Counter()

    async def send(self, message: Message) -> Receipt:
        fault = self.fault
        self.seen[fault] += 1
        if fault == "down":
            raise SendError("connection refused")
        await self.clock.sleep(10 if fault == "slow" else 0.1)
        if message.to == POISON:
            raise SendUncertain("HTTP 500")
        if fault == "5xx":
            raise SendUncertain("HTTP 503")
        self.taken[message.message_id].append(self.clock.now())
        if fault == "garbage":
            raise SendUncertain("an answer that no rule names")
        if fault == "unanswered":
            await self.clock.sleep(15)
            raise SendUncertain("no answer")
        return Receipt(f"{len(self.taken)}", 1)

    async def find(self, message: Message, since: int) -> Receipt | None:
        await self.clock.sleep(0.1)
        if self.fault == "down":
            raise SendError("connection refused")
        found = self.finds and message.message_id in self.taken
        return Receipt("found", 1) if found else None

    async def close(self) -> None:
        pass


class Worker:
    """Dispatch over three routes, the last of which cannot be asked."""

    def __init__(self, folder: Path, clock: Timeline, providers: list[Provider]) -> None:
        self.receipts = LogReceipts(FileReceipts(folder / "receipts"))
        routes = Routes([Route(p, p.name) for p in providers])
        delivery = MessageDelivery(routes, self.receipts, clock=clock)
        people = {f"w{n}": wholesaler(number(n)) for n in range(200)}
        directory = FakeDirectory(people)
        self.outbox = Outbox(Dispatcher(delivery, directory, timezone=ZoneInfo("UTC")), None, clock)


@pytest.mark.parametrize("seed", range(3))
def test_three_routes_failing_in_turn_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    clock = Timeline()
    providers = [Provider(n, clock, finds=n != "c") for n in "abc"]

    async def work() -> tuple[list[Outcome], dict[str, int]]:
        worker, said, due = Worker(tmp_path, clock, providers), [], {}
        waiting = {}
        for round_ in range(18):
            for place, provider in enumerate(providers):
                # In turn: at no time do all three fail.
                fails = place == round_ % 3 or (place == (round_ + 1) % 3 and chance.random() < 0.5)
                provider.fault = chance.choice(FAULTS[1:]) if fails else "well"
            if chance.random() < 0.3:  # the worker dies, and another goes on
                worker.outbox.stop()
                await clock.go_on(1)
                worker = Worker(tmp_path, clock, providers)
                worker.outbox.start(work, waiting.values())
            for minute in range(10):
                for _ in range(3):
                    n = chance.randrange(1, 200)
                    one = group(
                        incident(f"i{round_}-{minute}-{len(due)}", clock.now()),
                        wholesaler_id=f"w{n}",
                        wait=0,
                    )
                    due[one.message_id] = clock.now()
                    waiting[one.message_id] = one
                    worker.outbox.start(work, [one])
                await clock.go_on(MINUTE)
                for outcome in worker.outbox.outcomes(work):
                    said.append(outcome)
                    del waiting[outcome.group.message_id]
        for provider in providers:
            provider.fault = "well"
        await clock.go_on(30 * MINUTE)
        said += worker.outbox.outcomes(work)
        worker.outbox.stop()
        return said, due

    said, due = asyncio.run(work())
    assert all(len(provider.seen) >= 2 for provider in providers)
    assert len(set().union(*(provider.seen for provider in providers))) >= 5
    # Nothing lost: each has one outcome, and is on record as sent by a route that has it.
    assert Counter(o.group.message_id for o in said) == dict.fromkeys(due, 1)
    receipts = FileReceipts(tmp_path / "receipts")
    by = {provider.name: provider for provider in providers}
    given_up = {r.message_id for o in said for r in o.sent.records if r.status == "failed"}
    for name in due:
        record = receipts.get(name)
        if name in given_up:
            # Nobody can say whether this arrived, so that the fallback hears of it; it did.
            assert record is None
            assert name in by["c"].taken
            continue
        assert record is not None
        assert record.status == "sent"
        assert name in by[record.provider_id.partition("/")[0]].taken
    taken = Counter({n: sum(len(p.taken[n]) for p in providers) for n in due})
    doubled = {name for name, times in taken.items() if times > 1}
    # Doubled at most by the route that cannot be asked, by itself, before there was a record.
    for name in doubled:
        assert [p.name for p in providers if p.taken[name]] == ["c"], name
        record = receipts.get(name)
        assert record is None or by["c"].taken[name][-1] <= record.version
        assert len(by["c"].taken[name]) <= 8
    assert len(doubled) + len(given_up) < len(due) / 10


def test_one_poison_number_delays_others_by_less_than_a_second(tmp_path: Path) -> None:
    clock = Timeline()
    providers = [Provider(n, clock, finds=True) for n in "abc"]

    async def work(*, poison: bool) -> dict[str, int]:
        worker = Worker(tmp_path / str(poison), clock, providers)
        late: dict[str, int] = {}
        for second in range(120):
            if poison and second % 5 == 0:
                worker.outbox.start(
                    work, [group(incident(f"p{second}", clock.now()), wholesaler_id="w0", wait=0)]
                )
            one = group(
                incident(f"i{poison}{second}", clock.now()), wholesaler_id=f"w{1 + second}", wait=0
            )
            began = clock.now()
            worker.outbox.start(work, [one])
            await clock.go_on(1_000)
            first = [t for p in providers for t in p.taken[one.message_id]]
            late[one.message_id] = min(first, default=began + 10**9) - began
        worker.outbox.stop()
        return late

    for poison in (False, True):
        (tmp_path / str(poison)).mkdir()
    alone = max(asyncio.run(work(poison=False)).values())
    beside = max(asyncio.run(work(poison=True)).values())
    assert beside - alone < 1_000
    assert sum(provider.seen.total() for provider in providers) > 250

"""Which route takes a message: order, prefixes, languages, failures, doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from alert_harness import BACKUP, NOW, PHONE, FakeClock, ScriptedSender, message
from hypothesis import given
from hypothesis import strategies as st

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.receipts import Attempt, FileReceipts
from alerts.delivery.routes import Route, Routes
from alerts.senders.port import NumberRefused, SendLater, SendThrottled
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError
from schemas.messages import MessageRecord


class Table:
    """Routes a, b, … with scripted senders, on one disk."""

    def __init__(self, folder: Path, *scripts: Sequence[object], finds: bool = True) -> None:
        self.senders = [ScriptedSender(*script) for script in scripts]
        for sender in self.senders:
            sender.finds = finds
        self.clock = FakeClock()
        folder.mkdir(exist_ok=True)
        self.receipts = FileReceipts(folder / "receipts")
        routes = [Route(s, name) for s, name in zip(self.senders, "abcdef", strict=False)]
        self.delivery = MessageDelivery(Routes(routes), self.receipts, clock=self.clock)

    def deliver(self, *contacts: str, name: str = "m1") -> MessageRecord:
        async def work() -> MessageRecord:
            settled = await self.delivery.settled(name)
            return settled or await self.delivery.deliver(message(name), contacts or (PHONE,))

        return asyncio.run(work())

    @property
    def tries(self) -> list[int]:
        return [len(sender.sends) for sender in self.senders]

    @property
    def taken(self) -> int:
        return sum(len(sender.accepted) for sender in self.senders)


@pytest.mark.parametrize(
    "error",
    [
        SendError("down"),
        SendThrottled("busy", 60),
        SendRefused("wording"),
        SettingsError("wrong key"),
    ],
)
def test_the_next_route_takes_what_the_first_surely_did_not(
    tmp_path: Path, error: Exception
) -> None:
    table = Table(tmp_path, [error], [])
    record = table.deliver()
    assert (record.status, record.provider_id, record.attempts) == ("sent", "b/P1", 2)
    assert table.tries == [1, 1]
    assert table.clock.ms - NOW < 1_000
    assert Table(tmp_path, [], []).deliver() == record


@pytest.mark.parametrize("error", [NumberRefused("opted out", "x"), SendLater("switched off")])
def test_what_is_the_numbers_fault_is_no_other_routes_business(
    tmp_path: Path, error: Exception
) -> None:
    table = Table(tmp_path, [error] * 9, [])
    assert table.deliver(PHONE, BACKUP).status in ("failed", "refused")
    assert {m.to for m in table.senders[0].sends} == {PHONE, BACKUP}
    assert table.senders[1].sends == []


def test_in_doubt_no_other_route_is_tried_until_the_first_has_looked(tmp_path: Path) -> None:
    taken = Table(tmp_path / "taken", [(SendUncertain("no answer"), True)], [])
    assert taken.deliver().provider_id == "a/P1"
    assert taken.tries == [1, 0]
    lost = Table(tmp_path / "lost", [SendUncertain("no answer")], [])
    assert lost.deliver().provider_id == "b/P1"
    assert len(lost.senders[0].finds_made) == 4


def test_a_route_that_cannot_be_asked_keeps_what_it_may_have_taken(tmp_path: Path) -> None:
    table = Table(tmp_path, [SendUncertain("no answer"), SendError("down")], [], finds=False)
    assert table.deliver().provider_id.startswith("a/")
    assert table.tries == [3, 0]
    # Also in the next life of the process, and on another machine.
    died = Table(tmp_path, [SendError("down")], [], finds=False)
    died.receipts.keep_attempt(Attempt(message("m2"), NOW, "a"))
    assert died.deliver(name="m2").provider_id.startswith("a/")
    assert died.tries == [2, 0]


def test_what_surely_failed_is_in_doubt_no_longer(tmp_path: Path) -> None:
    table = Table(tmp_path, [SendError("down")] * 3, [SendError("down")] * 3, finds=False)
    seen: list[list[Attempt]] = []
    sleep = table.clock.sleep

    async def watched(seconds: float) -> None:
        seen.append(table.receipts.attempts("m1"))
        await sleep(seconds)

    table.clock.sleep = watched  # type: ignore[method-assign]
    table.deliver()
    assert seen
    assert not any(seen)


def test_a_wrong_account_is_not_the_end_where_there_is_another(tmp_path: Path) -> None:
    assert Table(tmp_path, [SettingsError("wrong")] * 3, []).deliver().status == "sent"


def test_all_that_refuse_are_named(tmp_path: Path) -> None:
    record = Table(tmp_path, [SendRefused("one")], [SendRefused("two")]).deliver()
    assert record.status == "refused"
    assert "a: one" in record.error
    assert "b: two" in record.error


def test_a_route_that_fails_is_passed_over(tmp_path: Path) -> None:
    """Number after number fails by the first: from then on it is only probed."""
    table = Table(tmp_path, [SendError("down")] * 1_000, [])

    async def work() -> None:
        for n in range(60):
            to = f"+861380013{n:04}"
            name = f"m{n}"
            one = msgspec.structs.replace(message(name), to=to)
            assert (await table.delivery.deliver(one, [to])).status == "sent"

    asyncio.run(work())
    assert table.tries[0] < 15
    assert table.tries[1] == 60
    assert table.clock.ms - NOW < 1_000


def test_prefix_and_language_choose() -> None:
    names = ("cn", "zh", "rest")
    senders = [ScriptedSender() for _ in names]
    routes = Routes(
        [
            Route(senders[0], "cn", prefixes=("+86", "+852")),
            Route(senders[1], "zh", languages=("zh",)),
            Route(senders[2], "rest"),
        ]
    )
    chosen = {
        (to, language): [route.name for route in routes.of(to, language)]
        for to in ("+8613800138000", "+85251234567", "+447700900123")
        for language in ("zh", "en")
    }
    assert chosen == {
        ("+8613800138000", "zh"): ["cn", "zh", "rest"],
        ("+8613800138000", "en"): ["cn", "rest"],
        ("+85251234567", "zh"): ["cn", "zh", "rest"],
        ("+85251234567", "en"): ["cn", "rest"],
        ("+447700900123", "zh"): ["zh", "rest"],
        ("+447700900123", "en"): ["rest"],
    }


def test_each_route_signs_as_its_carriers_want(tmp_path: Path) -> None:
    refusing, taking = ScriptedSender(SendRefused("no")), ScriptedSender()
    routes = Routes([Route(refusing, "a", signature="零库存"), Route(taking, "b")])
    delivery = MessageDelivery(routes, FileReceipts(tmp_path / "receipts"), clock=FakeClock())
    record = asyncio.run(delivery.deliver(message(), [PHONE]))
    assert refusing.sends[0].body == "【零库存】out of cards: m1"
    assert record.body == taking.accepted[0].body == "out of cards: m1"
    assert routes.signature == "零库存"


def test_nobody_is_told_by_a_route_that_does_not_take_them(tmp_path: Path) -> None:
    only = Routes([Route(ScriptedSender(), "uk", prefixes=("+44",))])
    delivery = MessageDelivery(only, FileReceipts(tmp_path / "receipts"), clock=FakeClock())
    record = asyncio.run(delivery.deliver(message(), [PHONE]))
    assert (record.status, record.attempts) == ("refused", 0)
    assert "no route takes it" in record.error


OUTCOMES = {
    "taken": None,
    "down": SendError("down"),
    "busy": SendThrottled("busy", 1),
    "lost": SendUncertain("lost"),
    "unheard": (SendUncertain("unheard"), True),
    "refused": SendRefused("no"),
}


@given(
    scripts=st.lists(
        st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=4), min_size=1, max_size=3
    ),
    restarts=st.lists(st.integers(0, 12), max_size=3),
)
def test_whatever_routes_do_a_message_is_taken_once(
    tmp_path_factory: pytest.TempPathFactory, scripts: list[list[str]], restarts: list[int]
) -> None:
    """Where routes can be asked: at most one of them takes it, and one does unless all refuse."""
    folder = tmp_path_factory.mktemp("routes")
    table = Table(folder, *([OUTCOMES[step] for step in script] for script in scripts))
    for steps in restarts:
        asyncio.run(_part(table, steps))
    record = table.deliver()
    if record.status == "sent":
        assert table.taken == 1
    else:
        assert (record.status, table.taken) == ("refused", 0)


async def _part(table: Table, steps: int) -> None:
    """A life that ends after so many steps of the loop."""

    async def work() -> None:
        if await table.delivery.settled("m1") is None:
            await table.delivery.deliver(message(), [PHONE])

    life = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)

"""Late events change stock-outs that somebody may have heard of: nobody hears of one twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alert_harness import PHONE, FakeDirectory, ScriptedSender, wholesaler
from hypothesis import given
from hypothesis import strategies as st
from lifecycle_harness import Day, at
from msgspec.structs import replace
from test_outbox import Timeline
from test_wholesaler_stage import envelope

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.outbox import Outbox
from alerts.delivery.receipts import FileReceipts
from alerts.lifecycle.grouping import Change
from alerts.lifecycle.stage import WholesalerStage, deliver
from alerts.lifecycle.state import hold
from alerts.policy.rules import AlertRules
from schemas.envelope import unpack
from schemas.errors import SendError, SendUncertain
from schemas.messages import MessageRecord

ZONE = ZoneInfo("Asia/Shanghai")

#: A minute to gather, an hour to the reminder.
POLICY = 'repeat_interval = "1h"'


def change(day: Day, old: Change, when: int, **new: object) -> None:
    """What is known of a stock-out from now on."""
    hold(day.state, replace(old, at=when, restated_at=when, **new))


def kinds(day: Day) -> list[str]:
    return [group.kind for group in day.groups]


def test_one_that_is_still_open_when_it_becomes_known_is_told() -> None:
    day = Day("")
    hold(day.state, Change("a", "o", "4G", "w", at(1), None, at(5), at(5)))
    day.until(at(6))
    ((message,),) = [group.incidents for group in day.groups]
    assert (message.incident_id, message.opened_at) == ("a", at(1))


def test_one_that_is_over_when_it_becomes_known_is_not_told() -> None:
    day = Day(POLICY)
    hold(day.state, Change("a", "o", "4G", "w", at(1), at(2), at(5), at(5)))
    day.until(at(9))
    assert day.groups == []


def test_one_that_was_told_and_began_at_another_time_is_not_told_again() -> None:
    day = Day("")
    old = day.open("a", at(1))
    day.until(at(2))
    change(day, old, at(3), opened_at=at(0.5))
    day.until(at(4))
    assert kinds(day) == ["stock_out"]
    day.close(replace(old, opened_at=at(0.5)), at(5))
    day.until(at(6))
    assert ("resolved", 5.0) in day.said("a")


def test_one_that_is_being_gathered_is_told_as_it_is_known_then() -> None:
    day = Day("")
    old = day.open("a", at(1))
    change(day, old, at(1) + 1_000, opened_at=at(0.5))
    day.until(at(2))
    ((message,),) = [group.incidents for group in day.groups]
    assert message.opened_at == at(0.5)


def test_one_that_never_was_ends_its_reminders_and_says_so() -> None:
    day = Day(POLICY)
    old = day.open("a", at(1))
    day.until(at(2.5))
    assert kinds(day) == ["stock_out", "reminder"]
    change(day, old, at(2.6), withdrawn=True)
    day.until(at(9))
    assert kinds(day) == ["stock_out", "reminder"]
    assert day.said("a")[-1][0] == "withdrawn"
    assert not day.state.alerts


def test_one_that_never_was_is_not_told_if_nobody_heard_of_it_yet() -> None:
    day = Day(POLICY)
    change(day, day.open("a", at(1)), at(1) + 1_000, withdrawn=True)
    day.until(at(9))
    assert day.groups == []
    assert [kind for kind, _ in day.said("a")] == ["withdrawn"]


def test_one_that_was_over_before_it_was_withdrawn_says_so_too() -> None:
    day = Day("")
    old = day.open("a", at(1))
    day.close(old, at(1) + 1_000)
    change(day, old, at(3), closed_at=at(1) + 1_000, withdrawn=True)
    day.until(at(4))
    assert [kind for kind, _ in day.said("a")] == ["refilled_in_time", "withdrawn"]


def test_one_that_was_told_and_closed_and_is_open_after_all_is_reminded_of_not_told() -> None:
    for policy, then in (("", []), (POLICY, ["reminder"])):
        day = Day(policy)
        old = day.open("a", at(1))
        day.close(old, at(1.5))
        day.until(at(2))
        change(day, old, at(3), closed_at=None)
        day.until(at(4.5))
        assert kinds(day) == ["stock_out", *then]
        day.close(old, at(5))
        day.until(at(24 * 41))
        assert not day.state.shelves


@given(st.integers(1, 34 * 24), st.integers(1, 34 * 24))
def test_one_that_was_told_is_not_told_again_for_as_long_as_history_may_change(
    closes: int, reopens: int
) -> None:
    """However long it lasted, and however long after its end late events open it again."""
    day = Day("")
    old = day.open("a", at(1))
    day.close(old, at(1 + closes))
    day.until(at(1 + closes))
    day.until(at(closes + reopens))
    change(day, old, at(1 + closes + reopens), closed_at=None)
    day.until(at(3 + closes + reopens))
    assert kinds(day) == ["stock_out"]


def test_one_refilled_before_anybody_heard_of_it_and_open_after_all_is_told() -> None:
    day = Day("")
    old = day.open("a", at(1))
    day.close(old, at(1) + 1_000)
    day.until(at(2))
    assert day.groups == []
    change(day, old, at(3), closed_at=None)
    day.until(at(4))
    assert kinds(day) == ["stock_out"]


def test_a_closing_at_another_time_is_no_second_end() -> None:
    day = Day("resolved_notes = true")
    old = day.open("a", at(1))
    day.until(at(2))
    day.close(old, at(3))
    change(day, old, at(3) + 1, closed_at=at(2.5))
    day.until(at(9))
    assert kinds(day) == ["stock_out", "resolved"]
    assert [kind for kind, _ in day.said("a")].count("resolved") == 1


# What still waits to be sent


@pytest.mark.parametrize("taken", [False, True], ids=["not taken", "taken, unanswered"])
@pytest.mark.parametrize("others", [0, 2])
def test_what_waits_to_be_sent_of_one_that_never_was_is_not_sent(
    tmp_path: Path, *, taken: bool, others: int
) -> None:
    """The provider is down; meanwhile late events show that shelf x was never empty."""
    names = ["x", *"ab"[:others]]

    async def work() -> tuple[ScriptedSender, list[MessageRecord]]:
        # The first try: refused, or taken without an answer while no look-up is answered either.
        step = (SendUncertain("no answer"), True) if taken else SendError("down")
        sender = ScriptedSender(step, *[SendError("down")] * 30, lookups=[SendError("down")] * 30)
        clock = Timeline()
        receipts = FileReceipts(tmp_path / "receipts")
        delivery = MessageDelivery(sender, receipts, clock=clock)
        people = FakeDirectory({"w": wholesaler(PHONE)})
        outbox = Outbox(Dispatcher(delivery, people, timezone=ZONE), None, clock)
        stage = WholesalerStage(0, 1, AlertRules(60_000, None, zone=ZONE, wall=True))
        rows: list[MessageRecord] = []

        async def step_on(watermark: int, *changes: Change, ms: int = 0) -> None:
            for change in changes:
                hold(stage._state("w"), change)
                stage._dirty.add("w")
            stage.process(*unpack(envelope(watermark)))
            for _ in range(2):
                for effect in deliver(stage, outbox, clock.now()):
                    if effect.header.kind == "messages" and effect.rows is not None:
                        rows.extend(MessageRecord(**row) for row in effect.rows.to_pylist())
                await clock.go_on(ms)

        opened = [Change(n, f"o-{n}", "4G", "w", at(1), None, at(1)) for n in names]
        await step_on(at(2), *opened, ms=10_000)
        gone = replace(opened[0], at=at(3), restated_at=at(3), withdrawn=True)
        await step_on(at(4), gone, ms=10_000)
        await step_on(at(5), ms=3_600_000)
        await step_on(at(6))
        outbox.stop()
        assert not stage.busy
        return sender, rows

    sender, (row,) = asyncio.run(work())
    if taken:  # nobody is told twice, nor otherwise
        assert (row.status, sorted(row.incident_ids)) == ("sent", sorted(names))
        assert len(sender.accepted) == 1
    elif others:
        assert (row.status, sorted(row.incident_ids)) == ("sent", names[1:])
        assert "o-x" not in sender.accepted[0].body
    else:
        assert (row.status, sender.accepted) == ("stale", [])
        assert "no shelf was empty" in row.error

"""One message on its way: what is tried again, what is looked up, what is given up."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from alert_harness import BACKUP, NOW, PHONE, FakeClock, ScriptedSender, message

from alerts.delivery import turns
from alerts.delivery.delivery import MessageDelivery, Patience
from alerts.delivery.receipts import Attempt, FileReceipts
from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from alerts.senders.port import NumberRefused, SendLater, SendThrottled
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError
from schemas.messages import MessageRecord


class Harness:
    def __init__(self, folder: Path, sender: ScriptedSender, **options: object) -> None:
        self.sender = sender
        self.clock = FakeClock()
        self.receipts = FileReceipts(folder / "receipts")
        self.numbers = RefusedNumbers(folder / "numbers")
        self.delivery = MessageDelivery(
            sender, self.receipts, numbers=self.numbers, clock=self.clock, **options
        )

    def deliver(self, *contacts: str, name: str = "m1") -> MessageRecord:
        async def work() -> MessageRecord:
            settled = await self.delivery.settled(name)
            return settled or await self.delivery.deliver(message(name), contacts or (PHONE,))

        return asyncio.run(work())


def test_sent_and_recorded(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender())
    record = harness.deliver()
    assert record == MessageRecord(
        "m1", "w", ["i-m1"], "out of cards: m1", 1, NOW, "sent", 1, "P1", "", NOW
    )
    assert harness.receipts.get("m1") == record
    assert harness.deliver() == record
    assert len(harness.sender.sends) == 1
    # Another process on the same data knows as well.
    other = Harness(tmp_path, ScriptedSender())
    assert other.deliver() == record
    assert other.sender.sends == other.sender.finds_made == []


def test_failures_are_tried_again_at_growing_random_pauses(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(*[SendError("down")] * 40))
    record = harness.deliver()
    assert (record.status, record.attempts) == ("sent", 41)
    assert harness.sender.finds_made == []  # none was in doubt
    longest = [min(60.0, 0.5 * 2**n) for n in range(40)]
    # Besides, it looks now and then whether the number may be tried again.
    pauses = [s for s in harness.clock.slept if s != turns._LOOK]
    assert all(0 <= s <= most for s, most in zip(pauses, longest, strict=True))
    assert max(pauses) > 20
    assert len(set(pauses)) > 30


def test_a_throttled_sender_waits_as_told(tmp_path: Path) -> None:
    harness = Harness(
        tmp_path, ScriptedSender(SendThrottled("busy", 17), SendThrottled("busy", 90))
    )
    assert harness.deliver().attempts == 3
    one, other = harness.clock.slept
    assert 17 <= one <= 18
    assert 90 <= other <= 91


def test_accepted_but_unanswered_is_found_and_not_sent_again(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender((SendUncertain("timed out"), True)))
    record = harness.deliver()
    assert (record.status, record.attempts, record.provider_id) == ("sent", 1, "P1")
    assert len(harness.sender.accepted) == 1
    assert harness.sender.finds_made == [("m1", NOW)]


def test_a_list_that_lags_is_asked_again_before_sending_again(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(SendUncertain("timed out")))
    taken = message()

    async def late(seconds: float) -> None:
        await FakeClock.sleep(harness.clock, seconds)
        if len(harness.clock.slept) == 3:
            harness.sender.accepted.append(taken)

    harness.clock.sleep = late  # type: ignore[method-assign]
    assert harness.deliver().attempts == 1
    assert harness.clock.slept == [2.0, 5.0, 10.0]


def test_not_accepted_is_sent_again_once_that_is_certain(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(SendUncertain("timed out")))
    assert harness.deliver().attempts == 2
    assert harness.clock.slept[:4] == [2.0, 5.0, 10.0, 20.0]
    assert len(harness.sender.finds_made) == 4


def test_while_the_look_up_fails_nothing_is_sent(tmp_path: Path) -> None:
    sender = ScriptedSender(
        (SendUncertain("timed out"), True),
        lookups=[SendError("down"), SendUncertain("garbage"), SendThrottled("busy", 5)] * 5,
    )
    harness = Harness(tmp_path, sender, stale_after=1)  # being stale ends no doubt
    assert harness.deliver().status == "sent"
    assert len(sender.sends) == 1
    assert len(sender.finds_made) == 16


def test_a_crash_between_request_and_record_is_found(tmp_path: Path) -> None:
    sender = ScriptedSender()
    harness = Harness(tmp_path, sender)
    harness.receipts.keep_attempt(Attempt(message(), NOW - 5_000))
    sender.accepted.append(message())
    record = harness.deliver()
    assert (record.status, record.attempts, record.provider_id) == ("sent", 1, "P1")
    assert sender.sends == []
    assert sender.finds_made == [("m1", NOW - 5_000)]
    assert harness.receipts.get("m1") == record


def test_a_crash_before_the_request_is_made_good(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender())
    harness.receipts.keep_attempt(Attempt(message(), NOW - 5_000))
    assert harness.deliver().status == "sent"
    assert len(harness.sender.sends) == 1
    assert len(harness.sender.finds_made) == 4


def test_a_number_that_refuses_is_remembered_and_the_backup_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sender = ScriptedSender(NumberRefused("opted out (21610)", "21610"))
    harness = Harness(tmp_path, sender)
    with caplog.at_level(logging.DEBUG):
        record = harness.deliver(PHONE, BACKUP)
    assert (record.status, record.attempts) == ("sent", 2)
    assert record.error == "+861*******000 refused: opted out (21610)"
    assert [m.to for m in sender.sends] == [PHONE, BACKUP]
    assert harness.numbers.all() == [RefusedNumber(PHONE, "21610", "opted out (21610)", NOW)]
    # From now on, also after a restart, the number is left alone.
    again = Harness(tmp_path, ScriptedSender())
    record = again.deliver(PHONE, BACKUP, name="m2")
    assert [m.to for m in again.sender.sends] == [BACKUP]
    assert "takes no messages" in record.error
    refused = again.deliver(PHONE, name="m3")
    assert (refused.status, refused.attempts) == ("refused", 0)
    assert PHONE not in caplog.text


def test_a_refused_text_says_nothing_about_the_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness(tmp_path, ScriptedSender(SendRefused("the text is not allowed (30007)")))
    record = harness.deliver()
    assert (record.status, record.attempts) == ("refused", 1)
    assert "30007" in record.error
    assert harness.numbers.all() == []
    assert harness.receipts.get("m1") is None
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "o-i-m1" in caplog.text


def test_a_phone_out_of_reach_is_called_a_few_times(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(*[SendLater("unreachable (30003)")] * 9))
    record = harness.deliver()
    assert (record.status, record.attempts) == ("failed", 4)
    assert harness.clock.slept == [300.0] * 3


def test_the_backup_is_called_when_the_phone_stays_out_of_reach(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(*[SendLater("unreachable (30003)")] * 4))
    record = harness.deliver(PHONE, BACKUP)
    assert (record.status, record.attempts) == ("sent", 5)
    assert harness.sender.accepted[0].to == BACKUP


def test_what_grows_stale_while_the_provider_is_down_is_recorded(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(*[SendError("down")] * 999), stale_after=600_000)
    record = harness.deliver()
    assert record.status == "stale"
    assert harness.clock.ms > NOW + 600_000
    assert record.attempts == len(harness.sender.sends)


def test_a_wrong_account_ends_the_work(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(SettingsError("wrong token")))
    with pytest.raises(SettingsError, match="wrong token"):
        harness.deliver()
    # It is all still to do.
    assert Harness(tmp_path, ScriptedSender()).deliver().status == "sent"


def test_a_sender_that_remembers_is_asked_first(tmp_path: Path) -> None:
    sender = ScriptedSender(remote=False)
    sender.accepted.append(message())
    harness = Harness(tmp_path, sender)
    assert harness.deliver().status == "sent"
    assert sender.sends == []
    assert harness.receipts.attempts("m1") == []


def test_versions_grow_though_the_clock_falls(tmp_path: Path) -> None:
    harness = Harness(tmp_path, ScriptedSender(), patience=Patience())
    first = harness.deliver(name="m1")
    harness.clock.ms -= 3_600_000
    assert harness.deliver(name="m2").version > first.version

"""From groups to records: who is told, what is not worth telling, what was told before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pytest
from alert_harness import (
    BACKUP,
    NOW,
    PHONE,
    FakeClock,
    FakeDirectory,
    ScriptedSender,
    dispatched,
    group,
    incident,
    wholesaler,
)

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.receipts import FileReceipts
from alerts.lifecycle.grouping import AlertGroup, message_id
from alerts.message.directory import Contact
from schemas.envelope import MESSAGES
from schemas.errors import SettingsError
from schemas.messages import MessageRecord


class Harness:
    def __init__(
        self,
        folder: Path,
        sender: ScriptedSender | None = None,
        wholesalers: Mapping[str, Contact] | None = None,
        stale_after: int | None = None,
    ) -> None:
        self.sender = sender or ScriptedSender()
        self.clock = FakeClock()
        receipts = FileReceipts(folder / "receipts")
        self.delivery = MessageDelivery(
            self.sender, receipts, clock=self.clock, stale_after=stale_after
        )
        self.directory = FakeDirectory(wholesalers)

    def dispatch(self, *groups: AlertGroup) -> list[MessageRecord]:
        async def work() -> list[MessageRecord]:
            dispatcher = Dispatcher(
                self.delivery, self.directory, timezone=ZoneInfo("Asia/Shanghai")
            )
            return (await dispatched(dispatcher, groups)).records

        return asyncio.run(work())


def test_a_group_becomes_a_message_and_a_row(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    due = group(incident("a"), incident("b", NOW + 5))
    (record,) = harness.dispatch(due)
    (sent,) = harness.sender.accepted
    assert sent.body == "14:05 out of 4G cards. Hill: Shop o-a, Shop o-b. Please refill."
    assert (sent.to, sent.at, sent.incidents) == (PHONE, due.due_at, due.incidents)
    assert (record.status, record.created_at) == ("sent", due.due_at)
    assert record.incident_ids == ["a", "b"]
    rows = pa.Table.from_pylist([msgspec.structs.asdict(record)], MESSAGES)
    assert rows.to_pylist() == [msgspec.structs.asdict(record)]


def test_a_wholesaler_is_told_in_order_and_in_his_language(tmp_path: Path) -> None:
    people = {"w": wholesaler(), "v": wholesaler(BACKUP, language="zh")}
    harness = Harness(tmp_path, wholesalers=people)
    groups = [
        group(incident("a")),
        group(incident("b"), wholesaler_id="v"),
        group(incident("c", NOW + 90_000)),
    ]
    records = harness.dispatch(*groups)
    assert [r.incident_ids for r in records] == [["a"], ["b"], ["c"]]
    assert {m.to: m.language for m in harness.sender.accepted} == {PHONE: "en", BACKUP: "zh"}


@pytest.mark.parametrize(
    ("people", "holder", "why"),
    [
        ({}, "", "no wholesaler holds o-a: add a row to assignments.csv"),
        ({}, "w", "wholesaler w is unknown: add a row to wholesalers.csv"),
        ({"w": wholesaler("")}, "w", "wholesaler w has no usable phone"),
        ({"w": wholesaler("123", "nobody")}, "w", "wholesaler w has no usable phone"),
    ],
)
def test_nobody_to_tell_is_never_silence(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    people: dict[str, Contact],
    holder: str,
    why: str,
) -> None:
    harness = Harness(tmp_path, wholesalers=people)
    (record,) = harness.dispatch(group(incident("a"), wholesaler_id=holder))
    assert record.status == "undeliverable"
    assert record.error.startswith(why)
    assert "o-a" in record.body
    assert [(r.levelno, why in r.getMessage()) for r in caplog.records] == [(logging.ERROR, True)]
    assert harness.sender.sends == []


@pytest.mark.parametrize("phone", ["", "12", "landline"])
def test_without_a_phone_the_backup_is_told(tmp_path: Path, phone: str) -> None:
    harness = Harness(tmp_path, wholesalers={"w": wholesaler(phone, BACKUP)})
    (record,) = harness.dispatch(group(incident("a")))
    assert record.status == "sent"
    assert harness.sender.accepted[0].to == BACKUP


def test_what_is_too_old_is_recorded_not_sent(tmp_path: Path) -> None:
    harness = Harness(tmp_path, stale_after=1_000)
    due = group(incident("a", NOW - 1_001))
    (record,) = harness.dispatch(due)
    assert (record.message_id, record.status) == (due.message_id, "stale")
    assert harness.sender.sends == []


def test_of_a_group_that_is_partly_too_old_the_rest_is_sent(tmp_path: Path) -> None:
    harness = Harness(tmp_path, stale_after=1_000)
    due = group(incident("a", NOW - 1_001), incident("b", NOW - 1_000))
    stale, sent = harness.dispatch(due)
    assert (stale.message_id, stale.status) == (f"{due.message_id}-stale", "stale")
    assert (sent.message_id, sent.status) == (due.message_id, "sent")
    assert (stale.incident_ids, sent.incident_ids) == (["a"], ["b"])
    harness.clock.ms += 60_000
    assert {r.message_id for r in harness.dispatch(due)} == {stale.message_id, sent.message_id}
    assert len(harness.sender.sends) == 1


def test_input_gathered_otherwise_the_second_time_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    """The input ended after `a`; read anew, with more behind it, `a` and `b` are one group."""
    first, second = group(incident("a")), group(incident("b", NOW + 1_000))
    both = group(incident("a"), incident("b", NOW + 1_000))
    harness = Harness(tmp_path)
    harness.dispatch(first)
    told, rest = harness.dispatch(both)
    assert (told.incident_ids, rest.incident_ids) == (["a"], ["b"])
    assert rest.message_id == second.message_id == message_id("w", NOW + 1_000, "b")
    assert harness.dispatch(both) == [told, rest]
    assert harness.dispatch(second) == [rest]
    assert len(harness.sender.sends) == 2


def test_one_error_ends_all_and_is_told_as_it_is(tmp_path: Path) -> None:
    people = {"w": wholesaler(), "v": wholesaler(BACKUP)}
    harness = Harness(tmp_path, ScriptedSender(SettingsError("wrong token")), people)
    with pytest.raises(SettingsError, match="wrong token"):
        harness.dispatch(group(incident("a")), group(incident("b"), wholesaler_id="v"))

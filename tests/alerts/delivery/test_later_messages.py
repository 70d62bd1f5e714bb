"""Digests, reminders, escalations, notes, channels, the fallback: who gets what, and once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

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
from alerts.delivery.dispatcher import Dispatched, Dispatcher
from alerts.delivery.receipts import FileReceipts
from alerts.lifecycle.grouping import AlertGroup
from alerts.message.compose import EmptyShelf, compose, title
from alerts.message.directory import Contact
from alerts.message.texts import LANGUAGES
from alerts.senders.port import NumberRefused
from schemas.errors import SendError

ZONE = ZoneInfo("Asia/Shanghai")
HOUR = 3_600_000


class FakeChannels:
    """Takes everything but what is told to a channel in `broken`."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.told: list[tuple[str, str, str]] = []

    async def tell(self, name: str, title: str, body: str) -> None:
        if name in self.broken:
            raise SendError("no answer")
        self.told.append((name, title, body))


class Harness:
    def __init__(
        self,
        folder: Path,
        *script: object,
        people: Mapping[str, Contact] | None = None,
        channels: FakeChannels | None = None,
        stale_after: int | None = None,
        **options: Any,
    ) -> None:
        self.sender = ScriptedSender(*script)
        self.clock = FakeClock()
        receipts = FileReceipts(folder / "receipts")
        self.delivery = MessageDelivery(
            self.sender, receipts, clock=self.clock, stale_after=stale_after
        )
        self.directory = FakeDirectory(people or {"w": wholesaler(PHONE, BACKUP)})
        self.options = {"channels": channels, **options}

    def dispatch(self, *groups: AlertGroup) -> Dispatched:
        async def work() -> Dispatched:
            dispatcher = Dispatcher(self.delivery, self.directory, timezone=ZONE, **self.options)
            return await dispatched(dispatcher, groups)

        return asyncio.run(work())


def later(kind: str, to: str = "phone", *names: str, **more: Any) -> AlertGroup:
    incidents = tuple(incident(name, NOW - 9 * HOUR) for name in names or ("a",))
    return AlertGroup(f"id-{kind}-{to}", "w", NOW, NOW, incidents, kind, to, **more)


def brief(told: Dispatched) -> list[tuple[str, str, str]]:
    return [(n.incident_id, n.kind, json.loads(n.detail)["to"]) for n in told.events]


def test_the_second_phone_alone_gets_an_escalation(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    told = harness.dispatch(later("escalation", "backup_phone"))
    assert [m.to for m in harness.sender.accepted] == [BACKUP]
    assert brief(told) == [("a", "escalated", "backup_phone")]
    # Once, also when the step is done again.
    assert harness.dispatch(later("escalation", "backup_phone")) == told
    assert len(harness.sender.sends) == 1


def test_without_a_second_phone_the_step_is_said_to_have_failed(tmp_path: Path) -> None:
    harness = Harness(tmp_path, people={"w": wholesaler(PHONE)})
    told = harness.dispatch(later("escalation", "backup_phone"))
    assert told.records[0].error.startswith("wholesaler w has no usable second phone")
    assert brief(told) == [("a", "undeliverable", "backup_phone")]


def test_a_manager_hears_the_whole_list_once(tmp_path: Path) -> None:
    channels = FakeChannels()
    harness = Harness(tmp_path, channels=channels)
    many = later("escalation", "channel/north", *(f"{n:02}" for n in range(40)))
    told = harness.dispatch(many)
    assert told.records == []  # no SMS, so nothing for sms_messages
    assert {kind for _, kind, _ in brief(told)} == {"escalated"}
    ((name, headline, body),) = channels.told
    assert (name, headline) == ("north", "Wang has not refilled 40 shops")
    assert "Shop o-39" in body
    assert "more" not in body
    assert "Please refill" not in body
    assert harness.dispatch(many).events == told.events
    assert len(channels.told) == 1


@pytest.mark.parametrize(
    ("channels", "to", "kind", "why"),
    [
        (
            None,
            "channel/north",
            "failed",
            "no channels are set up, so that 'north' cannot be notified",
        ),
        (FakeChannels("north"), "channel/north", "failed", "channel 'north': no answer"),
        (FakeChannels(), "channel/", "undeliverable", "the policy names no channel"),
    ],
)
def test_a_channel_that_does_not_take_it_is_loud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, channels: Any, to: str, kind: str, why: str
) -> None:
    harness = Harness(tmp_path, channels=channels)
    told = harness.dispatch(later("escalation", to))
    hears = {("a", "escalated", "channel/fallback")} if channels is not None else set()
    assert set(brief(told)) == {("a", kind, to)} | hears
    assert [why in json.loads(n.detail).get("why", "") for n in told.events if n.kind == kind] == [
        True
    ]
    assert told.records == []
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    # It was not told, so the next try tells it.
    assert harness.delivery.receipts.get("id-escalation-" + to) is None


@pytest.mark.parametrize("kind", ["stock_out", "reminder"])
def test_what_reaches_nobody_goes_to_the_fallback_once(tmp_path: Path, kind: str) -> None:
    channels = FakeChannels()
    refused = NumberRefused("21211", "no such number")
    harness = Harness(tmp_path, refused, refused, channels=channels)
    due = group(incident("a")) if kind == "stock_out" else later(kind)
    told = harness.dispatch(due)
    assert brief(told) == [("a", "escalated", "channel/fallback"), ("a", "refused", "phone")] or (
        brief(told) == [("a", "refused", "phone"), ("a", "escalated", "channel/fallback")]
    )
    ((name, headline, body),) = channels.told
    assert (name, headline) == ("fallback", "Wang could not be told of 1 shop")
    assert "refused" in body
    assert PHONE not in body
    harness.dispatch(due)
    assert len(channels.told) == 1


def test_a_fallback_that_fails_is_tried_again_with_the_next(tmp_path: Path) -> None:
    channels = FakeChannels("fallback")
    harness = Harness(tmp_path, people={"w": wholesaler("")}, channels=channels)
    told = harness.dispatch(group(incident("a")))
    assert ("a", "failed", "channel/fallback") in brief(told)
    channels.broken = ()
    harness.dispatch(group(incident("a")))
    assert len(channels.told) == 1


def test_only_who_was_told_of_a_stock_out_hears_of_its_end(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    first = group(incident("a"))
    harness.dispatch(first)
    note = later(
        "resolved", "phone", "a", "b", after={"a": (first.message_id,), "b": ("never-sent",)}
    )
    told = harness.dispatch(note)
    assert told.records[0].incident_ids == ["a"]
    assert harness.sender.accepted[-1].body == "In stock again: Hill: Shop o-a. Thank you."
    assert sorted(brief(told)) == [("a", "note", "phone"), ("b", "not_notified", "phone")]
    none = later("resolved", "backup_phone", "b", after={"b": ("never-sent",)})
    assert harness.dispatch(none).records == []
    assert len(harness.sender.accepted) == 2


def test_later_messages_age_from_when_they_fell_due(tmp_path: Path) -> None:
    """A digest tells of stock-outs of nine hours ago, and is news all the same."""
    harness = Harness(tmp_path, stale_after=HOUR)
    assert harness.dispatch(later("digest")).records[0].status == "sent"
    harness.clock.ms += 2 * HOUR
    told = harness.dispatch(later("reminder"))
    assert told.records[0].status == "stale"
    assert brief(told) == [("a", "stale", "phone")]


def test_cards_to_bring_and_the_link_go_into_what_asks_for_cards(tmp_path: Path) -> None:
    def levels(outlet_id: str, sku: str) -> int | None:
        return {"o-a": 60, "o-b": 1}.get(outlet_id)

    def link(message_id: str, wholesaler_id: str, at: int) -> str:
        return f"https://x.example/{message_id}/{wholesaler_id}/{at}"

    abroad = {"w": wholesaler("+14155552671")}  # China's carriers take no links
    harness = Harness(tmp_path, people=abroad, fill_levels=levels, link=link)
    harness.dispatch(
        later("digest", "phone", "a", "b", "c"),
        later("resolved", "phone", "a", after={"a": ("id-digest-phone",)}),
    )
    digest, note = (m.body for m in harness.sender.accepted)
    assert "Hill: Shop o-a (60), Shop o-b (1), Shop o-c." in digest
    assert digest.endswith(f" https://x.example/id-digest-phone/w/{NOW}")
    assert note == "In stock again: Hill: Shop o-a. Thank you."


KINDS = ("stock_out", "delayed", "digest", "reminder", "escalation", "lost", "resolved")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_said_in_every_language_in_one_segment(kind: str, language: str) -> None:
    shop, place = ("店", "西湖区") if language == "zh" else ("Shop ", "Riverside")
    shelves = [EmptyShelf(f"o{n}", f"{shop}{n}", place, "4G-50", NOW, 3) for n in range(60)]
    text = compose(shelves, language=language, timezone=ZONE, kind=kind, at=NOW)
    assert text.segments == 1
    assert "more" in text.body or "等另外" in text.body
    whole = compose(shelves, language=language, timezone=ZONE, kind=kind, at=NOW, whole=True)
    assert f"{shop}59" in whole.body
    assert "{" not in title(kind, language, "王", 3)


def test_a_stock_out_of_yesterday_is_told_with_its_day() -> None:
    shelves = [EmptyShelf("o", "Lake Shop", "", "4G", NOW)]
    text = compose(shelves, language="en", timezone=ZONE, kind="reminder", at=NOW + 24 * HOUR)
    assert text.body.startswith("14:05 still out of 4G cards since 11-23 14:05. Lake Shop.")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_reminders_of_a_day_differ_as_carriers_in_china_refuse_the_third_alike(
    language: str,
) -> None:
    shelves = [EmptyShelf("o", "Lake Shop", "", "4G", NOW)]
    texts = {
        compose(shelves, language=language, timezone=ZONE, kind="reminder", at=NOW + n * HOUR).body
        for n in range(1, 4)
    }
    assert len(texts) == 3


def test_skus_of_one_shop_have_each_their_number() -> None:
    shelves = [
        EmptyShelf("o", "Lake Shop", "", "4G", NOW, 3),
        EmptyShelf("o", "Lake Shop", "", "5G", NOW, None),
    ]
    text = compose(shelves, language="en", timezone=ZONE, kind="digest", at=NOW)
    assert "Lake Shop (4G 3, 5G). Please refill." in text.body

"""A sender of another package, and wholesalers who chose a channel."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from alert_harness import (
    PHONE,
    FakeClock,
    FakeDirectory,
    ScriptedSender,
    dispatched,
    group,
    incident,
    message,
    wholesaler,
)

from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.receipts import FileReceipts
from alerts.delivery.routes import CHOSEN, Route, Routes
from alerts.senders.channel import ChannelSender
from alerts.senders.opening import open_routes
from alerts.senders.table import load_table
from infra.settings import load_settings
from infra.wiring import zone_of
from schemas.errors import SendError, SettingsError
from schemas.messages import MessageRecord

PIGEON = '''
from schemas.messages import Message, Receipt


class PigeonSender:
    """A pigeon for each message, out of a loft."""

    remote = True
    finds = True

    def __init__(self, loft: str, key: str, birds: int = 3) -> None:
        self.loft, self.key, self.birds = loft, key, birds
        self.flown = {}

    async def send(self, message: Message) -> Receipt:
        self.flown[message.message_id] = f"bird-{len(self.flown)}"
        return Receipt(self.flown[message.message_id], 1)

    async def find(self, message: Message, since: int) -> Receipt | None:
        bird = self.flown.get(message.message_id)
        return Receipt(bird, 1) if bird else None

    async def close(self) -> None:
        pass
'''

TABLE = """
[[routes]]
name = "loft"
kind = "pigeon"
rate = 2
loft = "north"
key = { env = "PIGEON_KEY" }
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with an entry point, as pip installs it."""
    site = tmp_path / "site"
    (site / "pigeon_post-1.0.dist-info").mkdir(parents=True)
    (site / "pigeon_post.py").write_text(PIGEON)
    info = site / "pigeon_post-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon-post\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zerostock.senders]\npigeon = pigeon_post:PigeonSender\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PIGEON_KEY", "corn")
    monkeypatch.delitem(sys.modules, "pigeon_post", raising=False)
    return tmp_path


def routes_of(folder: Path, text: str) -> Routes:
    path = folder / "routes.toml"
    path.write_text(text)
    return open_routes(load_table(path), folder)


def test_a_sender_of_another_package(package: Path) -> None:
    routes = routes_of(package, TABLE)
    (route,) = routes.all
    assert (route.name, route.rate) == ("loft", 2)
    assert (route.sender.loft, route.sender.key, route.sender.birds) == ("north", "corn", 3)  # type: ignore[attr-defined]
    delivery = MessageDelivery(routes, FileReceipts(package / "receipts"), clock=FakeClock())
    record = asyncio.run(delivery.deliver(message(), [PHONE]))
    assert (record.status, record.provider_id) == ("sent", "loft/bird-0")


def test_what_is_wrong_with_it_is_said(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"route loft: .*pigeon_post.*seeds"):
        routes_of(package, TABLE + "seeds = 3\n")
    monkeypatch.delenv("PIGEON_KEY")
    with pytest.raises(SettingsError, match=r"line 2: .*key: PIGEON_KEY is not set"):
        routes_of(package, TABLE)


def test_without_its_package_the_kind_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'pigeon' is no kind of route; there are smpp, http"):
        routes_of(tmp_path, TABLE)


class Channels:
    """Takes what is told, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.told: list[tuple[str, str]] = []

    async def tell(self, name: str, title: str, body: str) -> None:
        self.told.append((name, body))
        if self.error is not None:
            raise self.error


def tell(folder: Path, channels: Channels, phone: str) -> tuple[MessageRecord, ScriptedSender]:
    sms = ScriptedSender()
    table = Routes(
        [Route(ChannelSender(channels), "chat", prefixes=(f"{CHOSEN}wang",)), Route(sms, "sms")],
        {"w": "wang"},
    )
    delivery = MessageDelivery(table, FileReceipts(folder / "receipts"), clock=FakeClock())
    people = FakeDirectory({"w": wholesaler(phone), "v": wholesaler(PHONE)})
    dispatcher = Dispatcher(delivery, people, timezone=zone_of(load_settings()))
    (record,) = asyncio.run(dispatched(dispatcher, [group(incident("a"))])).records
    return record, sms


def test_who_chose_a_channel_is_told_there_and_not_by_sms(tmp_path: Path) -> None:
    channels = Channels()
    for phone, folder in ((PHONE, tmp_path / "one"), ("", tmp_path / "other")):
        folder.mkdir()
        record, sms = tell(folder, channels, phone)
        assert record.status == "sent"
        assert sms.sends == []
    assert [name for name, _ in channels.told] == ["wang", "wang"]


def test_a_channel_that_does_not_take_it_gives_way_to_the_phone(tmp_path: Path) -> None:
    record, sms = tell(tmp_path, Channels(SendError("not taken")), PHONE)
    assert (record.status, len(sms.accepted)) == ("sent", 1)
    assert "the channel did not take it" in record.error


def test_a_table_names_channels_that_are_there(tmp_path: Path) -> None:
    text = "[[routes]]\nname = 'chat'\nkind = 'channel'\nwholesalers = { W1 = 'wang' }\n"
    with pytest.raises(SettingsError, match="no such channel in ZEROSTOCK_CHANNELS"):
        routes_of(tmp_path, text)

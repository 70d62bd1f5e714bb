"""SMPP, an HTTP gateway and Twilio as one table, each misbehaving in its way, over sockets."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from alert_harness import message
from services.gateway_server import KEY, Gateway
from services.smpp_server import PASSWORD, SYSTEM_ID, Smsc
from services.twilio_server import ACCOUNT, CUT_AFTER, CUT_BEFORE, FROM, TOKEN, Twilio, error
from test_http_route import TABLE
from test_outbox import number

from alerts.delivery import turns
from alerts.delivery.delivery import MessageDelivery, Patience
from alerts.delivery.receipts import FileReceipts
from alerts.senders.opening import open_routes
from alerts.senders.table import load_table
from schemas.messages import MessageRecord

PATIENCE = Patience(first=0.01, longest=0.05, look_ups=(0.0, 0.01), calls=9, between_calls=0.02)

OTHERS = f"""
[[routes]]
name = "smsc"
kind = "smpp"
languages = "en"
rate = 500
host = "127.0.0.1"
port = PORT
timeout = "300ms"
system_id = "{SYSTEM_ID}"
password = {{ env = "SMSC_PASSWORD" }}
source = "10690000"
{TABLE}
[[routes]]
name = "twilio"
kind = "twilio"
account_sid = "{ACCOUNT}"
auth_token = {{ env = "TWILIO_TOKEN" }}
from = "{FROM}"
base_url = "TWILIO"
"""


def test_each_message_is_taken_by_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("SMSC_PASSWORD", PASSWORD),
        ("TWILIO_TOKEN", TOKEN),
        ("GATEWAY_KEY", KEY),
        ("no_proxy", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    for name, quick in (("_FIRST", 10), ("_LONGEST", 40), ("_LOOK", 0.01)):
        monkeypatch.setattr(turns, name, quick)
    used = (
        misbehave(tmp_path / "a", 0) + misbehave(tmp_path / "b", 1) + misbehave(tmp_path / "c", 2)
    )
    assert all(used[name] for name in ("smsc", "gateway", "twilio")), used


def misbehave(folder: Path, seed: int) -> Counter[str]:
    """Send by all three; by which routes messages went."""
    folder.mkdir()
    chance = random.Random(seed)

    def some(*steps: object) -> list[object]:
        return chance.choices(steps, k=12)

    smsc = Smsc(script=some(0, 0x58, 0x08, 0x65, "late", "silent", "cut", "cut before", "garbage"))
    nothing = (503, {})
    gateway = Gateway(script=some(None, nothing, (422, {}), "cut", "garbage", "silent"))
    receipts = FileReceipts(folder / "receipts.db")

    async def work(twilio: Twilio) -> list[MessageRecord]:
        async with smsc, gateway:
            text = OTHERS.replace("PORT", str(smsc.port)).replace('TWILIO"', f'{twilio.url}"')
            (folder / "routes.toml").write_text(text.replace("URL", gateway.url))
            routes = open_routes(
                load_table(folder / "routes.toml"), folder, claimed=receipts.claimed
            )
            delivery = MessageDelivery(routes, receipts, patience=PATIENCE)
            messages = [
                msgspec.structs.replace(message(f"m{n}"), to=number(n), body=f"out of cards: {n}")
                for n in range(24)
            ]
            try:
                async with asyncio.timeout(50):
                    return await asyncio.gather(*(delivery.deliver(m, [m.to]) for m in messages))
            finally:
                await routes.close()

    with Twilio(script=some(CUT_BEFORE, CUT_AFTER, error(503), error(400, 30007))) as twilio:  # type: ignore[arg-type]
        records = asyncio.run(work(twilio))
        by_twilio = Counter(m["body"] for m in twilio.messages)
    by_gateway = Counter(m["text"] for m in gateway.messages.values())
    by_smsc = Counter(m.text for m in smsc.messages)
    for record in records:
        text = f"out of cards: {record.message_id[1:]}"
        takers = [by for by in (by_smsc, by_gateway, by_twilio) if by[text]]
        if record.status == "sent":
            assert len(takers) == 1, (record, takers)
            if takers[0] is not by_smsc:  # which cannot be asked, and may have been told twice
                assert takers[0][text] == 1
        elif record.status == "failed":
            assert takers in ([], [by_smsc])
        else:
            assert (record.status, takers) == ("refused", [])
    return Counter(r.provider_id.partition("/")[0] for r in records if r.status == "sent")

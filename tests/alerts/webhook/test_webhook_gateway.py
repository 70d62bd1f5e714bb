"""What an HTTP gateway calls, and what an SMSC delivers: taken once, when it is safe."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from alert_harness import PHONE
from pydantic import SecretStr
from services.asgi import Reply, call
from services.smpp_server import BIND_RECEIVER, PASSWORD, SYSTEM_ID, Smsc
from webhook_harness import Webhook

from alerts.senders.table import Callback, HttpEntry, SmppEntry
from infra.webhook import smpp
from infra.webhook.gateway import GatewayEndpoint
from infra.webhook.http import web_app
from infra.webhook.smpp import SmppReceiver

SECRET = "agreed with the gateway"
STATUS = {"id": "m.id", "state": "m.state", "states": {"DELIVRD": "delivered", "X": "undelivered"}}
REPLY = {"id": "mo.id", "from": "mo.from", "text": "mo.text"}


def agreed(**how: Any) -> Callback:
    return Callback.model_construct(
        hmac=SecretStr(SECRET) if how.get("hmac") else None,
        header="X-Signature",
        algorithm="sha256",
        encoding=how.get("encoding", "hex"),
        token=SecretStr(SECRET) if how.get("token") else None,
        unsigned=how.get("unsigned", False),
        answer="success",
        status=Callback.model_fields["status"].annotation.__args__[0].model_validate(STATUS),
        reply=Callback.model_fields["reply"].annotation.__args__[0].model_validate(REPLY),
    )


def post(
    webhook: Webhook, callback: Callback, body: bytes, query: str = "", **headers: str
) -> Reply:
    entry = HttpEntry.model_construct(name="gw")
    app = web_app([GatewayEndpoint(webhook.intake, entry, callback).route()])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(call(app, "POST", f"/gateway/gw{query}", body, named))


def signed(body: bytes, key: str = SECRET) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def told(state: str = "DELIVRD") -> bytes:
    return json.dumps({"m": {"id": 17, "state": state}}).encode()


def test_a_signed_status_is_taken_once(tmp_path: Path) -> None:
    webhook = Webhook(tmp_path)
    webhook.sent(provider_id="gw/17")
    for _ in range(2):
        answer = post(webhook, agreed(hmac=True), told(), X_Signature=signed(told()))
        assert (answer.status, answer.body) == (200, b"success")
    assert webhook.kafka.told == [("status", "m1")]
    # A gateway that repeats itself while Kafka is away is asked to call again.
    webhook.kafka.down = True
    assert post(webhook, agreed(hmac=True), told("X"), X_Signature=signed(told("X"))).status == 503


@pytest.mark.parametrize(
    ("how", "query", "headers", "status"),
    [
        ({"hmac": True}, "", {}, 403),
        ({"hmac": True}, "", {"X_Signature": signed(told(), "another key")}, 403),
        ({"hmac": True}, "", {"X_Signature": "sha256=" + signed(told()).upper()}, 200),
        ({"hmac": True, "encoding": "base64"}, "", {"X_Signature": signed(told())}, 403),
        ({"token": True}, "", {}, 403),
        ({"token": True}, "?token=wrong", {}, 403),
        ({"token": True}, "?token=agreed+with+the+gateway", {}, 200),
        ({"unsigned": True}, "", {}, 200),
    ],
)
def test_strangers_change_nothing(
    tmp_path: Path, how: dict[str, Any], query: str, headers: dict[str, str], status: int
) -> None:
    webhook = Webhook(tmp_path)
    webhook.sent(provider_id="gw/17")
    assert post(webhook, agreed(**how), told(), query, **headers).status == status
    assert len(webhook.kafka.told) == (status == 200)


@pytest.mark.parametrize("kind", ["json", "list", "form"])
def test_replies_come_in_any_dress(tmp_path: Path, kind: str) -> None:
    webhook = Webhook(tmp_path)
    webhook.sent()
    said = {"mo": {"id": "r1", "from": PHONE[1:], "text": "1"}}
    body = json.dumps([said, said] if kind == "list" else said).encode()
    callback = agreed(unsigned=True)
    if kind == "form":
        body = f"i=r1&f={PHONE[1:]}&t=1".encode()
        reply = callback.reply.model_copy(update={"id": "i", "from_": "f", "text": "t"})  # type: ignore[union-attr]
        callback = callback.model_copy(update={"reply": reply})
    assert post(webhook, callback, body).status == 200
    assert webhook.kafka.told == [("acknowledged", "m1")]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"[1]", b"\xff", b'{"m": 1}', b"[[[["])
def test_what_is_neither_is_refused(tmp_path: Path, body: bytes) -> None:
    webhook = Webhook(tmp_path)
    assert post(webhook, agreed(unsigned=True), body).status == 400
    assert webhook.kafka.told == []


# SMPP


def delivered(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, *deliveries: dict[str, Any]
) -> list[int]:
    """The statuses with which each delivery was answered, in order."""
    monkeypatch.setattr(smpp, "AGAIN", 0.01)

    async def run() -> list[int]:
        async with Smsc() as smsc:
            entry = SmppEntry.model_construct(
                name="smsc",
                kind="smpp",
                host="127.0.0.1",
                port=smsc.port,
                system_id=SYSTEM_ID,
                password=SecretStr(PASSWORD),
                system_type="",
                source="1069",
                window=10,
                tls=False,
                timeout=5_000,
                enquire_every=30_000,
            )
            receiver = asyncio.create_task(SmppReceiver(webhook.intake, entry).run())
            async with asyncio.timeout(20):
                for number, delivery in enumerate(deliveries, 1):
                    if delivery.pop("cut", False):
                        binds = len(smsc.binds)
                        smsc.cut()
                        while len(smsc.binds) == binds:
                            await asyncio.sleep(0.01)
                    while not smsc.binds:
                        await asyncio.sleep(0.01)
                    smsc.deliver(**delivery, sequence=number)
                    while number not in smsc.answered:
                        await asyncio.sleep(0.01)
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)
            assert set(smsc.binds) == {BIND_RECEIVER}
            return [smsc.answered[n] for n in sorted(smsc.answered)]

    return asyncio.run(run())


def receipt(name: str, stat: str) -> dict[str, Any]:
    dates = "submit date:2603021012 done date:2603021013"
    text = f"id:{name} sub:001 dlvrd:001 {dates} stat:{stat} err:000 text:Out of"
    return {"source": PHONE[1:], "data": text.encode(), "esm_class": 4}


def says(text: str, coding: int = 8, **more: Any) -> dict[str, Any]:
    data = text.encode("utf-16-be" if coding == 8 else "ascii")
    return {"source": PHONE[1:], "data": data, "coding": coding} | more


def test_receipts_and_replies_come_by_smpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = Webhook(tmp_path)
    webhook.sent("m1", provider_id="smsc/1a2b")
    answered = delivered(
        webhook,
        monkeypatch,
        receipt(str(0x1A2B), "DELIVRD"),  # decimal here, hexadecimal when it was submitted
        says("1", coding=0),
        says("1", coding=0, cut=True),  # repeated after the connection was lost
        says("收到"),
        {"source": PHONE[1:], "data": b"", "esm_class": 4},
        {"source": PHONE[1:], "data": b"\x09", "esm_class": 0x40},
    )
    assert answered == [0] * 6
    assert webhook.kafka.told[:2] == [("status", "m1"), ("acknowledged", "m1")]
    assert len(webhook.kafka.told) == 3


def test_a_reply_in_parts_is_one_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = Webhook(tmp_path)
    webhook.sent("m1")
    parts = [
        says("x") | {"data": bytes((5, 0, 3, 9, 2, n)) + t.encode("utf-16-be"), "esm_class": 0x40}
        for n, t in ((2, "点前送到"), (1, "15"))
    ]
    assert delivered(webhook, monkeypatch, *parts) == [0, 0]
    assert webhook.kafka.told == [("delivering", "m1")]


def test_while_kafka_is_away_the_smsc_is_asked_to_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = Webhook(tmp_path)
    webhook.sent("m1")
    webhook.kafka.down = True
    assert delivered(webhook, monkeypatch, says("1")) == [0x64]
    webhook.kafka.down = False
    asyncio.run(webhook.intake.forward_pending())
    assert delivered(webhook, monkeypatch, says("1")) == [0]
    assert webhook.kafka.told == [("acknowledged", "m1")]

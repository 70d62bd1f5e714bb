"""Ten thousand spoilt requests to the webhook: never a 500, never news that nobody signed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from urllib.parse import urlencode

import pytest
from alert_harness import PHONE
from services.asgi import call
from services.twilio_server import ACCOUNT
from webhook_harness import Webhook, sign

REQUESTS = 12_000
JUNK = [
    *(b"\x00", b"\xff", b"%", b"%zz", b"&", b"=", b";", b"+", b"%00", b"%ff", b"\r\n", b"[", b"]"),
    *(b"//", b"?", b"#", b"..", b"9" * 40, b"\xe2\x80\xae", b"%ED%A0%80", b"<x>", b"a" * 9_000),
]
TEXTS = [
    "1",
    "15:00",
    "2",
    "STOP",
    "START",
    "hello",
    "十点半",
    "\x00",
    "\ud7ff",
    "👍",
    "",
    "9" * 500,
]


def spoilt(chance: random.Random, data: bytes) -> bytes:
    """The bytes, mostly with a few of them cut, doubled or replaced."""
    for _ in range(chance.choice([0, 0, 0, 1, 1, 5])):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice([0, 1, 1, 4, 30]))
        put = chance.choice([b"", data[at:to] * 2, chance.choice(JUNK), chance.randbytes(3)])
        data = data[:at] + put + data[to:]
    return data


def fields(chance: random.Random, number: int) -> dict[str, str]:
    common = {"AccountSid": ACCOUNT, "MessageSid": f"SM{number % 50}"}
    if chance.random() < 0.5:
        return common | {
            "MessageStatus": chance.choice(
                ["sent", "delivered", "failed", "", "what", "DELIVERED"]
            ),
            "ErrorCode": chance.choice(["", "30003", "30005", "x", "-1", "٣", "9" * 30]),
            "To": chance.choice([PHONE, "", "nobody"]),
        }
    return common | {
        "From": chance.choice([PHONE, "+1", "", "x" * 300, "\x00"]),
        "Body": chance.choice(TEXTS),
        "OptOutType": chance.choice(["", "", "STOP", "start", "?"]),
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int) -> None:
    caplog.set_level("CRITICAL")
    chance = random.Random(seed)
    webhook = Webhook(tmp_path)
    webhook.sent("m1", provider_id="SM1")

    async def run() -> dict[int, int]:
        seen: dict[int, int] = {}
        for number in range(REQUESTS // 2):
            form = fields(chance, number)
            target = chance.choice(
                ["/twilio/status", "/twilio/status?message=m1", "/twilio/inbound", webhook.page()]
            )
            signature = chance.choice([sign(target, form)] * 4 + [sign(target, {}), "", "x"])
            signed_well = signature == sign(target, form)
            body = urlencode(form | {"answer": chance.choice(["cannot", "?", "delivering"])}
                             if target.startswith("/a/") else form).encode()  # fmt: skip
            sent_target = spoilt(chance, target.encode()).decode("latin-1")
            sent_body = spoilt(chance, body)
            headers = [
                (b"content-type", spoilt(chance, b"application/x-www-form-urlencoded")),
                (b"x-twilio-signature", spoilt(chance, signature.encode())),
                *[(b"origin", chance.randbytes(8))] * (chance.random() < 0.1),
            ]
            cut = chance.randrange(len(sent_body) + 1)
            chunks = [sent_body[:cut], sent_body[cut:]]
            method = chance.choice(["POST"] * 9 + ["GET", "PUT"])
            before = len(webhook.kafka.rows)
            reply = await call(webhook.app, method, "/" + sent_target.lstrip("/"), chunks, headers)
            seen[reply.status] = seen.get(reply.status, 0) + 1
            assert reply.status != 500
            if not signed_well:
                fresh = webhook.kafka.rows[before:]
                assert all(row.by == "page" for row in fresh)
        return seen

    seen = asyncio.run(run())
    assert seen.keys() >= {200, 204, 303, 403, 404, 405, 415}
    # Of what was taken, everything came from a signature or from a link.
    assert {row.by for row in webhook.kafka.rows} == {"provider", "sms", "page"}

"""From the sender through a Twilio that reports back, over HTTP into the webhook, to Kafka."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from alert_harness import BACKUP, PHONE, message
from services.broker import EmbeddedBroker
from services.twilio_server import ACCOUNT, FROM, TOKEN, Twilio
from twilio.request_validator import RequestValidator

from alerts.delivery.delivery import MessageDelivery, Patience
from alerts.delivery.receipts import FileReceipts
from alerts.delivery.refused_numbers import RefusedNumbers
from alerts.senders.twilio import RETRIES, TwilioOptions, TwilioSender
from infra.topics import ensure_topics
from schemas import topics
from schemas.answers import Answer, answers_of
from schemas.envelope import unpack

PUBLIC = "https://sms.example.com"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    started = EmbeddedBroker(tmp_path)
    started.start()
    yield started
    started.close()


@pytest.fixture
def webhook(tmp_path: Path, broker: EmbeddedBroker) -> Iterator[str]:
    """The address of a running `zerostock webhook`."""
    asyncio.run(ensure_topics(broker.bootstrap, 2))
    env = os.environ | {
        "ZEROSTOCK_TWILIO_AUTH_TOKEN": TOKEN,
        "ZEROSTOCK_TWILIO_ACCOUNT_SID": ACCOUNT,
        "ZEROSTOCK_WEBHOOK_URL": PUBLIC,
        "ZEROSTOCK_BROKER": broker.bootstrap,
    }
    command = [sys.executable, "-m", "infra.cli", "webhook", "--data", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                yield found[1]
                break
        else:
            pytest.fail("".join(lines))
        child.terminate()
        child.stderr.read()
    assert PHONE not in "".join(lines)


async def deliver(server: Twilio, folder: Path) -> list[str]:
    """Three messages, one to a phone that has opted out; their statuses."""
    receipts = FileReceipts(folder / "sms" / "receipts.db")
    options = TwilioOptions(ACCOUNT, TOKEN, FROM, base_url=server.url, webhook_url=PUBLIC)
    sender = TwilioSender(options, claimed=receipts.claimed)
    numbers = RefusedNumbers(folder / "sms" / "refused-numbers.log")
    delivery = MessageDelivery(
        sender, receipts, numbers=numbers, patience=Patience(look_ups=(0.0,))
    )
    records = [await delivery.deliver(message(n), [PHONE]) for n in ("m1", "m2")]
    records.append(await delivery.deliver(message("m3"), [BACKUP]))
    await sender.close()
    return [record.status for record in records]


async def report(server: Twilio, webhook: str) -> list[int]:
    """Every status of every message, twice, shuffled, as Twilio posts them."""
    calls: list[tuple[str, dict[str, str]]] = []
    for sent, post in zip(server.messages, server.posts, strict=False):
        address = post["StatusCallback"].removesuffix(RETRIES)
        form = {"MessageSid": sent["sid"], "To": sent["to"]}
        calls += [
            (address, form | {"MessageStatus": status})
            for status in ("queued", "sent", "delivered") * 2
        ]
    random.Random(3).shuffle(calls)
    calls.append((f"{PUBLIC}/twilio/inbound", {"MessageSid": "IN1", "From": PHONE, "Body": "1"}))
    answers = []
    async with aiohttp.ClientSession() as session:
        for address, form in calls:
            signature = RequestValidator(TOKEN).compute_signature(address, form)
            there = address.replace(PUBLIC, webhook)
            signed = {"X-Twilio-Signature": signature}
            async with session.post(there, data=form, headers=signed) as answer:
                answers.append(answer.status)
            async with session.post(there, data=form) as unsigned:
                assert unsigned.status == 403
    return answers


async def news(broker: str, partition: int) -> list[Answer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
    await consumer.start()
    try:
        part = TopicPartition(topics.STOCK_INCIDENTS, partition)
        consumer.assign([part])
        await consumer.seek_to_beginning(part)
        found: list[Answer] = []
        while not any(row.kind == "acknowledged" for row in found):
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                for one in messages:
                    _, rows = unpack(one.value, topics.STOCK_INCIDENTS)
                    assert rows is not None
                    found += answers_of(rows)
        return found
    finally:
        await consumer.stop()


def test_from_a_message_to_the_news_of_it(
    tmp_path: Path, broker: EmbeddedBroker, webhook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Twilio() as server:
        server.opted_out.add(BACKUP)
        assert asyncio.run(deliver(server, tmp_path)) == ["sent", "sent", "refused"]
        assert set(asyncio.run(report(server, webhook))) == {200, 204}
        assert [m["to"] for m in server.messages] == [PHONE, PHONE]
    rows = asyncio.run(news(broker.bootstrap, topics.partition_of_key("w", 2)))
    told = {(row.kind, row.message_id, row.answer_id.partition("/")[2]) for row in rows}
    assert told == {
        *(("status", m, s) for m in ("m1", "m2") for s in ("queued", "sent", "delivered")),
        ("acknowledged", "m2", ""),
    }

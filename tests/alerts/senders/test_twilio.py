"""The Twilio sender against a server that behaves, and misbehaves, as documented."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alert_harness import BACKUP, PHONE, FakeClock, message
from services.twilio_server import (
    ACCEPT,
    ACCOUNT,
    CUT_AFTER,
    CUT_BEFORE,
    FROM,
    LOST,
    SERVICE,
    TOKEN,
    Step,
    Twilio,
    error,
)

from alerts.delivery.clock import WallClock
from alerts.delivery.delivery import MessageDelivery, Patience
from alerts.delivery.pace import Pace
from alerts.delivery.receipts import Attempt, FileReceipts
from alerts.delivery.refused_numbers import RefusedNumbers
from alerts.senders.opening import open_sender
from alerts.senders.port import NumberRefused, SendLater, SendThrottled
from alerts.senders.twilio import TwilioOptions, TwilioSender
from alerts.senders.twilio_errors import BUSY, LATER, NUMBER, REFUSED, SETTINGS, meaning
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError, UsageError
from schemas.messages import Message, MessageRecord, Receipt

NOTHING_CLAIMED: Callable[[str], bool] = lambda _: False  # noqa: E731


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def twilio() -> Iterator[Twilio]:
    with Twilio() as server:
        yield server


def options(server: Twilio, **changes: Any) -> TwilioOptions:
    values: dict[str, Any] = {
        "account_sid": ACCOUNT,
        "auth_token": TOKEN,
        "from_number": FROM,
        "base_url": server.url,
        "answer_timeout": 0.3,
    }
    return TwilioOptions(**(values | changes))


def ask(
    server: Twilio,
    work: Callable[[TwilioSender], Coroutine[Any, Any, Any]],
    claimed: Callable[[str], bool] = NOTHING_CLAIMED,
    **changes: Any,
) -> Any:
    async def run() -> Any:
        sender = TwilioSender(options(server, **changes), claimed=claimed)
        try:
            return await work(sender)
        finally:
            await sender.close()

    return asyncio.run(run())


def send(server: Twilio, sent: Message | None = None, **changes: Any) -> Receipt:
    return ask(server, lambda sender: sender.send(sent or message()), **changes)


def now() -> int:
    return time.time_ns() // 1_000_000


def test_a_message_by_number(twilio: Twilio) -> None:
    assert send(twilio) == Receipt(twilio.messages[0]["sid"], 1)
    assert twilio.posts == [
        {"To": PHONE, "From": FROM, "Body": "out of cards: m1", "ValidityPeriod": "14400"}
    ]


def test_twilio_is_told_where_to_report(twilio: Twilio) -> None:
    send(twilio, webhook_url="https://sms.example.com/zs/", validity_period=600)
    (post,) = twilio.posts
    assert post["StatusCallback"] == (
        "https://sms.example.com/zs/twilio/status?message=m1#rc=5&rp=5xx,ct,rt"
    )
    assert post["ValidityPeriod"] == "600"


def test_a_message_by_service_keeps_our_count_of_segments(twilio: Twilio) -> None:
    long = msgspec.structs.replace(message(), segments=3)
    assert send(twilio, long, messaging_service_sid=SERVICE).segments == 3
    assert twilio.posts[0]["MessagingServiceSid"] == SERVICE
    assert "From" not in twilio.posts[0]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (error(429, 20429, Retry_After="7"), SendThrottled),
        (error(429), SendThrottled),
        (error(400, 14107), SendThrottled),
        (error(400, 21211), NumberRefused),
        (error(400, 21610), NumberRefused),
        (error(400, 21612), NumberRefused),
        (error(400, 21614), NumberRefused),
        (error(403, 21408), SendRefused),
        (error(400, 30007), SendRefused),
        (error(400, 99999), SendRefused),
        (error(400, 30003), SendLater),
        (error(400, 30008), SendLater),
        (error(401, 20003), SettingsError),
        (error(404, 20404), SettingsError),
        (Step(False, (404, "<html>no such page</html>")), SettingsError),
        (error(400, 21606), SettingsError),
        (error(500, 20500), SendUncertain),
        (error(503, None, Retry_After="7"), SendUncertain),
        (Step(True, (502, "<html>bad gateway</html>")), SendUncertain),
        (Step(True, (201, "<html>hello</html>")), SendUncertain),
        (Step(True, (200, "[]")), SendUncertain),
        (Step(True, (200, "{}")), SendUncertain),
        (Step(False, (302, "elsewhere")), SendUncertain),
        (Step(False, (400, "garbage")), SendUncertain),
        (Step(False, (400, '{"code": [], "message": null}')), SendUncertain),
        (
            Step(False, (400, '{"code": 21610, "status": 400, "type": "", "title": ""}')),
            NumberRefused,
        ),
        (LOST, SendUncertain),
        (CUT_AFTER, SendUncertain),
        (CUT_BEFORE, SendUncertain),
    ],
)
def test_what_answers_mean(twilio: Twilio, step: Step, expected: type[Exception]) -> None:
    twilio.script.append(step)
    with pytest.raises(expected) as raised:
        send(twilio)
    assert type(raised.value) is expected
    assert PHONE not in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert len(twilio.posts) == 1  # nobody below us tries again


def test_retry_after_is_passed_on_within_reason(twilio: Twilio) -> None:
    for given, expected in [("7", 7.0), ("86400", 900.0), ("Fri, 31 Dec", 5.0), ("-1", 5.0)]:
        twilio.script.append(error(429, 20429, Retry_After=given))
        with pytest.raises(SendThrottled) as raised:
            send(twilio)
        assert raised.value.retry_after == expected


def test_what_never_left_is_safe_to_try_again(twilio: Twilio) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(SendError) as raised:
            send(twilio, base_url=f"http://127.0.0.1:{port}")
    assert type(raised.value) is SendError


def test_a_base_url_may_have_a_path(twilio: Twilio) -> None:
    with pytest.raises(SettingsError, match="HTTP 404"):
        send(twilio, base_url=f"{twilio.url}/proxy/")
    for wrong in ("http://[broken", "127.0.0.1", "localhost:80", "https://"):
        with pytest.raises(SettingsError, match="BASE_URL"):
            send(twilio, base_url=wrong)


def test_wrong_credentials(twilio: Twilio) -> None:
    with pytest.raises(SettingsError, match="_AUTH_TOKEN"):
        send(twilio, auth_token="wrong")


@pytest.mark.parametrize("missing", [{"account_sid": ""}, {"auth_token": ""}, {"from_number": ""}])
def test_missing_settings_are_named(twilio: Twilio, missing: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="set ZEROSTOCK_TWILIO_"):
        TwilioSender(options(twilio, **missing), claimed=NOTHING_CLAIMED)


def test_the_token_is_not_shown(twilio: Twilio) -> None:
    assert TOKEN not in repr(options(twilio))


def test_every_code_has_one_meaning() -> None:
    tables = [NUMBER, REFUSED, LATER, BUSY, SETTINGS]
    assert len({code for table in tables for code in table}) == sum(map(len, tables))
    assert isinstance(meaning(400, 12345), SendRefused)
    assert isinstance(meaning(400, None), SendUncertain)


# Looking up


def find(
    server: Twilio, wanted: Message | None = None, since: int | None = None, **changes: Any
) -> Receipt | None:
    at = since if since is not None else now()
    return ask(server, lambda sender: sender.find(wanted or message(), at), **changes)


@pytest.mark.parametrize("by", [{}, {"messaging_service_sid": SERVICE}])
@pytest.mark.parametrize("prefix", ["", "Sent from your Twilio trial account - "])
@pytest.mark.parametrize("queued", [False, True])
def test_the_same_message_is_found(
    twilio: Twilio, by: dict[str, str], prefix: str, queued: bool
) -> None:
    twilio.prefix, twilio.queued = prefix, queued
    assert find(twilio, **by) is None
    receipt = send(twilio, **by)
    assert find(twilio, **by) == receipt


def test_others_are_not_taken_for_it(twilio: Twilio) -> None:
    sent = now()
    receipt = send(twilio)
    assert find(twilio, message("m2")) is None
    assert find(twilio, message(to=BACKUP)) is None
    assert find(twilio, from_number="+15005550001") is None
    assert find(twilio, since=sent + 3_600_000) is None
    assert find(twilio, claimed=lambda sid: sid == receipt.provider_id) is None
    twilio.messages[0]["status"] = "canceled"
    assert find(twilio) is None
    twilio.messages[0] |= {"status": "received", "direction": "inbound"}
    assert find(twilio) is None


def test_of_two_alike_each_proves_one(twilio: Twilio) -> None:
    first, second = send(twilio), send(twilio)
    assert find(twilio) == first
    assert find(twilio, claimed=lambda sid: sid == first.provider_id) == second


def test_a_long_list_is_read_page_by_page(twilio: Twilio) -> None:
    receipt = send(twilio)
    for _ in range(1_100):
        twilio.messages.append({**twilio.messages[0], "sid": "SMx", "body": "something else"})
    for message_ in twilio.messages[200:]:
        message_["to"] = BACKUP
    assert find(twilio) == receipt


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (error(429, 20429), SendThrottled),
        (error(500), SendUncertain),
        (Step(True, "hang"), SendUncertain),
        (Step(True, (200, "{}")), SendUncertain),
        (Step(True, (200, "not json")), SendUncertain),
        (Step(True, (200, '{"messages": [7]}')), SendUncertain),
    ],
)
def test_a_look_up_that_fails_says_nothing(
    twilio: Twilio, step: Step, expected: type[Exception]
) -> None:
    twilio.list_script.append(step)
    with pytest.raises(expected):
        find(twilio)


# Delivery through it

QUICK = Patience(first=0.01, longest=0.02, look_ups=(0.0, 0.01, 0.01), between_calls=0.01)


def deliver(
    server: Twilio, folder: Path, *contacts: str, name: str = "m1", **changes: Any
) -> MessageRecord:
    async def run() -> MessageRecord:
        receipts = FileReceipts(folder / "receipts")
        sender = TwilioSender(options(server, **changes), claimed=receipts.claimed)
        delivery = MessageDelivery(
            sender,
            receipts,
            numbers=RefusedNumbers(folder / "numbers"),
            clock=WallClock(),
            patience=QUICK,
        )
        try:
            settled = await delivery.settled(name)
            return settled or await delivery.deliver(message(name), contacts or (PHONE,))
        finally:
            await sender.close()
            receipts.close()

    return asyncio.run(run())


MISHAPS = [
    [error(429, 20429, Retry_After="0")] * 3,
    [LOST],
    [CUT_AFTER],
    [CUT_BEFORE],
    [error(500), error(503), Step(True, (502, "bad gateway"))],
    [error(429, 20429, Retry_After="0"), CUT_BEFORE, error(500), Step(True, (201, "garbage"))],
]


@pytest.mark.parametrize("script", MISHAPS)
@pytest.mark.parametrize("lag", [0, 2])
def test_whatever_happens_it_is_accepted_once(
    twilio: Twilio, tmp_path: Path, caplog: pytest.LogCaptureFixture, script: list[Step], lag: int
) -> None:
    twilio.script, twilio.lag = list(script), lag
    twilio.list_script = [error(500), ACCEPT, error(429, 20429, Retry_After="0")]
    with caplog.at_level(logging.DEBUG):
        record = deliver(twilio, tmp_path)
        again = deliver(twilio, tmp_path)
    assert record == again
    assert (record.status, record.provider_id) == ("sent", twilio.messages[0]["sid"])
    assert len(twilio.messages) == 1
    for secret in (TOKEN, PHONE):
        assert secret not in caplog.text


def test_an_opted_out_number_is_asked_once_and_never_again(twilio: Twilio, tmp_path: Path) -> None:
    twilio.opted_out.add(PHONE)
    record = deliver(twilio, tmp_path, PHONE, BACKUP)
    assert (record.status, twilio.messages[0]["to"]) == ("sent", BACKUP)
    assert "STOP" in record.error
    assert deliver(twilio, tmp_path, PHONE, name="m2").status == "refused"
    assert [p["To"] for p in twilio.posts] == [PHONE, BACKUP]


def test_two_alike_messages_in_doubt_are_two_messages(twilio: Twilio, tmp_path: Path) -> None:
    """Same text, number and minute, both answers lost: neither may stand for the other."""
    twin = msgspec.structs.replace(message("m2"), body=message("m1").body)
    receipts = FileReceipts(tmp_path / "receipts")
    for sent in (message("m1"), twin):
        receipts.keep_attempt(Attempt(sent, now()))
        send(twilio, sent)
    one, other = deliver(twilio, tmp_path), deliver(twilio, tmp_path, name="m2")
    assert {one.provider_id, other.provider_id} == {m["sid"] for m in twilio.messages}
    assert len(twilio.messages) == 2


# Pace and choice


def test_pace_spreads() -> None:
    clock = FakeClock(100_000)
    starts = []

    async def run() -> None:
        pace = Pace(10, clock)
        for _ in range(3):
            await pace.turn()
            starts.append(clock.ms)
        clock.ms += 60_000
        await pace.turn()
        starts.append(clock.ms)

    asyncio.run(run())
    assert starts == [100_000, 100_100, 100_200, 160_200]


def test_the_way_is_chosen_by_name(twilio: Twilio, tmp_path: Path) -> None:
    assert type(open_sender("console")).__name__ == "ConsoleSender"
    assert type(open_sender(f"file:{tmp_path / 'sms'}")).__name__ == "FileSender"
    assert type(open_sender("twilio", twilio=options(twilio))).__name__ == "TwilioSender"
    with pytest.raises(SettingsError, match="TWILIO_ACCOUNT_SID"):
        open_sender("twilio")
    for wrong in ("", "file:", "file", "console:x", "pigeon"):
        with pytest.raises(UsageError, match="console, file:PATH or twilio"):
            open_sender(wrong)

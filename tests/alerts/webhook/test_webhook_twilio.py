"""What Twilio calls: signatures, statuses and replies; late, twice and out of order."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest
from alert_harness import BACKUP, PHONE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webhook_harness import ADDRESS, TOKEN, FakeKafka, Webhook, sign

from alerts.answers.intake import HELP
from alerts.delivery.receipts import Attempt
from alerts.senders.twilio import RETRIES


@pytest.fixture
def webhook(tmp_path: Path) -> Webhook:
    return Webhook(tmp_path)


STATUS = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": PHONE}


# Signatures


def test_what_twilio_signed_is_taken(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    assert webhook.post("/twilio/status", STATUS).status == 204
    assert webhook.kafka.told == [("status", "m1")]


@pytest.mark.parametrize(
    "signature", ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "ÿ" * 28, sign("/twilio/status", {})]
)
def test_nothing_else_is(webhook: Webhook, signature: str) -> None:
    webhook.sent(provider_id="SM1")
    assert webhook.post("/twilio/status", STATUS, signature).status == 403
    assert webhook.kafka.rows == []


def test_a_signature_covers_every_field_and_the_whole_address(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    good = sign("/twilio/status", STATUS)
    assert webhook.post("/twilio/status", STATUS | {"MessageStatus": "failed"}, good).status == 403
    assert webhook.post("/twilio/status", STATUS | {"More": "1"}, good).status == 403
    assert webhook.post("/twilio/status?message=m1", STATUS, good).status == 403
    assert webhook.post("/twilio/inbound", STATUS, good).status == 403
    assert webhook.kafka.rows == []


def test_it_is_checked_against_the_public_address_whatever_a_proxy_says(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    for headers in (
        {"Host": "10.0.0.7:8085"},
        {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"},
    ):
        assert webhook.post("/twilio/status", STATUS, **headers).status == 204
        inside = sign("/twilio/status", STATUS).replace("A", "B")
        assert webhook.post("/twilio/status", STATUS, inside, **headers).status == 403


def test_the_fragment_that_asks_for_repetition_may_be_signed_or_not(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    with_fragment = sign(f"/twilio/status{RETRIES}", STATUS)
    assert webhook.post("/twilio/status", STATUS, with_fragment).status == 204


def test_another_account_is_refused(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    assert webhook.post("/twilio/status", STATUS | {"AccountSid": "AC" + "9" * 32}).status == 403


def test_what_is_signed_but_no_message_is_a_bad_request(webhook: Webhook) -> None:
    assert webhook.post("/twilio/status", {"MessageSid": "SM1"}).status == 400
    assert webhook.post("/twilio/status", {}).status == 400
    assert webhook.post("/twilio/inbound", {"Body": "1"}).status == 400
    assert webhook.kafka.rows == []


def test_requests_are_bounded(webhook: Webhook) -> None:
    urlencoded = "application/x-www-form-urlencoded"
    large = b"Body=" + b"x" * 70_000
    ask = webhook.ask
    assert ask("POST", "/twilio/inbound", large, Content_Type=urlencoded).status == 413
    assert ask("POST", "/twilio/inbound", b"&a" * 500, Content_Type=urlencoded).status == 400
    assert ask("POST", "/twilio/inbound", b"{}", Content_Type="application/json").status == 415
    assert ask("GET", "/twilio/inbound").status == 405
    assert ask("GET", "/elsewhere").status == 404


# Statuses


def test_a_status_may_come_before_the_answer_to_the_request(webhook: Webhook) -> None:
    webhook.sent()
    assert webhook.status("SM1", "sent", query="?message=m1").status == 204
    (row,) = webhook.kafka.rows
    assert (row.answer_id, row.wholesaler_id, row.message_id) == ("SM1/sent", "w", "m1")
    assert msgspec.json.decode(row.detail) == {"status": "sent", "provider_id": "SM1"}


def test_statuses_of_others_are_none_of_our_news(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    assert webhook.status("SM9", "delivered").status == 204
    assert webhook.status("SM9", "delivered", query="?message=m9").status == 204
    assert webhook.status("SM1", "receiving").status == 204
    assert webhook.kafka.rows == []


@pytest.mark.parametrize(
    ("code", "blocked", "words"),
    [
        (30003, False, "out of reach"),
        (30008, False, "unknown reason"),
        (30004, True, "blocked"),
        (30005, True, "unknown to its carrier"),
        (30006, True, "landline"),
        (21610, True, "STOP"),
    ],
)
def test_what_a_failure_says_about_the_number_is_remembered(
    webhook: Webhook, code: int, blocked: bool, words: str
) -> None:
    webhook.sent(provider_id="SM1")
    for _ in range(2):
        assert webhook.status("SM1", "undelivered", code).status == 204
    (noted,) = webhook.numbers.all()
    assert (noted.number, noted.code, noted.blocked) == (PHONE, str(code), blocked)
    assert (webhook.numbers.get(PHONE) is not None) == blocked
    detail = msgspec.json.decode(webhook.kafka.rows[0].detail)
    assert (detail["code"], words in detail["reason"]) == (str(code), True)


def test_failures_of_the_text_say_nothing_about_the_number(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    for code in (30007, 30036, 99999, None):
        webhook.status("SM1", "undelivered", code)
    webhook.status("SM1", "sent", 30005)
    assert webhook.numbers.all() == []


def test_a_phone_that_was_out_of_reach_is_back_when_something_arrives(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    webhook.sent("m2", provider_id="SM2")
    webhook.status("SM1", "undelivered", 30003)
    webhook.status("SM2", "delivered")
    assert webhook.numbers.all() == []
    # … and a repetition of the old status does not undo that.
    webhook.status("SM1", "undelivered", 30003)
    assert webhook.numbers.all() == []


def test_a_delivery_does_not_unblock(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    webhook.says("STOP", "IN1")
    webhook.status("SM1", "delivered")
    assert webhook.numbers.get(PHONE) is not None


# Replies


def test_a_reply_answers_the_latest_message_to_its_number(webhook: Webhook) -> None:
    webhook.sent("m1")
    webhook.sent("m2")
    webhook.sent("m3", to=BACKUP)
    assert webhook.says("收到", "IN1").status == 200
    assert webhook.says("15:00", "IN2", sender=BACKUP).status == 200
    assert webhook.kafka.told == [("acknowledged", "m2"), ("delivering", "m3")]
    row = webhook.kafka.rows[1]
    assert msgspec.json.decode(row.detail) == {
        "by": 1_763_881_200_000,
        "by_local": "2025-11-23T15:00+08:00",
        "text": "15:00",
    }
    assert (row.answer_id, row.wholesaler_id, row.by) == ("IN2", "w", "sms")


def test_a_repeated_reply_still_means_the_message_it_meant(webhook: Webhook) -> None:
    webhook.sent("m1")
    webhook.says("1", "IN1")
    webhook.sent("m2")
    webhook.says("1", "IN1")
    assert webhook.kafka.told == [("acknowledged", "m1")]
    assert len({row.answer_id for row in webhook.kafka.rows}) == 1


def test_help_comes_once_a_conversation(webhook: Webhook) -> None:
    webhook.sent("m1")
    first = webhook.says("hello", "IN1")
    assert HELP["en"] in first.text
    assert first.headers["content-type"].startswith("application/xml")
    # Repeated by Twilio, it was not delivered: said again. Another wrong one: nothing.
    assert webhook.says("hello", "IN1").text == first.text
    assert "Message" not in webhook.says("what?", "IN2").text
    webhook.says("1", "IN3")
    webhook.sent("m2")
    assert HELP["en"] in webhook.says("what?", "IN4").text
    assert webhook.kafka.told == [("acknowledged", "m1")]


def test_help_is_one_segment_in_the_readers_language(webhook: Webhook) -> None:
    from alerts.message.segments import segments

    assert {segments(text) for text in HELP.values()} == {1}
    chinese = msgspec.structs.replace(webhook.sent("m2"), message_id="m3", language="zh")
    webhook.receipts.keep_attempt(Attempt(chinese, 0))
    assert HELP["zh"] in webhook.says("hello", "IN1").text


def test_who_was_sent_nothing_gets_nothing(webhook: Webhook) -> None:
    for text in ("1", "hello", "15:00"):
        assert "Message" not in webhook.says(text, f"IN{text}").text
    assert webhook.kafka.rows == []


def test_stop_and_start(webhook: Webhook) -> None:
    webhook.sent("m1")
    webhook.says("退订", "IN1")
    known = webhook.numbers.get(PHONE)
    assert known is not None
    assert known.code == "STOP"
    assert "Message" not in webhook.says("hello?", "IN2").text
    webhook.says("Yes", "IN3")
    assert webhook.numbers.get(PHONE) is None
    # A late repetition of the first does not undo the second.
    webhook.says("退订", "IN1")
    assert webhook.numbers.get(PHONE) is None
    assert webhook.kafka.told == [("stop", "m1"), ("start", "m1")]


def test_what_twilio_has_understood_itself_is_believed(webhook: Webhook) -> None:
    webhook.sent("m1")
    assert "Message" not in webhook.says("please do not", "IN1", OptOutType="STOP").text
    assert webhook.numbers.get(PHONE) is not None
    webhook.says("anything", "IN2", OptOutType="START")
    assert webhook.numbers.get(PHONE) is None
    assert "Message" not in webhook.says("help", "IN3", OptOutType="HELP").text


def test_a_number_in_the_tables_may_stop_before_its_first_message(webhook: Webhook) -> None:
    webhook.says("stop", "IN1", sender="+8613700137000")
    webhook.says("stop", "IN2", sender="+8613600136000")
    assert [n.number for n in webhook.numbers.all()] == ["+8613600136000", "+8613700137000"]
    assert [(row.kind, row.wholesaler_id) for row in webhook.kafka.rows] == [("stop", "v")]


# Kafka away, processes killed


def test_while_kafka_is_away_twilio_is_told_to_come_again(webhook: Webhook) -> None:
    webhook.sent(provider_id="SM1")
    webhook.kafka.down = True
    assert webhook.says("1", "IN1").status == 503
    failed = webhook.status("SM1", "delivered")
    assert (failed.status, failed.headers["retry-after"]) == (503, "5")
    webhook.kafka.down = False
    assert webhook.says("1", "IN1").status == 200
    assert webhook.status("SM1", "delivered").status == 204
    assert webhook.kafka.told == [("acknowledged", "m1"), ("status", "m1")]
    assert webhook.inbox.pending() == []


async def tell(webhook: Webhook) -> int:
    return await webhook.intake.forward_pending()


def test_what_twilio_never_repeats_is_told_on_in_the_next_life(webhook: Webhook) -> None:
    import asyncio

    webhook.sent(provider_id="SM1")
    webhook.kafka.down = True
    webhook.says("1", "IN1")
    webhook.status("SM1", "undelivered", 30003)
    webhook.says("15:00", "IN2")
    kafka = FakeKafka()
    heir = Webhook(webhook.folder, kafka)
    assert asyncio.run(tell(heir)) == 3
    assert [kind for kind, _ in kafka.told] == ["acknowledged", "status", "delivering"]
    assert asyncio.run(tell(heir)) == 0


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["1", "15:00", "2", "hello", "STOP", "START", "delivered", "undelivered"]),
        st.integers(1, 6),
        st.sampled_from(["up", "down", "killed"]),
    ),
    max_size=25,
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(EVENTS)
def test_nothing_is_lost_whatever_happens_and_repeats(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str]]
) -> None:
    """In the end everything taken was told, and one name always told the same."""
    import asyncio

    kafka = FakeKafka()
    webhook = Webhook(tmp_path_factory.mktemp("any"), kafka)
    webhook.sent("m0", provider_id="SM0")
    expected = set()
    for number, (what, sid, weather) in enumerate(events):
        kafka.down = weather == "down"
        if what in ("delivered", "undelivered"):
            answer = webhook.status("SM0", what, 30003 if what == "undelivered" else None)
            expected.add(f"SM0/{what}")
        else:
            answer = webhook.says(what, f"{what}-{sid}")
            if what != "hello":
                expected.add(f"{what}-{sid}")
        assert answer.status in ((503, 200) if kafka.down else (200, 204))
        webhook.sent(f"m{number + 1}")
        if weather == "killed":
            webhook = Webhook(webhook.folder, kafka)
    kafka.down = False
    asyncio.run(tell(webhook))
    assert {row.answer_id for row in kafka.rows} == expected
    meanings: dict[str, tuple[str, str]] = {}
    for row in kafka.rows:
        assert meanings.setdefault(row.answer_id, (row.kind, row.message_id)) == (
            row.kind,
            row.message_id,
        )


# What must not be seen


def test_no_number_and_no_secret_in_the_log(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        webhook.sent(provider_id="SM1")
        webhook.status("SM1", "undelivered", 30005)
        webhook.says("hello", "IN1")
        webhook.says("hello", "IN2", sender=BACKUP)
        webhook.says("1", "IN3", signature="wrong")
        webhook.ask("GET", f"/{PHONE}")
        webhook.ask("GET", webhook.page())
        webhook.kafka.down = True
        webhook.says("1", "IN4")
    for secret in (PHONE, BACKUP, PHONE[1:], TOKEN, webhook.page()):
        assert secret not in caplog.text
    assert "POST /twilio/inbound 200" in caplog.text
    assert "GET /a/… 200" in caplog.text


def test_the_address_of_the_tests_has_a_path() -> None:
    """A proxy may strip it: what is signed has it, what arrives has not."""
    assert ADDRESS.count("/") == 3


def test_an_answer_is_about_what_asked_for_one(webhook: Webhook) -> None:
    """A note that all is in stock again, or the evening's list, in between asks for nothing."""
    webhook.sent("asked", provider_id="SM1")
    webhook.sent("note", provider_id="SM2", asks=False)
    assert webhook.says("1", "R1").status == 200
    assert webhook.kafka.told == [("acknowledged", "asked")]
    webhook.sent("asked again", provider_id="SM3")
    webhook.says("2", "R2")
    assert webhook.kafka.told[1:] == [("cannot", "asked again")]


def test_who_was_never_asked_may_still_stop(webhook: Webhook) -> None:
    webhook.sent("note", provider_id="SM2", asks=False)
    webhook.says("STOP", "R1")
    assert webhook.kafka.told == [("stop", "note")]

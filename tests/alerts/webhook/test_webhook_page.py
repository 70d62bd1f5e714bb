"""The page on the phone: links that nobody else can make, and three buttons."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from alert_harness import NOW, PHONE
from hypothesis import given
from hypothesis import strategies as st
from webhook_harness import ADDRESS, KEY, Webhook

from alerts.answers.intake import MOST_ANSWERS
from alerts.answers.links import LinkRefused, Links
from alerts.delivery.receipts import Attempt
from schemas.errors import SettingsError

HOUR = 3_600_000
LINKS = Links(KEY, ADDRESS, 48 * HOUR)
TEXT = st.text(min_size=1, max_size=30).filter(str.isprintable)


def holder(wholesaler_id: str):
    return lambda _: wholesaler_id


@pytest.fixture
def webhook(tmp_path: Path) -> Webhook:
    made = Webhook(tmp_path)
    made.sent("m1")
    return made


# Links


@given(TEXT, TEXT, st.integers(0, 2**41))
def test_a_link_opens_until_its_end_for_its_wholesaler_only(
    message_id: str, wholesaler_id: str, at: int
) -> None:
    token = LINKS.token(message_id, wholesaler_id, at)
    assert token == LINKS.token(message_id, wholesaler_id, at)
    assert re.fullmatch(r"[\w.%~-]+", token, re.ASCII)
    assert LINKS.open(token, at + 47 * HOUR, holder(wholesaler_id)) == message_id
    with pytest.raises(LinkRefused) as late:
        LINKS.open(token, at + 49 * HOUR, holder(wholesaler_id))
    assert late.value.expired
    for other in (holder(wholesaler_id + "x"), lambda _: None):
        with pytest.raises(LinkRefused):
            LINKS.open(token, at, other)


@given(st.text(), st.data())
def test_nothing_else_opens(junk: str, data: st.DataObject) -> None:
    token = LINKS.token("m1", "w", NOW)
    cut = data.draw(st.integers(0, len(token)))
    for wrong in (junk, token[:cut] + junk + token[cut:], token[:cut] + token[cut + 1 :]):
        if wrong != token:
            with pytest.raises(LinkRefused):
                LINKS.open(wrong, NOW, holder("w"))
    with pytest.raises(LinkRefused):
        Links(KEY + "!", ADDRESS, HOUR).open(token, NOW, holder("w"))


def test_a_key_is_no_word() -> None:
    with pytest.raises(SettingsError, match="ZEROSTOCK_LINK_KEY"):
        Links("secret", ADDRESS, HOUR)


# The page


def press(webhook: Webhook, button: str, **fields: str) -> int:
    form = {"answer": button} | fields
    return webhook.post(webhook.page(), form, signature="").status


def test_the_page_lists_the_shops_and_does_nothing(webhook: Webhook) -> None:
    shown = webhook.ask("GET", webhook.page())
    assert shown.status == 200
    assert "Shop o-i-m1" in shown.text
    assert "Hill" in shown.text
    assert shown.text.count("<button") == 3
    assert PHONE not in shown.text
    assert webhook.kafka.rows == []


def test_a_browser_may_run_and_fetch_nothing(webhook: Webhook) -> None:
    shown = webhook.ask("GET", webhook.page())
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert shown.headers["cache-control"] == "no-store"
    assert not re.search(r"<script|<link|<img|src=|https?://|javascript:| on\w+=", shown.text)


def test_its_style_is_the_one_the_policy_allows(webhook: Webhook) -> None:
    from base64 import b64encode
    from hashlib import sha256

    shown = webhook.ask("GET", webhook.page())
    (style,) = re.findall(r"<style>(.*?)</style>", shown.text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in shown.headers["content-security-policy"]


def test_three_buttons_make_news(webhook: Webhook) -> None:
    assert press(webhook, "acknowledged") == 303
    assert press(webhook, "delivering", by="15:00") == 303
    assert press(webhook, "cannot") == 303
    assert [kind for kind, _ in webhook.kafka.told] == ["acknowledged", "delivering", "cannot"]
    assert {row.by for row in webhook.kafka.rows} == {"page"}
    assert msgspec.json.decode(webhook.kafka.rows[1].detail)["by_local"].endswith("T15:00+08:00")
    assert "cannot deliver" in webhook.ask("GET", webhook.page()).text.split("</p>")[0]


def test_after_a_button_the_phone_is_sent_to_the_public_page(webhook: Webhook) -> None:
    form = {"answer": "acknowledged"}
    done = webhook.post(webhook.page(), form, signature="")
    assert done.headers["location"] == "/zs" + webhook.page()


def test_pressing_twice_is_one_answer(webhook: Webhook) -> None:
    for _ in range(3):
        assert press(webhook, "acknowledged") == 303
    assert len(webhook.kafka.rows) == 1


def test_what_was_answered_by_sms_shows_on_the_page(webhook: Webhook) -> None:
    webhook.says("15:00", "IN1")
    assert "on the way by 11-23 15:00" in webhook.ask("GET", webhook.page()).text


def test_stop_is_no_answer_to_the_message(webhook: Webhook) -> None:
    webhook.says("STOP", "IN1")
    shown = webhook.ask("GET", webhook.page())
    assert (shown.status, "You said" in shown.text) == (200, False)


def test_kafka_away_the_page_says_so_and_nothing_is_lost(webhook: Webhook) -> None:
    webhook.kafka.down = True
    assert press(webhook, "acknowledged") == 503
    webhook.kafka.down = False
    assert press(webhook, "acknowledged") == 303
    assert webhook.kafka.told == [("acknowledged", "m1")]


def test_wrong_forms(webhook: Webhook) -> None:
    assert press(webhook, "delivering", by="soon enough") == 422
    assert press(webhook, "delivering") == 422
    assert press(webhook, "stop") == 400
    assert webhook.kafka.rows == []


def test_somebody_elses_page_cannot_press(webhook: Webhook) -> None:
    form = {"answer": "cannot"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert webhook.post(webhook.page(), form, signature="", **headers).status == 403
    assert webhook.kafka.rows == []
    ours = {"Origin": "https://sms.example.com", "Sec-Fetch-Site": "same-origin"}
    assert webhook.post(webhook.page(), form, signature="", **ours).status == 303


def test_links_that_are_not_ours_or_over(webhook: Webhook) -> None:
    assert webhook.ask("GET", webhook.page(owner="v")).status == 404
    assert webhook.ask("GET", webhook.page("m9")).status == 404
    assert webhook.ask("GET", "/a/%00%ff.x.y").status == 404
    path = webhook.page()
    webhook.clock.ms += 49 * HOUR
    assert webhook.ask("GET", path).status == 410
    assert press(webhook, "cannot") == 410
    assert "链接已过期" in webhook.ask("GET", path, Accept_Language="zh-CN").text
    assert webhook.kafka.rows == []


def test_answers_to_one_message_are_bounded(webhook: Webhook) -> None:
    pressed = [
        press(webhook, "cannot" if n % 2 else "acknowledged") for n in range(MOST_ANSWERS + 1)
    ]
    assert pressed == [303] * MOST_ANSWERS + [429]


def test_names_are_text_and_the_language_is_the_readers(webhook: Webhook) -> None:
    evil = webhook.sent("m2")
    incident = msgspec.structs.replace(evil.incidents[0], outlet_id="<script>alert(1)</script>")
    changed = msgspec.structs.replace(
        evil, message_id="m3", language="zh", incidents=(incident,), body="x"
    )
    webhook.receipts.keep_attempt(Attempt(changed, NOW))
    shown = webhook.ask("GET", webhook.page("m3"))
    assert "<script>" not in shown.text
    assert "送不了" in shown.text
    assert '<html lang="zh">' in shown.text

"""One line a record, with its ids, without anybody's number."""

from __future__ import annotations

import logging
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.logs import OneLine, Seldom
from pipelines.core.effects import Effect, RowBuilder
from pipelines.stream import trace
from schemas.envelope import Header
from schemas.masking import mask_text


def record(text: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("alerts.delivery.delivery", logging.WARNING, "f", 1, text, args, None)
    made.created = 1_772_439_330.123
    vars(made).update(extra)
    return made


def test_a_line_has_time_level_logger_text_and_ids() -> None:
    line = OneLine().format(record("not %s", "through", message_id="m1", event_id="e1", other=3))
    assert line == (
        "2026-03-02T08:15:30.123Z WARNING alerts.delivery.delivery not through"
        " event_id=e1 message_id=m1"
    )


def test_a_traceback_stays_on_the_line() -> None:
    made = record("it failed\nbadly")
    try:
        raise ValueError("first\n+8613800138000")  # noqa: TRY301
    except ValueError:
        made.exc_info = sys.exc_info()
    line = OneLine().format(made)
    assert "\n" not in line
    assert "it failed ; badly | Traceback" in line
    assert line.endswith("ValueError: first ; +861*******000")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to +8613800138000.", "to +861*******000."),
        ("imsi=460001000001000,", "imsi=4600********000,"),
        ("imsi=35501000000001,", "imsi=3550*******001,"),
        ("cdr-20260302110000.csv", "cdr-20260302110000.csv"),
        ("iccid 8986001000000000000", "iccid 8986001000000000000"),
        ("at 1772439330123 ms", "at 1772439330123 ms"),
        ("C+8613800138000", "C+861*******000"),
    ],
)
def test_numbers_of_people_are_masked_and_others_are_not(text: str, shown: str) -> None:
    assert mask_text(text) == shown


@given(st.text(), st.integers(2 * 10**13, 10**15 - 1), st.text(alphabet="abc ,:;=\n", min_size=1))
def test_no_imsi_gets_through(before: str, imsi: int, after: str) -> None:
    assume(len(str(imsi)) == 15 or not str(imsi).startswith("20"))  # it may be a time
    line = OneLine().format(record("%s", f"{before.rstrip('0123456789')} {imsi}{after}"))
    assert str(imsi) not in line
    assert len(line.splitlines()) == 1


def said(logger: str, second: float, text: str, *args: object) -> str | None:
    made = logging.LogRecord(logger, logging.ERROR, "f", 1, text, args, None)
    made.created = second
    return made.getMessage() if SELDOM.filter(made) else None


SELDOM = Seldom()


def test_a_library_that_repeats_itself_is_heard_once_a_minute() -> None:
    away = "Unable connect to node with id %s: %s"
    assert said("aiokafka", 0, away, 1, "refused") == "Unable connect to node with id 1: refused"
    assert [said("aiokafka", s, away, s % 3, "refused") for s in range(1, 60)] == [None] * 59
    assert said("aiokafka", 5, away, 1, "reset"), "another reason is another thing"
    assert said("aiokafka.conn", 5, away, 1, "refused"), "so is another logger"
    again = said("aiokafka", 61, away, 2, "refused")
    assert again == "Unable connect to node with id 2: refused (59 more like it before)"
    assert said("aiokafka", 62, away, 2, "refused") is None


def test_we_are_heard_whenever_we_speak() -> None:
    assert [said("pipelines.stream", s, "waiting") for s in range(3)] == ["waiting"] * 3


def test_a_stock_out_can_be_followed_by_its_id(caplog: pytest.LogCaptureFixture) -> None:
    incidents, messages = RowBuilder("incidents"), RowBuilder("messages")
    for closed, withdrawn in ((None, False), (9, False), (9, True)):
        incidents.add(incident_id="i1", outlet_id="o", sku="s", wholesaler_id="w",
                      opened_at=1, closed_at=closed, at=1, restated_at=1 if withdrawn else None,
                      withdrawn=withdrawn)  # fmt: skip
    messages.add(message_id="m1", wholesaler_id="w", incident_ids=["i1", "i2"], body="b",
                 segments=1, created_at=1, status="sent", attempts=1, provider_id="p", error="",
                 version=1)  # fmt: skip
    effects = [
        Effect("t", 0, Header("incidents"), incidents.batch()),
        Effect("t", 0, Header("none")),
        Effect("t", 0, Header("messages"), messages.batch()),
    ]
    assert trace.traced(effects) is effects
    assert caplog.records == [], "nothing at WARNING"
    with caplog.at_level(logging.INFO, "pipelines.stream.trace"):
        trace.traced(effects)
        trace.written("messages", messages.batch())
    way = [
        (r.getMessage(), vars(r).get("message_id")) for r in caplog.records if r.incident_id == "i1"
    ]
    assert way == [
        ("stock-out opened", None),
        ("stock-out closed", None),
        ("stock-out withdrawn", None),
        ("message sent", "m1"),
        ("message sent, in the warehouse", "m1"),
    ]

"""A topic that somebody else writes to ends its worker; single wrong messages never do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.stream.messages import LONGEST_PAYLOAD, EnvelopeReader
from schemas.envelope import Header, pack
from schemas.errors import EnvelopeError


def message(value: bytes) -> SimpleNamespace:
    return SimpleNamespace(topic="sim-events", partition=0, offset=1, value=value)


WRONG = message(b"not ours")
GOOD = message(pack(Header("none", "x", 1)))


def test_wrong_messages_in_a_row_end_it_and_say_where() -> None:
    messages = EnvelopeReader(3)
    assert messages.open(WRONG)[0].kind == "dead_letters"
    assert messages.open(WRONG)[0].kind == "dead_letters"
    with pytest.raises(EnvelopeError, match=r"3 messages in a row on sim-events .*not a valid"):
        messages.open(WRONG)


def test_a_good_one_makes_up_for_all_before_it() -> None:
    messages = EnvelopeReader(3)
    for _ in range(10):
        messages.open(WRONG)
        messages.open(WRONG)
        assert messages.open(GOOD)[0].source == "x"


def test_a_letter_is_shorter_than_the_longest_message() -> None:
    value = b"x" * 4_000_000
    _, letter = EnvelopeReader().open(message(value))
    assert letter is not None
    assert letter["payload"][0].as_py() == value[:LONGEST_PAYLOAD]

"""A topic that somebody else writes to ends its worker; single wrong messages never do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.stream.keeper import LONGEST_LETTER, refused
from pipelines.stream.limit import RefusedInARow
from schemas.errors import EnvelopeError

WHY = EnvelopeError("not ours")


def test_wrong_messages_in_a_row_end_it_and_say_where() -> None:
    row = RefusedInARow(3)
    row.bad("sim-events", WHY)
    row.bad("sim-events", WHY)
    with pytest.raises(EnvelopeError, match=r"3 messages in a row on sim-events .* not ours"):
        row.bad("sim-events", WHY)


def test_a_good_one_makes_up_for_all_before_it() -> None:
    row = RefusedInARow(3)
    for _ in range(10):
        row.bad("sim-events", WHY)
        row.bad("sim-events", WHY)
        row.good()


def test_a_letter_is_shorter_than_the_longest_message() -> None:
    value = b"x" * 4_000_000
    letter = refused(SimpleNamespace(topic="t", partition=0, offset=1, value=value), "not ours")
    assert letter["payload"][0].as_py() == value[:LONGEST_LETTER]

"""Statuses that come late, twice and out of order."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from alerts.answers.statuses import FINAL, LOST, STATUSES, settle

UNDER_WAY = sorted(STATUSES - FINAL)
ANY = st.sampled_from([*sorted(STATUSES), "received", "", "junk"])


@given(st.lists(st.sampled_from(UNDER_WAY)), st.sampled_from(sorted(FINAL - {"read"})), st.data())
def test_any_order_and_repetition_comes_to_the_same_end(
    told: list[str], end: str, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations([*told, *told, end, end]))
    assert reduce(settle, shuffled, "") == end


@given(st.lists(ANY), st.lists(ANY))
def test_an_end_is_an_end(before: list[str], after: list[str]) -> None:
    known = reduce(settle, before, "")
    later = reduce(settle, after, known)
    if known in FINAL:
        assert later in ({known, "read"} if known not in LOST else {known})


@given(st.lists(st.sampled_from(UNDER_WAY), min_size=1))
def test_a_message_never_moves_back(told: list[str]) -> None:
    seen = ""
    for status in told:
        after = settle(seen, status)
        assert settle(after, seen) == after
        seen = after


def test_what_is_known_of_messages() -> None:
    assert settle("sent", "queued") == "sent"
    assert settle("delivered", "sent") == "delivered"
    assert settle("delivered", "undelivered") == "delivered"
    assert settle("undelivered", "delivered") == "undelivered"
    assert settle("delivered", "read") == "read"
    assert settle("failed", "read") == "failed"
    assert settle("sent", "what") == "sent"

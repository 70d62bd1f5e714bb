"""Late events change stock-outs that somebody may have heard of: nobody hears of one twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lifecycle_harness import Day, at
from msgspec.structs import replace

from alerts.lifecycle.grouping import Change
from alerts.lifecycle.state import hold

#: A minute to gather, an hour to the reminder.
POLICY = 'repeat_interval = "1h"'


def change(day: Day, old: Change, when: int, **new: object) -> None:
    """What is known of a stock-out from now on."""
    hold(day.state, replace(old, at=when, restated_at=when, **new))


def kinds(day: Day) -> list[str]:
    return [group.kind for group in day.groups]


def test_one_that_is_still_open_when_it_becomes_known_is_told() -> None:
    day = Day("")
    hold(day.state, Change("a", "o", "4G", "w", at(1), None, at(5), at(5)))
    day.until(at(6))
    ((message,),) = [group.incidents for group in day.groups]
    assert (message.incident_id, message.opened_at) == ("a", at(1))


def test_one_that_is_over_when_it_becomes_known_is_not_told() -> None:
    day = Day(POLICY)
    hold(day.state, Change("a", "o", "4G", "w", at(1), at(2), at(5), at(5)))
    day.until(at(9))
    assert day.groups == []


def test_one_that_was_told_and_began_at_another_time_is_not_told_again() -> None:
    day = Day("")
    old = day.open("a", at(1))
    day.until(at(2))
    change(day, old, at(3), opened_at=at(0.5))
    day.until(at(4))
    assert kinds(day) == ["stock_out"]
    day.close(replace(old, opened_at=at(0.5)), at(5))
    day.until(at(6))
    assert ("resolved", 5.0) in day.said("a")


def test_one_that_is_being_gathered_is_told_as_it_is_known_then() -> None:
    day = Day("")
    old = day.open("a", at(1))
    change(day, old, at(1) + 1_000, opened_at=at(0.5))
    day.until(at(2))
    ((message,),) = [group.incidents for group in day.groups]
    assert message.opened_at == at(0.5)


def test_one_that_never_was_ends_its_reminders_and_says_so() -> None:
    day = Day(POLICY)
    old = day.open("a", at(1))
    day.until(at(2.5))
    assert kinds(day) == ["stock_out", "reminder"]
    change(day, old, at(2.6), withdrawn=True)
    day.until(at(9))
    assert kinds(day) == ["stock_out", "reminder"]
    assert day.said("a")[-1][0] == "withdrawn"
    assert not day.state.alerts


def test_one_that_never_was_is_not_told_if_nobody_heard_of_it_yet() -> None:
    day = Day(POLICY)
    change(day, day.open("a", at(1)), at(1) + 1_000, withdrawn=True)
    day.until(at(9))
    assert day.groups == []
    assert [kind for kind, _ in day.said("a")] == ["withdrawn"]


def test_one_that_was_over_before_it_was_withdrawn_says_so_too() -> None:
    day = Day("")
    old = day.open("a", at(1))
    day.close(old, at(1) + 1_000)
    change(day, old, at(3), closed_at=at(1) + 1_000, withdrawn=True)
    day.until(at(4))
    assert [kind for kind, _ in day.said("a")] == ["refilled_in_time", "withdrawn"]


def test_one_that_was_told_and_closed_and_is_open_after_all_is_reminded_of_not_told() -> None:
    for policy, then in (("", []), (POLICY, ["reminder"])):
        day = Day(policy)
        old = day.open("a", at(1))
        day.close(old, at(1.5))
        day.until(at(2))
        change(day, old, at(3), closed_at=None)
        day.until(at(4.5))
        assert kinds(day) == ["stock_out", *then]
        day.close(old, at(5))
        day.until(at(24 * 41))
        assert not day.state.shelves


@given(st.integers(1, 34 * 24), st.integers(1, 34 * 24))
def test_one_that_was_told_is_not_told_again_for_as_long_as_history_may_change(
    closes: int, reopens: int
) -> None:
    """However long it lasted, and however long after its end late events open it again."""
    day = Day("")
    old = day.open("a", at(1))
    day.close(old, at(1 + closes))
    day.until(at(1 + closes))
    day.until(at(closes + reopens))
    change(day, old, at(1 + closes + reopens), closed_at=None)
    day.until(at(3 + closes + reopens))
    assert kinds(day) == ["stock_out"]


def test_one_refilled_before_anybody_heard_of_it_and_open_after_all_is_told() -> None:
    day = Day("")
    old = day.open("a", at(1))
    day.close(old, at(1) + 1_000)
    day.until(at(2))
    assert day.groups == []
    change(day, old, at(3), closed_at=None)
    day.until(at(4))
    assert kinds(day) == ["stock_out"]


def test_a_closing_at_another_time_is_no_second_end() -> None:
    day = Day("resolved_notes = true")
    old = day.open("a", at(1))
    day.until(at(2))
    day.close(old, at(3))
    change(day, old, at(3) + 1, closed_at=at(2.5))
    day.until(at(9))
    assert kinds(day) == ["stock_out", "resolved"]
    assert [kind for kind, _ in day.said("a")].count("resolved") == 1

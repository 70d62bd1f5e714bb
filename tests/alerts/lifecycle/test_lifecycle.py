"""Each turn in the life of a stock-out, on a fake clock."""

from __future__ import annotations

import json

import pytest
from lifecycle_harness import HOUR, MINUTE, START, Day, at, shown

from alerts.lifecycle.grouping import message_id
from alerts.lifecycle.state import WholesalerState, decode, encode
from alerts.policy.rules import AlertRules

NINE = at(9, -1)  # so that with a minute of gathering the first message is due at nine


def test_without_a_policy_a_stock_out_is_told_once_and_never_again() -> None:
    day = Day("")
    a = day.open("a", NINE)
    (group,) = day.until(at(240))
    assert shown([group]) == [("stock_out", "phone", 9, ["a"])]
    assert group.message_id == message_id("w", NINE, "a")
    day.close(a, at(250))
    assert day.until(at(300)) == []
    assert day.said("a") == [("resolved", 250)]
    assert day.state.alerts == {}


def test_nobody_answers() -> None:
    """Second phone, then the territory's manager; reminders until there were enough."""
    day = Day()
    day.open("a", NINE)
    assert shown(day.until(at(21))) == [
        ("stock_out", "phone", 9, ["a"]),
        ("escalation", "backup_phone", 9.5, ["a"]),
        ("escalation", "channel/north-team", 11, ["a"]),
        ("reminder", "phone", 13, ["a"]),
        ("reminder", "phone", 17, ["a"]),
        ("reminder", "phone", 21, ["a"]),
    ]
    assert day.until(at(240)) == []


def test_an_acknowledgement_holds_for_a_time_then_the_next_step_follows() -> None:
    day = Day()
    a = day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("acknowledged", first.message_id, at(9, 10))
    assert day.until(at(13, 9)) == []
    assert shown(day.until(at(13, 15))) == [
        ("reminder", "phone", 13 + 1 / 6, ["a"]),  # repeat_interval was over at one
        ("escalation", "backup_phone", 13 + 1 / 6, ["a"]),
    ]
    # Further steps follow as far apart as the policy has them, unless somebody answers.
    assert shown(day.until(at(15)))[0] == (
        "escalation", "channel/north-team", 14 + 2 / 3, ["a"],
    )  # fmt: skip
    assert ("overdue", 13 + 1 / 6) in day.said("a")
    day.close(a, at(15, 1))
    assert {g.kind for g in day.until(at(16))} == {"resolved"}


def test_an_acknowledgement_given_again_holds_again() -> None:
    day = Day('acknowledged_for = "1h"\ngroup_interval = "1m"\n'
              'escalation = [{ after = "1m", to = "backup_phone" }]')  # fmt: skip
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("acknowledged", first.message_id, at(9, 0.5))
    day.answer("acknowledged", first.message_id, at(9, 50))
    assert shown(day.until(at(20))) == [("escalation", "backup_phone", 10 + 50 / 60, ["a"])]


def test_an_acknowledgement_ends_all_paging_where_no_step_and_no_reminder_is_left() -> None:
    day = Day("")
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("acknowledged", first.message_id, at(9, 10))
    assert day.until(at(200)) == []
    assert day.said("a") == [("acknowledged", 9 + 1 / 6)]


def test_each_stock_out_wants_an_answer_of_its_own() -> None:
    """A new one at the same shelf is told, and the old acknowledgement does not count for it."""
    day = Day()
    a = day.open("a", NINE, "o-north-1")
    (first,) = day.until(at(9))
    day.answer("acknowledged", first.message_id, at(9, 10))
    day.close(a, at(10))
    day.open("b", at(14, -1), "o-north-1")
    assert shown(day.until(at(14, 40)))[-2:] == [
        ("stock_out", "phone", 14, ["b"]),
        ("escalation", "backup_phone", 14.5, ["b"]),
    ]
    # The old one, said again, is still about the old one.
    day.answer("acknowledged", first.message_id, at(15))
    assert shown(day.until(at(16))) == [("escalation", "channel/north-team", 16, ["b"])]


def test_on_the_way_gives_time_until_then() -> None:
    day = Day()
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("delivering", first.message_id, at(9, 10), by=at(15))
    assert shown(day.until(at(15, 15))) == [
        ("reminder", "phone", 15.25, ["a"]),
        ("escalation", "backup_phone", 15.25, ["a"]),
    ]
    # The next step follows as far behind as the policy has them apart.
    assert shown(day.until(at(17))) == [
        ("escalation", "channel/north-team", 16.75, ["a"]),
    ]
    assert ("overdue", 15.25) in day.said("a")


def test_on_the_way_without_a_time_gives_two_hours() -> None:
    day = Day()
    a = day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("delivering", first.message_id, at(9, 30))
    assert day.until(at(11, 44)) == []
    day.close(a, at(11, 44.5))
    assert shown(day.until(at(20))) == [("resolved", "phone", 11.75, ["a"])]


def test_a_delivery_that_did_not_come_is_asked_for_when_nobody_else_is_left() -> None:
    day = Day('group_interval = "1m"')
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("delivering", first.message_id, at(9, 10), by=at(12))
    assert shown(day.until(at(99))) == [("reminder", "phone", 12.25, ["a"])]


def test_cannot_goes_to_the_next_at_once_and_the_wholesaler_is_left_alone() -> None:
    day = Day()
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("cannot", first.message_id, at(9, 7))
    assert shown(day.until(at(30))) == [
        ("escalation", "backup_phone", (at(9, 7) - START) / HOUR, ["a"]),
        ("escalation", "channel/north-team", (at(10, 40) - START) / HOUR, ["a"]),
    ]


def test_an_answer_may_be_about_one_of_several() -> None:
    day = Day()
    day.open("a", NINE)
    day.open("b", NINE + 1)
    (first,) = day.until(at(9))
    assert len(first.incidents) == 2
    from alerts.lifecycle.state import hear
    from schemas.answers import Answer

    hear(day.state, Answer("n", at(9), "w", "acknowledged", first.message_id, "a", "{}", "page"), 0)
    assert shown(day.until(at(9, 30))) == [("escalation", "backup_phone", 9.5, ["b"])]


def test_an_sms_that_did_not_arrive_hastens_the_next_step() -> None:
    day = Day()
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("status", first.message_id, at(9, 2), status="delivered")
    assert day.until(at(9, 3)) == []
    day.answer("status", first.message_id, at(9, 3), status="undelivered", code="30003")
    (group,) = day.until(at(9, 5))
    assert shown([group]) == [
        ("escalation", "backup_phone", (day.groups[1].due_at - START) / HOUR, ["a"])
    ]
    assert group.due_at < at(9, 4)


def test_however_often_it_is_told_a_message_is_lost_once() -> None:
    day = Day()
    day.open("a", NINE)
    (first,) = day.until(at(9))
    day.answer("status", first.message_id, at(9, 2), status="undelivered")
    day.answer("status", first.message_id, at(9, 3), status="failed")
    assert shown(day.until(at(10)))[1:] == []
    assert [g.to for g in day.groups] == ["phone", "backup_phone"]


def test_an_sms_that_did_not_arrive_is_for_the_fallback_when_there_is_no_step() -> None:
    day = Day("")
    day.open("a", NINE)
    day.open("b", NINE + 1)
    (first,) = day.until(at(9))
    day.answer("status", first.message_id, at(9, 2), status="failed")
    day.answer("status", first.message_id, at(9, 2), status="failed")
    day.until(at(9, 5))
    _, group = day.groups
    assert (group.kind, group.to, len(group.incidents)) == ("lost", "channel/fallback", 2)


def test_quiet_hours_end_in_one_digest() -> None:
    day = Day()
    day.open("late", at(21, 50))
    day.open("night", at(23))
    gone = day.open("gone", at(23, 30))
    day.close(gone, at(24))
    day.open("dawn", at(30))
    assert shown(day.until(at(31))) == [
        ("stock_out", "phone", (at(21, 51) - START) / HOUR, ["late"]),
        ("digest", "phone", 31, ["late", "night", "dawn"]),
    ]
    assert day.said("gone") == [("waiting", (at(23, 31) - START) / HOUR), ("refilled_in_time", 24)]
    # Everybody has as long to answer the digest as a first message.
    assert shown(day.until(at(32)))[0] == (
        "escalation", "backup_phone", 31.5, ["late", "night", "dawn"],
    )  # fmt: skip


def test_what_may_not_wait_is_told_at_night() -> None:
    day = Day()
    day.open("a", at(23), sku="vip")
    assert shown(day.until(at(23, 5)))[0][0] == "stock_out"


def test_quiet_hours_hold_for_what_comes_late_on_a_live_feed() -> None:
    """The worker was down from nine to midnight; it wakes nobody up."""
    day = Day(wall=True)
    day.open("a", NINE)
    assert day.until(at(9), now=at(24)) == []
    assert shown(day.until(at(31), now=at(31, 1))) == [("digest", "phone", 31, ["a"])]


def test_quiet_hours_of_one_wholesaler() -> None:
    own = """
        quiet_hours = { start = "22:00", end = "07:00" }
        [wholesalers.w]
        quiet_hours = false
    """
    day = Day(own)
    day.open("a", at(23))
    assert len(day.until(at(23, 2))) == 1
    day = Day(own.replace("false", '{ start = "23:00", end = "23:30" }'))
    day.open("a", at(23))
    assert shown(day.until(at(31))) == [("digest", "phone", 23.5, ["a"])]


@pytest.mark.parametrize(
    ("outlet", "until"), [("o-silent", 12), ("o-south-1", 10), ("o-north-closed", None)]
)
def test_what_is_silenced_is_told_when_the_silence_ends(outlet: str, until: float | None) -> None:
    day = Day()
    day.open("a", at(9), outlet)
    sent = shown(day.until(at(12, 5)))
    (waiting,) = [n for n in day.events if n.kind == "waiting"]
    why = json.loads(waiting.detail)
    if until is None:
        assert sent == []
        assert why["why"] == "outlet_closed"
        assert "until" not in why
    else:
        assert sent[0] == ("delayed", "phone", until, ["a"])
        assert why["until"] == at(until)
        assert why["note"] in ("rebuilding", "flood")


LEAVE = """
    leave = [{ wholesaler = "w", from = "2026-03-01T00:00:00Z", until = "2026-03-03T00:00:00Z" }]
"""


def test_who_is_on_leave_is_told_afterwards() -> None:
    day = Day(LEAVE)
    day.open("a", NINE)
    assert shown(day.until(at(60))) == [("delayed", "phone", 48, ["a"])]


def test_somebody_else_may_be_told_meanwhile() -> None:
    day = Day(LEAVE.replace("}]", ', instead = "backup_phone" }]'))
    day.open("a", NINE)
    assert shown(day.until(at(60))) == [("stock_out", "backup_phone", 9, ["a"])]


def test_a_restless_shelf_is_told_no_oftener_than_it_would_be_repeated() -> None:
    day = Day()
    for number in range(24):
        change = day.open(f"a{number}", at(8, 30 * number), "o-north-1")
        day.close(change, at(8, 30 * number + 20))
    day.until(at(21))
    first = [g for g in day.groups if g.kind in ("stock_out", "delayed")]
    # Damped, not silenced: each time four hours are over it is told, if it is empty then.
    assert [round((g.due_at - START) / MINUTE) for g in first] == [481, 511, 755, 995]
    assert any(
        json.loads(n.detail).get("why") == "flapping" for n in day.events if n.kind == "waiting"
    )


def test_a_resolved_note_goes_to_each_who_was_told_and_to_nobody_else() -> None:
    day = Day()
    a = day.open("a", NINE)
    day.open("b", NINE + 1)
    untold = day.open("c", at(12))
    day.until(at(9, 45))
    day.close(a, at(9, 46))
    day.close(untold, at(12, 0.5))
    notes = [g for g in day.until(at(13)) if g.kind == "resolved"]
    assert shown(notes) == [
        ("resolved", "backup_phone", 9 + 50 / 60, ["a"]),
        ("resolved", "phone", 9 + 50 / 60, ["a"]),
    ]
    assert all(g.after.keys() == {"a"} for g in notes)


def test_at_night_nobody_is_told_that_all_is_well() -> None:
    day = Day()
    a = day.open("a", at(21))
    day.until(at(22))
    day.close(a, at(23))
    assert day.until(at(31, 5)) == []
    assert day.said("a")[-1][0] == "not_notified"


def test_the_end_of_the_input_sends_what_is_gathered_and_nothing_of_tomorrow() -> None:
    day = Day()
    day.open("a", NINE)
    assert shown(day.until(NINE + 1, final=True)) == [("stock_out", "phone", 9, ["a"])]
    assert day.until(at(9, 1), final=True) == []
    assert [g.kind for g in day.until(at(9, 30))] == ["escalation"]


def test_a_policy_that_changes_holds_from_then_on() -> None:
    day = Day(LEAVE.replace(', until = "2026-03-03T00:00:00Z"', ""))
    day.open("a", NINE)
    assert day.until(at(12)) == []
    day.rules = AlertRules(MINUTE, zone=day.rules._zone)
    assert shown(day.until(at(12, 10)))[0][:2] == ("delayed", "phone")


def test_a_step_for_which_nobody_is_named_goes_nowhere_but_is_not_lost() -> None:
    day = Day('managers = { south = "s" }\nescalation = [{ after="1m", to="territory_manager" }]')
    day.open("a", NINE)
    assert day.until(at(10))[-1].to == "channel/"


def test_a_large_state_is_packed_and_read_back() -> None:
    day = Day("")
    for number in range(2_000):
        day.open(f"o-{number}/4G/event-{number}", NINE + number)
    day.until(at(12))
    data = encode(day.state)
    assert len(data) < 100_000
    assert encode(decode(data)) == data
    assert decode(data) == day.state
    assert WholesalerState("w") != day.state

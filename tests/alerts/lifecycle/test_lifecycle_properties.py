"""What holds of every day, whatever happens on it and in whatever pieces it arrives."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle_harness import DAY, HOUR, MINUTE, POLICY, START, answer_of, at, closed, opened, rules

from alerts.lifecycle.grouping import AlertGroup, Change
from alerts.lifecycle.lifecycle import ANSWERS, advance
from alerts.lifecycle.state import WholesalerState, decode, encode, hear, hold
from schemas.alert_events import AlertEvent
from schemas.answers import Answer

RULES = rules()
END = at(10 * 24)
OUTLETS = ("o-north-1", "o-north-2", "o-south-1", "o-silent", "o-north-closed")
KINDS = ("acknowledged", "delivering", "cannot", "status")


class Heard(NamedTuple):
    """An answer, and the watermark it meets in the log."""

    at: int
    answer: Answer


class Decided(NamedTuple):
    """All that followed."""

    groups: list[AlertGroup]
    events: list[AlertEvent]
    state: bytes


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """Up to a dozen stock-outs in two days, often at the same minute, none at a stocked shelf."""
    found: list[Change] = []
    free: dict[tuple[str, str], int] = {}
    for number in range(draw(st.integers(1, 12), label="stock-outs")):
        outlet = draw(st.sampled_from(OUTLETS))
        sku = draw(st.sampled_from(("4G", "4G", "4G", "vip")))
        start = max(at(0, 15 * draw(st.integers(0, 190))), free.get((outlet, sku), START))
        if start == END:
            continue
        opening = opened(f"i{number}", start, outlet, sku)
        found.append(opening)
        lasts = draw(st.none() | st.integers(0, 60))
        free[outlet, sku] = END
        if lasts is not None:
            found.append(closed(opening, start + 10 * lasts * MINUTE))
            free[outlet, sku] = start + 10 * lasts * MINUTE + 1
    return found


@st.composite
def days(draw: st.DrawFn) -> tuple[list[Change], list[Heard]]:
    """A history, and answers to messages that it leads to, each after its message."""
    history = draw(changes())
    state = WholesalerState("w")
    for change in history:
        hold(state, change)
    sent: list[AlertGroup] = []
    answers: list[Heard] = []
    times = draw(st.lists(st.integers(0, 4 * 70), max_size=6, unique=True))
    for number, quarter in enumerate(sorted(times)):
        when = at(0, 15 * quarter + draw(st.sampled_from((0, 1, 7))))
        if answers and when < answers[-1].at:
            continue
        sent += advance(state, when, RULES).groups
        if not sent:
            continue
        about = sent[-1 - draw(st.integers(0, min(3, len(sent) - 1)))]
        kind = draw(st.sampled_from(KINDS))
        detail = {}
        if kind == "status":
            detail["status"] = draw(st.sampled_from(("delivered", "undelivered")))
        elif kind == "delivering" and draw(st.booleans()):
            detail["by"] = when + draw(st.integers(-1, 8)) * HOUR
        answers.append(Heard(when, answer_of(kind, about.message_id, when, number, **detail)))
        hear(state, answers[-1].answer, when)
    return history, answers


def in_one_go(history: list[Change], answers: list[Heard]) -> Decided:
    state = WholesalerState("w")
    for change in history:
        hold(state, change)
    for answer in answers:
        hear(state, answer.answer, answer.at)
    groups, said = advance(state, END, RULES)
    return Decided(groups, said, encode(state))


@settings(max_examples=150)
@given(st.data(), days())
def test_nothing_on_the_way_changes_what_is_said(
    data: st.DataObject, day: tuple[list[Change], list[Heard]]
) -> None:
    """Any order that watermarks allow, repeats, batches and restarts: the same messages."""
    history, answers = day
    expected = in_one_go(history, answers)
    state = WholesalerState("w")
    groups: list[AlertGroup] = []
    said: list[AlertEvent] = []
    missing = data.draw(st.permutations(history))
    delivered: list[Change] = []
    marks = {a.at: a for a in answers}
    extra = data.draw(st.lists(st.integers(START, END), max_size=8))
    for mark in sorted({*marks, *extra, END}):
        # What the watermark promises is there; perhaps more, perhaps once more.
        for change in list(missing):
            if change.at < mark or data.draw(st.booleans()):
                missing.remove(change)
                delivered.append(change)
                hold(state, change)
        if delivered and data.draw(st.booleans()):
            hold(state, data.draw(st.sampled_from(delivered)))
        if mark in marks:
            hear(state, marks[mark].answer, mark)
            if data.draw(st.booleans()):
                hear(state, marks[mark].answer, mark)
        if mark == END or data.draw(st.booleans()):
            if data.draw(st.booleans()):
                state = decode(encode(state))
            steps = advance(state, mark, RULES)
            groups += steps.groups
            said += steps.events
    assert groups == expected.groups
    assert said == expected.events
    assert encode(state) == expected.state


@settings(max_examples=60)
@given(days())
def test_answers_that_are_told_again_count_once(day: tuple[list[Change], list[Heard]]) -> None:
    history, answers = day
    expected = in_one_go(history, answers)
    state = WholesalerState("w")
    for change in history:
        hold(state, change)
    groups: list[AlertGroup] = []
    for answer in answers:
        groups += advance(state, answer.at, RULES).groups
        for earlier in (a for a in answers if a.at <= answer.at):
            hear(state, earlier.answer, answer.at)
            groups += advance(state, answer.at, RULES).groups
    groups += advance(state, END, RULES).groups
    assert groups == expected.groups


@settings(max_examples=200)
@given(days())
def test_every_day(day: tuple[list[Change], list[Heard]]) -> None:
    history, answers = day
    groups, said, _ = in_one_go(history, answers)
    assert len({g.message_id for g in groups}) == len(groups)
    assert sorted(groups, key=lambda g: g.due_at) == groups
    openings = {c.incident_id: c for c in history if c.closed_at is None}
    closings = {c.incident_id: c.at for c in history if c.closed_at is not None}
    told: dict[str, list[AlertGroup]] = defaultdict(list)
    for group in groups:
        for incident in group.incidents:
            told[incident.incident_id].append(group)
            # Nobody is told in quiet hours, or of what nobody should be told of.
            # The fallback hears at any hour of what reached nobody.
            if group.kind != "lost":
                assert RULES.quiet("w", incident, group.due_at) is None
            if group.kind not in ("resolved", "lost"):
                assert RULES.held("w", incident, group.due_at) is None
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in said:
        kinds[row.incident_id][row.kind] += 1
    for name, opening in openings.items():
        about = told[name]
        # Each stock-out is told or explained.
        explained = kinds[name]["waiting"] + kinds[name]["refilled_in_time"]
        assert about or explained or opening.at + MINUTE >= END
        # Steps come once and in order; there is an end to reminders.
        steps = [g.to for g in about if g.kind == "escalation"]
        assert (
            steps
            == [
                "backup_phone",
                f"channel/{'north-team' if 'north' in opening.outlet_id else 'sales'}",
            ][: len(steps)]
        )
        reminders = [g for g in about if g.kind == "reminder"]
        assert len(reminders) <= 3 + kinds[name]["overdue"]
        # A new stock-out is never announced twice.
        assert sum(g.kind in ("stock_out", "delayed") for g in about) <= 1
        for group in about:
            if name in closings and group.kind != "resolved":
                assert group.due_at <= closings[name]
        notes = [g for g in about if g.kind == "resolved"]
        assert {g.to for g in notes} <= {g.to for g in about if g.kind != "resolved"}
        assert len({g.to for g in notes}) == len(notes)
        check_answers(name, opening, about, answers)
    rounds = Counter((g.kind, g.due_at, g.to) for g in groups if g.kind == "digest")
    assert set(rounds.values()) <= {1}


def check_answers(
    name: str, opening: Change, about: list[AlertGroup], answers: list[Heard]
) -> None:
    """After the acknowledgement of a stock-out there is no page about it, until another answer."""
    ids = {g.message_id: g.due_at for g in about if g.kind not in ("resolved", "lost")}
    mine = [
        a
        for a in answers
        if a.answer.message_id in ids
        and a.answer.kind in ANSWERS
        and ids[a.answer.message_id] < a.at
    ]
    for answer, following in zip(mine, [*mine[1:], None], strict=False):
        end = following.at if following is not None else END
        pages = [
            g for g in about if answer.at <= g.due_at < end and g.kind not in ("resolved", "lost")
        ]
        if answer.answer.kind == "acknowledged":
            assert [g for g in pages if g.due_at < answer.at + 4 * HOUR] == []
        elif answer.answer.kind == "cannot":
            assert [g for g in pages if g.kind != "escalation"] == []
        else:
            by = json.loads(answer.answer.detail).get("by", answer.at + 2 * HOUR)
            assert [g for g in pages if g.due_at < by + 15 * MINUTE] == []


@settings(max_examples=60)
@given(changes())
def test_without_answers_reminders_keep_their_distance(history: list[Change]) -> None:
    groups, _, _ = in_one_go(history, [])
    last: dict[str, int] = {}
    for group in groups:
        if group.to == "phone" and group.kind != "resolved":
            for incident in group.incidents:
                if group.kind == "reminder":
                    assert group.due_at - last[incident.incident_id] >= 4 * HOUR
                last[incident.incident_id] = group.due_at


@settings(max_examples=60)
@given(changes())
def test_a_restless_shelf_keeps_its_distance_too(history: list[Change]) -> None:
    """From its third time in six hours on, a shelf is announced once in four hours at most."""
    groups, _, _ = in_one_go(history, [])
    openings = [c for c in history if c.closed_at is None]
    shelf_of = {c.incident_id: (c.outlet_id, c.sku) for c in openings}
    last: dict[tuple[str, str], int] = {}
    for group in groups:
        if group.to != "phone" or group.kind == "resolved":
            continue
        for incident in group.incidents:
            shelf = shelf_of[incident.incident_id]
            times = [c.at for c in openings if shelf_of[c.incident_id] == shelf]
            # The moment of its last decision: a digest comes later than that.
            lately = sum(group.due_at - 6 * HOUR < t <= group.due_at for t in times)
            if group.kind in ("stock_out", "delayed") and lately >= 3 and shelf in last:
                assert group.due_at - last[shelf] >= 4 * HOUR
            last[shelf] = group.due_at


def test_the_policy_of_these_tests_has_everything() -> None:
    assert DAY == 24 * HOUR
    assert all(word in POLICY for word in ("flapping", "silences", "maintenance", "quiet_hours"))

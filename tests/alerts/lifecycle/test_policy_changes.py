"""Policies that change while alerts run: they count where they stand in the log, for everybody."""

from __future__ import annotations

import json
from typing import NamedTuple

import msgspec
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle_harness import HOUR, MINUTE, START, answer_of, at, closed, opened, rules

from alerts.lifecycle.grouping import AlertGroup, Change
from alerts.lifecycle.stage import WholesalerStage
from schemas.alert_events import AlertEvent
from schemas.answers import Answer, PolicyRecord, pack_answers, pack_policy
from schemas.envelope import INCIDENTS, NO_WATERMARK, Header, pack, unpack

OUTLETS = ("o-north-1", "o-south-1", "o-south-2")
END = at(30)


def silence(*outlets: str) -> str:
    return "".join(f"[[silences]]\noutlet = {json.dumps(o)}\n" for o in outlets)


#: What may be silent, and other things that a policy changes.
SILENT = [(), OUTLETS[:1], OUTLETS[1:], OUTLETS]
TEXTS = [silence(*some) for some in SILENT] + [
    'repeat_interval = "1h"',
    'group_wait = "20m"',
    'repeat_interval = "2h"\nresolved_notes = true\nquiet_hours = {start="03:00", end="05:00"}',
    '[[escalation]]\nafter = "40m"\nto = "backup_phone"',
]


def record(number: int, text: str, error: str = "") -> PolicyRecord:
    return PolicyRecord(f"p{number}", at(number), "policy.toml", text, error)


def envelope(mark: int, *changes: Change, ended: bool = False) -> bytes:
    rows = [msgspec.structs.asdict(change) for change in changes]
    batch = pa.RecordBatch.from_pylist(rows, schema=INCIDENTS) if rows else None
    header = Header("incidents" if rows else "none", "outlets/0", mark, ended, ("outlets/0",))
    return pack(header, batch)


class Log(NamedTuple):
    """A partition's messages, and what they were made of."""

    messages: list[bytes]
    changes: list[Change]
    policies: list[tuple[int, str]]


@st.composite
def logs(draw: st.DrawFn, texts: list[str], *, answers: bool = True) -> Log:
    """A day of stock-outs, with policies anywhere and often at one watermark."""
    changes: list[Change] = []
    for number in range(draw(st.integers(1, 6))):
        start = at(0, 10 * draw(st.integers(1, 60)))
        opening = opened(f"i{number}", start, draw(st.sampled_from(OUTLETS)))
        changes.append(opening)
        if draw(st.booleans()):
            changes.append(closed(opening, start + 10 * MINUTE * draw(st.integers(1, 40))))
    messages = [pack_policy(record(0, draw(st.sampled_from(texts))))]
    policies = [(NO_WATERMARK, _text(messages[0]))]
    marks = draw(st.lists(st.integers(1, 150), min_size=1, max_size=8, unique=True))
    told, mark = list(changes), NO_WATERMARK
    for number, minutes in enumerate([*sorted(marks), None], 1):
        if draw(st.booleans()):
            text = draw(st.sampled_from(texts))
            messages.append(pack_policy(record(number, text)))
            policies.append((mark, text))
        if answers and draw(st.booleans()):
            name = draw(st.sampled_from(["", "i0", "i1"]))
            said = answer_of("acknowledged", "m", number, number)
            messages.append(pack_answers([msgspec.structs.replace(said, incident_id=name)]))
        mark = END if minutes is None else at(0, 10 * minutes)
        some = [change for change in told if change.at < mark]
        told = [change for change in told if change not in some]
        messages.append(envelope(mark, *some))
    if answers and draw(st.booleans()):
        messages.append(envelope(END, ended=True))
        messages.append(pack_policy(record(99, draw(st.sampled_from(texts)))))
        messages.append(pack_answers([answer_of("cannot", "m", 99)]))
    return Log(messages, changes, policies)


def _text(message: bytes) -> str:
    _, rows = unpack(message)
    assert rows is not None
    text: str = rows["text"][0].as_py()
    return text


class Said(NamedTuple):
    """What followed, each message and event once, as those who hear it keep them."""

    groups: dict[str, AlertGroup]
    events: dict[tuple[str, str], AlertEvent]


def stage() -> WholesalerStage:
    # The rules that it is made with must not count.
    return WholesalerStage(0, 1, rules(silence(*OUTLETS)), policy_awaited=True)


def play(log: Log, data: st.DataObject | None = None) -> Said:
    """A partition read through; with `data` in any steps, with deaths between any two."""
    said = Said({}, {})
    worker, changelog, committed, position = stage(), dict[bytes, bytes](), 0, 0
    while position < len(log.messages):
        worker.process(*unpack(log.messages[position]))
        position += 1
        choice = data.draw(st.sampled_from(["on", "step", "commit", "die"])) if data else "step"
        if choice == "on" and position < len(log.messages):
            continue
        steps, _ = worker.advance(0)
        for group in steps.groups:
            assert said.groups.setdefault(group.message_id, group) == group
            worker.settle(group, [], 0)
        for event in steps.events:
            key = event.incident_id, event.slot
            assert said.events.setdefault(key, event) == event
        if choice == "commit":
            changelog |= dict(worker.snapshot())
            committed = position
        elif choice == "die":
            worker, position = stage(), committed
            for key, value in changelog.items():
                worker.restore(key, value)
    return said


@settings(max_examples=150, deadline=None)
@given(st.data(), logs(TEXTS))
def test_two_workers_and_any_replay_decide_alike(data: st.DataObject, log: Log) -> None:
    assert play(log, data) == play(log)


@settings(max_examples=200, deadline=None)
@given(logs(TEXTS[: len(SILENT)], answers=False))
def test_who_is_told_and_when_follows_from_the_policy_of_the_moment(log: Log) -> None:
    """A plain account: what falls due, or waits when a policy comes, goes by the newest."""
    silent = {silence(*some): some for some in SILENT}
    eras = [(NO_WATERMARK, silent[log.policies[0][1]])]
    for mark, text in log.policies[1:]:
        eras.append((mark + 1, silent[text]))
    closings = {c.incident_id: c.at for c in log.changes if c.closed_at is not None}
    openings = sorted((c for c in log.changes if c.closed_at is None), key=lambda c: c.at)
    expected: dict[str, int] = {}
    gathered_until = NO_WATERMARK
    for opening in openings:
        if opening.at > gathered_until:
            gathered_until = opening.at + MINUTE
        looks = [gathered_until, *(since for since, _ in eras if since > gathered_until)]
        for moment in looks:
            if closings.get(opening.incident_id, END) <= moment:
                break
            if opening.outlet_id not in [some for since, some in eras if since <= moment][-1]:
                expected[opening.incident_id] = moment
                break
    said = play(log)
    assert {
        incident.incident_id: group.due_at
        for group in said.groups.values()
        for incident in group.incidents
    } == expected
    assert sum(len(group.incidents) for group in said.groups.values()) == len(expected)


def test_nothing_is_decided_before_the_first_policy_is_there() -> None:
    worker = stage()
    for data in (envelope(at(8)), envelope(at(10), opened("a", at(9)))):
        worker.process(*unpack(data))
    assert worker.advance(0) == (([], []), None)
    assert worker.busy
    worker.process(*unpack(pack_policy(record(1, ""))))
    steps, update = worker.advance(0)
    assert [group.kind for group in steps.groups] == ["stock_out"]
    assert update is not None


def test_a_change_is_named_with_what_follows_from_it() -> None:
    worker = stage()
    log = [
        pack_policy(record(1, 'repeat_interval = "4h"')),
        envelope(at(10), opened("a", at(9), "o-north-1"), opened("b", at(9, 59.5), "o-south-1")),
        pack_policy(record(2, 'repeat_interval = "2h"\n' + silence("o-south-1"))),
        envelope(at(10, 30)),
    ]
    for data in log:
        worker.process(*unpack(data))
    events = worker.advance(0)[0].events
    about = {(e.incident_id, e.kind): json.loads(e.detail) for e in events}
    assert about["a", "policy_changed"] == {
        "changed_at": at(2),
        "was_due": at(9, 5) + 4 * HOUR,
        "due": at(9, 5) + 2 * HOUR,
    }
    waits = about["b", "waiting"]
    assert (waits["why"], waits["policy_at"]) == ("silenced", at(2))
    assert about["", "policy_changed"] == {"name": "policy.toml"}


def test_one_that_cannot_be_used_changes_nothing_and_is_told() -> None:
    worker = stage()
    for data in (
        pack_policy(record(1, silence("o-north-1"))),
        envelope(at(10), opened("a", at(9), "o-north-1")),
        pack_policy(record(2, "", "policy.toml, line 1: no")),
        pack_policy(record(3, "grace = 'soon'")),  # by a newer version, perhaps
        envelope(at(12)),
    ):
        worker.process(*unpack(data))
    steps, _ = worker.advance(0)
    assert steps.groups == []
    told = {e.kind: json.loads(e.detail) for e in steps.events if not e.incident_id}
    assert told["policy_refused"]["error"] == "policy.toml, line 1: no"
    assert worker.rules.policy.silences


def test_an_answer_that_came_after_a_policy_counts_by_it() -> None:
    text = 'acknowledged_for = "{}"\nrepeat_interval = "1h"'
    for cut in (True, False):
        worker = stage()
        log = [pack_policy(record(1, text.format("4h"))), envelope(at(10), opened("a", at(9)))]
        for data in log:
            worker.process(*unpack(data))
        (group,) = worker.advance(0)[0].groups
        worker.settle(group, [], 0)
        worker.process(*unpack(pack_policy(record(2, text.format("8h")))))
        if cut:
            worker.advance(0)
        said = Answer("x", START, "w", "acknowledged", group.message_id, "", "{}", "sms")
        worker.process(*unpack(pack_answers([said])))
        worker.process(*unpack(envelope(at(30))))
        overdue = [e.at for e in worker.advance(0)[0].events if e.kind == "overdue"]
        assert overdue == [at(18, 5)], cut

"""What another policy would have made of it: the one that ran gives exactly what happened."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle_harness import MINUTE, START, at, rules
from test_lifecycle_properties import END, Heard, changes, days

from alerts.lifecycle.grouping import AlertGroup, Change
from alerts.lifecycle.lifecycle import advance, defer
from alerts.lifecycle.replay import Notice, WholesalerRecord, replay
from alerts.lifecycle.state import HeardAnswer, WholesalerState, decode, encode, hear, hold

RULES = rules()
OTHERS = (
    rules("group_wait = '10m'"),
    rules("repeat_interval = '1h'\nresolved_notes = true"),
    rules("[quiet_hours]\nstart = '12:00'\nend = '20:00'"),
)


def notices(group: AlertGroup) -> list[Notice]:
    return [
        Notice("w", group.due_at, group.kind, group.to, incident.incident_id)
        for incident in group.incidents
    ]


def lived(history: list[Change], answers: list[Heard], became: dict[int, str]) -> WholesalerRecord:
    """A worker lives through it in steps of five minutes; the nth message becomes `became[n]`."""
    state = WholesalerState("w")
    ahead, coming = sorted(history, key=lambda c: c.at), sorted(answers, key=lambda a: a.at)
    counted: list[HeardAnswer] = []
    about: dict[str, list[str]] = {}
    notified: set[Notice] = set()
    failed: set[Notice] = set()
    stale: dict[Notice, int] = {}
    knew: set[tuple[str, str]] = set()
    number = 0
    for mark in sorted({*range(START, END + 1, 5 * MINUTE), *(a.at for a in answers)}):
        while ahead and ahead[0].at < mark:
            hold(state, ahead.pop(0))
        if state.idle(mark, RULES.fingerprint) and not (coming and coming[0].at == mark):
            continue
        state = decode(encode(state))
        for group in advance(state, mark, RULES).groups:
            number += 1
            about[group.message_id] = [i.incident_id for i in group.incidents]
            outcome = became.get(number, "sent") if group.kind == "stock_out" else "sent"
            for notice in notices(group):
                known = (notice.incident_id, notice.to)
                if group.kind == "resolved" and known not in knew:
                    continue
                if outcome == "sent":
                    notified.add(notice)
                    knew.add(known)
                    continue
                failed.add(notice)
                if outcome == "stale":
                    stale[notice] = mark + 7 * MINUTE
                    defer(state, [notice.incident_id], RULES, stale[notice])
        while coming and coming[0].at == mark:
            answer = coming.pop(0).answer
            counted.append(HeardAnswer(mark, answer))
            hear(state, answer, mark)
    return WholesalerRecord(
        "w", sorted(history, key=lambda c: c.at), counted, about, notified, failed, stale
    )


@settings(max_examples=100, deadline=None)
@given(
    days(),
    st.dictionaries(st.integers(1, 12), st.sampled_from(("refused", "stale")), max_size=5),
)
def test_the_policy_that_ran_gives_what_happened(
    day: tuple[list[Change], list[Heard]], became: dict[int, str]
) -> None:
    record = lived(*day, became)
    if record.failed and not record.notified:
        record = lived(*day, {})  # An address that took nothing is another test's.
    assert replay(record, RULES, END + 1, final=False) == record.notified


@settings(max_examples=60, deadline=None)
@given(changes(), st.sampled_from(OTHERS))
def test_another_policy_decides_as_if_it_had_run(history: list[Change], other: object) -> None:
    state = WholesalerState("w")
    for change in history:
        hold(state, change)
    groups = advance(state, END, other).groups  # type: ignore[arg-type]
    expected = {notice for group in groups for notice in notices(group)}
    record = lived(history, [], {})
    assert replay(record, other, END, final=False) == expected  # type: ignore[arg-type]


@given(changes())
def test_an_address_that_takes_nothing_takes_nothing(history: list[Change]) -> None:
    record = lived(history, [], {})
    deaf = record._replace(
        notified={n for n in record.notified if n.to != "phone"},
        failed={n for n in record.notified if n.to == "phone"},
    )
    if not deaf.failed:
        return
    assert {n.to for n in replay(deaf, OTHERS[1], END, final=False)} == set()


def test_answers_count_for_what_they_were_about_under_other_names() -> None:
    """Ten minutes of gathering make one message of two: the answer holds for its part of it."""
    openings = [
        Change(name, f"o-north-{name}", "4G", "w", at(9, minutes), None, at(9, minutes))
        for name, minutes in (("i", 0), ("j", 5))
    ]
    (name,) = [m for m, about in lived(openings, [], {}).about.items() if about == ["j"]][:1]
    record = lived(openings, [Heard(at(11), _acknowledged(name, at(11)))], {})
    other = rules("group_wait = '10m'\nrepeat_interval = '1h'\nacknowledged_for = '366d'")
    found = replay(record, other, END, final=False)
    reminded = {n: sorted(r.at for r in found if r[2::2] == ("reminder", n)) for n in "ij"}
    assert reminded["j"] == [at(10, 10)]
    assert len(reminded["i"]) == 6


def _acknowledged(message_id: str, when: int):  # type: ignore[no-untyped-def]
    from lifecycle_harness import answer_of

    return answer_of("acknowledged", message_id, when)

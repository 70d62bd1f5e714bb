"""A case is what a second, plain implementation makes of the same events, minute by minute."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.plain_cases import PlainCases
from service_harness import CALENDARS, CASES, DAYS, MINUTE, START, histories, moments, rules_of

from pipelines.core.service.cases import Deadlines, Folded, Happened, fold
from schemas.service.rules import ServiceRules

END = START + DAYS * 1_440 * MINUTE


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[ServiceRules]:
    folder = tmp_path_factory.mktemp("rules")
    other = CASES.replace('"1wd"', '"3wh"').replace('"30min"', '"2h"')
    return [
        rules_of(folder / "a"),
        rules_of(folder / "b", CALENDARS.replace("2026-03-25", "2026-03-26"), other),
    ]


def folded(history: list[dict], rules: ServiceRules, until: int) -> dict[str, Folded]:
    deadlines = Deadlines(rules)
    repeats = PlainCases(rules).repeats(history)
    found: dict[str, list[Happened]] = {}
    for event in history:
        known = ("type", "event_id", "at", "case_id")
        detail = {k: v for k, v in event.items() if k not in known}
        if event["type"] == "case_opened":
            detail["repeat_of"] = repeats.get(event["case_id"], "")
        one = Happened(event["at"], event["event_id"], event["type"], 0, detail, "", 0)
        found.setdefault(event["case_id"], []).append(one)
    return {case: fold(case, events, deadlines, until) for case, events in found.items()}


@settings(max_examples=60)
@given(histories(), st.integers(0, 1), st.data())
def test_a_case_is_what_the_plain_one_is(both, history, which: int, data: st.DataObject) -> None:
    until = data.draw(st.one_of(st.just(END + 30 * 1_440 * MINUTE), moments))
    rules = both[which]
    cases, steps, refused = PlainCases(rules).all(history, until)
    ours = folded(history + history[:3], rules, until)
    assert {case for case, result in ours.items() if result.case is not None} == set(cases)
    assert {event for result in ours.values() for event in result.refused} == refused
    for name, expected in cases.items():
        found = ours[name].case
        assert found is not None
        assert {key: getattr(found, key) for key in expected} == expected
    assert {
        (s.case_id, s.step, s.n): (s.unit_id, s.started_at, s.due_at, s.finished_at)
        for result in ours.values()
        for s in result.steps
    } == steps


def test_warnings_come_before_what_is_due(both) -> None:
    events = [
        {"type": "case_opened", "case_id": "c", "event_id": "1", "at": START, "kind": "complaint",
         "unit_id": "u"},
        {"type": "case_step", "case_id": "c", "event_id": "2", "at": START + MINUTE,
         "step": "accept"},
    ]  # fmt: skip
    accept, answer = folded(events, both[0], START)["c"].steps
    assert accept.warn_at is None
    work = Deadlines(both[0])
    kind = both[0].kinds["complaint"]
    assert answer.warn_at == work.due(
        kind, kind.steps[1].within[1]._replace(length=6 * 3_600_000), answer.started_at
    )

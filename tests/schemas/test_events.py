"""The models of events: what is accepted, with which values, and why the rest is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import golden
from schemas.events import MODELS, Refused, accept, accept_call, accept_line

CALL = {"call_id": "C1", "start_time": "2026-03-02T09:15:02.350+08:00", "imsi": "460001234500000"}


def test_there_is_a_good_line_of_each_type() -> None:
    events = [accept_line(line) for line in golden.accepted()]
    assert {event.type for event in events} == set(MODELS)
    assert [event.event_id for event in events] == [
        *("D1", "R1", "T1", "X1", "A1", "G1"),
        *(f"K{i}" for i in range(1, 10)),
        *("S1", "S2", "S3", "S4", "C1"),
    ]
    assert {event.at for event in events} == {1772414102350, 1772414102000}


@pytest.mark.parametrize("example", golden.refused(), ids=lambda example: example.line[:60])
def test_what_is_wrong_is_refused_for_its_reason(example: golden.RefusedExample) -> None:
    with pytest.raises(Refused) as refused:
        accept_line(example.line)
    assert str(refused.value) == example.reason


@pytest.mark.parametrize("line", golden.accepted(), ids=lambda line: line[:20])
def test_a_line_and_its_object_are_the_same_event(line: bytes) -> None:
    assert accept(json.loads(line)) == accept_line(line)


def test_fields_that_no_model_has_are_not_looked_into() -> None:
    line = golden.accepted()[-1].replace(b"{", b'{"x":[1e999,{"a":[]}],', 1)
    assert accept_line(line) == accept_line(golden.accepted()[-1])


def test_a_line_that_is_not_utf8_is_malformed_wherever_it_is_not() -> None:
    line = golden.accepted()[-1].replace(b"{", b'{"x":"\xff",', 1)
    with pytest.raises(Refused, match=r"^malformed: not UTF-8$"):
        accept_line(line)


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(Refused, match=r"^malformed: JSON nested too deeply$"):
        accept_line(b'{"type":"call","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}")


@pytest.mark.parametrize(
    ("given_", "is_"),
    [
        ({}, None),
        ({"duration_s": ""}, None),
        ({"duration_s": "37"}, 37.0),
        ({"duration_s": "37.5"}, 37.5),
        ({"duration_s": 37.5}, 37.5),
    ],
)
def test_a_duration_may_be_left_out_text_or_a_number(
    given_: dict[str, object], is_: float | None
) -> None:
    assert accept_call(CALL | given_).duration_s == is_


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-1", "-0.5", "a minute", True, [1]])
def test_a_duration_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(Refused, match=r"^invalid_field: duration_s: ") as refused:
        accept_call(CALL | {"duration_s": value})
    assert refused.value.field == "duration_s"


@given(st.integers(-(2**63), 2**63 - 1))
def test_money_is_any_int64(fen: int) -> None:
    assert accept_call(CALL | {"charge_fen": fen}) == accept_call(CALL | {"charge_fen": str(fen)})
    assert accept_call(CALL | {"charge_fen": fen}).charge_fen == fen


@given(st.integers(2**63) | st.integers(max_value=-(2**63) - 1))
def test_money_that_no_int64_holds_is_refused(fen: int) -> None:
    with pytest.raises(Refused, match=r"^invalid_field: charge_fen: "):
        accept_call(CALL | {"charge_fen": fen})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
names = st.sampled_from(sorted({name for model in MODELS.values() for name in model.model_fields}))


@given(st.sampled_from(golden.accepted()), st.dictionaries(names, json_values, max_size=3))
def test_any_object_is_an_event_or_refused(line: bytes, changes: dict[str, object]) -> None:
    try:
        event = accept({**json.loads(line), **changes})
    except Refused as refused:
        reason = str(refused)
    else:
        assert 0 < len(event.event_id) <= 256
        assert isinstance(event.at, int)
        reason = "malformed: but accepted"
    assert reason.split(": ")[0] in {"malformed", "unknown_type", "invalid_field"}

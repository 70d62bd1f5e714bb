"""Properties of the gathering: it equals a plain fold, whatever happens on the way."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.lifecycle import lifecycle as life
from alerts.lifecycle.grouping import AlertGroup, Change, message_id
from alerts.lifecycle.state import WholesalerState, decode, encode, hold
from alerts.policy.rules import AlertRules
from schemas.errors import EnvelopeError

GROUP_WAITS = st.sampled_from([0, 1, 3, 10, 1_000])


def advance(
    state: WholesalerState, watermark: int, group_wait: int, *, final: bool = False
) -> list[AlertGroup]:
    """Without a policy."""
    return life.advance(state, watermark, AlertRules(group_wait, zone=UTC), final=final).groups


def opened(incident_id: str, at: int) -> Change:
    return Change(incident_id, f"o-{incident_id}", "4G", "w", at, None, at)


def closed(incident_id: str, opened_at: int, at: int) -> Change:
    return Change(incident_id, f"o-{incident_id}", "4G", "w", opened_at, at, at)


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Incidents in a small span of time, so that borders coincide often."""
    changes = []
    for i in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, 30))
        changes.append(opened(f"i{i}", at))
        if (lasts := draw(st.none() | st.integers(0, 15))) is not None:
            changes.append(closed(f"i{i}", at, at + lasts))
    return changes


def plain(changes: list[Change], group_wait: int) -> list[tuple[str, int, list[str]]]:
    """The rule as it is written, over the whole history at once."""
    closings = {c.incident_id: c.at for c in changes if c.closed_at is not None}
    openings = sorted((c.at, c.incident_id) for c in changes if c.closed_at is None)
    messages = []
    while openings:
        start, first = openings[0]
        end = start + group_wait
        taken = [o for o in openings if o[0] <= end]
        openings = openings[len(taken) :]
        listed = [i for _, i in taken if i not in closings or closings[i] > end]
        if listed:
            messages.append((message_id("w", start, first), end, listed))
    return messages


def told(groups: list) -> list[tuple[str, int, list[str]]]:
    return [(g.message_id, g.due_at, [i.incident_id for i in g.incidents]) for g in groups]


def test_a_day_of_one_wholesaler() -> None:
    state = WholesalerState("w")
    for change in [opened("a", 100), opened("b", 130), closed("a", 100, 150), opened("c", 161)]:
        assert hold(state, change)
    assert advance(state, 160, 60) == []
    (group,) = advance(state, 161, 60)
    assert told([group]) == [(message_id("w", 100, "a"), 160, ["b"])]
    assert (group.wholesaler_id, group.started_at) == ("w", 100)
    assert told(advance(state, 162, 60, final=True)) == [(message_id("w", 161, "c"), 221, ["c"])]
    assert state.idle(1_000, state.policy)


def test_all_refilled_in_time_sends_nothing() -> None:
    state = WholesalerState("w")
    hold(state, opened("a", 100))
    hold(state, closed("a", 100, 160))
    assert advance(state, 1_000, 60) == []
    assert state.idle(1_000, state.policy)


def test_refilled_just_too_late_is_still_listed() -> None:
    state = WholesalerState("w")
    hold(state, opened("a", 100))
    hold(state, closed("a", 100, 161))
    assert told(advance(state, 1_000, 60)) == [(message_id("w", 100, "a"), 160, ["a"])]


def test_an_opening_that_was_known_late_counts_when_it_was_known() -> None:
    state = WholesalerState("w")
    hold(state, Change("a", "o", "4G", "w", 10, None, 500))
    (group,) = advance(state, 561, 60)
    assert (group.started_at, group.incidents[0].opened_at) == (500, 10)


def test_replays_and_duplicates_are_ignored() -> None:
    state = WholesalerState("w")
    assert hold(state, opened("a", 100))
    assert not hold(state, opened("a", 100))
    advance(state, 101, 60)
    assert not hold(state, opened("a", 100))
    assert not hold(state, opened("b", 100))
    assert hold(state, opened("b", 101))


def test_final_decides_what_was_seen_and_no_more() -> None:
    state = WholesalerState("w")
    hold(state, opened("a", 100))
    advance(state, 50, 60, final=True)
    assert state.folded == 101
    assert hold(state, opened("b", 101))
    assert told(advance(state, 102, 60, final=True)) == [(message_id("w", 101, "b"), 161, ["b"])]


def test_a_lower_watermark_takes_nothing_back() -> None:
    state = WholesalerState("w")
    advance(state, 200, 60)
    advance(state, 100, 60)
    assert state.folded == 200


def test_the_id_names_wholesaler_time_and_incident() -> None:
    ids = {message_id(*key) for key in [("w", 1, "a"), ("w", 2, "a"), ("v", 1, "a"), ("w", 1, "b")]}
    assert len(ids) == 4
    assert message_id("w/1", 1, "a") != message_id("w", 1, "1/a")
    # A golden value: an id must not change with a release, or messages would go out again.
    assert message_id("w1", 1_700_000_000_000, "o1/4G/e1") == "908c937516bc616a9759452f"


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xc1", b"\x95\x02\xa1w\x00\x90\xc0", b"\x01"])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode(data)


@given(histories(), GROUP_WAITS)
def test_one_go_equals_the_plain_rule(changes: list[Change], group_wait: int) -> None:
    state = WholesalerState("w")
    for change in changes:
        hold(state, change)
    assert told(advance(state, 0, group_wait, final=True)) == plain(changes, group_wait)


@given(st.data(), histories(), GROUP_WAITS)
def test_nothing_on_the_way_changes_the_messages(
    data: st.DataObject, changes: list[Change], group_wait: int
) -> None:
    """Arrival in any order a watermark allows, repeats, batches, restarts: same messages."""
    state = WholesalerState("w")
    groups = []
    missing = data.draw(st.permutations(changes))
    delivered: list[Change] = []
    watermark = 0
    for turn in range(turns := data.draw(st.integers(1, 12), label="turns")):
        last = turn == turns - 1
        for _ in range(len(missing) if last else data.draw(st.integers(0, 3), label="new")):
            if missing:
                delivered.append(missing.pop())
                hold(state, delivered[-1])
        if delivered and data.draw(st.booleans(), label="again"):
            hold(state, data.draw(st.sampled_from(delivered)))
        if data.draw(st.booleans(), label="restart"):
            state = decode(encode(state))
        # What a source may update: nothing missing is below.
        most = min((c.at for c in missing), default=60)
        watermark = data.draw(st.integers(watermark, max(watermark, most)), label="watermark")
        groups += advance(state, watermark, group_wait)
    groups += advance(state, watermark, group_wait, final=True)
    assert told(groups) == plain(changes, group_wait)
    assert state.folded == max([watermark, *(c.at + 1 for c in changes if c.at >= watermark)])


@given(histories(), GROUP_WAITS, st.integers(0, 40))
def test_a_group_is_due_as_soon_as_the_watermark_passes(
    changes: list[Change], group_wait: int, watermark: int
) -> None:
    state = WholesalerState("w")
    for change in changes:
        hold(state, change)
    expected = [m for m in plain(changes, group_wait) if m[1] < watermark]
    assert told(advance(state, watermark, group_wait)) == expected


@given(histories())
def test_equal_states_have_equal_bytes(changes: list[Change]) -> None:
    one, other = WholesalerState("w"), WholesalerState("w")
    for change in changes:
        hold(one, change)
    for change in reversed(changes):
        hold(other, change)
    assert encode(one) == encode(other)
    assert encode(decode(encode(one))) == encode(one)

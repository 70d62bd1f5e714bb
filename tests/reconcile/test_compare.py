"""What counts as a difference, and what events that came too late for history may explain."""

from __future__ import annotations

from collections import Counter

from pipelines.core.stock.rebuild import Stockout, StockState, compare

SHELF = ("o1", "std")


def state(**changes) -> StockState:
    return StockState(
        {SHELF: 3} | changes.get("stock", {}),
        {Stockout(changes.get("id", "i1"), *SHELF, "w1", 10, changes.get("closed", 20))},
        Counter(changes.get("anomalies", {("delivered_twice", "89"): 1})),
        set(changes.get("too_late", ())),
    )


def test_equal_states_do_not_differ() -> None:
    assert compare(state(), state(), {SHELF}) == []


def test_a_shelf_one_side_does_not_know_differs_even_when_empty() -> None:
    (found,) = compare(state(), state(stock={("o2", "std"): 0}), set())
    assert found == ("stock", "o2", "std", "", "", "0", "")


def test_an_incident_that_never_closed_differs() -> None:
    (found,) = compare(state(), state(closed=None), {SHELF})
    assert found[:4] == ("incident", "o1", "std", "i1")
    assert (found.expected, found.found, found.explained) == ("10-20 w1", "10-open w1", "")


def test_an_incident_may_have_another_id() -> None:
    assert compare(state(), state(id="i2"), set()) == []


def test_of_incidents_that_open_in_one_moment_each_counts() -> None:
    other = state()
    other.incidents.add(Stockout("i2", *SHELF, "w1", 10, 10))
    (found,) = compare(state(), other, set())
    assert (found.kind, found.expected, found.found) == ("incident", "", "10-10 w1")


def test_what_came_late_depends_on_how_it_was_read_and_is_not_compared() -> None:
    late = {("delivered_twice", "89"): 1, ("late", "88"): 1}
    assert compare(state(), state(anomalies=late), {SHELF}) == []
    (found,) = compare(state(closed=None), state(anomalies=late), {SHELF})
    assert found.explained == ""


def test_events_that_came_too_late_explain_incidents_of_the_shelves_they_passed_but_no_stock() -> (
    None
):
    other = state(closed=None, stock={SHELF: 4}, too_late={"88"})
    found = compare(state(), other, {SHELF})
    assert [(d.kind, d.item, d.explained) for d in found] == [
        ("stock", "", ""),
        ("incident", "i1", "late"),
    ]
    (_, incident) = compare(state(), other, {("o2", "std")})
    assert incident.explained == ""


def test_a_shelf_whose_only_sim_was_used_before_its_delivery_was_known_is_explained() -> None:
    empty, passed = state(stock={("o2", "std"): 0}), {("o2", "std")}
    (stock,) = compare(empty, state(too_late={"88"}), passed)
    assert stock == ("stock", "o2", "std", "", "0", "", "late")
    assert compare(empty, state(), passed)[0].explained == ""
    full = state(stock={("o2", "std"): 1})
    assert compare(full, state(too_late={"88"}), passed)[0].explained == ""


def test_an_anomaly_of_a_sim_that_was_never_too_late_is_a_fault() -> None:
    other = state(anomalies={("delivered_twice", "88"): 1}, too_late={"88"})
    (twice,) = compare(state(), other, set())
    assert (twice.item, twice.expected, twice.found) == ("delivered_twice", "1", "1")
    assert twice.explained == ""
    both = state(anomalies={("delivered_twice", "88"): 1, ("delivered_twice", "89"): 1},
                 too_late={"88"})  # fmt: skip
    assert compare(state(), both, set())[0].explained == "late"

"""What counts as a difference, and what late events may explain."""

from __future__ import annotations

from collections import Counter

from pipelines.core.stock.rebuild import Stockout, StockState, compare

SHELF = ("o1", "std")


def standing(**changes) -> StockState:
    return StockState(
        {SHELF: 3} | changes.get("stock", {}),
        {"i1": Stockout(*SHELF, "w1", 10, changes.get("closed", 20))},
        Counter(changes.get("anomalies", {("delivered_twice", "89"): 1})),
    )


def test_equal_standings_do_not_differ() -> None:
    assert compare(standing(), standing(), {SHELF}) == []


def test_a_shelf_one_side_does_not_know_differs_even_when_empty() -> None:
    (found,) = compare(standing(), standing(stock={("o2", "std"): 0}), set())
    assert found == ("stock", "o2", "std", "", "", "0", "")


def test_an_incident_that_never_closed_differs() -> None:
    (found,) = compare(standing(), standing(closed=None), {SHELF})
    assert found[:4] == ("incident", "o1", "std", "i1")
    assert (found.expected, found.found, found.explained) == ("10-20 w1", "10-open w1", "")


def test_late_events_explain_incidents_of_the_shelves_they_passed_but_no_stock() -> None:
    late = {("delivered_twice", "89"): 1, ("late", "88"): 1}
    other = standing(closed=None, stock={SHELF: 4}, anomalies=late)
    found = compare(standing(), other, {SHELF})
    assert [(d.kind, d.item, d.explained) for d in found] == [
        ("stock", "", ""),
        ("incident", "i1", "late"),
        ("anomalies", "late", "late"),
    ]
    (_, incident, _) = compare(standing(), other, {("o2", "std")})
    assert incident.explained == ""


def test_a_shelf_whose_only_sim_was_used_before_its_delivery_was_known_is_explained() -> None:
    late = {("delivered_twice", "89"): 1, ("late", "88"): 1}
    empty = standing(stock={("o2", "std"): 0})
    passed = {("o2", "std")}
    stock, _ = compare(empty, standing(anomalies=late), passed)
    assert stock == ("stock", "o2", "std", "", "0", "", "late")
    assert compare(empty, standing(), passed)[0].explained == ""
    full = standing(stock={("o2", "std"): 1})
    assert compare(full, standing(anomalies=late), passed)[0].explained == ""


def test_late_events_on_both_sides_explain_nothing() -> None:
    late = {("late", "88"): 1}
    (found,) = compare(standing(anomalies=late), standing(closed=None, anomalies=late), {SHELF})
    assert found.explained == ""


def test_an_anomaly_of_a_sim_that_was_never_late_is_a_fault() -> None:
    other = standing(anomalies={("late", "88"): 1, ("delivered_twice", "88"): 1})
    (twice, late) = compare(standing(), other, set())
    assert (twice.item, twice.expected, twice.found) == ("delivered_twice", "1", "1")
    assert twice.explained == ""
    assert late.explained == "late"

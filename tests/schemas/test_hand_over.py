"""Who serves an outlet when wholesalers leave: the table against a walk through time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.hand_over import HandOver
from schemas.reference import Assignment, Outlet, Reference, Territory

WHOLESALERS = ["w1", "w2", "w3", "w4"]
OUTLETS = ["o1", "o2", "o3", "o4"]
#: o1 and o2 stand in parts of north, o3 in south, o4 nowhere.
PLACES = {"o1": ("n1", "north"), "o2": ("n2", "north"), "o3": ("south",), "o4": ()}

assigned = st.lists(
    st.tuples(st.sampled_from(OUTLETS), st.sampled_from(WHOLESALERS), st.integers(0, 20)),
    max_size=8,
    unique_by=lambda a: (a[0], a[2]),
)
left = st.lists(
    st.tuples(
        st.sampled_from(WHOLESALERS),
        st.sampled_from(WHOLESALERS),
        st.sampled_from([None, "n1", "north", "south"]),
        st.integers(0, 20),
        st.one_of(st.none(), st.integers(0, 25)),
    ).filter(lambda s: s[0] != s[1]),
    max_size=4,
    # Two that leave at one moment for one place would be a contradiction.
    unique_by=(lambda s: (s[0], s[3]), lambda s: s[3]),
)


def reference(
    assignments: list[tuple[str, str, int]],
    hand_overs: list[tuple[str, str, str | None, int, int | None]],
) -> Reference:
    territories = {"n1": "north", "n2": "north", "north": None, "south": None}
    return Reference(
        territories={
            t: Territory(territory_id=t, name=t, parent_id=p) for t, p in territories.items()
        },
        outlets={
            o: Outlet(outlet_id=o, name=o, kind="k", territory_id=places[0] if places else None)
            for o, places in PLACES.items()
        },
        assignments=[
            Assignment.model_construct(outlet_id=o, wholesaler_id=w, valid_from=at)
            for o, w, at in assignments
        ],
        hand_overs=[
            HandOver.model_construct(
                hand_over_id=f"s{n}",
                wholesaler_id=leaving,
                successor_id=to,
                territory_id=territory,
                valid_from=at,
                undone_at=undone,
            )
            for n, (leaving, to, territory, at, undone) in enumerate(hand_overs)
        ],
    )


def walk(assignments, hand_overs, until: int) -> dict[str, str]:
    """Who holds each outlet at a moment, having gone through all moments before."""
    holder: dict[str, str] = {}
    taken: dict[int, set[str]] = {}
    for now in range(until + 1):
        holder.update({outlet: wholesaler for outlet, wholesaler, at in assignments if at == now})
        for number, (leaving, to, _, at, undone) in enumerate(hand_overs):
            if undone == now and undone > at:
                for outlet in taken.get(number, ()):
                    if holder[outlet] == to:
                        holder[outlet] = leaving
        for number, (leaving, to, territory, at, undone) in enumerate(hand_overs):
            if at == now and (undone is None or undone > at):
                taken[number] = {
                    outlet
                    for outlet, held in holder.items()
                    if held == leaving and (territory is None or territory in PLACES[outlet])
                }
                holder.update(dict.fromkeys(taken[number], to))
    return holder


@given(assigned, left, st.integers(0, 25), st.randoms())
def test_the_table_is_the_walk(assignments, hand_overs, at: int, random) -> None:
    wanted = walk(assignments, hand_overs, at)
    random.shuffle(assignments)
    tables = reference(assignments, hand_overs)
    assert {o: tables.holder(o, at) for o in OUTLETS} == {o: wanted.get(o, "") for o in OUTLETS}


@given(assigned, left, st.integers(0, 25))
def test_what_was_before_stays_as_it_was(assignments, hand_overs, at: int) -> None:
    later = [s for s in hand_overs if s[3] > at]
    tables, plain = reference(assignments, later), reference(assignments, [])
    for outlet in OUTLETS:
        assert tables.holder(outlet, at) == plain.holder(outlet, at)
        for wholesaler in WHOLESALERS:
            assert tables.successor(wholesaler, outlet, at) == wholesaler


def test_the_smaller_territory_goes_first_and_only_what_is_still_held_comes_back() -> None:
    held = [("o1", "w1", 0), ("o2", "w1", 0), ("o3", "w1", 0)]
    tables = reference(held, [("w1", "w2", "north", 10, 20), ("w1", "w3", "n1", 10, None)])
    assert [tables.holder(o, 15) for o in ("o1", "o2", "o3")] == ["w3", "w2", "w1"]
    assert [tables.holder(o, 20) for o in ("o1", "o2", "o3")] == ["w3", "w1", "w1"]
    assert tables.successor("w1", "o2", 15) == "w2"
    assert tables.successor("w1", "o2", 9) == tables.successor("w1", "o2", 20) == "w1"
    assert tables.successor("w1", "o3", 15) == "w1"


def test_a_successor_who_leaves_as_well_hands_on_what_he_took_over() -> None:
    tables = reference(
        [("o1", "w1", 0)], [("w1", "w2", None, 5, None), ("w2", "w3", None, 8, None)]
    )
    assert [tables.holder("o1", at) for at in (4, 5, 8)] == ["w1", "w2", "w3"]
    assert tables.successor("w1", "o1", 9) == "w3"

"""Look-ups in the reference tables, against plain searches through all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.reference import Assignment, Reference, SimBatch

FIRST_IMSI, FIRST_ICCID = 460001234500000, 8986000123450000000


def batch(name: str, iccid: int, imsi: int, count: int) -> SimBatch:
    return SimBatch(
        batch_id=name, sku="S", first_iccid=str(iccid), first_imsi=f"{imsi:015}", count=count
    )


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """Batches one after the other, with gaps and without, ICCIDs in another order than IMSIs."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), max_size=5))
    order = draw(st.permutations(range(len(sizes))))
    starts = np.cumsum([0] + [count + gap for count, gap in sizes]).tolist()
    iccids: dict[int, int] = {}
    at = 0
    for number in order:
        iccids[number] = at
        at += sum(sizes[number])
    return Reference(
        batches=[
            batch(f"B{n}", FIRST_ICCID + iccids[n], FIRST_IMSI + starts[n], count)
            for n, (count, _) in enumerate(sizes)
        ]
    )


def sims(reference: Reference) -> dict[int, int]:
    """ICCID → IMSI of each SIM there is."""
    return {
        int(b.first_iccid) + i: int(b.first_imsi) + i
        for b in reference.batches
        for i in range(b.count)
    }


@given(references())
def test_registered_is_being_in_some_batch(reference: Reference) -> None:
    asked = np.arange(FIRST_IMSI - 2, FIRST_IMSI + 45)
    there = set(sims(reference).values())
    assert reference.registered(asked).tolist() == [imsi in there for imsi in asked.tolist()]


@given(references(), st.integers(-2, 42), st.integers(1, 20))
def test_ranges_are_the_sims_one_by_one(reference: Reference, start: int, count: int) -> None:
    first = FIRST_ICCID + start
    there = sims(reference)
    asked = [there.get(iccid) for iccid in range(first, first + count)]
    ranges = reference.imsi_ranges(str(first), count)
    if None in asked:
        assert ranges is None
    else:
        assert ranges is not None
        assert [imsi + i for imsi, n in ranges for i in range(n)] == asked


def test_cards_of_19_and_20_digits_are_different_cards() -> None:
    reference = Reference(
        batches=[batch("B1", 10**18, 1, 5), batch("B2", 10**19, 100, 5)],
    )
    assert reference.imsi_ranges(str(10**18), 5) == [(1, 5)]
    assert reference.imsi_ranges(str(10**19), 5) == [(100, 5)]
    assert reference.imsi_ranges(str(10**19 - 1), 1) is None


@pytest.mark.parametrize(
    ("iccid", "imsi", "what"),
    [(FIRST_ICCID + 4, FIRST_IMSI + 100, "ICCIDs"), (FIRST_ICCID + 100, FIRST_IMSI + 4, "IMSIs")],
)
def test_batches_that_overlap_are_refused(iccid: int, imsi: int, what: str) -> None:
    first = batch("B1", FIRST_ICCID, FIRST_IMSI, 5)
    with pytest.raises(InputError, match=rf"^sim_batches\.csv: B1 and B2 have {what} in common$"):
        Reference(batches=[batch("B2", iccid, imsi, 5), first])
    Reference(batches=[batch("B2", iccid + 1, imsi + 1, 5), first])


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.sampled_from("vwx"))),
    st.sampled_from("abc"),
    st.integers(-1, 21),
)
def test_the_newest_assignment_that_has_begun_holds(
    rows: list[tuple[str, int, str]], outlet: str, at: int
) -> None:
    assignments = [
        Assignment(outlet_id=o, wholesaler_id=w, valid_from=f"2026-01-01T00:00:{t:02}Z")
        for o, t, w in rows
    ]
    start = 1767225600000
    held = [(t, i) for i, (o, t, _) in enumerate(rows) if o == outlet and t <= at]
    expected = rows[max(held)[1]][2] if held else ""
    assert Reference(assignments=assignments).holder(outlet, start + at * 1_000) == expected

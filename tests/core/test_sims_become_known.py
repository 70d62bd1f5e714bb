"""SIMs become ours in the log: a batch that comes while the system runs, and one whose row is gone.

What the stage makes of facts must not depend on whether the reference tables named their SIMs when
the worker started, nor on whether they still do when it starts again.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from oracle.stream_harness import IMSIS, RANGES, holder

from pipelines.core.effects import Effect
from pipelines.core.stock.sim_registry import UNUSED, SimRange, SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from schemas.envelope import PLACEMENTS, SIM_CARDS, SIM_RANGES, USES, Header
from schemas.topics import SIM_BLOCK, block_of

NEAR = sorted({imsi + step for imsi in IMSIS for step in (-SIM_BLOCK, -1, 0, 1, SIM_BLOCK)})

Step = tuple[Header, pa.RecordBatch | None]


def ranges(some: list[SimRange]) -> Step:
    rows = [
        {
            "range_start": r.first_imsi,
            "sims": r.count,
            "sku": r.sku,
            "first_iccid": r.first_iccid,
            "luhn": r.luhn,
        }
        for r in some
    ]
    return Header("sim_ranges"), pa.RecordBatch.from_pylist(rows, schema=SIM_RANGES)


@st.composite
def facts(draw: st.DrawFn) -> list[Step]:
    """Deliveries and uses of single SIMs, a second apart."""
    log: list[Step] = []
    for number in range(draw(st.integers(1, 20))):
        imsi, at = draw(st.sampled_from(IMSIS)), 1_000 * (number + 1)
        if draw(st.booleans()):
            use = {"imsi": imsi, "at": at, "event_id": f"c{number}"}
            rows = "uses", pa.RecordBatch.from_pylist([use], schema=USES)
        else:
            delivery = {
                "event_id": f"d{number}", "at": at, "known_at": at, "type": 1,
                "outlet_id": draw(st.sampled_from(["o1", "o2"])), "to_outlet_id": "",
                "first_imsi": imsi, "count": 1,
            }  # fmt: skip
            rows = "placements", pa.RecordBatch.from_pylist([delivery], schema=PLACEMENTS)
        log.append((Header(rows[0], "s", at), rows[1]))
    log.append((Header("none", "s", 10**6), None))
    return log


def said(effects: list[Effect]) -> Counter[str]:
    return Counter(str(row) for e in effects if e.rows is not None for row in e.rows.to_pylist())


def work(log: list[Step], known: list[SimRange], deaths: list[int]) -> Counter[str]:
    """What is said of a log by a worker that starts anew, from its state, at each of `deaths`.

    Only at its first start do the reference tables name the SIMs in `known`.
    """
    state: dict[bytes, bytes] = {}
    heard: Counter[str] = Counter()
    for start, end in pairwise([0, *sorted(deaths), len(log)]):
        stage = SimStage(0, 1, SimRegistry([] if start else known), holder)
        for key, value in state.items():
            stage.restore(key, value)
        for header, rows in log[start:end]:
            stage.process(header, rows)
            heard += said(stage.advance())
            # As a changelog has it: the newest write of each key, in the order of these writes.
            for key, value in stage.snapshot():
                state.pop(key, None)
                state[key] = value
    return heard


@given(log=facts(), data=st.data())
def test_it_does_not_matter_how_sims_became_known(log: list[Step], data: st.DataObject) -> None:
    early = data.draw(st.lists(st.sampled_from(RANGES), unique=True))
    deaths = data.draw(st.lists(st.integers(1, len(log)), unique=True))
    expected = work(log, RANGES, [])
    announced = [ranges(RANGES)] * data.draw(st.integers(1, 2))
    assert work([*announced, *log], early, [len(announced) + d for d in deaths]) == expected


@given(log=facts(), data=st.data())
def test_nor_whether_they_are_a_batch_or_cards_of_a_list(
    log: list[Step], data: st.DataObject
) -> None:
    deaths = data.draw(st.lists(st.integers(1, len(log)), unique=True))
    rows = [
        {"imsi": imsi, "iccid": r.iccids([imsi])[0], "sku": r.sku}
        for r in RANGES
        for imsi in range(r.first_imsi, r.first_imsi + r.count)
    ]
    cards = Header("sim_cards"), pa.RecordBatch.from_pylist(rows, schema=SIM_CARDS)
    announced = [cards] * data.draw(st.integers(1, 2))
    assert work([*announced, *log], [], [len(announced) + d for d in deaths]) == work(
        log, RANGES, []
    )


@given(
    parts=st.lists(st.lists(st.sampled_from(RANGES), max_size=2), max_size=5),
    used=st.lists(st.sampled_from(IMSIS), max_size=5),
)
def test_a_registry_that_grew_is_one_that_was_made_so(
    parts: list[list[SimRange]], used: list[int]
) -> None:
    whole = SimRegistry(RANGES)
    grown = SimRegistry()
    for part in parts:
        grown.extend(part)
        for imsi in used:
            grown.block_view(block_of(imsi))[imsi % SIM_BLOCK] = 7
    grown.extend(RANGES)
    if parts:
        for imsi in used:
            whole.block_view(block_of(imsi))[imsi % SIM_BLOCK] = 7
    near = np.array(NEAR)
    assert [grown.range_of(i) for i in NEAR] == [whole.range_of(i) for i in NEAR]
    assert (grown.first_use[grown.slots(near)] == whole.first_use[whole.slots(near)]).all()
    at = np.full(len(near), 5)
    assert (grown.candidates(near, at) == whole.candidates(near, at)).all()
    assert len(grown) == len(whole)


def test_of_two_ranges_with_a_sim_in_common_the_first_holds() -> None:
    first, other = (
        SimRange(460_000_000_000_000, 10, "a", "8986" + "0" * 15),
        SimRange(460_000_000_000_009, 10, "b", "8986" + "1" * 15),
    )
    registry = SimRegistry([first])
    registry.extend([other, first])
    assert registry.range_of(other.first_imsi) == first
    assert registry.range_of(other.first_imsi + 1) is None
    assert (registry.first_use[1:] == UNUSED).all()


@given(order=st.permutations(range(4)))
def test_of_batches_that_were_corrected_the_first_named_holds_also_after_a_restart(
    order: list[int],
) -> None:
    start = 460_000_000_000_000
    known = [
        SimRange(start, 10, "a", "8986" + "0" * 15),
        SimRange(start, 10, "b", "8986" + "1" * 15),
        SimRange(start + 5, 10, "c", "8986" + "2" * 15),
        SimRange(start - 5, 9, "d", "8986" + "3" * 15),
    ]
    stage = SimStage(0, 1, SimRegistry(), holder)
    for number in order:
        stage.process(*ranges([known[number]]))
    heir = SimStage(0, 1, SimRegistry(), holder)
    stage.process(Header("none", "s", 1), None)
    for key, value in stage.snapshot():
        heir.restore(key, value)
    imsis = range(start - 6, start + 16)
    held = [stage.registry.range_of(imsi) for imsi in imsis]
    assert [heir.registry.range_of(imsi) for imsi in imsis] == held
    assert known[order[0]] in held

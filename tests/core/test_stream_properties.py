"""Arrival order within the bound, duplicates, partitions, crashes and restarts change nothing."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.plain_fold import Fact, fold
from oracle.stream_harness import (
    IMSIS,
    OUTLETS,
    RANGES,
    Rig,
    batches_come_later,
    envelopes_of,
    iccid_of,
    sku_of,
)

from pipelines.core import effects
from pipelines.core.stock import block, shelf, sim_stage, unregistered
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from schemas.envelope import Header, pack

DISORDER = 40


@pytest.fixture(autouse=True, scope="module")
def small_envelopes():
    """So small that one step's rows need several, and blocks' news often go into their bulk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "ENVELOPE_ROWS", 3)
        patch.setattr(block, "_MOST_RECENT", 2)
        patch.setattr(shelf, "_MOST_RECENT", 2)
        patch.setattr(sim_stage, "_ENTRY_CARDS", 2)
        for name, most in (("_MOST_OPEN", 2), ("_ENTRY_ROWS", 2), ("_MOST_RECENT", 2)):
            patch.setattr(unregistered, name, most)
        yield


@st.composite
def histories(draw: st.DrawFn, least: int = 1) -> list[Fact]:
    """Distinct event times, so that the order of the fold is never in doubt."""
    times = draw(st.lists(st.integers(1, 1_500), min_size=least, max_size=50, unique=True))
    facts = []
    for number, at in enumerate(times):
        kind = draw(
            st.sampled_from(["use"] * 4 + ["delivery"] * 3 + ["return", "transfer", "write_off"])
        )
        start = draw(st.integers(0, len(IMSIS) - 1))
        count = 1 if kind == "use" else draw(st.integers(1, 12))
        span = IMSIS[start : start + count]
        facts.append(
            Fact(
                at,
                f"e{number}",
                kind,
                tuple(span),
                "" if kind == "use" else draw(st.sampled_from(OUTLETS)),
                draw(st.sampled_from(OUTLETS)) if kind == "transfer" else "",
            )
        )
    return facts


def arrival(facts: list[Fact], random: Random, sources: int) -> dict[str, list[Fact]]:
    """Some sources' files: shuffled within the bound, some lines twice, the copy however late."""
    some: dict[str, list[Fact]] = {f"s{i}": [] for i in range(sources)}
    delayed = [(f.at + random.randint(0, DISORDER), random.random(), f) for f in facts]
    delayed += [
        (f.at + random.randint(0, random.choice([DISORDER, 1_500])), random.random(), f)
        for f in facts
        if random.random() < 0.3
    ]
    for _, _, fact in sorted(delayed, key=lambda d: d[:2]):
        some[random.choice(list(some))].append(fact)
    return {s: f for s, f in some.items() if f}


@settings(max_examples=200)
@given(histories(), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_whatever_happens_the_outcome_is_the_fold(facts, seed, partitions, sources) -> None:
    random = Random(seed)
    rig = Rig(envelopes_of(arrival(facts, random, sources), partitions, DISORDER, random), seed)
    rig.run()
    truth = fold(facts, sku_of)
    registry = SimRegistry(RANGES)
    assert rig.stock() == truth.stock
    assert rig.levels() == {shelf: len(sims) for shelf, sims in truth.stock.items()}
    assert rig.incidents() == truth.incidents
    assert rig.anomalies() == {(e, registry.iccid(i), k) for e, i, k in truth.anomalies}


@settings(max_examples=100)
@given(histories(), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(1, 1_500))
def test_input_that_ends_and_goes_on_gives_the_same(facts, seed, partitions, noon) -> None:
    """The second day's files are read by a second run, after the first has told all it knew."""
    random = Random(seed)
    early, late = ([f for f in facts if (f.at < noon) == first] for first in (True, False))
    days = [arrival(day, random, 2) for day in (early, late) if day]
    rig = Rig(envelopes_of(days[0], partitions, DISORDER, random), seed)
    rig.run()
    for day in days[1:]:
        rig.reopen(envelopes_of(day, partitions, DISORDER, random))
        rig.run()
    truth = fold(facts, sku_of)
    assert rig.stock() == truth.stock
    assert rig.incidents() == truth.incidents
    assert rig.anomalies() == {(e, SimRegistry(RANGES).iccid(i), k) for e, i, k in truth.anomalies}


def shown(rig: Rig) -> dict[str, set]:
    """What the tables come to, without the list of what came late."""
    return {
        "movements": rig.movements(),
        "incidents": rig.incidents(),
        "anomalies": {row for row in rig.anomalies() if row[2] != "late"},
        "stock": {(*shelf, imsi) for shelf, sims in rig.stock().items() for imsi in sims},
    }


def folded(facts: list[Fact], listed: Collection[SimRange] = ()) -> dict[str, set]:
    """What they should come to."""
    truth = fold(facts, sku_of)
    return {
        "movements": truth.movements,
        "incidents": truth.incidents,
        "anomalies": {(e, iccid_of(i, listed), k) for e, i, k in truth.anomalies},
        "stock": {(*shelf, imsi) for shelf, sims in truth.stock.items() for imsi in sims},
    }


def beyond_the_bound(facts: list[Fact], random: Random, sources: int) -> dict[str, list[Fact]]:
    """Some sources' files, in which some facts come much later than the bound, and some twice."""
    some: dict[str, list[Fact]] = {f"s{i}": [] for i in range(sources)}
    share = random.choice([0.05, 0.3, 1])
    delayed = [
        (f.at + random.randint(0, 3_000 if random.random() < share else DISORDER), n, f)
        for n, f in enumerate(facts + [f for f in facts if random.random() < 0.2])
    ]
    for _, _, fact in sorted(delayed, key=lambda d: d[:2]):
        some[random.choice(list(some))].append(fact)
    return {s: f for s, f in some.items() if f}


@settings(max_examples=300)
@given(histories(), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_history_comes_right_beyond_the_bound(facts, seed, partitions, sources) -> None:
    random = Random(seed)
    arrived = beyond_the_bound(facts, random, sources)
    rig = Rig(envelopes_of(arrived, partitions, DISORDER, random), seed)
    rig.run()
    assert shown(rig) == folded(facts)
    stock = fold(facts, sku_of).stock
    assert rig.levels() == {shelf: len(sims) for shelf, sims in stock.items()}


@settings(max_examples=200)
@given(histories(), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_history_comes_right_whatever_the_readers_put_on_record(
    facts, seed, partitions, sources
) -> None:
    """Sources that appear late, are silent, absent, and return; wrong conclusions of all kinds."""
    random = Random(seed)
    arrived = beyond_the_bound(facts, random, sources)
    logs = envelopes_of(arrived, partitions, DISORDER, random, troubled=True)
    end = pack(Header("none", "end", 10_000, True))
    rig = Rig([[*log, end] for log in logs], seed)
    rig.run()
    assert shown(rig) == folded(facts)


@settings(max_examples=100)
@given(histories(), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_what_a_later_run_brings_of_earlier_days_comes_right(facts, seed, partitions, runs) -> None:
    """Each run ends later than the one before, and brings what is older than that end."""
    random = Random(seed)
    shares: list[list[Fact]] = [[] for _ in range(runs + 1)]
    for fact in facts:
        shares[random.randint(0, runs)].append(fact)
    rig = Rig([[] for _ in range(partitions)], seed)
    for number, share in enumerate(shares):
        logs = envelopes_of(arrival(share, random, 2), partitions, DISORDER, random)
        end = pack(Header("none", "end", 10_000 + number, True))
        rig.reopen([[*log, end] for log in logs])
        rig.run()
    assert shown(rig) == folded(facts)


@settings(max_examples=150)
@given(
    histories(least=25),
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.sampled_from([(), RANGES[1:], RANGES]),
)
def test_a_batch_that_becomes_known_counts_as_if_it_had_been(
    facts, seed, partitions, troubled, listed
) -> None:
    """So does a listed card. Uses are kept till then, through crashes; deliveries were letters."""
    random = Random(seed)
    arrived = beyond_the_bound(facts, random, 2) if troubled else arrival(facts, random, 2)
    logs = envelopes_of(arrived, partitions, DISORDER, random, troubled)
    end = pack(Header("none", "end", 10_000, True))
    rig = Rig([[*log, end] for log in batches_come_later(logs, random, listed)], seed, known=[])
    rig.run()
    assert shown(rig) == folded(facts, listed)
    stock = fold(facts, sku_of).stock
    assert rig.levels() == {shelf: len(sims) for shelf, sims in stock.items()}


@settings(max_examples=50)
@given(histories(least=25), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(0, 800))
def test_a_batch_that_comes_too_late_for_history_still_corrects_the_stock(
    facts, seed, partitions, restate_within
) -> None:
    random = Random(seed)
    logs = envelopes_of(arrival(facts, random, 2), partitions, DISORDER, random)
    end = pack(Header("none", "end", 10_000, True))
    logs = [[*log, end] for log in batches_come_later(logs, random)]
    rig = Rig(logs, seed, restate_within, known=[])
    rig.run()
    assert shown(rig)["stock"] == folded(facts)["stock"]


@settings(max_examples=100)
@given(histories(), st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(0, 800))
def test_what_is_too_late_for_history_still_corrects_the_stock(
    facts, seed, partitions, restate_within
) -> None:
    random = Random(seed)
    arrived = beyond_the_bound(facts, random, 2)
    rig = Rig(envelopes_of(arrived, partitions, DISORDER, random), seed, restate_within)
    rig.run()
    assert shown(rig)["stock"] == folded(facts)["stock"]


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_copy_that_is_late_elsewhere_does_not_make_the_punctual_one_late(late) -> None:
    """The copy of a delivery, a use or a return comes first, from a source that is far ahead."""
    facts = [
        Fact(100, "d1", "delivery", tuple(IMSIS[:1]), "o1"),
        Fact(200, "d2", "delivery", tuple(IMSIS[1:3]), "o1"),
        Fact(300, "c1", "use", (IMSIS[1],)),
        Fact(400, "r1", "return", tuple(IMSIS[:1]), "o1"),
        Fact(500, "c2", "use", (IMSIS[2],)),
    ]
    ahead = [Fact(900, "far", "use", (IMSIS[20],)), facts[late]]
    for seed in range(20):
        logs = envelopes_of({"ahead": ahead, "b": facts}, 1, DISORDER, Random(seed))
        rig = Rig(logs, seed)
        rig.run()
        assert rig.incidents() == fold(facts, sku_of).incidents == {("o1", "prepaid", 500, None)}
        assert {kind for _, _, kind in rig.anomalies()} == {"active_before_delivery"}


def test_a_late_activation_is_listed_and_puts_the_stock_out_in_its_place() -> None:
    facts = [
        Fact(100, "d", "delivery", tuple(IMSIS[:2]), "o1"),
        Fact(200, "c1", "use", (IMSIS[0],)),
        Fact(900, "c3", "use", (IMSIS[20],)),
        Fact(300, "c2", "use", (IMSIS[1],)),
    ]
    rig = Rig(envelopes_of({"s": facts}, 1, DISORDER, Random(1)), 1)
    rig.run()
    assert rig.stock() == {("o1", "prepaid"): set()}
    kinds = {(event, kind) for event, _, kind in rig.anomalies()}
    assert kinds == {("c2", "late"), ("c3", "active_before_delivery")}
    assert rig.incidents() == {("o1", "prepaid", 300, None)}

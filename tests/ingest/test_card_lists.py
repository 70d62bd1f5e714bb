"""Cards whose numbers follow no rule: listed in sims.csv, named one by one in events."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import FIRST_ICCID, FIRST_IMSI, put, read

from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.ingest.reference import load_reference
from schemas.cards import CardList

LISTED = {f"89860A{n * 7919 % 10**14:014}": 460_009_000_000_000 + n * 37 for n in range(50)}


def delivery(number: int, **cards: object) -> str:
    event = {"type": "delivery", "event_id": f"D{number}", "at": "2026-03-02T08:00:00Z"}
    return json.dumps(event | {"outlet_id": "O1", "wholesaler_id": "W1"} | cards) + "\n"


def sims_csv(*more: str) -> str:
    rows = [f"{iccid},{imsi},PAD" for iccid, imsi in LISTED.items()]
    return "\n".join(["iccid,imsi,sku", *rows, *more]) + "\n"


def test_cards_of_a_list_are_delivered_and_used(city: Path) -> None:
    put(city / "reference/sims.csv", sims_csv())
    cards = list(LISTED)[3:7]
    put(
        city / "events/a.ndjson", delivery(1, iccids=[cards[0] + "F", *cards[1:], str(FIRST_ICCID)])
    )
    put(
        city / "cdr/s/a.csv",
        "call_id,start_time,imsi\n"
        + "".join(f"c{n},2026-03-02T09:00:00Z,{LISTED[iccid]}\n" for n, iccid in enumerate(cards)),
    )
    post, report = read(city)
    placed = {(row["first_imsi"], row["count"]) for row in post.rows("placements")}
    assert placed == {(LISTED[iccid], 1) for iccid in cards} | {(FIRST_IMSI, 1)}
    assert {use[1] for use in post.uses()} == {LISTED[iccid] for iccid in cards}
    assert (post.letters(), report.outsiders) == ([], 0)


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        (
            {"iccids": ["8" * 20]},
            f"unknown_sim: neither sim_batches.csv nor sims.csv holds {'8' * 20}",
        ),
        ({"iccids": []}, "invalid_field: first_iccid: missing"),
        (
            {"iccids": ["x"]},
            "invalid_field: first_iccid: not an ICCID of 18 to 22 digits and letters A to F",
        ),
        (
            {"iccids": ["8" * 20], "count": 1},
            "invalid_field: iccids: give either iccids, or first_iccid and count",
        ),
    ],
)
def test_lists_that_cannot_be_are_refused(city: Path, cards: dict[str, object], why: str) -> None:
    put(city / "events/a.ndjson", delivery(1, **cards))
    assert [letter[2] for letter in read(city)[0].letters()] == [why]


def test_rows_of_the_list_that_cannot_be_are_refused(city: Path) -> None:
    iccid, imsi = next(iter(LISTED.items()))
    rows = [
        f"{iccid},{imsi},PAD",  # the same again
        f"{iccid},460009999999999,PAD",
        f"89860B00000000000001,{FIRST_IMSI},PAD",
        "89860B00000000000002,46000,PAD",
        "89860B00000000000003,460009999999998,",
        "89860B00000000000004",
        "89860B00000000000005,460009999999997,PAD",
    ]
    put(city / "reference/sims.csv", sims_csv(*rows))
    loaded = load_reference(city / "reference")
    assert len(loaded.reference.cards) == len(LISTED) + 1
    refused = [(line.line - len(LISTED) - 2, line.reason) for line in loaded.refused]
    assert [(place, why.split(": ")[1]) for place, why in refused] == [
        (5, "3 fields expected"), (1, "iccid"), (2, "imsi"), (3, "imsi"), (4, "sku"),
    ]  # fmt: skip


@given(st.dictionaries(st.integers(10**17, 10**20 - 1).map(str), st.integers(10**13, 10**15 - 1)))
def test_a_list_says_what_a_dict_would(cards: dict[str, int]) -> None:
    by_imsi = {imsi: iccid for iccid, imsi in cards.items()}
    cards = {iccid: imsi for imsi, iccid in by_imsi.items()}
    listed = CardList(list(cards), list(cards.values()), [f"S{n % 3}" for n in range(len(cards))])
    assert {iccid: listed.imsi_of(iccid) for iccid in cards} == cards
    assert listed.imsi_of("8" * 21) is None
    for number, (iccid, imsi) in enumerate(cards.items()):
        assert listed.card(imsi) == (iccid, f"S{number % 3}")
    asked = np.array([*by_imsi, 5, 10**15], np.int64)
    assert listed.listed(asked).tolist() == [True] * len(by_imsi) + [False, False]
    registry = SimRegistry([], listed)
    assert all(registry.iccid(imsi) == iccid for imsi, iccid in by_imsi.items())
    assert bool((registry.slots(asked[:-2]) > 0).all())


def test_a_listed_card_takes_at_most_forty_bytes() -> None:
    count = 100_000
    rows = [f"{n:020}" for n in range(count)], np.arange(count), ["PAD"] * count
    tracemalloc.start()
    listed = CardList(*rows)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(listed) == count
    assert max(kept, listed.nbytes) <= 40 * count

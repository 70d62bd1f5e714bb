"""Cards whose numbers follow no rule: listed in sims.csv, named one by one in events."""

from __future__ import annotations

import contextlib
import itertools
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import FIRST_ICCID, FIRST_IMSI, INGEST, ListPost, put, read

from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.ingest.live_reference import LiveReference
from pipelines.ingest.reference import load_reference
from schemas.cards import CardList
from schemas.envelope import unpack
from schemas.topics import block_of, partition_of_block

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


def said(post: ListPost) -> dict[int, tuple[str, str]]:
    """The cards that were said to be ours, each in its partition and once."""
    rows = post.rows("sim_cards")
    assert all(r["partition"] == partition_of_block(block_of(r["imsi"]), 2) for r in rows)
    found = {row["imsi"]: (row["iccid"], row["sku"]) for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_list_is_said_once_before_what_it_is_about_and_then_what_is_new_in_it(
    city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(INGEST, "CARDS_AT_ONCE", 20)
    put(city / "reference/sims.csv", sims_csv())
    iccids = list(LISTED)
    put(city / "events/a.ndjson", delivery(1, iccids=iccids[:3]))
    post = read(city)[0]
    assert said(post) == {imsi: (iccid, "PAD") for iccid, imsi in LISTED.items()}
    kinds = [unpack(data)[0].kind for _, _, data in post.sent]
    assert max(i for i, k in enumerate(kinds) if k == "sim_cards") < kinds.index("placements")
    post.sent.clear()
    read(city, post)
    assert said(post) == {}, "it is on record that all of it was said"
    more = "89860B00000000000005"
    put(city / "reference/sims.csv", sims_csv(f"{more},460009999999997,PAD"))
    read(city, post)
    assert said(post)[460009999999997] == (more, "PAD")
    post.sent.clear()
    read(city, post)
    assert said(post) == {}


def test_a_death_before_the_list_is_on_record_says_it_again(city: Path) -> None:
    put(city / "reference/sims.csv", sims_csv())
    steps = itertools.count(1)

    def dies() -> None:
        if next(steps) == death:
            raise ConnectionError

    whole = read(city)[0].facts()
    for death in range(1, 12):
        steps = itertools.count(1)
        post = ListPost(after=dies)
        with contextlib.suppress(ConnectionError):
            read(city, post)
        post.after = lambda: None
        read(city, post)
        assert {r["imsi"] for r in post.rows("sim_cards")} == set(LISTED.values()), death
        assert post.facts() == whole


def test_a_changed_list_is_taken_up_and_a_row_that_is_gone_ends_nothing(city: Path) -> None:
    put(city / "reference/sims.csv", sims_csv())
    live = LiveReference(city / "reference")
    (gone, its_imsi), (mended, its_other), *_ = LISTED.items()
    lines = [line for line in sims_csv().splitlines() if gone not in line]
    lines = [line.replace(mended, "89860C00000000000009") for line in lines]
    put(city / "reference/sims.csv", "\n".join([*lines, f"{'7' * 20},460009999999991,PAD"]) + "\n")
    live.look()
    assert live.look()
    cards = live.tables.cards
    assert cards.card(its_imsi) == (gone, "PAD")
    assert cards.card(its_other) == ("89860C00000000000009", "PAD")
    assert (cards.imsi_of("7" * 20), cards.imsi_of(mended)) == (460009999999991, None)
    (city / "reference/sims.csv").unlink()
    live.look()
    assert live.look()
    assert len(live.tables.cards) == len(cards) == len(LISTED) + 1


@given(
    parts=st.lists(st.lists(st.sampled_from(sorted(LISTED.items())), max_size=20), max_size=8),
    lost=st.integers(0, 1),
)
def test_a_registry_has_all_cards_that_were_added_and_a_reset_takes_its_partitions(
    parts: list[list[tuple[str, int]]], lost: int
) -> None:
    registry = SimRegistry()
    for part in parts:
        cards = {imsi: iccid for iccid, imsi in part}
        registry.add_cards(CardList(list(cards.values()), list(cards), ["PAD"] * len(cards)))
    given_ = {imsi: iccid for part in parts for iccid, imsi in part}
    for imsi in LISTED.values():
        found = registry.range_of(imsi)
        assert (found.first_iccid if found else None) == given_.get(imsi)
    registry.reset(lost, 2)
    kept = {imsi for imsi in given_ if registry.range_of(imsi) is not None}
    assert kept == {imsi for imsi in given_ if block_of(imsi) % 2 != lost}


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
    registry = SimRegistry()
    registry.add_cards(listed)
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

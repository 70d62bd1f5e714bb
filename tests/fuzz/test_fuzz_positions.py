"""Spoiled notes of how far files were read: passed over, or good enough to read on from."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest
from ingest_harness import ListPost, call_row, csv_of, put, read
from spoil import MANY, spoiled

from pipelines.ingest.positions import encode, noted

#: Notes that could be read and are read on from: reading takes longer than looking.
TRIED = 150


def test_spoiled_notes(city: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    name, rng = "cdr/s/a.csv", Random("positions")
    put(city / name, csv_of(*map(call_row, range(5))))
    first, _ = read(city)
    ((_, whole),) = first.kept.items()
    facts = first.facts()
    usable = []
    for _ in range(MANY):
        found = noted(spoiled(name.encode(), rng) if rng.random() < 0.1 else name.encode(),
                      spoiled(whole, rng))  # fmt: skip
        if found is not None:
            usable.append(found)
    assert 0.05 * MANY < len(usable) < 0.9 * MANY
    for file, position in rng.sample(usable, TRIED):
        post = ListPost()
        post.kept = {file: encode(position)}
        _, report = read(city, post)
        assert set(post.facts()) <= set(facts) | {
            (*fact[:3], known) for fact in facts for *_, known in post.uses()
        }
        assert report.dead_letters <= 6


@pytest.mark.parametrize(
    ("key", "value"), [(None, None), (b"a", None), (b"\xff", b"{}"), (b"", b"1")]
)
def test_what_is_no_note_is_passed_over(key: bytes | None, value: bytes | None) -> None:
    assert noted(key, value) is None

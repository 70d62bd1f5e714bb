"""Reference tables that change while a program runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.ingest.live_reference import LiveReference
from pipelines.ingest.pack import sim_ranges_of
from schemas.errors import InputError

BATCHES = "batch_id,sku,first_iccid,first_imsi,count\n"
FIRST = "b1,std,8986001000000000000,460001000000000,100\n"
SECOND = "b2,std,8986001000000000100,460001000000100,100\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables = {
        "territories": "territory_id,name,parent_id\nt,T,\n",
        "cells": "cell_id,territory_id\n",
        "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nw,W,,,\nv,V,,,\n",
        "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\no,O,kiosk,t,,\n",
        "assignments": "outlet_id,wholesaler_id,valid_from\no,w,2026-01-01T00:00:00Z\n",
        "sim_batches": BATCHES + FIRST,
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def change(folder: Path, table: str, text: str) -> None:
    """Write a table, at another time of the file's clock."""
    path = folder / f"{table}.csv"
    then = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(then + 1, then + 1))


def test_a_change_is_taken_up_once_it_has_settled(folder: Path) -> None:
    live = LiveReference(folder)
    assert not live.look()
    change(folder, "sim_batches", BATCHES + FIRST + SECOND)
    assert not live.look()  # it may still be being written
    assert live.look()
    assert [b.batch_id for b in live.tables.batches] == ["b1", "b2"]
    assert not live.look()


def test_an_assignment_counts_from_when_it_says(folder: Path) -> None:
    live = LiveReference(folder)
    later = "o,w,2026-01-01T00:00:00Z\no,v,2026-02-01T00:00:00Z\n"
    change(folder, "assignments", "outlet_id,wholesaler_id,valid_from\n" + later)
    live.look()
    assert live.look()
    january, february = 1_768_000_000_000, 1_770_500_000_000
    assert [live.holder("o", at) for at in (january, february)] == ["w", "v"]


def test_a_batch_whose_row_is_gone_is_still_ours(folder: Path) -> None:
    live = LiveReference(folder)
    change(folder, "sim_batches", BATCHES + SECOND)
    live.look()
    assert live.look()
    assert sorted(b.batch_id for b in live.tables.batches) == ["b1", "b2"]
    # A corrected row takes the place of the one before.
    change(folder, "sim_batches", BATCHES + FIRST.replace(",100\n", ",50\n") + SECOND)
    live.look()
    assert live.look()
    assert sorted((b.batch_id, b.count) for b in live.tables.batches) == [("b1", 50), ("b2", 100)]


def test_tables_that_cannot_be_used_leave_the_old_ones(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveReference(folder)
    overlapping = SECOND.replace("460001000000100", "460001000000050")
    with caplog.at_level(logging.ERROR):
        change(folder, "sim_batches", BATCHES + FIRST + overlapping)
        assert [live.look() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    assert [b.batch_id for b in live.tables.batches] == ["b1"]
    change(folder, "sim_batches", BATCHES + FIRST + SECOND)
    live.look()
    assert live.look()
    change(folder, "sim_batches", BATCHES + FIRST + overlapping)
    with pytest.raises(InputError, match="in common"):
        LiveReference(folder)


def test_all_partitions_hear_which_sims_are_ours(folder: Path) -> None:
    reference = LiveReference(folder).tables
    effects = sim_ranges_of(reference, 4)
    assert [effect.partition for effect in effects] == [0, 1, 2, 3]
    stage = SimStage(0, 1, SimRegistry(), lambda outlet, at: "")
    stage.process(effects[0].header, effects[0].rows)
    expected = SimRange(460_001_000_000_000, 100, "std", "8986001000000000000")
    assert stage.registry.range_of(460_001_000_000_099) == expected

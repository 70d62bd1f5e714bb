"""Reference tables as operators keep them: what is told apart, refused, and looked up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingest_harness import FIRST_ICCID, FIRST_IMSI, SIMS, make_reference

from pipelines.ingest.reference import LoadedReference, load_reference
from schemas.errors import InputError
from schemas.fields import parse_time

BATCH = f"B1,PREPAID,{FIRST_ICCID},{FIRST_IMSI},{SIMS}"


def load(folder: Path, table: str, *more: str) -> LoadedReference:
    """The rig's tables with some more rows."""
    make_reference(folder)
    path = folder / "reference" / f"{table}.csv"
    path.write_text(path.read_text() + "".join(f"{row}\n" for row in more))
    return load_reference(folder / "reference")


def test_a_batch_given_twice_is_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, "sim_batches", BATCH)
    assert [b.batch_id for b in loaded.reference.batches] == ["B1"]
    assert loaded.refused == []


def test_another_batch_of_the_same_name_does_not_replace_the_first(tmp_path: Path) -> None:
    other = f"B1,PREPAID,{FIRST_ICCID + 10**9},{FIRST_IMSI + 10**9},{SIMS}"
    loaded = load(tmp_path, "sim_batches", other)
    assert [int(b.first_imsi) for b in loaded.reference.batches] == [FIRST_IMSI]
    (letter,) = loaded.refused
    assert (letter.source, letter.line) == ("reference/sim_batches.csv", 3)
    assert letter.reason.startswith("invalid_field: batch_id")
    assert letter.payload == other.encode()


@pytest.mark.parametrize(
    "row",
    [
        "B9,PREPAID,8986009000000000000,999999999999998,3",
        "B9,PREPAID,9999999999999999998,460009000000000,3",
        "B9,PREPAID,99999999999999999998,460009000000000,3",
    ],
)
def test_a_batch_whose_numbers_run_out_is_refused(tmp_path: Path, row: str) -> None:
    loaded = load(tmp_path, "sim_batches", row)
    assert [b.batch_id for b in loaded.reference.batches] == ["B1"]
    assert [letter.reason.split(":")[:2] for letter in loaded.refused] == [
        ["invalid_field", " count"]
    ]


def test_a_batch_may_end_with_the_last_number_there_is(tmp_path: Path) -> None:
    loaded = load(tmp_path, "sim_batches", "B9,PREPAID,9999999999999999998,999999999999998,2")
    assert loaded.refused == []
    found = loaded.reference.registered(np.array([999999999999997, 999999999999999]))
    assert found.tolist() == [False, True]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (f"B2,PREPAID,8986009000000000000,{FIRST_IMSI + SIMS - 1},1", "IMSIs"),
        (f"B2,PREPAID,{FIRST_ICCID + SIMS - 1},460009000000000,1", "ICCIDs"),
    ],
)
def test_overlapping_batches_stop_the_reading(tmp_path: Path, row: str, what: str) -> None:
    with pytest.raises(InputError, match=f"B1 and B2 have {what} in common"):
        load(tmp_path, "sim_batches", row)


def test_cards_of_twenty_digits_and_of_several_batches_are_found(tmp_path: Path) -> None:
    reference = load(
        tmp_path,
        "sim_batches",
        f"B2,PREPAID,{FIRST_ICCID + SIMS},460009000000000,10",
        "B3,PREPAID,89860001234500000000,460008000000000,10",
    ).reference
    first = str(FIRST_ICCID + SIMS - 2)
    assert reference.imsi_ranges(first, 5) == [(FIRST_IMSI + SIMS - 2, 2), (460009000000000, 3)]
    assert reference.imsi_ranges("89860001234500000009", 1) == [(460008000000009, 1)]
    assert reference.imsi_ranges("89860001234500000009", 2) is None
    assert reference.imsi_ranges(first, SIMS) is None


def test_the_newest_assignment_holds_from_its_moment_on(tmp_path: Path) -> None:
    reference = load(
        tmp_path,
        "assignments",
        "O1,W2,2026-03-02T08:00:00+08:00",
        "O1,W3,2026-03-01T08:00:00+08:00",
    ).reference
    change = parse_time("2026-03-02T00:00:00Z")
    assert [reference.holder("O1", change + ms) for ms in (-1, 0, 1)] == ["W3", "W2", "W2"]
    assert reference.holder("O1", parse_time("2019-12-31T23:59:59.999Z")) == ""
    assert reference.holder("O2", change) == ""


@pytest.mark.parametrize("phone", ["13800138000", "+86", "+8613800138000123456", "call me"])
def test_a_phone_that_is_none_is_a_dead_letter_and_its_wholesaler_stays(
    tmp_path: Path, phone: str
) -> None:
    """Else all their deliveries would be of nobody known, and their shops without stock."""
    loaded = load(
        tmp_path, "wholesalers", f"W2,Hill,{phone},+8613800138001,zh", f"W3,Dale,{phone},{phone},"
    )
    kept = loaded.reference.wholesalers
    assert (kept["W2"].phone, kept["W2"].backup_phone) == (None, "+8613800138001")
    assert (kept["W3"].phone, kept["W3"].backup_phone) == (None, None)
    assert [line.line for line in loaded.refused] == [3, 4]
    for line in loaded.refused:
        assert line.reason.startswith("invalid_field: phone: ")
        assert line.reason.endswith("(the rest of the row is used)")


def test_a_missing_table_or_column_is_one_clear_line(tmp_path: Path) -> None:
    make_reference(tmp_path)
    outlets = tmp_path / "reference" / "outlets.csv"
    outlets.write_text("outlet_id,kind\nO1,kiosk\n")
    with pytest.raises(InputError, match=r"outlets\.csv has no column name"):
        load_reference(tmp_path / "reference")
    outlets.unlink()
    with pytest.raises(InputError, match=r"outlets\.csv cannot be read"):
        load_reference(tmp_path / "reference")

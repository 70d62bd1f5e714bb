"""Spoiled reference tables: each row is what its model says, or refused with what it says."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ingest_harness import FIRST_ICCID, FIRST_IMSI, REFERENCE, put
from spoil import MANY, spoiled, spoiled_line

from pipelines.ingest import reference as reading
from pipelines.ingest.reference import LoadedReference, load_reference
from schemas.errors import InputError
from schemas.events import Refused, validate

ROWS = {
    "territories": [f"T{i},Quarter {i},T{i % 3}" for i in range(9)],
    "cells": [f"17-{i},T{i}" for i in range(9)],
    "wholesalers": [f'W{i},"River, {i}",+861380013800{i},,en' for i in range(9)],
    "outlets": [f"O{i},Kiosk {i},kiosk,T1,2020-01-0{i + 1},2027-01-01" for i in range(9)],
    "assignments": [f"O{i},W{i},2020-01-01T00:00:00+08:00" for i in range(9)],
}
KEPT: dict[str, Any] = {
    "territories": lambda r: r.territories,
    "cells": lambda r: r.cells,
    "wholesalers": lambda r: r.wholesalers,
    "outlets": lambda r: r.outlets,
}


def one_by_one(table: str, lines: list[bytes]) -> tuple[list[Any], list[tuple[int, str, bytes]]]:
    """The rows of a table and its refused lines, as the model has them."""
    header = REFERENCE[table].split("\n", 1)[0].split(",")
    rows, refused = [], []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            try:
                fields = next(csv.reader([line.decode()], strict=True))
            except (UnicodeDecodeError, csv.Error):
                fields = []
            if len(fields) != len(header):
                raise Refused(f"malformed: {len(header)} fields expected")  # noqa: TRY301
            rows.append(validate(reading._MODELS[table], dict(zip(header, fields, strict=True))))
        except Refused as reason:
            if reason.field in ("phone", "backup_phone"):
                kept, _ = one_by_one(table, [without(fields, header, reason.field)])
                if kept:
                    rows += kept
                    refused.append((number, f"{reason} (the rest of the row is used)", line))
                    continue
            refused.append((number, str(reason), line))
    return rows, refused


def without(fields: list[str], header: list[str], name: str) -> bytes:
    """A line with one of its fields left out."""
    out = io.StringIO()
    left = ["" if field == name else value for field, value in zip(header, fields, strict=True)]
    csv.writer(out, lineterminator="").writerow(left)
    return out.getvalue().encode()


def spoiled_table(city: Path, table: str, lines: list[bytes]) -> LoadedReference:
    header = REFERENCE[table].split("\n", 1)[0].encode()
    put(city / f"reference/{table}.csv", b"\n".join([header, *lines]))
    return load_reference(city / "reference")


@pytest.mark.parametrize("table", ROWS)
def test_spoiled_rows(city: Path, table: str) -> None:
    rng = Random(table)
    good = [row.encode() for row in ROWS[table]]
    lines = [spoiled_line(rng.choice(good), rng).replace(b"\r", b" ") for _ in range(MANY)]
    loaded = spoiled_table(city, table, lines)
    rows, refused = one_by_one(table, lines)
    assert [(r.line, r.reason, r.payload) for r in loaded.refused] == refused
    if table == "assignments":
        assert loaded.reference.assignments == rows
    else:
        named = {next(iter(row.model_dump().values())): row for row in rows}
        assert KEPT[table](loaded.reference) == named
    assert len(refused) > 0.1 * MANY
    assert all(": " in why and "\n" not in why for _, why, _ in refused)


def test_spoiled_batches_are_rows_refused_or_said_to_overlap(city: Path) -> None:
    """A batch whose numbers are another's is told at once: no line of the two is surely right."""
    rng, lines_seen = Random("batches"), 0
    overlaps: list[str] = []
    while lines_seen < MANY:
        lines = [
            f"B{i},PREPAID,{FIRST_ICCID + i * 9_000},{FIRST_IMSI + i * 9_000},5000".encode()
            for i in range(20)
        ]
        lines = [spoiled_line(line, rng).replace(b"\r", b" ") for line in lines]
        lines_seen += len(lines)
        try:
            loaded = spoiled_table(city, "sim_batches", lines)
        except InputError as error:
            overlaps.append(str(error))
            continue
        rows, refused = one_by_one("sim_batches", lines)
        told = {r.line: (r.reason, r.payload) for r in loaded.refused}
        assert told.items() >= {n: (why, line) for n, why, line in refused}.items()
        others = len(told) - len(refused)
        assert len(set(rows)) - others <= len(loaded.reference.batches) <= len(rows)
    assert len(overlaps) < 0.5 * MANY / 20
    assert [why for why in overlaps if "in common" not in why or "\n" in why] == []


def test_spoiled_tables_as_a_whole_are_read_or_told_in_one_line(city: Path) -> None:
    rng = Random("tables")
    told: list[str] = []
    whole = {table: (city / f"reference/{table}.csv").read_bytes() for table in REFERENCE}
    for _ in range(MANY // 5):
        table = rng.choice(list(REFERENCE))
        put(city / f"reference/{table}.csv", spoiled(whole[table], rng))
        try:
            load_reference(city / "reference")
        except InputError as error:
            told.append(str(error))
        put(city / f"reference/{table}.csv", whole[table])
    assert len(told) > 100
    assert [why for why in told if "\n" in why] == []

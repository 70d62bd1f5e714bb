"""Reads the reference tables of an exchange directory."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ingest.reading.csv_rows import Dialect, csv_rows
from pipelines.ingest.reading.decoding import BOM
from pipelines.ingest.reading.lines import Lines, count_lines
from pipelines.ingest.service.rules import load_service_rules
from schemas import reference as tables
from schemas.cards import CardList
from schemas.errors import InputError
from schemas.events import Refused, validate
from schemas.hand_over import HandOver
from schemas.reference import Reference

#: The tables and their models. Cells matter only to the analysts.
_MODELS: dict[str, type[Any]] = {
    "territories": tables.Territory,
    "cells": tables.Cell,
    "wholesalers": tables.Wholesaler,
    "outlets": tables.Outlet,
    "assignments": tables.Assignment,
    "sim_batches": tables.SimBatch,
    "hand_overs": HandOver,
    "units": tables.Unit,
    "service_targets": tables.ServiceTarget,
}

#: Tables that an exchange directory need not have.
_OPTIONAL = frozenset({"hand_overs", "units", "service_targets"})


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that cannot be used: where it stands, its bytes, and why."""

    source: str
    line: int
    reason: str
    payload: bytes


@dataclass(frozen=True)
class LoadedReference:
    """The tables, and the rows that could not be used."""

    reference: Reference
    refused: list[RefusedLine]


def load_reference(folder: Path, known: Reference | None = None) -> LoadedReference:
    """Read all tables of `reference/`.

    Of SIM batches and listed cards `known` before, those that are no longer in their table are
    kept: they are still on shelves. One that has a SIM in common with a row of the table was
    corrected, and is not kept.

    A row that cannot be used is refused and the others go on. Raises `InputError`, in one line
    that says what to do, for a missing file or column and for batches that overlap.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is missing: an exchange directory needs a reference/ folder")
    refused: list[RefusedLine] = []
    rows: dict[str, list[Any]] = {
        name: list(_table(path, model, refused))
        if (path := folder / f"{name}.csv").exists() or name not in _OPTIONAL
        else []
        for name, model in _MODELS.items()
    }
    known = known or Reference()
    batches = _with_known(list(dict.fromkeys(rows["sim_batches"])), known.batches)
    return LoadedReference(
        Reference(
            territories={r.territory_id: r for r in rows["territories"]},
            cells={r.cell_id: r for r in rows["cells"]},
            wholesalers={r.wholesaler_id: r for r in rows["wholesalers"]},
            outlets={r.outlet_id: r for r in rows["outlets"]},
            assignments=rows["assignments"],
            batches=batches,
            hand_overs=list({row.hand_over_id: row for row in rows["hand_overs"]}.values()),
            cards=_cards_with_known(folder / "sims.csv", batches, refused, known.cards),
            units={row.unit_id: row for row in rows["units"]},
            service_targets={
                (row.unit_id or "", row.kpi): row.target for row in rows["service_targets"]
            },
            service=load_service_rules(folder),
        ),
        refused,
    )


def _with_known(
    batches: list[tables.SimBatch], known: Iterable[tables.SimBatch]
) -> list[tables.SimBatch]:
    spans = [(int(b.first_imsi), int(b.first_imsi) + b.count) for b in batches]
    gone = [
        batch
        for batch in known
        for first in (int(batch.first_imsi),)
        if all(end <= first or first + batch.count <= start for start, end in spans)
    ]
    return batches + gone


def _cards_with_known(
    path: Path, batches: list[tables.SimBatch], refused: list[RefusedLine], known: CardList
) -> CardList:
    in_batches = Reference(batches=list(batches))
    cards = _cards(path, in_batches, refused)
    gone = known.without(cards)
    gone = gone.filter(~in_batches.registered(gone.imsis))
    return cards.joined(gone) if len(gone) else cards


def _cards(path: Path, in_batches: Reference, refused: list[RefusedLine]) -> CardList:
    """The cards of `sims.csv`, in columns: there may be millions."""
    if not path.exists():
        return CardList()
    try:
        head, _, data = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    header = _fields(head.removeprefix(BOM).rstrip(b"\r")) or []
    names = ["iccid", "imsi", "sku"]
    if missing := [name for name in names if name not in header]:
        raise InputError(f"{path} has no column {', '.join(missing)}")
    lines = Lines(data, count_lines(data) + (not data.endswith(b"\n") and bool(data)))
    found = csv_rows(lines, Dialect(header), names)
    bad = dict(found.malformed)
    iccids = pc.replace_substring_regex(pc.ascii_upper(found.columns["iccid"]), "F$", "")
    imsis, skus = found.columns["imsi"], found.columns["sku"]
    good = pc.and_(
        pc.match_substring_regex(found.columns["iccid"], "^[0-9A-Fa-f]{18,22}$"),
        pc.and_(
            pc.match_substring_regex(imsis, "^[0-9]{14,15}$"),
            pc.and_(pc.greater(pc.binary_length(skus), 0), pc.less(pc.binary_length(skus), 257)),
        ),
    ).to_numpy(zero_copy_only=False)
    numbers = pc.if_else(pa.array(good), imsis, "0").cast(pa.int64()).to_numpy()
    registered = in_batches.registered(numbers) & good
    first = np.ones(len(numbers), bool)
    for column in (iccids.to_numpy(zero_copy_only=False), numbers):
        first &= np.isin(np.arange(len(numbers)), np.unique(column, return_index=True)[1])
    kept = good & first & ~registered
    cards = CardList(
        iccids.filter(pa.array(kept)).to_pylist(),
        numbers[kept],
        skus.filter(pa.array(kept)).to_pylist(),
    )
    for row in np.flatnonzero(~kept).tolist():
        values = {name: found.columns[name][row].as_py() for name in names}
        try:
            card = validate(tables.SimCard, values)
        except Refused as reason:
            bad[int(found.lines[row])] = str(reason)
            continue
        if registered[row]:
            why = f"invalid_field: imsi: {card.imsi} is in a batch of sim_batches.csv too"
        elif cards.card(int(card.imsi)) == (card.iccid, card.sku):
            continue  # the same row again
        else:
            why = f"invalid_field: iccid: {card.iccid} or its IMSI is another card's"
        bad[int(found.lines[row])] = why
    source = f"reference/{path.name}"
    refused += [RefusedLine(source, line + 2, why, lines[line]) for line, why in bad.items()]
    return cards


def _table(path: Path, model: type[Any], refused: list[RefusedLine]) -> Iterator[Any]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    header = _fields(lines[0].removeprefix(b"\xef\xbb\xbf")) if lines else None
    needed = [name for name, f in model.model_fields.items() if f.is_required()]
    missing = [name for name in needed if name not in (header or [])]
    if header is None or missing:
        shown = lines[0][:200].decode(errors="backslashreplace") if lines else ""
        raise InputError(
            f"{path} has no column {', '.join(missing or needed)}; its header is {shown!r}"
        )
    batches: dict[str, tables.SimBatch] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            fields = _fields(line)
            if fields is None or len(fields) != len(header):
                raise Refused(f"malformed: {len(header)} fields expected")  # noqa: TRY301
            row, without = _row(model, dict(zip(header, fields, strict=True)))
            if without:
                refused.append(RefusedLine(f"reference/{path.name}", number, without, line))
            if isinstance(row, tables.SimBatch) and batches.setdefault(row.batch_id, row) != row:
                # Taken for a newer version of the first, it would unregister that batch's SIMs.
                raise Refused(f"invalid_field: batch_id: {row.batch_id} is another batch's")  # noqa: TRY301
            yield row
        except Refused as reason:
            refused.append(RefusedLine(f"reference/{path.name}", number, str(reason), line))


def _row(model: type[Any], values: dict[str, str]) -> tuple[Any, str]:
    """The row, and what was wrong with it that it can do without. Raises `Refused`.

    Else a slip in a wholesaler's phone would take all their deliveries away, as of nobody known.
    """
    without = ""
    while True:
        try:
            return validate(model, values), without
        except Refused as reason:
            if reason.field not in model.dispensable or not values.get(reason.field):
                raise
            values = values | {reason.field: ""}
            without = without or f"{reason} (the rest of the row is used)"


def _fields(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode()], strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None


def reference_fingerprint(folder: Path) -> str:
    """A hash of the tables of `reference/` as they are on disk."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.toml")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

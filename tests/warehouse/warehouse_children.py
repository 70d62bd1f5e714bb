"""Programs that the tests of the embedded warehouse start as processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.reference import replace_reference
from schemas.errors import BusyError

#: Rows of a batch that `insert_for_ever` writes.
BATCH = 5_000


def batch(number: int) -> pa.Table:
    """The rows of one numbered batch."""
    return pa.table({"id": range(number * BATCH, (number + 1) * BATCH), "batch": [number] * BATCH})


def insert_for_ever(data: Path) -> None:
    """Write batch after batch; say each one's number when its insert has returned."""
    warehouse = open_warehouse(data=data)
    warehouse.execute(
        "CREATE TABLE numbers (id Int64, batch Int64) ENGINE = ReplacingMergeTree ORDER BY id"
    )
    number = 0
    while True:
        warehouse.insert("numbers", batch(number))
        print("wrote", number, flush=True)
        number += 1


def open_it(data: Path) -> None:
    """Try to become the owner."""
    try:
        open_warehouse(data=data).close()
    except BusyError as error:
        print("busy:", error, flush=True)
    else:
        print("opened", flush=True)


def replace_twice(data: Path) -> None:
    """Load a reference table twice and wait to be killed."""
    warehouse = open_warehouse(data=data)
    migrate(warehouse)
    for name in ("before", "after"):
        cells = {"cell_id": [name, "both"], "territory_id": ["t", "t"]}
        replace_reference(warehouse, "cells", pa.table(cells))
    print("replaced", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"insert": insert_for_ever, "open": open_it, "replace": replace_twice}[sys.argv[1]](
        Path(sys.argv[2])
    )

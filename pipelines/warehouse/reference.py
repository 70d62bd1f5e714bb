"""Reference tables: replaced whole at each load, in one step, so that nobody sees half of one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv as pa_csv

from pipelines.warehouse.port import Warehouse
from schemas.errors import InputError, WarehouseError

_text = pa.string()
_day = pa.date32()
_ms = pa.timestamp("ms", tz="UTC")

#: Columns of each reference table, as in the exchange directory.
REFERENCE: Final[dict[str, pa.Schema]] = {
    "territories": pa.schema([("territory_id", _text), ("name", _text), ("parent_id", _text)]),
    "cells": pa.schema([("cell_id", _text), ("territory_id", _text)]),
    "wholesalers": pa.schema(
        [
            ("wholesaler_id", _text),
            ("name", _text),
            ("phone", _text),
            ("backup_phone", _text),
            ("language", _text),
        ]
    ),
    "outlets": pa.schema(
        [
            ("outlet_id", _text),
            ("name", _text),
            ("kind", _text),
            ("territory_id", _text),
            ("opened_on", _day),
            ("closed_on", _day),
        ]
    ),
    "assignments": pa.schema([("outlet_id", _text), ("wholesaler_id", _text), ("valid_from", _ms)]),
    "sim_batches": pa.schema(
        [
            ("batch_id", _text),
            ("sku", _text),
            ("first_iccid", _text),
            ("first_imsi", pa.int64()),
            ("count", pa.int64()),
        ]
    ),
}


def load_tables(warehouse: Warehouse, folder: Path) -> dict[str, int]:
    """Replace every reference table by its CSV file in `folder`; rows by table.

    All files are read before the first table changes. Raises `InputError` for a file that is
    missing or does not hold what it should.
    """
    tables = {name: read_table(folder / f"{name}.csv", REFERENCE[name]) for name in REFERENCE}
    for name, rows in tables.items():
        replace_reference(warehouse, name, rows)
    return {name: rows.num_rows for name, rows in tables.items()}


def read_table(file: Path, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` from a CSV file with a header; columns it does not name are left.

    Raises `InputError` with the file's name.
    """
    convert = pa_csv.ConvertOptions(
        column_types=schema, include_columns=schema.names, null_values=[""]
    )
    try:
        return pa_csv.read_csv(file, convert_options=convert)
    except (OSError, KeyError, pa.ArrowException) as error:
        why = str(error).split("\n", 1)[0]
        raise InputError(f"cannot use {file}: {why}") from None


def replace_reference(warehouse: Warehouse, name: str, rows: pa.Table) -> None:
    """Put `rows` in the place of all rows of the reference table `name`.

    Columns must be those of `REFERENCE[name]`, in any order, of types that cast to them without
    loss. Raises `WarehouseError` when they do not fit; the table is then as it was.
    """
    try:
        schema = REFERENCE[name]
        fitting = rows.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise WarehouseError(f"rows do not fit the reference table {name}: {error}") from None
    staging = f"{name}_staging"
    warehouse.execute(f"CREATE TABLE IF NOT EXISTS {staging} AS {name}")
    warehouse.execute(f"TRUNCATE TABLE {staging}")
    warehouse.insert(staging, fitting)
    warehouse.execute(f"ALTER TABLE {name} REPLACE PARTITION tuple() FROM {staging}")
    warehouse.execute(f"DROP TABLE {staging}")

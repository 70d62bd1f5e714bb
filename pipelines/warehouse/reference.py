"""Reference tables: replaced whole at each load, in one step, so that nobody sees half of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow as pa
from pydantic import BaseModel

from pipelines.warehouse.port import Warehouse
from schemas.errors import WarehouseError
from schemas.reference import Reference

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
    "hand_overs": pa.schema(
        [
            ("hand_over_id", _text),
            ("wholesaler_id", _text),
            ("successor_id", _text),
            ("territory_id", _text),
            ("valid_from", _ms),
            ("undone_at", _ms),
        ]
    ),
    "units": pa.schema(
        [
            ("unit_id", _text),
            ("name", _text),
            ("kind", _text),
            ("parent_id", _text),
            ("phone", _text),
            ("language", _text),
        ]
    ),
    "sim_batches": pa.schema(
        [
            ("batch_id", _text),
            ("sku", _text),
            ("first_iccid", _text),
            ("first_imsi", pa.int64()),
            ("count", pa.int64()),
            ("check_digit", _text),
        ]
    ),
}


def reference_rows(reference: Reference) -> dict[str, pa.Table]:
    """The rows of each reference table, of the schemas in `REFERENCE`."""
    models: dict[str, Iterable[BaseModel]] = {
        "territories": reference.territories.values(),
        "cells": reference.cells.values(),
        "wholesalers": reference.wholesalers.values(),
        "outlets": reference.outlets.values(),
        "assignments": reference.assignments,
        "sim_batches": reference.batches,
        "hand_overs": reference.hand_overs,
        "units": reference.units.values(),
    }
    return {name: _rows(models[name], schema) for name, schema in REFERENCE.items()}


def _rows(models: Iterable[BaseModel], schema: pa.Schema) -> pa.Table:
    found = list(models)
    return pa.table(
        {
            # Nothing known is '' in a text column, as on the topics.
            f.name: [
                "" if value is None and f.type == _text else value
                for value in (getattr(model, f.name) for model in found)
            ]
            for f in schema
        }
    ).cast(schema)


def replace_all(warehouse: Warehouse, reference: Reference) -> None:
    """Replace every reference table."""
    for name, rows in reference_rows(reference).items():
        replace_reference(warehouse, name, rows)


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
    # Not REPLACE PARTITION: parts it replaced stay on the disk for minutes, and a process that
    # starts in that time finds them again beside the new ones.
    warehouse.execute(f"DROP TABLE IF EXISTS {staging}")
    warehouse.execute(f"CREATE TABLE {staging} AS {name}")
    warehouse.insert(staging, fitting)
    warehouse.execute(f"EXCHANGE TABLES {name} AND {staging}")
    warehouse.execute(f"DROP TABLE {staging}")

"""From a pipeline's result folder into the warehouse: insert, check totals, compare.

Rows go in under the run's id and are not shown before the run is published (see `ledger`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.engine.report import Changes
from pipelines.batch.engine.tables import REJECT_NAMES, ResultTable
from pipelines.batch.engine.transforms import COUNTED, from_bytes
from schemas.errors import BatchError

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

#: Rows a single insert takes.
_INSERT_ROWS = 500_000


@dataclass(slots=True)
class Totals:
    """Rows, and the sum of every column of numbers (nulls are nothing)."""

    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, frame: pl.DataFrame) -> None:
        """Count a frame in."""
        self.rows += frame.height
        for name, kind in frame.schema.items():
            if kind.is_numeric():
                self.sums[name] = self.sums.get(name, 0) + float(frame[name].sum())


def frames(folder: str, table: str) -> Iterator[pl.DataFrame]:
    """What a pipeline left for `table`, a file at a time."""
    for result in FileSystems.match([f"{folder}/{table}/*.arrow"]):
        for entry in sorted(result.metadata_list, key=lambda entry: entry.path):
            with FileSystems.open(
                entry.path, compression_type=CompressionTypes.UNCOMPRESSED
            ) as stream:
                yield from_bytes(stream.read())


def rows_read(folder: str) -> int:
    """How many rows the pipeline read."""
    return sum(int(frame["rows"].sum()) for frame in frames(folder, COUNTED))


def rows_of(
    folder: str, table: ResultTable, constants: Mapping[str, object]
) -> Iterator[pl.DataFrame]:
    """The result rows of a table with exactly its columns, gathered into frames worth inserting.

    `constants` fill columns that the pipeline did not write.
    """
    waiting: list[pl.DataFrame] = []
    for frame in frames(folder, table.name):
        named = frame.rename(REJECT_NAMES, strict=False)
        filled = named.with_columns(
            pl.lit(value).alias(name)
            for name, value in constants.items()
            if name in table.columns and name not in named.columns
        )
        waiting.append(filled.select(*table.columns))
        if sum(part.height for part in waiting) >= _INSERT_ROWS:
            yield pl.concat(waiting)
            waiting = []
    if waiting:
        yield pl.concat(waiting)


def load(
    warehouse: Warehouse,
    folder: str,
    table: ResultTable,
    run_id: str,
    constants: Mapping[str, object],
) -> int:
    """Insert a table's rows under the run's id; how many there are.

    Raises `BatchError` where the warehouse then holds other totals than were sent.
    """
    sent = Totals()
    for frame in rows_of(folder, table, constants):
        sent.add(frame)
        rows = frame.with_columns(pl.lit(run_id).alias("run_id")).select(table.schema.names)
        arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        warehouse.insert(table.stored, arrow.cast(table.schema))
    if _wrong(warehouse, table, run_id, sent):
        # An insert that was repeated after a lost connection is in twice until the parts merge.
        warehouse.execute(f"OPTIMIZE TABLE {table.stored} PARTITION '{run_id}' FINAL")
        wrong = _wrong(warehouse, table, run_id, sent)
        if wrong:
            raise BatchError(f"{table.name} does not hold what was written: {', '.join(wrong)}")
    return sent.rows


def _wrong(warehouse: Warehouse, table: ResultTable, run_id: str, sent: Totals) -> list[str]:
    """Where the warehouse's totals of a run differ from those sent."""
    sums = "".join(f", sum({name}) AS {name}" for name in sent.sums)
    held = warehouse.query(
        f"SELECT count() AS _rows{sums} FROM {table.stored} WHERE run_id = {{run_id:String}}",  # noqa: S608 - names of our own
        {"run_id": run_id},
    ).to_pylist()[0]
    return [
        f"{name} {held[name] or 0} instead of {want}"
        for name, want in [("_rows", sent.rows), *sent.sums.items()]
        if not math.isclose(held[name] or 0, want, rel_tol=1e-9, abs_tol=1e-6)
    ]


def compare(
    warehouse: Warehouse,
    folder: str,
    table: ResultTable,
    job: str,
    period: str,
    constants: Mapping[str, object],
) -> Changes:
    """What publishing the folder's rows would change in `table`."""
    names = list(table.columns)
    old = warehouse.query(
        f"SELECT {', '.join(names)} FROM {table.stored} WHERE run_id IN"  # noqa: S608 - our own
        " (SELECT run_id FROM batch_current"
        " WHERE job = {job:String} AND period = {period:String})",
        {"job": job, "period": period},
    ).cast(pa.schema(table.columns))
    parts = list(rows_of(folder, table, constants))
    before = pl.from_arrow(old)
    assert isinstance(before, pl.DataFrame)
    after = pl.concat(parts).cast(before.schema) if parts else before.clear()
    same = after.join(before, on=names, how="semi", nulls_equal=True).height
    both = after.join(before, on=list(table.key), how="semi", nulls_equal=True).height
    return Changes(after.height - both, before.height - both, both - same, same)

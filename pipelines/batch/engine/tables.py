"""The tables batch jobs fill: columns, types and keys as the SQL of infra/clickhouse has them.

A table NAME that analysts read is a view on NAME_rows, which shows the rows of the published runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import polars as pl
import pyarrow as pa

from pipelines.batch.engine.columns import ROW, SOURCE
from pipelines.warehouse.migrations import migrations

_TYPES: Mapping[str, pa.DataType] = {
    "String": pa.string(),
    "UInt8": pa.uint8(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Int64": pa.int64(),
    "Float64": pa.float64(),
    "Date32": pa.date32(),
    "DateTime64": pa.timestamp("ms", tz="UTC"),
}
_CREATED = re.compile(
    r"CREATE TABLE IF NOT EXISTS (\w+)\s*\((.*?)\n\)\s*ENGINE.*?ORDER BY ([^;]+);", re.DOTALL
)
_COLUMN = re.compile(r"^\s*(\w+)\s+(?:Nullable\()?(\w+)", re.MULTILINE)


@cache
def _created() -> Mapping[str, tuple[str, str]]:
    """(columns, sorting key), as SQL, of each table by its name."""
    return {
        name: (columns, key)
        for migration in migrations()
        for name, columns, key in _CREATED.findall(migration.sql)
    }


def schema_of(table: str) -> pa.Schema:
    """A table's columns as they are inserted."""
    columns, _ = _created()[table]
    return pa.schema([(name, _TYPES[kind]) for name, kind in _COLUMN.findall(columns)])


@dataclass(frozen=True)
class ResultTable:
    """One table of results, by the name of its view."""

    name: str

    @property
    def stored(self) -> str:
        """The table behind the view."""
        return f"{self.name}_rows"

    @cached_property
    def schema(self) -> pa.Schema:
        """As it is inserted, with run_id."""
        return schema_of(self.stored)

    @property
    def key(self) -> tuple[str, ...]:
        """What names a row among those of one run."""
        return tuple(re.findall(r"\w+", _created()[self.stored][1]))

    @cached_property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Without run_id."""
        return {field.name: field.type for field in self.schema if field.name != "run_id"}

    def frame(self, columns: Mapping[str, Sequence[object]]) -> pl.DataFrame:
        """Lists of values by column, with the table's types."""
        empty = pl.from_arrow(self.schema.empty_table())
        assert isinstance(empty, pl.DataFrame)
        return pl.DataFrame(columns, schema={name: empty.schema[name] for name in columns})


REJECTS_TABLE = ResultTable("batch_rejects")

#: What the columns of rejects are called in frames.
REJECT_NAMES = {SOURCE: "source", ROW: "row"}

"""The tables batch jobs fill, as the driver sees them: columns, keys, and where the rows are kept.

The SQL that creates them is in infra/clickhouse; a test holds the two together. A table NAME that
analysts read is a view on NAME_rows, which shows the rows of the published runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipelines.batch.engine.columns import ROW, SOURCE

TEXT, COUNT, WHOLE, REAL = pa.string(), pa.uint64(), pa.int64(), pa.float64()
DAY, TIME = pa.date32(), pa.timestamp("ms", tz="UTC")


@dataclass(frozen=True, slots=True)
class ResultTable:
    """One table: `key` names a row among those of one run; both without run_id."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, pa.DataType]

    @property
    def stored(self) -> str:
        """The table behind the view."""
        return f"{self.name}_rows"

    @property
    def schema(self) -> pa.Schema:
        """As it is inserted, with run_id."""
        return pa.schema({"run_id": TEXT, **self.columns})


REJECTS_TABLE = ResultTable(
    "batch_rejects",
    ("source", "row", "reason"),
    {"job": TEXT, "period": TEXT, "source": TEXT, "row": COUNT, "reason": TEXT},
)

#: What the columns of rejects are called in frames.
REJECT_NAMES = {SOURCE: "source", ROW: "row"}

"""Rows of runs that are no longer shown are dropped, a partition at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.batch.engine.run_lock import plain
from pipelines.batch.engine.tables import ResultTable

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse


def drop_old(warehouse: Warehouse, tables: Iterable[ResultTable], job: str, period: str) -> None:
    """Drop the rows of all but the two newest published runs of a job and period.

    The one before the newest stays, for a reader that began before the newest was shown.
    """
    keep = warehouse.query(
        "SELECT run_id FROM batch_publications WHERE job = {job:String}"
        " AND period = {period:String} ORDER BY generation DESC LIMIT 2",
        {"job": job, "period": period},
    )["run_id"].to_pylist()
    for table in tables:
        for run_id in _partitions(warehouse, table, f"{job}.{period}."):
            if run_id not in keep:
                warehouse.execute(f"ALTER TABLE {table.stored} DROP PARTITION '{plain(run_id)}'")


def drop_run(warehouse: Warehouse, tables: Iterable[ResultTable], run_id: str) -> None:
    """Drop the rows of a run that will never be shown."""
    for table in tables:
        for found in _partitions(warehouse, table, run_id):
            warehouse.execute(f"ALTER TABLE {table.stored} DROP PARTITION '{plain(found)}'")


def _partitions(warehouse: Warehouse, table: ResultTable, prefix: str) -> list[str]:
    found: list[str] = warehouse.query(
        "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase()"
        " AND active AND table = {table:String} AND startsWith(partition, {prefix:String})",
        {"table": table.stored, "prefix": prefix},
    )["partition"].to_pylist()
    return found
